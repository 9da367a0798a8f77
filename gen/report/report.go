// Package report says what changed between two trees of lexicons: every change with
// its place, what was and what is, and whom it breaks.
package report

import (
	"slices"
	"strconv"
	"strings"

	"portico/gen/model"
	"portico/gen/source"
)

// Direction says whom a change breaks.
type Direction string

// The directions. A change breaks clients when what they send is no longer taken, or
// what they are sent is nothing they were written for. It breaks the server when its
// code no longer compiles, or what it sends is no longer allowed. A change of behaviour
// breaks nobody, and yet the same messages mean something else, or the server meets
// values that it did not before. Text changes comments of the generated code and nothing
// else.
const (
	Text       Direction = "text only"
	Compatible Direction = "compatible"
	Behaviour  Direction = "a change of behaviour"
	Clients    Direction = "breaking for clients"
	Server     Direction = "breaking for the server"
	Both       Direction = "breaking for clients and the server"
)

// Breaking tells whether d breaks anyone.
func (d Direction) Breaking() bool { return d == Clients || d == Server || d == Both }

// Severity is d without whom: "breaking", "behaviour", "compatible" or "text".
func (d Direction) Severity() string {
	switch {
	case d.Breaking():
		return "breaking"
	case d == Behaviour:
		return "behaviour"
	case d == Compatible:
		return "compatible"
	}
	return "text"
}

// and is what two changes with the directions d and e are together.
func (d Direction) and(e Direction) Direction {
	if d.Breaking() && e.Breaking() && d != e {
		return Both
	}
	order := []Direction{Text, Compatible, Behaviour, Clients, Server, Both}
	if slices.Index(order, d) < slices.Index(order, e) {
		return e
	}
	return d
}

// Place is where a change is to be seen: in the new tree, or in the old one when what
// changed is no longer there.
type Place struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"` // counted in bytes, as is usual
	Pointer string `json:"pointer"`
	Old     bool   `json:"old,omitzero"`
}

// Change is one thing that is not as it was.
type Change struct {
	ID        string    `json:"id"`            // of the definition: "com.example.getX", "com.example.defs#x"
	Type      string    `json:"type"`          // of the definition: "query", "object"
	Where     string    `json:"where"`         // in the definition: "output.links.terms"; "" for all of it
	Rule      string    `json:"rule"`          // the ID of a [Rule]
	What      string    `json:"what,omitzero"` // the constraint; "" for what stands at Where itself
	Old       string    `json:"old"`           // what was; "none"
	New       string    `json:"new"`           // what is; "none"
	Direction Direction `json:"direction"`
	Severity  string    `json:"severity"` // of the direction
	Go        []GoName  `json:"go"`       // on account of which the server's code no longer compiles, by which it breaks the server
	Place     Place     `json:"place"`
	Note      string    `json:"note,omitzero"`    // what a maintainer of the server has to do, or what is behind it
	Ignored   bool      `json:"ignored,omitzero"` // it does not count

	near   Place // in the new tree; without a file when the document is gone
	claims []claim
}

// GoName is a name of the generated code that is gone, another type, or one that an
// implementation lacks.
type GoName struct {
	Name string `json:"name"` // with its package: "server.CreateSessionInput.Password"
	Old  string `json:"old"`  // its type; "none"
	New  string `json:"new"`  // its type; "none"

	text string
}

// Options are what a report is told besides the lexicons: what is generated from each.
// Without, no change breaks the build of anything.
type Options struct {
	Old, New []*model.Package
}

// Compare lists the changes from old to new, which are ordered by NSID as
// [source.Load] leaves them, and free of problems. The changes come ordered by NSID
// and then by place.
func Compare(old, new []*source.Document, o Options) []Change {
	d := &differ{old: index(old), new: index(new), reach: map[string]reach{}}
	d.code = newCode(model.Breaks(model.SurfaceOf(o.Old), model.SurfaceOf(o.New)))
	d.follow(d.old)
	d.follow(d.new)
	var nsids []string
	for _, doc := range slices.Concat(old, new) {
		nsids = append(nsids, doc.NSID)
	}
	slices.Sort(nsids)
	for _, nsid := range slices.Compact(nsids) {
		d.document(d.old[nsid], d.new[nsid])
	}
	return d.changes
}

// Worst is the direction of all changes together that are not ignored; "" when there are
// none.
func Worst(changes []Change) Direction {
	var worst Direction
	for _, c := range changes {
		switch {
		case c.Ignored:
		case worst == "":
			worst = c.Direction
		default:
			worst = worst.and(c.Direction)
		}
	}
	return worst
}

