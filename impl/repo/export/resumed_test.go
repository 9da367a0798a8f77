package export

import (
	"bytes"
	"errors"
	"testing"
)

// What was written of an archive is not written again, and is the beginning of no other.
func TestResumed(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second []string
		want          string
		err           error
	}{
		{"once", []string{"abc", "def"}, nil, "abcdef", nil},
		{"again", []string{"abc", "d"}, []string{"abc", "def"}, "abcdef", nil},
		{"in other pieces", []string{"abc", "d"}, []string{"ab", "cdef"}, "abcdef", nil},
		{"nothing before", nil, []string{"abc"}, "abc", nil},
		{"another", []string{"abc", "d"}, []string{"abx", "def"}, "abcd", errChanged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var to bytes.Buffer
			w := resumed{to: &to}
			var err error
			for _, run := range [][]string{tt.first, tt.second} {
				w.begin()
				for _, piece := range run {
					n, lost := w.Write([]byte(piece))
					if lost == nil && n != len(piece) {
						t.Errorf("%d bytes of %q", n, piece)
					}
					err = errors.Join(err, lost)
					if lost != nil {
						break
					}
				}
			}
			if to.String() != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%q, %v, want %q, %v", to.String(), err, tt.want, tt.err)
			}
		})
	}
}
