//go:build peers

package main

import (
	"path/filepath"
	"testing"
)

// Every body is decoded and encoded by each of the programs, which hold what they write to
// what they read.
func TestCodec(t *testing.T) {
	*rounds = 1
	program, err := buildCodec(t.Context(), filepath.Join(t.TempDir(), "codec"))
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range codecBodies {
		for _, row := range []string{"decode " + body, "encode " + body} {
			m, err := measureCodec(t.Context(), program, row)
			if err != nil {
				t.Error(err)
				continue
			}
			for _, who := range codecPrograms {
				if len(m.ns[who]) != 1 || m.ns[who][0] <= 0 || m.allocations[who] < 1 || m.bytes < 50 {
					t.Errorf("%s of %s: %+v", row, who, m)
				}
			}
		}
	}
	if _, err := measureCodec(t.Context(), program, "decode nothing"); err == nil {
		t.Error("a body that is not there is measured")
	}
}
