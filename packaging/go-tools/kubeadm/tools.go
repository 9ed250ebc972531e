//go:build tools

// Package kubeadm pins the command that ../../go-tools.sh compiles.
package kubeadm

import _ "k8s.io/kubernetes/cmd/kubeadm"
