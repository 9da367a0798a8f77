package gen

import (
	"bytes"
	"fmt"
	"strings"
)

// Diff is c as a unified diff.
func (c Change) Diff() string {
	from, to := c.Path, c.Path
	if c.Old == nil {
		from = "/dev/null"
	}
	if c.New == nil {
		to = "/dev/null"
	}
	return fmt.Sprintf("--- %s\n+++ %s\n", from, to) + unified(lines(c.Old), lines(c.New))
}

func lines(data []byte) []string {
	if len(data) == 0 {
		return nil
	}
	return strings.SplitAfter(string(bytes.TrimSuffix(data, []byte("\n"))), "\n")
}

// edit is one line of a diff: ' ' kept, '-' gone, '+' new.
type edit struct {
	op   byte
	text string
}

const around = 3 // lines of context

// unified prints the hunks between a and b.
func unified(a, b []string) string {
	edits := compare(a, b)
	var out strings.Builder
	lineA, lineB := 1, 1
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			lineA, lineB, i = lineA+1, lineB+1, i+1
			continue
		}
		// The hunk begins a little before i and goes on as long as changes are near.
		start, end := i, i+1
		for start > 0 && i-start < around && edits[start-1].op == ' ' {
			start--
		}
		for same := 0; end < len(edits) && same < 2*around; end++ {
			if same++; edits[end].op != ' ' {
				same = 0
			}
		}
		last := end
		for last > i && edits[last-1].op == ' ' {
			last--
		}
		end = min(end, last+around)
		fromA, fromB := lineA-(i-start), lineB-(i-start)
		var countA, countB int
		var body strings.Builder
		for _, e := range edits[start:end] {
			if e.op != '+' {
				countA++
			}
			if e.op != '-' {
				countB++
			}
			body.WriteString(string(e.op) + strings.TrimSuffix(e.text, "\n") + "\n")
		}
		fmt.Fprintf(&out, "@@ -%s +%s @@\n%s", span(fromA, countA), span(fromB, countB), body.String())
		lineA, lineB, i = fromA+countA, fromB+countB, end
	}
	return out.String()
}

func span(from, count int) string {
	if count == 0 {
		from--
	}
	return fmt.Sprintf("%d,%d", from, count)
}

// compare finds the lines that a and b have in common, by the longest common
// subsequence of what lies between their common ends.
func compare(a, b []string) []edit {
	var head, tail []edit
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, edit{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	same := 0
	for same < len(a) && same < len(b) && a[len(a)-1-same] == b[len(b)-1-same] {
		same++
	}
	for _, line := range a[len(a)-same:] {
		tail = append(tail, edit{' ', line})
	}
	a, b = a[:len(a)-same], b[:len(b)-same]
	longest := make([][]int32, len(a)+1)
	for i := range longest {
		longest[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				longest[i][j] = longest[i+1][j+1] + 1
			} else {
				longest[i][j] = max(longest[i+1][j], longest[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			head = append(head, edit{' ', a[i]})
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && longest[i+1][j] >= longest[i][j+1]:
			head = append(head, edit{'-', a[i]})
			i++
		default:
			head = append(head, edit{'+', b[j]})
			j++
		}
	}
	return append(head, tail...)
}
