package model

import (
	"path"
	"strings"

	"portico/gen/source"
)

// Surface is every name of the generated packages that other code is written against, in
// the order of the packages. What only [Service]s, records and the runtime call for
// themselves, as Normalize and Schema, is none of it.
type Surface []*Shown

// ShownKind says what a [Shown] is. Kinds can be added up to a set of them.
type ShownKind byte

// The kinds of names.
const (
	ShownType ShownKind = 1 << iota
	ShownField
	ShownVariant // what the New of a union takes
	ShownConst
	ShownError
	ShownMethod // of Service, Policy and Client
)

// Shown is one name.
type Shown struct {
	Kind    ShownKind
	Name    string           // with its package: "server.CreateSessionInput.Password"
	Type    string           // "*string"; "struct", "union" or what an alias stands for; types of the same package go without it
	Variant string           // the $type of a variant
	Doc     *source.Document // what it is made of
	Node    *source.Value

	pkg     string // import path
	key     string // what makes it the same name in another surface
	of      *Shown // the type that a field or variant belongs to
	written string // Type with import paths
	actual  string // the same with every alias replaced: as the compiler compares types
}

// surface is a Surface in the making.
type surface struct {
	aliases map[Type]Type
	all     Surface
	pkg     *Package
}

// SurfaceOf is the surface of the packages that [Build] made.
func SurfaceOf(packages []*Package) Surface {
	s := &surface{aliases: map[Type]Type{}}
	for _, p := range packages {
		for _, f := range p.Files {
			for _, d := range f.Decls {
				if a, ok := d.(*Alias); ok {
					s.aliases[Type{Import: p.Import, Name: a.Name}] = a.Type
				}
			}
		}
	}
	for _, s.pkg = range packages {
		for _, f := range s.pkg.Files {
			for _, d := range f.Decls {
				s.declaration(d)
			}
		}
	}
	return s.all
}

// show adds a name that is made of what ident is made of.
func (s *surface) show(kind ShownKind, ident, name string, typ func(spelling) string) *Shown {
	by := s.pkg.owners[ident]
	n := &Shown{
		Kind: kind, Name: s.pkg.Name + "." + name, Type: typ(s.text), Doc: by.doc, Node: by.node,
		pkg: s.pkg.Import, key: s.pkg.Import + "." + name, written: typ(full), actual: typ(s.actual),
	}
	s.all = append(s.all, n)
	return n
}

// spelling is a way to spell a type.
type spelling func(Type) string

func spelt(t Type) func(spelling) string       { return func(spell spelling) string { return spell(t) } }
func always(word string) func(spelling) string { return func(spelling) string { return word } }

func (s *surface) declaration(d Decl) {
	switch d := d.(type) {
	case *Struct:
		s.object(d)
	case *Params:
		s.object(&d.Struct)
	case *Alias:
		s.show(ShownType, d.Name, d.Name, spelt(d.Type))
	case *Union:
		u := s.show(ShownType, d.Name, d.Name, always("union"))
		for _, v := range d.Variants {
			s.variant(u, d.Name, v.Type, v.NSID)
		}
		if d.Open {
			s.variant(u, d.Name, Type{Import: Runtime, Name: "UnknownVariant"}, "")
		}
	case *Consts:
		for _, c := range d.Values {
			s.show(ShownConst, c.Name, c.Name, always("constant"))
		}
	case *Errors:
		for _, e := range d.Names {
			s.show(ShownError, e.Var, e.Var, always("error"))
		}
	case *Method:
		s.show(ShownMethod, d.Var, "Service."+d.Name, func(spell spelling) string { return s.signature(d, spell) })
	}
}

func (s *surface) object(d *Struct) {
	o := s.show(ShownType, d.Name, d.Name, always("struct"))
	for _, f := range d.Fields {
		n := s.show(ShownField, d.Name, d.Name+"."+f.Name, spelt(f.Type))
		n.Node, n.of = f.node, o
	}
}

func (s *surface) variant(u *Shown, union string, t Type, nsid string) {
	n := s.show(ShownVariant, union, "New"+union, spelt(pointer(t)))
	n.key += "(" + n.actual + ")"
	n.Variant, n.of = nsid, u
}

