package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"portico/gen/source"
)

// Rule is a kind of change. RULES.md in the folder above has a section for each.
type Rule struct {
	ID string // is never given to another kind of change

	// Direction is whom such a change breaks on the wire. Where the Go code of the server
	// no longer compiles, it breaks the server besides. It is "" where it depends on what
	// is behind the change.
	Direction Direction

	lexlint []string // lexlint's names for it
}

// pair is a change and its opposite, or two that can be both at once, wherever values go:
// its rules begin with input-, output- or shared-.
type pair struct {
	narrower, wider, changed string  // "": there is no such change
	bounds                   bool    // the tables look after it; no code depends on it
	only                     []reach // the ways on which there is such a thing; nil is all
	lexlint                  []string
}

var pairs = []pair{
	{changed: "type-changed", lexlint: []string{"type-change"}},
	{narrower: "encoding-narrower", wider: "encoding-wider", changed: "encoding-changed", only: []reach{sent, answered}, lexlint: []string{"body-encoding"}},
	{narrower: "schema-added", wider: "schema-removed", only: []reach{sent, answered}},
	{narrower: "format-narrower", wider: "format-wider", changed: "format-changed", lexlint: []string{"string-format"}},
	{narrower: "const-added", wider: "const-removed", changed: "const-changed", lexlint: []string{"const-value"}},
	{narrower: "enum-narrower", wider: "enum-wider", lexlint: []string{"enum-values"}},
	{narrower: "property-required", wider: "property-optional", lexlint: []string{"object-required", "params-required"}},
	{narrower: "property-not-nullable", wider: "property-nullable", lexlint: []string{"object-nullable"}},
	{narrower: "required-property-added", lexlint: []string{"object-required", "params-required", "object-nullable"}},
	{wider: "required-property-removed", bounds: true, lexlint: []string{"object-required", "params-required", "object-nullable"}},
	{narrower: "union-closed", wider: "union-opened", lexlint: []string{"union-open-closed", "union-closed-refs"}},
	{narrower: "closed-variant-removed", wider: "closed-variant-added", lexlint: []string{"union-closed-refs"}},
	{narrower: "length-narrower", wider: "length-wider", bounds: true, lexlint: []string{"string-length", "bytes-length", "array-length"}},
	{narrower: "range-narrower", wider: "range-wider", bounds: true, lexlint: []string{"integer-range"}},
	{narrower: "size-narrower", wider: "size-wider", bounds: true, lexlint: []string{"blob-size"}},
	{narrower: "accept-narrower", wider: "accept-wider", changed: "accept-changed", bounds: true, lexlint: []string{"blob-accept"}},
}

// single are the rules that are the same wherever values go, or that only one way has.
var single = []Rule{
	{ID: "method-added", Direction: Compatible},
	{ID: "method-removed", Direction: Clients},
	{ID: "method-kind-changed", Direction: Clients, lexlint: []string{"type-change"}},
	{ID: "definition-added", Direction: Compatible},
	{ID: "definition-removed", Direction: Compatible},
	{ID: "record-removed", Direction: Clients},
	{ID: "record-key-narrower", Direction: Both, lexlint: []string{"record-key-type"}},
	{ID: "record-key-wider", Direction: Clients, lexlint: []string{"record-key-type"}},
	{ID: "record-key-changed", Direction: Both, lexlint: []string{"record-key-type"}},
	{ID: "permission-set-removed", Direction: Clients},
	{ID: "permission-added", Direction: Compatible},
	{ID: "permission-removed", Direction: Clients},
	{ID: "params-added", Direction: Compatible},
	{ID: "required-params-added", Direction: Clients},
	{ID: "params-removed", Direction: Compatible},
	{ID: "input-added", Direction: Clients},
	{ID: "input-removed", Direction: Clients},
	{ID: "output-added", Direction: Server},
	{ID: "output-removed", Direction: Both},
	{ID: "error-added", Direction: Compatible},
	{ID: "error-removed", Direction: Both},
	{ID: "property-added", Direction: Compatible, lexlint: []string{"object-nullable"}},
	{ID: "property-removed", Direction: Compatible, lexlint: []string{"object-nullable"}},
	{ID: "default-added", Direction: Behaviour},
	{ID: "default-removed", Direction: Behaviour},
	{ID: "default-changed", Direction: Behaviour},
	{ID: "known-value-added", Direction: Compatible},
	{ID: "known-value-removed", Direction: Compatible},
	{ID: "variant-added", Direction: Compatible},
	{ID: "variant-removed", Direction: Compatible},
	{ID: "ref-changed", lexlint: []string{"ref-change"}},
	{ID: "ref-inlined", lexlint: []string{"type-change"}},
	{ID: "deprecated", Direction: Compatible},
	{ID: "text-changed", Direction: Text},
	{ID: "extension-changed", Direction: Text},
	{ID: "notation-changed", Direction: Text, lexlint: []string{"ref-change"}},
	{ID: "generated-code", Direction: Compatible},
	{ID: "lexlint", Direction: Both},
}

