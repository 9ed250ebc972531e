//go:build tools

// Package crane pins the command that ../../go-tools.sh compiles.
package crane

import _ "github.com/google/go-containerregistry/cmd/crane"