// text is a type as the code of the package has it.
func (s *surface) text(t Type) string {
	if t.Kind != Named {
		return around(t, s.text)
	}
	if t.Import == "" || t.Import == s.pkg.Import {
		return t.Name
	}
	return path.Base(t.Import) + "." + t.Name
}

func full(t Type) string {
	if t.Kind != Named {
		return around(t, full)
	}
	return t.Import + "." + t.Name
}

func (s *surface) actual(t Type) string {
	if t.Kind != Named {
		return around(t, s.actual)
	}
	if to, ok := s.aliases[t]; ok {
		return s.actual(to)
	}
	return full(t)
}

func around(t Type, spell spelling) string {
	switch t.Kind {
	case Pointer:
		return "*" + spell(*t.Elem)
	case Slice:
		return "[]" + spell(*t.Elem)
	}
	return "xrpc.Nullable[" + spell(*t.Elem) + "]"
}

// signature is the method of a service, without the context that each has.
func (s *surface) signature(m *Method, spell spelling) string {
	params, result := "", "error"
	add := func(t Type) {
		if params != "" {
			params += ", "
		}
		params += "*" + spell(t)
	}
	if m.Params != nil {
		add(Type{Import: s.pkg.Import, Name: m.Params.Name})
	}
	if m.Input != nil {
		add(m.Input.Type)
	}
	if m.Message != nil {
		add(Type{Import: Runtime, Name: "Stream[" + spell(m.Message.Type) + "]"})
	}
	if m.Output != nil {
		result = "(*" + spell(m.Output.Type) + ", error)"
	}
	return "func(" + params + ") " + result
}

// Break is a name whose change keeps code from compiling that was written against the old
// surface.
type Break struct {
	Old *Shown // nil: a new method of a Service that there was, which its implementations lack
	New *Shown // nil: it is gone
}

// Breaks lists what code finds no longer, or finds to be another type, in the order of the
// old surface; methods that are new come last. Fields and variants of a type that is gone
// or another are not listed with it. Fields that are added break nothing, since literals
// have keys; nor does what an alias stands for, besides at the alias; nor that a struct
// becomes an alias of another one with the same fields.
func Breaks(old, new Surface) []Break {
	was, is := old.byKey(), new.byKey()
	var breaks []Break
	broken, served := map[*Shown]bool{}, map[string]bool{} // types, and packages with a Service
	for _, n := range old {
		if n.Kind == ShownMethod {
			served[n.pkg] = true
		}
		now := is.find(n)
		if now != nil && (now.written == n.written || now.actual == n.actual) || broken[n.of] {
			continue
		}
		broken[n] = true
		breaks = append(breaks, Break{n, now})
	}
	for _, n := range new {
		if n.Kind == ShownMethod && was[n.key] == nil && served[n.pkg] {
			breaks = append(breaks, Break{nil, n})
		}
	}
	return breaks
}

type shownByKey map[string]*Shown

func (s Surface) byKey() shownByKey {
	m := shownByKey{}
	for _, n := range s {
		m[n.key] = n
	}
	return m
}

// find is what n is in m, or nil.
func (m shownByKey) find(n *Shown) *Shown {
	now := m[n.key]
	switch {
	case now != nil && n.actual == "struct":
		if to := m[now.actual]; to != nil {
			return to // by another name
		}
	case now == nil && n.of != nil && m[n.of.key] != nil:
		return m[m[n.of.key].actual+strings.TrimPrefix(n.key, n.of.key)]
	}
	return now
}

// String says what happened to the name: "server.CreateSessionInput.Password string → *string".
func (b Break) String() string {
	switch {
	case b.Old == nil:
		return b.New.Name + " is new"
	case b.New == nil && b.Old.Kind == ShownVariant:
		return b.Old.Name + " takes no " + b.Old.Type
	case b.New == nil:
		return b.Old.Name + " is gone"
	}
	return b.Old.Name + " " + b.Old.Type + " → " + b.New.Type
}
