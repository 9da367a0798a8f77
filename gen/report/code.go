package report

import (
	"slices"
	"strings"

	"portico/gen/model"
	"portico/gen/source"
)

// code is what no longer compiles of the code that is written against the generated one,
// and which of it a change was found for.
type code struct {
	breaks  []model.Break
	claimed []bool
}

func newCode(breaks []model.Break) *code {
	return &code{breaks, make([]bool, len(breaks))}
}

// claim is a part of a lexicon that a change is about. What was generated from there and
// no longer compiles is on account of the change.
type claim struct {
	node  *source.Value
	new   bool            // node is in the new document
	below bool            // what is in node counts, too
	kinds model.ShownKind // of names; 0 is all
	only  []string        // variants
}

// claim finds the names that claims are about.
func (c *code) claim(s site, claims []claim) []GoName {
	names := []GoName{}
	if c == nil {
		return names
	}
	for i, b := range c.breaks {
		if slices.ContainsFunc(claims, func(cl claim) bool { return cl.covers(s, b) }) {
			c.claimed[i] = true
			names = append(names, goName(b))
		}
	}
	return names
}

func (cl claim) covers(s site, b model.Break) bool {
	name, doc := b.Old, s.old
	if cl.new {
		name, doc = b.New, s.new
	}
	if cl.node == nil || name == nil || cl.new && b.Old != nil || doc == nil || name.Doc.NSID != doc.NSID {
		return false
	}
	if cl.kinds != 0 && cl.kinds&name.Kind == 0 || cl.only != nil && !slices.Contains(cl.only, name.Variant) {
		return false
	}
	// The type of a list is that of its elements.
	of := cl.node.Pointer
	for strings.HasSuffix(of, "/items") && typeKinds&name.Kind != 0 {
		if name.Node.Pointer == of {
			return true
		}
		of = strings.TrimSuffix(of, "/items")
	}
	return name.Node.Pointer == of || cl.below && strings.HasPrefix(name.Node.Pointer, cl.node.Pointer+"/")
}

// typeKinds are the names that have the type of the schema where they stand.
const typeKinds = model.ShownType | model.ShownField

func goName(b model.Break) GoName {
	n := GoName{Old: none, New: none, text: b.String()}
	if b.New != nil {
		n.Name, n.New = b.New.Name, b.New.Type
	}
	if b.Old != nil {
		n.Name, n.Old = b.Old.Name, b.Old.Type
	}
	return n
}

// added is the method that an implementation lacks since node is there.
func (c *code) added(doc *source.Document, node *source.Value) *model.Shown {
	if c == nil {
		return nil
	}
	for _, b := range c.breaks {
		if b.Old == nil && b.New.Doc.NSID == doc.NSID && b.New.Node.Pointer == node.Pointer {
			return b.New
		}
	}
	return nil
}

// unclaimed records what no longer compiles of what was generated from a document though
// the document says the same there: a definition is generated only where another leads to it.
func (d *differ) unclaimed(old, new *source.Document) {
	if d.code == nil {
		return
	}
	for i, b := range d.code.breaks {
		name, doc := b.Old, old
		if name == nil {
			name, doc = b.New, new
		}
		if d.code.claimed[i] || doc == nil || name.Doc.NSID != doc.NSID {
			continue
		}
		s := site{old: old, new: new, id: doc.NSID, typ: "document"}
		for _, def := range doc.Defs {
			if name.Node.Pointer == def.Node.Pointer || strings.HasPrefix(name.Node.Pointer, def.Node.Pointer+"/") {
				s.id, s.typ = def.ID(), def.Node.String("type")
			}
		}
		at, n := name.Node, goName(b)
		gone := doc == old
		if gone && new != nil {
			if left := nearest(new, at); left.Pointer == at.Pointer {
				at, gone = left, false
			}
		}
		d.add(s, at, gone, Change{
			Rule: "generated-code", What: n.Name, Old: n.Old, New: n.New, Note: "what leads to it is not as it was",
			claims: []claim{{node: name.Node, new: doc == new, kinds: name.Kind}},
		})
	}
}
