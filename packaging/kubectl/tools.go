//go:build tools

// Package kubectl pins the command that build.sh compiles.
package kubectl

import _ "k8s.io/kubernetes/cmd/kubectl"
