package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"portico/gen/source"
)

// finish decides what can be decided only once every definition is known, and puts
// everything in its order.
func (b *builder) finish() []*Package {
	b.cycles()
	b.unsatisfiable()
	b.normalize()
	var all []*Package
	for _, p := range slices.SortedFunc(slices.Values(b.order), func(x, y *pkg) int { return strings.Compare(x.Dir, y.Dir) }) {
		p.Package.Idents, p.owners = map[string]bool{}, p.idents
		for name := range p.idents {
			p.Package.Idents[name] = true
		}
		slices.SortFunc(p.files, func(x, y *file) int { return strings.Compare(x.Source, y.Source) })
		for _, f := range p.files {
			for _, def := range f.doc.Defs {
				if s := f.decls[def]; s != nil {
					f.File.Decls = append(f.File.Decls, s.flat()...)
				}
			}
			p.Methods = append(p.Methods, f.methods...)
			p.Records = append(p.Records, f.records...)
			if len(f.File.Decls) > 0 {
				p.Package.Files = append(p.Package.Files, f.File)
			}
		}
		recursion(p.Package)
		if len(p.Package.Files) > 0 {
			all = append(all, p.Package)
		}
	}
	return all
}

// cycles reports packages that would import each other.
func (b *builder) cycles() {
	bySource := func(x, y *pkg) int { return strings.Compare(x.Source, y.Source) }
	next := func(p *pkg) []*pkg { return slices.SortedFunc(maps.Keys(p.uses), bySource) }
	for _, tangle := range components(slices.SortedFunc(slices.Values(b.order), bySource), next) {
		if len(tangle) == 1 {
			continue
		}
		slices.SortFunc(tangle, bySource)
		ring := ringOf(tangle, next)
		var names, through []string
		for i, q := range ring {
			names = append(names, q.Source)
			if i+1 < len(ring) {
				by := q.uses[ring[i+1]]
				through = append(through, by.doc.Place(by.node))
			}
		}
		by := ring[0].uses[ring[1]]
		fix := b.merge(tangle)
		var entries []string
		for _, group := range slices.Sorted(maps.Keys(fix.Entries)) {
			entries = append(entries, fmt.Sprintf("%q: %q", group, fix.Entries[group]))
		}
		b.problems.Ask(by.doc, by.node, fix, "package cycle %s through %s; make them one package: add %s to Merge",
			strings.Join(names, " → "), strings.Join(through, ", "), strings.Join(entries, ", "))
	}
}

// ringOf is the shortest way from the first of packages that all lead to each other back
// to it.
func ringOf(tangle []*pkg, next func(*pkg) []*pkg) []*pkg {
	before := map[*pkg]*pkg{}
	for queue := tangle[:1:1]; ; queue = queue[1:] {
		for _, p := range next(queue[0]) {
			if p == tangle[0] {
				ring := []*pkg{p}
				for at := queue[0]; at != p; at = before[at] {
					ring = append(ring, at)
				}
				slices.Reverse(ring)
				return append([]*pkg{p}, ring...)
			}
			if before[p] == nil {
				before[p] = queue[0]
				queue = append(queue, p)
			}
		}
	}
}

// merge makes packages one: the group of namespaces that holds them all, or each of
// theirs in the folder of the first where no group holds them and nothing else.
func (b *builder) merge(tangle []*pkg) source.Fix {
	group := strings.Split(tangle[0].groups[0], ".")
	fix := source.Fix{Setting: "Merge", Entries: map[string]string{}}
	var names []string
	for _, p := range tangle {
		names = append(names, p.groups...)
		for _, g := range p.groups {
			segments := strings.Split(g, ".")
			same := 0
			for same < min(len(group), len(segments)) && group[same] == segments[same] {
				same++
			}
			group = group[:same]
		}
	}
	slices.Sort(names)
	fix.Why = strings.Join(names, ", ") + " need each other"
	if len(group) < 2 {
		for _, g := range names {
			fix.Entries[g] = tangle[0].Dir
		}
		return fix
	}
	all, name := strings.Join(group, "."), group[len(group)-1]
	dir := strings.ToLower(strings.ReplaceAll(name, "-", ""))
	if slices.ContainsFunc(b.order, func(p *pkg) bool {
		return p.Source != all && !strings.HasPrefix(p.Source, all+".") && (p.Dir == dir || strings.HasPrefix(p.Dir, dir+"/"))
	}) {
		dir = strings.ToLower(strings.ReplaceAll(group[len(group)-2]+name, "-", "")) // another authority has the folder
	}
	fix.Entries[all] = dir
	return fix
}

