//go:build tools

// Package kwok pins the command that ../../kube-assets.sh compiles.
package kwok

import _ "sigs.k8s.io/kwok/cmd/kwok"
