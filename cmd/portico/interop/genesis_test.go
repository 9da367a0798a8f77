//go:build interop

package interop

import (
	"os/exec"
	"testing"
)

// TestSignedGenesis signs up with operations that the directory's own library made.
func TestSignedGenesis(t *testing.T) {
	for _, directory := range []struct {
		name  string
		start func(*testing.T) (url string) // "" for the server's own
	}{
		{"embedded directory", func(*testing.T) string { return "" }},
		{"real directory", startDirectory},
	} {
		t.Run(directory.name, func(t *testing.T) {
			url := directory.start(t)
			p := startPlace(t, url, url)
			out, err := exec.CommandContext(t.Context(), node, "genesis.mjs", p.url, p.directory.URL, rotationDIDKey(t)).CombinedOutput()
			if err != nil {
				t.Fatalf("genesis.mjs: %v\n%s", err, out)
			}
		})
	}
}
