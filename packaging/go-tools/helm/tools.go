//go:build tools

// Package helm pins the command that ../../go-tools.sh compiles.
package helm

import _ "helm.sh/helm/v4/cmd/helm"
