// Package source reads lexicon documents. It keeps what encoding/json throws away,
// the order of properties and the place of every value, and reports all that is
// wrong with a set of documents at once, each problem with its place.
package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/lexicon"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Document is one lexicon file.
type Document struct {
	Path        string
	NSID        string
	Description string
	Defs        []*Def // in the order of the file

	byName map[string]*Def
	root   *Value
	data   []byte
	broken bool // has problems, which is why Defs is empty
}

// Def is one definition of a document.
type Def struct {
	Doc    *Document
	Name   string
	Schema lexicon.SchemaDef
	Node   *Value // the same definition with order and places
}

// ID is the full name of the definition: the NSID, with "#name" for all but main.
func (d *Def) ID() string {
	if d.Name == "main" {
		return d.Doc.NSID
	}
	return d.Doc.NSID + "#" + d.Name
}

// Def is the definition called name, or nil.
func (d *Document) Def(name string) *Def {
	return d.byName[name]
}

// Root is the whole document.
func (d *Document) Root() *Value { return d.root }

func (d *Document) problem(v *Value, message string) Problem {
	p := Problem{Path: d.Path, Message: message}
	if v != nil {
		p.Line, p.Col = position(d.data, v.Offset)
		p.Pointer = v.Pointer
	}
	return p
}

// Position is the line and the column of v, counted from 1; columns are bytes.
func (d *Document) Position(v *Value) (line, col int) { return position(d.data, v.Offset) }

// Place is "file:line:col" of v.
func (d *Document) Place(v *Value) string {
	line, col := d.Position(v)
	return fmt.Sprintf("%s:%d:%d", d.Path, line, col)
}

// Options say which documents count, and how strictly.
type Options struct {
	Foreign bool     // a ref to a document that is not there is no problem
	Exclude []string // documents that are not there, whatever they say; see [Matches]
}

// Matches tells whether a pattern is name: the same text, or with "*" at its end what
// name begins with.
func Matches(pattern, name string) bool {
	prefix, wild := strings.CutSuffix(pattern, "*")
	return pattern == name || wild && strings.HasPrefix(name, prefix)
}

// excludes tells whether a document is left out by its path below the folder or its NSID.
func (o Options) excludes(name string) bool {
	return name != "" && slices.ContainsFunc(o.Exclude, func(pattern string) bool { return Matches(pattern, name) })
}

// Load reads every .json file below dir of fsys. The documents come ordered by NSID,
// however fsys orders its files. One with problems has no definitions. The error is for
// files that could not be read at all.
func Load(fsys fs.FS, dir string, o Options) ([]*Document, Problems, error) {
	var docs []*Document
	var problems Problems
	excluded := map[string]bool{}
	err := fs.WalkDir(fsys, dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".json" {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		var found Problems
		doc := Parse(name, data, &found)
		nsid := ""
		if doc != nil {
			nsid = doc.NSID
		}
		below := name
		if dir != "." {
			below = strings.TrimPrefix(name, dir+"/")
		}
		if o.excludes(below) || o.excludes(nsid) {
			excluded[nsid] = true
			return nil
		}
		problems = append(problems, found...)
		if doc != nil {
			docs = append(docs, doc)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read lexicons: %w", err)
	}
	slices.SortFunc(docs, func(a, b *Document) int {
		return strings.Compare(a.NSID+"\x00"+a.Path, b.NSID+"\x00"+b.Path)
	})
	docs = slices.CompactFunc(docs, func(a, b *Document) bool {
		if a.NSID != b.NSID {
			return false
		}
		problems.Add(b, b.root.Get("id"), "%s is also defined in %s; delete one of the two", b.NSID, a.Path)
		return true
	})
	checkRefs(docs, o.Foreign, excluded, &problems)
	return docs, problems, nil
}

// Parse reads one document. What is wrong with it is added to problems; it returns nil
// when that leaves nothing that others could refer to.
func Parse(name string, data []byte, problems *Problems) *Document {
	data, err := text(data)
	doc := &Document{Path: name, data: data}
	if err != nil {
		problems.Add(doc, nil, "%s", err)
		return nil
	}
	root, err := parse(data)
	if err != nil {
		at := 0
		if syn, ok := errors.AsType[*syntaxError](err); ok {
			at = syn.offset
		}
		problems.Add(doc, &Value{Offset: at}, "%s; mend the JSON there", err)
		return nil
	}
	doc.root = root
	found := len(*problems)
	doc.check(problems)
	if doc.NSID == "" || root.Get("defs") == nil {
		return nil
	}
	if doc.broken = (*problems)[found:].Err() != nil; doc.broken {
		return doc
	}
	doc.Description = root.String("description")
	for _, m := range root.Get("defs").Members {
		if !slices.Contains(definable, m.Value.String("type")) {
			continue // check has warned of it
		}
		def := &Def{Doc: doc, Name: m.Key, Node: m.Value}
		if err := def.decode(); err != nil && m.Value.String("type") == "permission-set" {
			problems.Warn(doc, m.Value, "%s; nothing is generated from it", err)
			def.Schema.Inner = lexicon.SchemaPermissionSet{}
		} else if err != nil {
			problems.Add(doc, m.Value, "%s; compare the definition with the lexicon specification", err)
			doc.broken = true
		}
		doc.Defs = append(doc.Defs, def)
	}
	if doc.broken {
		doc.Defs = nil
	}
	doc.byName = make(map[string]*Def, len(doc.Defs))
	for _, def := range doc.Defs {
		doc.byName[def.Name] = def
	}
	return doc
}

// text is what a file says without the byte order mark that some editors put before it.
func text(data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return nil, errors.New("the file is UTF-16; save it as UTF-8")
	case len(bytes.TrimSpace(data)) == 0:
		return nil, errors.New("the file is empty; write a lexicon into it or delete it")
	}
	return data, nil
}

// decode parses the definition with indigo's structs and applies its rules. It works
// on a file of that one definition, so that an error can be placed.
func (d *Def) decode() error {
	if err := json.Unmarshal(d.Node.Raw, &d.Schema); err != nil {
		return err
	}
	// A second parse, because FinishParse must run once only and fills what
	// CheckSchema insists on.
	var again lexicon.SchemaDef
	if err := json.Unmarshal(d.Node.Raw, &again); err != nil {
		return err
	}
	file := lexicon.SchemaFile{Lexicon: 1, ID: d.Doc.NSID, Defs: map[string]lexicon.SchemaDef{d.Name: again}}
	if err := file.FinishParse(); err != nil {
		return err
	}
	def := file.Defs[d.Name]
	withoutUnknown(def.Inner)
	if err := def.CheckSchema(); err != nil && !strings.HasPrefix(err.Error(), "unknown string format") {
		return err // check has its own opinion of formats
	}
	return nil
}

// withoutUnknown takes the schema out of bodies that are unknown, which indigo refuses.
func withoutUnknown(def any) {
	bodies := []*lexicon.SchemaBody{}
	switch def := def.(type) {
	case lexicon.SchemaQuery:
		bodies = append(bodies, def.Output)
	case lexicon.SchemaProcedure:
		bodies = append(bodies, def.Input, def.Output)
	}
	for _, body := range bodies {
		if body == nil || body.Schema == nil {
			continue
		}
		if _, ok := body.Schema.Inner.(lexicon.SchemaUnknown); ok {
			body.Schema = nil
		}
	}
}

func validNSID(s string) bool {
	_, err := syntax.ParseNSID(s)
	return err == nil
}
