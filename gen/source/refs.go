package source

import (
	"cmp"
	"slices"
	"strings"
)

// SplitRef splits the text of a ref in the document nsid into the NSID of the document
// and the name of the definition that it refers to.
func SplitRef(nsid, ref string) (doc, def string) {
	doc, def, fragment := strings.Cut(strings.TrimPrefix(ref, "lex:"), "#")
	if !fragment {
		def = "main"
	}
	if doc == "" {
		doc = nsid
	}
	return doc, def
}

// Refs are the NSIDs of the documents that d refers to, in the order of their first
// mention.
func (d *Document) Refs() []string {
	var all []string
	add := func(ref string) {
		if nsid, _ := SplitRef(d.NSID, ref); !slices.Contains(all, nsid) {
			all = append(all, nsid)
		}
	}
	var walk func(v *Value)
	walk = func(v *Value) {
		switch v.String("type") {
		case "ref":
			add(v.String("ref"))
		case "union":
			for _, ref := range v.Strings("refs") {
				add(ref)
			}
		}
		for _, m := range v.Members {
			walk(m.Value)
		}
		for _, item := range v.Items {
			walk(item)
		}
	}
	if defs := d.root.Get("defs"); defs != nil {
		for _, m := range defs.Members {
			walk(m.Value)
		}
	}
	return all
}

// checkRefs reports the refs that lead nowhere. It looks at the trees, so that a
// document with other problems is checked too.
func checkRefs(docs []*Document, foreign bool, excluded map[string]bool, problems *Problems) {
	c := refChecker{map[string]*Document{}, nil, foreign, excluded, problems}
	for _, d := range docs {
		c.docs[d.NSID] = d
		c.nsids = append(c.nsids, d.NSID)
	}
	for _, d := range docs {
		for _, m := range d.root.Get("defs").Members {
			c.walk(d, m.Value)
		}
	}
}

type refChecker struct {
	docs     map[string]*Document
	nsids    []string
	foreign  bool
	excluded map[string]bool // NSIDs of documents that are there, but do not count
	problems *Problems
}

func (c refChecker) walk(d *Document, v *Value) {
	switch v.String("type") {
	case "ref":
		if r := v.Get("ref"); r != nil {
			c.ref(d, r)
		}
		return
	case "union":
		if refs := v.Get("refs"); refs != nil {
			for _, r := range refs.Items {
				c.ref(d, r)
			}
		}
		return
	}
	for _, m := range v.Members {
		if slices.Contains([]string{"default", "const", "enum", "knownValues"}, m.Key) {
			continue
		}
		c.walk(d, m.Value)
	}
}

func (c refChecker) ref(d *Document, v *Value) {
	if v.Kind != String {
		return
	}
	nsid, name := SplitRef(d.NSID, v.Text)
	target := c.docs[nsid]
	if target == nil {
		switch {
		case c.foreign:
		case c.excluded[nsid]:
			c.problems.Add(d, v, "%q was left out; leave this document out too, or take such refs for raw JSON with -dangling=raw", v.Text)
		default:
			c.problems.Add(d, v, "%q is in no document%s", v.Text, cmp.Or(DidYouMean(nsid, c.nsids), "; add it, or take such refs for raw JSON with -dangling=raw"))
		}
		return
	}
	if (target != d && c.foreign) || c.defines(target, name) {
		return
	}
	var names []string
	for _, m := range target.root.Get("defs").Members {
		if c.defines(target, m.Key) {
			names = append(names, "#"+m.Key)
		}
	}
	where := "there"
	if target == d {
		where = "here"
	}
	c.problems.Add(d, v, "%q is not defined %s%s", v.Text, where, cmp.Or(DidYouMean("#"+name, names), "; define it, or refer to something else"))
}

// defines tells whether a definition called name is in d, as far as that is known.
func (c refChecker) defines(d *Document, name string) bool {
	if d.broken {
		return d.root.Get("defs").Get(name) != nil
	}
	return d.Def(name) != nil
}
