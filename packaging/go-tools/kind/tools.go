//go:build tools

// Package kind pins the command that ../../go-tools.sh compiles.
package kind

import _ "sigs.k8s.io/kind"