type documents map[string]*source.Document

func index(docs []*source.Document) documents {
	all := documents{}
	for _, d := range docs {
		all[d.NSID] = d
	}
	return all
}

// target is the definition that ref in doc refers to, or nil.
func (ds documents) target(doc *source.Document, ref string) *source.Def {
	nsid, name := source.SplitRef(doc.NSID, ref)
	if to := ds[nsid]; to != nil {
		return to.Def(name)
	}
	return nil
}

// full is ref in the form that is the same in every document.
func full(doc *source.Document, ref string) string {
	nsid, name := source.SplitRef(doc.NSID, ref)
	if name == "main" {
		return nsid
	}
	return nsid + "#" + name
}

// reach says which way values of a definition go.
type reach uint8

const (
	sent     reach = 1 << iota // from clients to the server
	answered                   // from the server to clients
	both     = sent | answered
)

// follow notes for every definition of docs which way its values go. Both old and new
// count, so that the last use of a definition is still seen when it goes away.
func (d *differ) follow(docs documents) {
	for _, doc := range docs {
		for _, def := range doc.Defs {
			switch def.Node.String("type") {
			case "query", "procedure", "subscription":
				d.mark(docs, doc, def.Node.Get("parameters"), sent)
				d.mark(docs, doc, def.Node.Get("input"), sent)
				d.mark(docs, doc, def.Node.Get("output"), answered)
				d.mark(docs, doc, def.Node.Get("message"), answered)
			case "record":
				d.reach[def.ID()] = both
				d.mark(docs, doc, def.Node, both)
			}
		}
	}
}

func (d *differ) mark(docs documents, doc *source.Document, v *source.Value, r reach) {
	if v == nil {
		return
	}
	var refs []string
	switch v.String("type") {
	case "ref":
		refs = []string{v.String("ref")}
	case "union":
		refs = v.Strings("refs")
	}
	for _, ref := range refs {
		def := docs.target(doc, ref)
		if def == nil || d.reach[def.ID()]&r == r {
			continue
		}
		d.reach[def.ID()] |= r
		d.mark(docs, def.Doc, def.Node, r)
	}
	for _, m := range v.Members {
		d.mark(docs, doc, m.Value, r)
	}
	for _, item := range v.Items {
		d.mark(docs, doc, item, r)
	}
}

// differ collects the changes of one report.
type differ struct {
	old, new documents
	code     *code // nil: that of what is compared here does not count
	reach    map[string]reach
	changes  []Change
	compared map[[2]string]bool // definitions whose shapes are being compared
}

// site is where a comparison is at.
type site struct {
	old, new *source.Document
	id, typ  string
	where    string
	way      reach
	main     *source.Value // the definition, in the old document
}

func (s site) at(part string) site {
	if s.where != "" && part[0] != '[' {
		part = "." + part
	}
	s.where += part
	return s
}

func (s site) going(way reach) site {
	s.way = way
	return s
}

const none = "none"

// add records a change of what stands at node v, which is in the old tree when gone.
func (d *differ) add(s site, v *source.Value, gone bool, c Change) {
	doc := s.new
	if gone {
		doc = s.old
	}
	c.ID, c.Type, c.Where = s.id, s.typ, s.where
	c.Place = place(doc, v)
	c.Place.Old = gone
	if c.near = c.Place; gone {
		if c.near = (Place{}); s.new != nil {
			c.near = place(s.new, nearest(s.new, v))
		}
	}
	if c.Direction == "" {
		c.Direction = byID[c.Rule].Direction
	}
	if c.Go = d.code.claim(s, c.claims); len(c.Go) > 0 {
		c.Direction = c.Direction.and(Server)
	}
	c.Severity = c.Direction.Severity()
	d.changes = append(d.changes, c)
}

func place(doc *source.Document, v *source.Value) Place {
	p := Place{File: doc.Path, Pointer: v.Pointer}
	p.Line, p.Column = doc.Position(v)
	return p
}

// nearest is what is left in doc around v, which was in another one.
func nearest(doc *source.Document, v *source.Value) *source.Value {
	at := doc.Root()
	for segment := range strings.SplitSeq(strings.TrimPrefix(v.Pointer, "/"), "/") {
		next := at.Get(strings.NewReplacer("~1", "/", "~0", "~").Replace(segment))
		if i, err := strconv.Atoi(segment); err == nil && i < len(at.Items) {
			next = at.Items[i]
		}
		if next == nil {
			break
		}
		at = next
	}
	return at
}

