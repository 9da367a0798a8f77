package report_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"portico/gen/report"
	"portico/gen/source"
)

// section is one of RULES.md.
type section struct {
	title    string
	rules    map[string]string // ID → whom it breaks
	examples [][2]string       // before and after
}

var ruleRow = regexp.MustCompile("^\\| `([a-z-]+)` \\| (.+) \\|$")

func sections(t *testing.T) []section {
	t.Helper()
	page, err := os.ReadFile("../RULES.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []section
	lines := strings.Split(string(page), "\n")
	for i, line := range lines {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			all = append(all, section{title: title, rules: map[string]string{}})
		}
		if row := ruleRow.FindStringSubmatch(line); row != nil {
			all[len(all)-1].rules[row[1]] = row[2]
		}
		if line == "```json" {
			s := &all[len(all)-1]
			s.examples = append(s.examples, [2]string{lines[i+1], lines[i+2]})
		}
	}
	return all
}

// TestRulesAreOnThePage holds the code and RULES.md together.
func TestRulesAreOnThePage(t *testing.T) {
	written := map[string]string{}
	for _, s := range sections(t) {
		for id, direction := range s.rules {
			if written[id] != "" {
				t.Errorf("%s is there twice", id)
			}
			written[id] = direction
		}
	}
	for _, r := range report.Rules() {
		direction := string(r.Direction)
		if direction == "" {
			direction = "as the two targets differ"
		}
		if written[r.ID] != direction {
			t.Errorf("RULES.md has %q of %s, which is %q", written[r.ID], r.ID, direction)
		}
		delete(written, r.ID)
	}
	for id := range written {
		t.Errorf("there is no rule %s", id)
	}
}

// TestExamplesOfRules holds every example of RULES.md to the rules of its section, where
// values are sent, answered, and both; and the examples of a section, with their opposites,
// to be of all its rules.
func TestExamplesOfRules(t *testing.T) {
	const differ = "as the two targets differ"
	for _, s := range sections(t) {
		if s.title == "Generated code" || s.title == "What only lexlint finds" {
			continue // there are none, and the page says so
		}
		found := map[string]bool{}
		for _, e := range s.examples {
			for i := range e {
				changes := report.Compare(example(t, e[i]), example(t, e[1-i]), report.Options{})
				if len(changes) == 0 {
					t.Errorf("%s: nothing changes from %s to %s", s.title, e[i], e[1-i])
				}
				for _, c := range changes {
					found[c.Rule] = true
					want, here := s.rules[c.Rule]
					if here && want != differ && want != string(c.Direction) || !here && i == 0 {
						t.Errorf("%s: %s → %s is of %s, %s; the page has %q", s.title, e[i], e[1-i], c.Rule, c.Direction, want)
					}
				}
			}
		}
		for id := range s.rules {
			if !found[id] {
				t.Errorf("%s: no example is of %s", s.title, id)
			}
		}
	}
}

// example is documents with the schema wherever it can stand.
func example(t *testing.T, schema string) []*source.Document {
	t.Helper()
	fsys := fstest.MapFS{}
	document := func(name, defs string) {
		fsys["lexicons/"+name+".json"] = &fstest.MapFile{Data: fmt.Appendf(nil, `{"lexicon": 1, "id": "com.example.%s", "defs": %s}`, name, defs)}
	}
	document("defs", `{"car": {"type": "object", "required": ["wheels"], "properties": {"wheels": {"type": "integer"}}},
		"boat": {"type": "object", "properties": {"sail": {"type": "boolean"}}}, "name": {"type": "string", "maxLength": 10}}`)
	var top map[string]any
	if err := json.Unmarshal([]byte(schema), &top); err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	object := `{"type": "object", "properties": {"x": ` + schema + `}}`
	switch top["type"] {
	case nil:
		if len(top) > 0 {
			document("thing", schema)
		}
	case "query", "procedure":
		document("thing", `{"main": `+schema+`}`)
	default:
		document("send", `{"main": {"type": "procedure", "input": {"encoding": "application/json", "schema": `+object+`}}}`)
		document("get", `{"main": {"type": "query", "output": {"encoding": "application/json", "schema": `+object+`}}}`)
		document("record", `{"main": {"type": "record", "key": "tid", "record": `+object+`}}`)
	}
	return load(t, fsys)
}
