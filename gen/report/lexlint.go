package report

import (
	"encoding/json"
	"slices"

	"github.com/bluesky-social/indigo/atproto/lexicon"
	"github.com/bluesky-social/indigo/lex/lexlint"

	"portico/gen/source"
)

// lexlint adds what indigo's rules for breaking changes find in one definition and the
// changes from the index on don't account for. Today that is nothing; a rule that indigo
// gets one day shall not be missed.
func (d *differ) lexlint(s site, was, is *source.Def, from int) {
	if s.typ == "subscription" || was.Node.String("type") == "subscription" {
		return // it only logs that it has no rules for them
	}
	var seen []string
	for _, c := range d.changes[from:] {
		seen = append(seen, byID[c.Rule].lexlint...)
	}
	old, err := fresh(was)
	if err != nil {
		return
	}
	new, err := fresh(is)
	if err != nil {
		return
	}
	for _, issue := range lexlint.BreakingChanges(old, new) {
		// A change of type says all there is to say about what is below.
		if slices.Contains(seen, issue.LintName) {
			continue
		}
		d.add(s, is.Node, false, Change{
			Rule: "lexlint", What: issue.LintName + " " + issue.Message, Old: "the old rule", New: "the new",
		})
	}
}

// fresh parses a definition anew, because lexlint sorts what it is given in place.
func fresh(def *source.Def) (*lexicon.SchemaFile, error) {
	var schema lexicon.SchemaDef
	if err := json.Unmarshal(def.Node.Raw, &schema); err != nil {
		return nil, err
	}
	return &lexicon.SchemaFile{Lexicon: 1, ID: def.Doc.NSID, Defs: map[string]lexicon.SchemaDef{def.Name: schema}}, nil
}