// change records that a member of a schema is another, came, or went.
func (d *differ) change(s site, old, new *source.Value, c Change) {
	if new != nil {
		d.add(s, new, false, c)
	} else {
		d.add(s, old, true, c)
	}
}

// rule is the rule called name for where s is.
func (s site) rule(name string) string { return s.way.prefix() + name }

// --- documents and definitions ---

func (d *differ) document(old, new *source.Document) {
	if old != nil && new != nil {
		s := site{old: old, new: new, id: new.NSID, typ: "document"}
		d.text(s, "description", old.Root(), new.Root())
	}
	var names []string
	for _, doc := range []*source.Document{new, old} {
		if doc != nil {
			for _, def := range doc.Defs {
				if !slices.Contains(names, def.Name) {
					names = append(names, def.Name)
				}
			}
		}
	}
	for _, name := range names {
		var was, is *source.Def
		if old != nil {
			was = old.Def(name)
		}
		if new != nil {
			is = new.Def(name)
		}
		d.definition(old, new, was, is)
	}
	d.unclaimed(old, new)
}

func (d *differ) definition(old, new *source.Document, was, is *source.Def) {
	s := site{old: old, new: new, way: both}
	switch {
	case was == nil:
		s.id, s.typ = is.ID(), is.Node.String("type")
		c := Change{Rule: "definition-added", Old: none, New: s.typ, claims: []claim{{node: is.Node, new: true}}}
		if isMethod(s.typ) {
			c.Rule = "method-added"
			if m := d.code.added(new, is.Node); m != nil {
				pkg, name, _ := strings.Cut(m.Name, ".Service.")
				c.Note = "implement " + pkg + ".Service." + name + ", decide " + pkg + ".Policy." + name
			}
		}
		d.add(s, is.Node, false, c)
	case is == nil:
		s.id, s.typ = was.ID(), was.Node.String("type")
		c := Change{Rule: "definition-removed", Old: s.typ, New: none, claims: []claim{{node: was.Node, below: true}}}
		switch {
		case isMethod(s.typ):
			c.Rule = "method-removed"
		case s.typ == "record":
			c.Rule = "record-removed"
		case s.typ == "permission-set":
			c.Rule = "permission-set-removed"
		}
		d.add(s, was.Node, true, c)
		removed := &d.changes[len(d.changes)-1]
		switch {
		case len(removed.Go) == 0:
		case isMethod(s.typ):
			removed.Note = "delete the method of the implementation and of its policy, or keep the lexicon"
		default:
			removed.Note = "delete what uses it"
		}
	default:
		s.id, s.typ, s.main = is.ID(), is.Node.String("type"), was.Node
		if way := d.reach[s.id]; way != 0 {
			s.way = way
		}
		from := len(d.changes)
		d.schema(s, was.Node, is.Node)
		d.lexlint(s, was, is, from)
	}
}

func isMethod(typ string) bool { return typ == "query" || typ == "procedure" || typ == "subscription" }

func list(v *source.Value, key string) []*source.Value {
	if v = v.Get(key); v != nil {
		return v.Items
	}
	return nil
}

func raw(v *source.Value) string {
	if v == nil {
		return none
	}
	return short(strings.Join(strings.Fields(string(v.Raw)), " "))
}

// apart are two values on one line each, from a little before the place where they part.
func apart(a, b *source.Value) (was, is string) {
	if a == nil || b == nil {
		return raw(a), raw(b)
	}
	x, y := []rune(strings.Join(strings.Fields(string(a.Raw)), " ")), []rune(strings.Join(strings.Fields(string(b.Raw)), " "))
	same := 0
	for same < min(len(x), len(y)) && x[same] == y[same] {
		same++
	}
	const before = 20
	if same <= 2*before || len(x) <= most && len(y) <= most {
		return short(string(x)), short(string(y))
	}
	return short("…" + string(x[same-before:])), short("…" + string(y[same-before:]))
}

// kind says what a schema in doc is the schema of.
func kind(doc *source.Document, v *source.Value) string {
	switch t := v.String("type"); t {
	case "ref":
		return "ref " + full(doc, v.String("ref"))
	case "array":
		return "array of " + kind(doc, v.Get("items"))
	default:
		return t
	}
}

const most = 60 // runes of a value that are shown

// short keeps a value on its line.
func short(s string) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
