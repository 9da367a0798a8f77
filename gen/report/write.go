package report

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Formats are the ways to print a report, by name: text for people, json for machines,
// markdown for a comment on a pull request, and github for annotations of GitHub Actions.
var Formats = map[string]func(w io.Writer, changes []Change) error{
	"text": Write, "json": WriteJSON, "markdown": WriteMarkdown, "github": WriteGitHub,
}

// FormatNames are the names of [Formats], in their order.
func FormatNames() []string { return slices.Sorted(maps.Keys(Formats)) }

// String is the change without place and direction: `output.handle format: none →
// "handle"`.
func (c Change) String() string {
	subject := strings.TrimSpace(c.Where + " " + c.What)
	if subject != "" {
		subject += ": "
	}
	return visible(subject + c.Old + " → " + c.New)
}

// String is "file:line:col", with a word when that is where it was before.
func (p Place) String() string {
	s := fmt.Sprintf("%s:%d:%d", visible(p.File), p.Line, p.Column)
	if p.Old {
		s += " (before)"
	}
	return s
}

// visible is s on one line with nothing in it that a terminal or a browser acts upon
// without showing it.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != utf8.RuneError && (unicode.IsGraphic(r) && !unicode.Is(unicode.Cf, r)) {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// shownNames are the names of the code that a line has, so that it stays one.
const shownNames = 3

// code is what no longer compiles, "" when all does.
func (c Change) code() string {
	var names []string
	for i, n := range c.Go {
		if i == shownNames {
			names = append(names, fmt.Sprintf("and %d more", len(c.Go)-i))
			break
		}
		names = append(names, n.text)
	}
	return strings.Join(names, ", ")
}

// groups are the changes of each definition.
func groups(changes []Change) [][]Change {
	var all [][]Change
	for from := 0; from < len(changes); {
		to := from
		for to < len(changes) && changes[to].ID == changes[from].ID && changes[to].Type == changes[from].Type {
			to++
		}
		all = append(all, changes[from:to])
		from = to
	}
	return all
}

// Write prints changes for people: a line for each definition that changed, marked +
// when it is new, - when it is gone, ! when the change breaks someone, ~ when not, and
// below it a line for each change.
func Write(w io.Writer, changes []Change) error {
	var b strings.Builder
	for _, group := range groups(changes) {
		fmt.Fprintf(&b, "%s %s (%s)\n", mark(group), visible(group[0].ID), group[0].Type)
		for _, c := range group {
			fmt.Fprintf(&b, "    %s: %s: %s [%s]", c.Place, c, c.Direction, c.Rule)
			for _, more := range c.more() {
				b.WriteString("; " + more)
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// more is what there is to say about a change besides itself.
func (c Change) more() []string {
	var all []string
	if code := c.code(); code != "" {
		all = append(all, "Go: "+code)
	}
	if c.Note != "" {
		all = append(all, visible(c.Note))
	}
	if c.Ignored {
		all = append(all, "ignored")
	}
	return all
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

// WriteJSON prints changes for machines: an object with the worst "direction" of all that
// are not ignored and its "severity" ("" when there are none), and the "changes".
func WriteJSON(w io.Writer, changes []Change) error {
	if changes == nil {
		changes = []Change{}
	}
	worst := Worst(changes)
	severity := ""
	if worst != "" {
		severity = worst.Severity()
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Direction Direction `json:"direction"`
		Severity  string    `json:"severity"`
		Changes   []Change  `json:"changes"`
	}{worst, severity, changes})
}

// WriteMarkdown prints changes as a list for a comment on a pull request. What documents
// say is in code spans, where it is neither a link nor a mention nor HTML.
func WriteMarkdown(w io.Writer, changes []Change) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**Lexicons:** %s\n", Summary(changes))
	for i, group := range groups(changes) {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "- %s %s (%s)\n", span(mark(group)), span(visible(group[0].ID)), group[0].Type)
		for _, c := range group {
			direction := string(c.Direction)
			if c.Direction.Breaking() && !c.Ignored {
				direction = "**" + direction + "**"
			}
			fmt.Fprintf(&b, "  - %s: %s (%s, %s)", span(c.String()), direction, span(c.Rule), span(c.Place.String()))
			if code := c.code(); code != "" {
				b.WriteString("; Go: " + span(code))
			}
			if c.Note != "" {
				b.WriteString("; " + span(visible(c.Note)))
			}
			if c.Ignored {
				b.WriteString("; ignored")
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// span is s, which has no line breaks, as a code span. Its fence is longer than every run
// of backticks in s.
func span(s string) string {
	longest, run := 0, 0
	for _, r := range s {
		if r == '`' {
			run++
		} else {
			run = 0
		}
		longest = max(longest, run)
	}
	fence := strings.Repeat("`", longest+1)
	if longest > 0 || strings.HasPrefix(s, " ") && strings.HasSuffix(s, " ") {
		s = " " + s + " " // one space on either side is taken away again
	}
	return fence + s + fence
}

// WriteGitHub prints changes as commands of GitHub Actions: an error for what breaks
// someone, a warning for a change of behaviour, a notice for the rest and for what is
// ignored. What is gone is shown at what is left around it.
func WriteGitHub(w io.Writer, changes []Change) error {
	var b strings.Builder
	for _, c := range changes {
		level := "notice"
		switch {
		case c.Ignored:
		case c.Direction.Breaking():
			level = "error"
		case c.Direction == Behaviour:
			level = "warning"
		}
		b.WriteString("::" + level + " ")
		if c.near.File != "" {
			fmt.Fprintf(&b, "file=%s,line=%d,col=%d,", property(c.near.File), c.near.Line, c.near.Column)
		}
		message := strings.Join(append([]string{c.String()}, c.more()...), "; ")
		if c.Place.Old {
			message += "; it was at " + strings.TrimSuffix(c.Place.String(), " (before)")
		}
		fmt.Fprintf(&b, "title=%s::%s\n", property(fmt.Sprintf("%s %s [%s]", visible(c.ID), c.Direction, c.Rule)), data(message))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// data escapes the message of a workflow command, property a value before it.
func data(s string) string     { return dataEscapes.Replace(s) }
func property(s string) string { return propertyEscapes.Replace(s) }

// Summary counts the changes by direction: "1 breaking for clients, 2 compatible".
func Summary(changes []Change) string {
	counts := map[Direction]int{}
	ignored := 0
	for _, c := range changes {
		if c.Ignored {
			ignored++
		} else {
			counts[c.Direction]++
		}
	}
	var parts []string
	for _, d := range []Direction{Both, Clients, Server, Behaviour, Compatible, Text} {
		if counts[d] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[d], d))
		}
	}
	if ignored > 0 {
		parts = append(parts, fmt.Sprintf("%d ignored", ignored))
	}
	if len(parts) == 0 {
		return "no changes"
	}
	return strings.Join(parts, ", ")
}
