//go:build amd64 && gc && !purego

package argon2id

import "testing"

// everyway runs f with each way there is of computing blocks.
func everyway(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if useAVX2 {
		t.Run("AVX2", f)
		useAVX2 = false
		defer func() { useAVX2 = true }()
	}
	if useSSE4 {
		t.Run("SSE4.1", f)
		useSSE4 = false
		defer func() { useSSE4 = true }()
	}
	t.Run("SSE2", f)
}