// prefix is how the rules for values that go way begin.
func (way reach) prefix() string {
	switch way {
	case sent:
		return "input-"
	case answered:
		return "output-"
	}
	return "shared-"
}

// breaks is whom it breaks when fewer values are allowed than before, or more, or both.
func (way reach) breaks(narrower, wider, bounds bool) Direction {
	d := Compatible
	if way&sent != 0 && wider && !bounds || way&answered != 0 && narrower && bounds {
		d = Behaviour // the server meets values that it did not before, or has to keep to a bound
	}
	if way&sent != 0 && narrower || way&answered != 0 && wider {
		d = d.and(Clients)
	}
	if way&answered != 0 && narrower && !bounds {
		d = d.and(Server)
	}
	return d
}

var byID = func() map[string]Rule {
	all := map[string]Rule{}
	for _, r := range single {
		all[r.ID] = r
	}
	for _, p := range pairs {
		ways := p.only
		if ways == nil {
			ways = []reach{sent, answered, both}
		}
		for _, way := range ways {
			add := func(name string, narrower, wider bool) {
				if name != "" {
					id := way.prefix() + name
					all[id] = Rule{id, way.breaks(narrower, wider, p.bounds), p.lexlint}
				}
			}
			add(p.narrower, true, false)
			add(p.wider, false, true)
			add(p.changed, true, true)
		}
	}
	return all
}()

// Rules are all rules, ordered by ID.
func Rules() []Rule {
	return slices.SortedFunc(maps.Values(byID), func(a, b Rule) int { return strings.Compare(a.ID, b.ID) })
}

// manner is what a change does to the values that are allowed: the ending of its rule.
func manner(narrower, wider bool) string {
	switch {
	case narrower && wider:
		return "-changed"
	case narrower:
		return "-narrower"
	}
	return "-wider"
}

// Ignore marks the changes that patterns are about: each is the ID of a rule, or that with
// a colon and an NSID or the beginning of one with "*", "input-removed:com.example.*". An
// unknown rule is an error.
func Ignore(changes []Change, patterns []string) error {
	for _, pattern := range patterns {
		id, where, narrow := strings.Cut(pattern, ":")
		if _, ok := byID[id]; !ok {
			return fmt.Errorf("there is no rule %q%s", id, meant(id))
		}
		if narrow && where == "" {
			return fmt.Errorf("%q has no NSID after the colon", pattern)
		}
		for i := range changes {
			c := &changes[i]
			nsid, _, _ := strings.Cut(c.ID, "#")
			if c.Rule == id && (!narrow || source.Matches(where, nsid) || source.Matches(where, c.ID)) {
				c.Ignored = true
			}
		}
	}
	return nil
}

// meant is a hint at the rules that id may stand for.
func meant(id string) string {
	var ids, sided []string
	for _, r := range Rules() {
		ids = append(ids, r.ID)
		if strings.HasSuffix(r.ID, "-"+id) {
			sided = append(sided, r.ID)
		}
	}
	if id != "" && len(sided) > 0 {
		return " (there are " + strings.Join(sided, ", ") + ")"
	}
	return source.DidYouMean(id, ids)
}