// unsatisfiable reports objects that must contain themselves.
func (b *builder) unsatisfiable() {
	holds := map[Type][]contained{}
	for _, c := range b.fields {
		holds[c.in] = append(holds[c.in], c)
	}
	var types []Type
	for _, c := range b.fields {
		types = append(types, c.in)
	}
	group := map[Type]int{}
	for i, types := range components(types, func(t Type) []Type {
		var all []Type
		for _, c := range holds[t] {
			all = append(all, c.of)
		}
		return all
	}) {
		for _, t := range types {
			group[t] = i
		}
	}
	for _, c := range b.fields {
		if group[c.in] == group[c.of] {
			b.problems.Add(c.by.doc, c.by.node, "every %s would contain another, without end; make this property optional", c.in.Name)
		}
	}
}

// normalize marks the types in which a required list can hide.
func (b *builder) normalize() {
	holders := map[Type][]Type{} // the structs and unions that have a field or variant of the type
	var marked []Type
	set := func(t Type) {
		switch s, u := b.structs[t], b.unions[t]; {
		case s != nil && !s.Normalize:
			s.Normalize = true
		case u != nil && !u.Normalize:
			u.Normalize = true
		default:
			return
		}
		marked = append(marked, t)
	}
	for t, s := range b.structs {
		for _, f := range s.Fields {
			leaf := f.Under
			for leaf.Kind != Named {
				leaf = *leaf.Elem
			}
			holders[leaf] = append(holders[leaf], t)
			if f.Required && f.Under.Kind == Slice || b.hides(f.Under) {
				set(t)
			}
		}
	}
	for t, u := range b.unions {
		for _, v := range u.Variants {
			holders[v.Type] = append(holders[v.Type], t)
		}
	}
	for len(marked) > 0 {
		t := marked[len(marked)-1]
		marked = marked[:len(marked)-1]
		for _, holder := range holders[t] {
			set(holder)
		}
	}
	for _, s := range b.structs {
		for _, f := range s.Fields {
			mark(&f.Under, b.hides)
		}
	}
}

// mark leaves a name only on those named types that are normalized.
func mark(t *Type, hides func(Type) bool) {
	if t.Kind != Named {
		elem := *t.Elem
		mark(&elem, hides)
		t.Elem = &elem
		return
	}
	if !hides(*t) {
		*t = Type{}
	}
}

// hides tells whether a value of t can hold a list that must not be null.
func (b *builder) hides(t Type) bool {
	switch t.Kind {
	case Slice:
		return t.Elem.Kind == Slice || b.hides(*t.Elem)
	case Named:
		if s := b.structs[t]; s != nil {
			return s.Normalize
		}
		u := b.unions[t]
		return u != nil && u.Normalize
	}
	return b.hides(*t.Elem)
}

// recursion finds the tables that refer to themselves: as plain variables they would
// be an initialization cycle.
func recursion(p *Package) {
	uses := map[string][]string{}
	set := map[string]func(){}
	note := func(t *Table, schema Expr, recursive *bool) {
		var walk func(e Expr)
		walk = func(e Expr) {
			if e.Table != nil && e.Table.Import == p.Import {
				uses[t.Var] = append(uses[t.Var], e.Table.Var)
			}
			for _, a := range e.Args {
				walk(a)
			}
		}
		walk(schema)
		set[t.Var] = func() { *recursive = true }
	}
	for _, f := range p.Files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *Struct:
				note(d.Table, d.Schema, &d.Recursive)
			case *Union:
				note(d.Table, d.Schema, &d.Recursive)
			}
		}
	}
	for _, group := range components(slices.Collect(maps.Keys(set)), func(v string) []string { return uses[v] }) {
		for _, v := range group {
			if len(group) > 1 || slices.Contains(uses[v], v) {
				set[v]()
			}
		}
	}
}
