package gen

import (
	"bytes"

	"github.com/rogpeppe/go-internal/diff"
)

// Diff is c as a unified diff, and nothing when c changes nothing.
func (c Change) Diff() string {
	from, to := c.Path, c.Path
	if c.Old == nil {
		from = "/dev/null"
	}
	if c.New == nil {
		to = "/dev/null"
	}
	_, text, _ := bytes.Cut(diff.Diff(from, c.Old, to, c.New), []byte("\n")) // the first line is git's
	return string(text)
}
