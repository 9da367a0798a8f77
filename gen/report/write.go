package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// String is the change without place and direction: `output.handle format: none →
// "handle"`.
func (c Change) String() string {
	subject := strings.TrimSpace(c.Where + " " + c.What)
	if subject != "" {
		subject += ": "
	}
	return subject + c.Old + " → " + c.New
}

// String is "file:line:col", with a word when that is where it was before.
func (p Place) String() string {
	s := fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	if p.Old {
		s += " (before)"
	}
	return s
}

// Write prints changes for people: a line for each definition that changed, marked +
// when it is new, - when it is gone, ! when the change breaks someone, ~ when not, and
// below it a line for each change.
func Write(w io.Writer, changes []Change) error {
	var b strings.Builder
	for from := 0; from < len(changes); {
		to := from
		for to < len(changes) && changes[to].ID == changes[from].ID && changes[to].Type == changes[from].Type {
			to++
		}
		group := changes[from:to]
		fmt.Fprintf(&b, "%s %s (%s)\n", mark(group), group[0].ID, group[0].Type)
		for _, c := range group {
			fmt.Fprintf(&b, "    %s: %s: %s", c.Place, c, c.Direction)
			if c.Note != "" {
				b.WriteString("; " + c.Note)
			}
			b.WriteByte('\n')
		}
		from = to
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mark(group []Change) string {
	switch first := group[0]; {
	case first.Where == "" && first.What == "" && first.Old == none:
		return "+"
	case first.Where == "" && first.What == "" && first.New == none:
		return "-"
	}
	if Worst(group).Breaking() {
		return "!"
	}
	return "~"
}

// WriteJSON prints changes for machines: an object with the worst "direction" of all
// ("" when there are none) and the "changes".
func WriteJSON(w io.Writer, changes []Change) error {
	if changes == nil {
		changes = []Change{}
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Direction Direction `json:"direction"`
		Changes   []Change  `json:"changes"`
	}{Worst(changes), changes})
}

// Summary counts the changes by direction: "1 breaking for clients, 2 compatible".
func Summary(changes []Change) string {
	var parts []string
	for _, d := range []Direction{Both, Clients, Server, Compatible, Text} {
		n := 0
		for _, c := range changes {
			if c.Direction == d {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, d))
		}
	}
	if len(parts) == 0 {
		return "no changes"
	}
	return strings.Join(parts, ", ")
}
