//go:build !amd64 || purego || !gc

package argon2id

import "testing"

// everyway runs f with each way there is of computing blocks.
func everyway(t *testing.T, f func(*testing.T)) { t.Helper(); f(t) }
