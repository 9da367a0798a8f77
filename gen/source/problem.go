package source

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Path      string // slash-separated path of the file
	Line, Col int    // of the value at fault, counted from 1; columns are bytes. 0: the file as a whole
	Pointer   string // JSON pointer of the value, "" for the file as a whole
	Message   string
	Warning   bool // the document can be used all the same
	Fix       *Fix // entries of the configuration with which it is none, when there are such
}

// Fix is what can be added to the configuration of a generator.
type Fix struct {
	Setting string // Merge, Folders or Rename
	Entries map[string]string
	Why     string
}

// String is "file:line:col: pointer: message", with the parts that are known.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Path)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Col)
	}
	b.WriteString(": ")
	if p.Pointer != "" {
		b.WriteString(p.Pointer + ": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems collects what is wrong with a set of documents.
type Problems []Problem

// Add records that the value v of document d is not as it should be.
func (ps *Problems) Add(d *Document, v *Value, format string, args ...any) {
	*ps = append(*ps, d.problem(v, fmt.Sprintf(format, args...)))
}

// Ask is Add for what the configuration can settle.
func (ps *Problems) Ask(d *Document, v *Value, fix Fix, format string, args ...any) {
	p := d.problem(v, fmt.Sprintf(format, args...))
	p.Fix = &fix
	*ps = append(*ps, p)
}

// Warn records something odd about v that does not keep d from being used.
func (ps *Problems) Warn(d *Document, v *Value, format string, args ...any) {
	p := d.problem(v, fmt.Sprintf(format, args...))
	p.Warning = true
	*ps = append(*ps, p)
}

// Err is nil when ps holds nothing but warnings, else an [Error] with all that is
// wrong, ordered by place.
func (ps Problems) Err() error {
	var e Error
	for _, p := range ps {
		if !p.Warning {
			e = append(e, p)
		}
	}
	if len(e) == 0 {
		return nil
	}
	sortProblems(e)
	return e
}

// Warnings are the warnings among ps, ordered by place.
func (ps Problems) Warnings() []Problem {
	var w []Problem
	for _, p := range ps {
		if p.Warning {
			w = append(w, p)
		}
	}
	sortProblems(w)
	return w
}

func sortProblems(ps []Problem) {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col),
			cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Message, b.Message),
		)
	})
}

// Error is every problem that keeps a set of documents from being used.
type Error []Problem

// Error has one problem a line.
func (e Error) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Closest returns the candidate that s most likely misspells, or "".
func Closest(s string, candidates []string) string {
	best, bestAt := "", min(2, len(s)/3)+1 // too short a word resembles everything
	for _, c := range candidates {
		if d := distance(s, c, bestAt); d < bestAt {
			best, bestAt = c, d
		}
	}
	return best
}

// DidYouMean is a hint to append to a message, or "" when nothing among the
// candidates looks like s.
func DidYouMean(s string, candidates []string) string {
	if c := Closest(s, candidates); c != "" {
		return fmt.Sprintf(" (did you mean %q?)", c)
	}
	return ""
}

// distance is the number of single-byte edits between a and b, where the swap of two
// neighbours counts once; or limit when there are at least that many.
func distance(a, b string, limit int) int {
	if len(a) > 256 || len(b) > 256 || max(len(a), len(b))-min(len(a), len(b)) >= limit {
		return limit
	}
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return min(prev[len(b)], limit)
}
