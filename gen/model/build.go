package model

import (
	"fmt"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/lexicon"

	"portico/gen/source"
)

// Build makes the model of docs, which are ordered by NSID. When problems hold more
// than warnings, the model is not fit to be rendered.
func Build(cfg Config, docs []*source.Document, problems *source.Problems) []*Package {
	b := &builder{
		cfg: cfg, namer: Namer{cfg.Initialisms}, docs: map[string]*source.Document{}, problems: problems,
		packages: map[string]*pkg{}, files: map[string]*file{}, memo: map[*source.Def]*value{},
		structs: map[Type]*Struct{}, unions: map[Type]*Union{}, bases: map[*source.Value]string{},
	}
	for _, d := range docs {
		b.docs[d.NSID] = d
	}
	for _, d := range docs {
		if !emitted(cfg.Emit, d.NSID) {
			continue
		}
		b.file(d)
		for _, def := range d.Defs {
			b.build(def)
		}
	}
	// The properties of objects wait until here, so that a definition can refer to
	// itself through one.
	for len(b.later) > 0 {
		next := b.later[0]
		b.later = b.later[1:]
		next()
	}
	return b.finish()
}

func emitted(emit []string, nsid string) bool {
	return slices.ContainsFunc(emit, func(pattern string) bool { return source.Matches(pattern, nsid) })
}

// owner says what an identifier stands for.
type owner struct {
	doc  *source.Document
	node *source.Value
}

// pkg is a package in the making.
type pkg struct {
	*Package
	groups []string // of namespaces that it is made of
	idents map[string]owner
	uses   map[*pkg]owner // the first ref to each other package
	files  []*file
}

// file is a file in the making: declarations are found in the order of references
// and belong in the order of the document.
type file struct {
	*File
	doc     *source.Document
	pkg     *pkg
	prefix  string // of every Go name, in a merged package
	decls   map[*source.Def]*scope
	methods []*Method
	records []*Record
}

// value is what a schema is in Go.
type value struct {
	typ, under Type
	table      Expr
	done       bool
}

// raw is a value of which nothing is known.
func raw() *value {
	t := Type{Import: "encoding/json", Name: "RawMessage"}
	return &value{typ: t, under: t, table: call("Any"), done: true}
}

type builder struct {
	cfg      Config
	namer    Namer
	docs     map[string]*source.Document
	problems *source.Problems
	packages map[string]*pkg
	order    []*pkg
	files    map[string]*file
	memo     map[*source.Def]*value
	structs  map[Type]*Struct
	unions   map[Type]*Union
	fields   []contained
	later    []func()
	bases    map[*source.Value]string // the name that was asked for what stands there
}

// contained is a field that holds a struct by value.
type contained struct {
	in, of Type
	by     owner
}

func call(f string, args ...Expr) Expr { return Expr{Func: f, Args: args} }
func quoted(s string) Expr             { return Expr{Literal: strconv.Quote(s)} }
func number[N int | int64](n N) Expr   { return Expr{Literal: fmt.Sprint(n)} }

// --- packages and files ---

func (b *builder) file(d *source.Document) *file {
	if f := b.files[d.NSID]; f != nil {
		return f
	}
	segments := strings.Split(d.NSID, ".")
	namespace, last := strings.Join(segments[:len(segments)-1], "."), segments[len(segments)-1]
	p, prefix := b.pkg(d, namespace)
	name := Snake(prefix + "." + last)
	if name == "service" || name == "records" {
		name += "_lexicon"
	}
	if name == "" {
		name = "x"
	}
	id := d.Root().Get("id")
	name = b.name(d, id, name)
	f := &file{
		File: &File{Name: name + "_gen.go", Source: d.NSID},
		doc:  d, pkg: p, prefix: b.namer.prefix(prefix), decls: map[*source.Def]*scope{},
	}
	for _, other := range p.files {
		if other.Name == f.Name {
			b.problems.Ask(d, id, b.rename(d, id, "_lexicon"), "%s and %s would both be written to %s; add %q to Rename", other.Source, d.NSID, f.Name, d.NSID+":/id")
		}
	}
	b.files[d.NSID] = f
	p.files = append(p.files, f)
	return f
}

func (n Namer) prefix(s string) string {
	if s == "" {
		return ""
	}
	return n.Exported(s)
}

// pkg is the package of a namespace, and what the names of its documents begin with
// when it is merged with others.
func (b *builder) pkg(d *source.Document, namespace string) (*pkg, string) {
	group, prefix := namespace, ""
	for g := range b.cfg.Merge {
		if rest, ok := strings.CutPrefix(namespace, g); ok && (rest == "" || rest[0] == '.') && (group == namespace || len(g) > len(group)) {
			group, prefix = g, strings.TrimPrefix(rest, ".")
		}
	}
	dir, merged := b.cfg.Merge[group]
	groups := []string{group}
	if merged {
		groups = b.together(dir)
	}
	if len(groups) > 1 {
		prefix = namespace // what is below one group may be below another
	}
	if p := b.packages[group]; p != nil {
		return p, prefix
	}
	setting := "Merge"
	if !merged {
		var ok bool
		setting = "Folders"
		if dir, ok = b.cfg.Folders[group]; !ok {
			_, dir, _ = strings.Cut(strings.ReplaceAll(strings.ToLower(group), "-", ""), ".")
			dir = strings.ReplaceAll(dir, ".", "/")
		}
	}
	move := func(to, why string) source.Fix {
		f := source.Fix{Setting: setting, Entries: map[string]string{}, Why: why}
		for _, g := range groups {
			f.Entries[g] = to
		}
		return f
	}
	name := path.Base(dir)
	if !token.IsIdentifier(name) || token.IsKeyword(name) || slices.Contains([]string{"internal", "main", "vendor", "testdata"}, name) {
		b.problems.Ask(d, d.Root().Get("id"), move(path.Join(path.Dir(dir), "x"+name), fmt.Sprintf("%q cannot be a package", name)),
			"%q cannot be a package; choose a folder for %s in %s", name, group, setting)
		name, dir = "x", "x/"+strings.Join(groups, "/") // and no other problem besides
	}
	for _, other := range b.order {
		if other.Dir == dir {
			whole := strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(group), "-", ""), ".", "/")
			if dir == whole {
				whole += "x"
			}
			b.problems.Ask(d, d.Root().Get("id"), move(whole, other.Source+" has the folder "+dir),
				"%s and %s would both be the package %s; choose another in %s", other.Source, group, dir, setting)
		}
	}
	p := &pkg{
		Package: &Package{Dir: dir, Import: path.Join(b.cfg.Import, dir), Name: name, Source: strings.Join(groups, ", ")},
		groups:  groups, idents: map[string]owner{}, uses: map[*pkg]owner{},
	}
	for _, g := range groups {
		b.packages[g] = p
	}
	b.order = append(b.order, p)
	return p, prefix
}

// together are the groups that share a folder.
func (b *builder) together(dir string) []string {
	var groups []string
	for g, d := range b.cfg.Merge {
		if d == dir {
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	return groups
}

// --- names ---

// name is the identifier for what stands at v, or the one configured instead.
func (b *builder) name(d *source.Document, v *source.Value, usual string) string {
	if name, ok := b.cfg.Rename[d.NSID+":"+v.Pointer]; ok {
		usual = name
	}
	b.bases[v] = usual
	return usual
}

// rename is the entry that gives what stands at v another name: the one that it has with a
// word for what it is, or the next number where that is not enough.
func (b *builder) rename(d *source.Document, v *source.Value, suffix string) source.Fix {
	key, name := d.NSID+":"+v.Pointer, b.bases[v]
	renamed := name + suffix
	if b.cfg.Rename[key] == name {
		word := strings.TrimRight(name, "0123456789")
		n, _ := strconv.Atoi(name[len(word):])
		renamed = fmt.Sprint(word, max(2, n+1))
	}
	return source.Fix{Setting: "Rename", Entries: map[string]string{key: renamed}, Why: name + " is taken"}
}

// suffix is a word for what stands at v.
func (b *builder) suffix(v *source.Value) string {
	segments := strings.Split(v.Pointer, "/")
	switch last := segments[len(segments)-1]; {
	case last == "schema":
		return "Body"
	case last == "parameters":
		return "Struct"
	case len(segments) > 1 && segments[len(segments)-2] == "errors":
		return "Error"
	case v.String("type") == "":
		return "Value"
	}
	return b.namer.Exported(v.String("type"))
}

// declare reserves an identifier of f's package.
func (b *builder) declare(f *file, v *source.Value, name string) string {
	if other, ok := f.pkg.idents[name]; ok && other.node != v {
		b.problems.Ask(f.doc, v, b.rename(f.doc, v, b.suffix(v)), "%s is also the Go name of %s %s; add %q to Rename",
			name, other.doc.Place(other.node), other.node.Pointer, f.doc.NSID+":"+v.Pointer)
		return name
	}
	f.pkg.idents[name] = owner{f.doc, v}
	return name
}

// typeName is the name for a definition.
func (b *builder) typeName(f *file, def *source.Def) string {
	last := def.Doc.NSID[strings.LastIndexByte(def.Doc.NSID, '.')+1:]
	var name string
	switch {
	case def.Name == "main":
		name = f.prefix + b.namer.Exported(last)
	case last == "defs":
		name = f.prefix + b.namer.Exported(def.Name)
	default:
		name = f.prefix + b.namer.Exported(last) + b.namer.Exported(def.Name)
	}
	if slices.Contains(fixed, name) {
		name += b.namer.Exported(def.Node.String("type"))
	}
	return b.name(def.Doc, def.Node, name)
}

// table declares the table of the type called name.
func (b *builder) table(f *file, v *source.Value, name string) *Table {
	if f.pkg.idents[name].node != v {
		return &Table{Import: f.pkg.Import, Type: name} // the collision was reported
	}
	return &Table{f.pkg.Import, name, b.declare(f, v, free(b.namer.Unexported(name), "Schema"))}
}

// --- definitions ---

// scope is where declarations go while a definition is made. It stands in for them
// until all are known.
type scope struct {
	*file
	def    *source.Def
	label  string // what constants are the values of
	consts []Decl
	types  []Decl // after the constants
}

// Template is never asked for: finish replaces a scope by what it holds.
func (s *scope) Template() string { return "" }

// child is a scope for what belongs to d, which becomes its first type.
func (s *scope) child(d Decl) *scope {
	c := &scope{file: s.file, def: s.def, types: []Decl{d}}
	s.types = append(s.types, c)
	return c
}

func (s *scope) flat() []Decl {
	var all []Decl
	for _, d := range slices.Concat(s.consts, s.types) {
		if inner, ok := d.(*scope); ok {
			all = append(all, inner.flat()...)
		} else {
			all = append(all, d)
		}
	}
	return all
}

// build makes the declarations of def and says what it is as the target of a ref,
// or nil when it can be none.
func (b *builder) build(def *source.Def) *value {
	if v, ok := b.memo[def]; ok {
		return v
	}
	f := b.file(def.Doc)
	name := b.typeName(f, def)
	s := &scope{file: f, def: def, label: name}
	f.decls[def] = s
	is := name + " is " + def.ID() + "."
	switch schema := def.Schema.Inner.(type) {
	case lexicon.SchemaQuery:
		b.memo[def] = nil
		m := b.method(s, name, "Query", schema.Description, schema.Parameters, schema.Errors)
		m.Output = b.body(s, def.Node.Get("output"), schema.Output, name+"Output", "response")
		return nil
	case lexicon.SchemaProcedure:
		b.memo[def] = nil
		m := b.method(s, name, "Procedure", schema.Description, schema.Parameters, schema.Errors)
		m.Input = b.body(s, def.Node.Get("input"), schema.Input, name+"Input", "request")
		m.Output = b.body(s, def.Node.Get("output"), schema.Output, name+"Output", "response")
		return nil
	case lexicon.SchemaSubscription:
		b.memo[def] = nil
		b.subscription(s, name, schema)
		return nil
	case lexicon.SchemaPermissionSet:
		b.memo[def] = nil
		return nil
	case lexicon.SchemaRecord:
		v := b.named(s, def.Node, name)
		v.done = true
		b.memo[def] = v
		node := def.Node.Get("record")
		st := b.object(s, node, schema.Record, name, v.table.Table, paragraphs("%s is a record of the collection %s.", schema.Description, name, def.ID()))
		st.NSID = def.Doc.NSID
		constant := &Consts{
			Doc:    []string{name + "NSID is the collection of records that are a [" + name + "], and their $type."},
			Values: []Const{{Name: b.declare(f, def.Node, name+"NSID"), Value: st.NSID}},
		}
		s.types = append([]Decl{constant}, s.types...)
		if emitted(b.cfg.Emit, st.NSID) {
			f.records = append(f.records, &Record{Const: constant.Values[0].Name, Key: recordKey(schema.Key), Table: v.table.Table})
		}
		return v
	case lexicon.SchemaObject:
		v := b.named(s, def.Node, name)
		v.done = true
		b.memo[def] = v
		b.object(s, def.Node, schema, name, v.table.Table, paragraphs(is, schema.Description)).ID = def.ID()
		return v
	case lexicon.SchemaToken:
		v := &value{typ: Type{Name: "string"}, under: Type{Name: "string"}, table: call("Token", quoted(def.ID())), done: true}
		b.memo[def] = v
		s.consts = append(s.consts, &Consts{
			Doc:    paragraphs(is, schema.Description),
			Values: []Const{{Name: b.declare(f, def.Node, name), Value: def.ID()}},
		})
		return v
	case lexicon.SchemaUnion:
		v := b.named(s, def.Node, name)
		v.done = true
		b.memo[def] = v
		*v = *b.union(s, def.Node, schema, name, paragraphs(is, schema.Description))
		if v.under.Name == "RawMessage" {
			s.types = append(s.types, &Alias{paragraphs(is, schema.Description), b.declare(f, def.Node, name), v.under})
		}
		return v
	}
	v := &value{}
	b.memo[def] = v
	target := b.value(s, def.Node, def.Schema, name)
	b.declare(f, def.Node, name)
	*v = value{Type{Import: f.pkg.Import, Name: name}, target.under, target.table, true}
	s.types = append(s.types, &Alias{paragraphs(is, describe(def.Node)), name, target.typ})
	return v
}

// recordKey makes the table of record keys that a lexicon calls key.
func recordKey(key string) Expr {
	if literal, ok := strings.CutPrefix(key, "literal:"); ok {
		return call("String", call("Const", quoted(literal)))
	}
	format := "FormatRecordKey"
	if typ, ok := formatTypes[key]; ok { // tid and nsid
		format = "Format" + typ
	}
	return call("String", Expr{Func: format, Literal: format})
}

// named is a value of a struct or union that is declared as name.
func (b *builder) named(s *scope, v *source.Value, name string) *value {
	b.declare(s.file, v, name)
	t := Type{Import: s.pkg.Import, Name: name}
	return &value{typ: t, under: t, table: Expr{Table: b.table(s.file, v, name)}}
}

func describe(v *source.Value) *string {
	if d := v.Get("description"); d != nil {
		return &d.Text
	}
	return nil
}

// --- methods ---

// method makes what all kinds of methods have; bodies and messages follow.
func (b *builder) method(s *scope, name, kind string, description *string, params *lexicon.SchemaParams, errs []lexicon.SchemaError) *Method {
	node, nsid := s.def.Node, s.doc.NSID
	m := &Method{
		Name: name, NSID: nsid, Kind: kind,
		Doc: paragraphs("%s is the %s %s.", description, name, strings.ToLower(kind), nsid),
		Var: b.declare(s.file, node, free(b.namer.Unexported(name), "Method")),
	}
	s.types = append(s.types, m)
	m.Errors = b.errors(s, node, name, errs)
	m.Params = b.params(s, node, name, params)
	s.methods = append(s.methods, m)
	return m
}

func (b *builder) subscription(s *scope, name string, schema lexicon.SchemaSubscription) {
	node, nsid := s.def.Node, s.doc.NSID
	var errs []lexicon.SchemaError
	for _, item := range listOf(node.Get("errors")) {
		errs = append(errs, lexicon.SchemaError{Name: item.String("name"), Description: describe(item)})
	}
	m := b.method(s, name, "Subscription", schema.Description, schema.Parameters, errs)
	message := node.Get("message").Get("schema")
	name = b.name(s.doc, message, name+"Message")
	doc := paragraphs("%s is a message of the subscription %s.", nil, name, nsid)
	v := b.union(s, message, schema.Message.Schema, name, doc)
	m.Message = &Message{Type: Type{Import: s.pkg.Import, Name: name}}
	if v.under.Name == "RawMessage" {
		s.types = append(s.types, &Alias{doc, b.declare(s.file, message, name), v.under})
		return
	}
	m.Message.Schema = &v.table
	u := s.types[len(s.types)-1].(*Union)
	u.Schema = call("Messages", quoted(nsid), u.Schema)
}

func listOf(v *source.Value) []*source.Value {
	if v == nil {
		return nil
	}
	return v.Items
}

func (b *builder) errors(s *scope, node *source.Value, name string, errs []lexicon.SchemaError) *Errors {
	if len(errs) == 0 {
		return nil
	}
	e := &Errors{NSID: s.doc.NSID}
	for i, err := range errs {
		at := node.Get("errors").Items[i]
		v := b.declare(s.file, at, b.name(s.doc, at, "Err"+name+b.namer.Exported(err.Name)))
		e.Names = append(e.Names, ErrorName{err.Name, v, prose(err.Description)})
	}
	s.types = append(s.types, e)
	return e
}

func (b *builder) params(s *scope, node *source.Value, name string, params *lexicon.SchemaParams) *Params {
	if params == nil || len(params.Properties) == 0 {
		return nil
	}
	node = node.Get("parameters")
	name = b.name(s.doc, node, name+"Params")
	v := b.named(s, node, name)
	p := &Params{Struct{
		Name: name, Table: v.table.Table,
		Doc: paragraphs("%s are the parameters of %s.", params.Description, name, s.doc.NSID),
	}}
	child := s.child(p)
	var props []Expr
	names := fieldNames{}
	for _, m := range node.Get("properties").Members {
		schema := params.Properties[m.Key]
		child.label = name + "." + b.namer.Exported(m.Key)
		fv := b.value(child, m.Value, schema, name+b.namer.Exported(m.Key))
		required := slices.Contains(params.Required, m.Key)
		presence := "Optional"
		if required {
			presence = "Required"
		}
		props = append(props, call(presence, quoted(m.Key), fv.table))
		f := &Field{
			Name: b.fieldName(child, m, names), JSON: m.Key, Type: fv.typ, Under: fv.under,
			Doc: prose(describe(m.Value)), node: m.Value,
		}
		f.Param.Kind = paramKind(schema)
		value := m.Value.Get("default")
		switch {
		case fv.under.Kind == Slice:
			f.Param.List = true
			f.Param.Kind = paramKind(schema.Inner.(lexicon.SchemaArray).Items)
		case value != nil:
			f.Doc = append(f.Doc, "Default: "+string(value.Raw)+".")
			f.Param.SkipZero = skipZero(schema)
		case !required:
			f.Param.Optional = true
			f.Type = pointer(f.Type)
		}
		p.Fields = append(p.Fields, f)
	}
	p.Schema = call("Object", props...)
	return p
}

// skipZero is the zero that a parameter with a default cannot have, so that leaving
// the field alone means the default.
func skipZero(schema lexicon.SchemaDef) string {
	switch v := schema.Inner.(type) {
	case lexicon.SchemaInteger:
		if v.Minimum != nil && *v.Minimum > 0 || v.Maximum != nil && *v.Maximum < 0 || *v.Default == 0 {
			return "0"
		}
	case lexicon.SchemaString:
		if v.MinLength != nil && *v.MinLength > 0 || v.Format != nil || *v.Default == "" || v.KnownValues != nil || v.Enum != nil {
			return `""`
		}
	}
	return ""
}

func paramKind(schema lexicon.SchemaDef) string {
	switch schema.Inner.(type) {
	case lexicon.SchemaInteger:
		return "Integer"
	case lexicon.SchemaBoolean:
		return "Boolean"
	}
	return "String"
}

// body makes the type of a request or response body.
func (b *builder) body(s *scope, node *source.Value, body *lexicon.SchemaBody, name, what string) *Media {
	if body == nil {
		return nil
	}
	m := &Media{Encoding: body.Encoding, Type: Type{Import: Runtime, Name: "Body"}}
	if mediaType, _, _ := strings.Cut(body.Encoding, ";"); body.Schema == nil || !strings.EqualFold(strings.TrimSpace(mediaType), "application/json") {
		return m
	}
	node = node.Get("schema")
	name = b.name(s.doc, node, name)
	doc := paragraphs("%s is the body of a %s %s.", body.Description, name, s.doc.NSID, what)
	m.Type = Type{Import: s.pkg.Import, Name: name}
	switch schema := body.Schema.Inner.(type) {
	case lexicon.SchemaObject:
		v := b.named(s, node, name)
		if schema.Description != nil {
			doc = append(doc, prose(schema.Description)...)
		}
		b.object(s, node, schema, name, v.table.Table, doc)
		m.Schema = &v.table
	case lexicon.SchemaUnion:
		v := b.union(s, node, schema, name, doc)
		if v.under.Name == "RawMessage" {
			s.types = append(s.types, &Alias{doc, b.declare(s.file, node, name), v.under})
		}
		m.Schema = &v.table
	default:
		v := b.value(s, node, *body.Schema, name)
		s.types = append(s.types, &Alias{doc, b.declare(s.file, node, name), v.typ})
		m.Schema = &v.table
	}
	return m
}

// --- schemas ---

type fieldNames map[string]*source.Value

func (b *builder) fieldName(s *scope, m source.Member, names fieldNames) string {
	name := b.namer.Exported(m.Key)
	if slices.Contains(members, name) {
		name += "Field"
	}
	name = b.name(s.doc, m.Value, name)
	if other := names[name]; other != nil {
		b.problems.Ask(s.doc, m.Value, b.rename(s.doc, m.Value, "Field"), "the field %s is also the Go name of %s; add %q to Rename",
			name, other.Pointer, s.doc.NSID+":"+m.Value.Pointer)
	}
	names[name] = m.Value
	return name
}

// object makes a struct, its table, and the types of its properties.
func (b *builder) object(s *scope, node *source.Value, schema lexicon.SchemaObject, name string, table *Table, doc []string) *Struct {
	st := &Struct{Doc: doc, Name: name, Table: table}
	b.structs[Type{Import: table.Import, Name: name}] = st
	child := s.child(st)
	b.later = append(b.later, func() { b.properties(child, node, schema, st) })
	return st
}

func (b *builder) properties(s *scope, node *source.Value, schema lexicon.SchemaObject, st *Struct) {
	name, table := st.Name, st.Table
	var props []Expr
	names := fieldNames{}
	var list []source.Member
	if p := node.Get("properties"); p != nil {
		list = p.Members
	}
	for _, m := range list {
		s.label = name + "." + b.namer.Exported(m.Key)
		v := b.value(s, m.Value, schema.Properties[m.Key], name+b.namer.Exported(m.Key))
		required, nullable := slices.Contains(schema.Required, m.Key), schema.IsNullable(m.Key)
		presence := "Optional"
		if required {
			presence = "Required"
		}
		prop := call(presence, quoted(m.Key), v.table)
		if nullable {
			prop = call("OrNull", prop)
		}
		props = append(props, prop)
		if !validTag(m.Key) {
			b.problems.Warn(s.doc, m.Value, "no struct tag can name the property %q; it is checked but has no field", m.Key)
			continue
		}
		f := &Field{
			Name: b.fieldName(s, m, names), JSON: m.Key, Type: v.typ, Under: v.under, Omit: !required,
			Doc: prose(describe(m.Value)), node: m.Value,
		}
		nilable := b.nilable(v.under)
		switch {
		case nullable && !required:
			f.Type, f.Under = Type{Kind: Nullable, Elem: &v.typ}, Type{Kind: Nullable, Elem: &v.under}
		case nilable:
			f.Required = required && !nullable
		case nullable || !required:
			f.Type, f.Under = pointer(v.typ), pointer(v.under)
		default:
			f.Required = true
			b.fields = append(b.fields, contained{Type{Import: table.Import, Name: name}, v.under, owner{s.doc, m.Value}})
		}
		st.Fields = append(st.Fields, f)
	}
	switch st.Schema = call("Object", props...); {
	case st.NSID != "":
		st.Schema = call("Record", quoted(st.NSID), st.Schema)
	case st.ID != "":
		st.Schema = call("Typed", quoted(st.ID), st.Schema)
	}
}

func pointer(t Type) Type { return Type{Kind: Pointer, Elem: &t} }

// nilable tells whether the zero value of t can mean that it is absent.
func (b *builder) nilable(t Type) bool {
	return t.Kind == Slice || t.Name == "RawMessage" || t == Type{Import: Atdata, Name: "Bytes"} || b.unions[t] != nil
}

// validTag tells whether key can be the name in a struct tag, without the exceptions
// that encoding/json makes for "-".
func validTag(key string) bool {
	for _, r := range key {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return key != "" && key != "-"
}

var formatTypes = map[string]string{
	"did": "DID", "handle": "Handle", "at-identifier": "AtIdentifier", "nsid": "NSID", "at-uri": "ATURI", "uri": "URI",
	"cid": "CID", "datetime": "Datetime", "tid": "TID", "record-key": "RecordKey", "language": "Language",
}

// value is what schema is in Go. Types that have to be declared for it are called name.
func (b *builder) value(s *scope, node *source.Value, schema lexicon.SchemaDef, name string) *value {
	simple := func(imp, typ string, table Expr) *value {
		t := Type{Import: imp, Name: typ}
		return &value{t, t, table, true}
	}
	var c []Expr
	limit := func(f string, n *int) {
		if n != nil {
			c = append(c, call(f, number(*n)))
		}
	}
	switch v := schema.Inner.(type) {
	case lexicon.SchemaBoolean:
		if v.Const != nil {
			c = append(c, call("ConstBoolean", Expr{Literal: fmt.Sprint(*v.Const)}))
		}
		if v.Default != nil {
			c = append(c, call("DefaultBoolean", Expr{Literal: fmt.Sprint(*v.Default)}))
		}
		return simple("", "bool", call("Boolean", c...))
	case lexicon.SchemaInteger:
		limit("Minimum", v.Minimum)
		limit("Maximum", v.Maximum)
		if len(v.Enum) > 0 {
			var args []Expr
			for _, n := range v.Enum {
				args = append(args, number(n))
			}
			c = append(c, call("EnumInteger", args...))
		}
		limit("ConstInteger", v.Const)
		limit("DefaultInteger", v.Default)
		return simple("", "int64", call("Integer", c...))
	case lexicon.SchemaString:
		return b.text(s, node, v, name)
	case lexicon.SchemaBytes:
		limit("MinLength", v.MinLength)
		limit("MaxLength", v.MaxLength)
		return simple(Atdata, "Bytes", call("Bytes", c...))
	case lexicon.SchemaCIDLink:
		return simple(Atdata, "CIDLink", call("CIDLink"))
	case lexicon.SchemaBlob:
		if len(v.Accept) > 0 {
			var args []Expr
			for _, m := range v.Accept {
				args = append(args, quoted(m))
			}
			c = append(c, call("Accept", args...))
		}
		limit("MaxSize", v.MaxSize)
		return simple(Atdata, "Blob", call("Blob", c...))
	case lexicon.SchemaUnknown:
		u := raw()
		u.table = call("Unknown")
		return u
	case lexicon.SchemaArray:
		limit("MinLength", v.MinLength)
		limit("MaxLength", v.MaxLength)
		item := b.value(s, node.Get("items"), v.Items, name+"Item")
		return &value{
			Type{Kind: Slice, Elem: &item.typ}, Type{Kind: Slice, Elem: &item.under},
			call("Array", append([]Expr{item.table}, c...)...), true,
		}
	case lexicon.SchemaObject:
		name = b.name(s.doc, node, name)
		u := b.named(s, node, name)
		b.object(s, node, v, name, u.table.Table, paragraphs("%s is "+inline(node)+" in %s.", nil, name, s.def.ID()))
		return u
	case lexicon.SchemaUnion:
		return b.union(s, node, v, name, paragraphs("%s is "+inline(node)+" in %s.", nil, name, s.def.ID()))
	case lexicon.SchemaRef:
		return b.ref(s, node.Get("ref"), v.Ref)
	}
	b.problems.Add(s.doc, node, "a schema of type %q cannot stand here", node.String("type"))
	return raw()
}

// inline says in words which part of its definition a nested schema is.
func inline(node *source.Value) string {
	segments := strings.Split(node.Pointer, "/")
	var names []string
	for i := 0; i+1 < len(segments); i++ {
		if segments[i] == "properties" {
			names = append(names, strings.NewReplacer("~1", "/", "~0", "~", "%", "%%").Replace(segments[i+1]))
			i++
		}
	}
	what := "the value of " + strings.Join(names, ".")
	if len(names) == 0 {
		what = "the value"
	}
	if segments[len(segments)-1] == "items" {
		what = "an element of " + strings.Join(names, ".")
	}
	return what
}

func (b *builder) text(s *scope, node *source.Value, v lexicon.SchemaString, name string) *value {
	var c []Expr
	limit := func(f string, n *int) {
		if n != nil {
			c = append(c, call(f, number(*n)))
		}
	}
	t := Type{Name: "string"}
	if v.Format != nil {
		if typ, ok := formatTypes[*v.Format]; ok {
			t = Type{Import: Syntax, Name: typ}
			format := "Format" + typ
			c = append(c, Expr{Func: format, Literal: format})
		}
	}
	limit("MinLength", v.MinLength)
	limit("MaxLength", v.MaxLength)
	limit("MinGraphemes", v.MinGraphemes)
	limit("MaxGraphemes", v.MaxGraphemes)
	if len(v.Enum) > 0 {
		var args []Expr
		for _, e := range v.Enum {
			args = append(args, quoted(e))
		}
		c = append(c, call("Enum", args...))
		b.consts(s, node, "enum", name, "Values of "+s.label+".")
	}
	if v.Const != nil {
		c = append(c, call("Const", quoted(*v.Const)))
	}
	if v.Default != nil {
		c = append(c, call("Default", quoted(*v.Default)))
	}
	if len(v.Enum) == 0 && len(v.KnownValues) > 0 {
		b.consts(s, node, "knownValues", name, "Values of "+s.label+" known to the lexicon. Others may occur.")
	}
	return &value{t, t, call("String", c...), true}
}

// consts declares a constant for every string that a property is known to have.
func (b *builder) consts(s *scope, node *source.Value, key, name, doc string) {
	group := &Consts{Doc: []string{doc}}
	seen := map[string]bool{}
	for _, item := range node.Get(key).Items {
		if seen[item.Text] {
			continue
		}
		seen[item.Text] = true
		part := item.Text
		if nsid, fragment, ok := strings.Cut(item.Text, "#"); ok && fragment != "" {
			// The same fragment is often known from several documents, so that those of
			// others are told apart by their namespace.
			part = fragment
			if segments := strings.Split(nsid, "."); nsid != "" && nsid != s.doc.NSID && len(segments) > 2 {
				part = segments[len(segments)-2] + "-" + fragment
			}
		}
		c := b.name(s.doc, item, name+b.namer.Exported(part))
		group.Values = append(group.Values, Const{Name: b.declare(s.file, item, c), Value: item.Text})
	}
	s.consts = append(s.consts, group)
}

// --- refs and unions ---

// lookup finds what a ref refers to: nil when that is not there, which is a problem
// already or is meant to be.
func (b *builder) lookup(s *scope, ref string) *source.Def {
	nsid, name := source.SplitRef(s.doc.NSID, ref)
	if doc := b.docs[nsid]; doc != nil {
		return doc.Def(name)
	}
	return nil
}

// uses notes that the package of s needs that of def.
func (b *builder) uses(s *scope, node *source.Value, def *source.Def) {
	if other := b.file(def.Doc).pkg; other != s.pkg {
		if _, ok := s.pkg.uses[other]; !ok {
			s.pkg.uses[other] = owner{s.doc, node}
		}
	}
}

func (b *builder) ref(s *scope, node *source.Value, ref string) *value {
	def := b.lookup(s, ref)
	if def == nil {
		return raw()
	}
	v := b.build(def)
	switch {
	case v == nil:
		b.problems.Add(s.doc, node, "%q is a %s, which no value can be; refer to an object or another type of values", ref, def.Node.String("type"))
		return raw()
	case !v.done && v.typ == Type{}:
		b.problems.Add(s.doc, node, "%q refers to itself with no object in between; make one of the definitions an object", ref)
		return raw()
	}
	b.uses(s, node, def)
	return v
}

// union makes the type of a union. A union of nothing is raw JSON.
func (b *builder) union(s *scope, node *source.Value, schema lexicon.SchemaUnion, name string, doc []string) *value {
	name = b.name(s.doc, node, name)
	u := &Union{Doc: doc, Name: name, Open: schema.Closed == nil || !*schema.Closed}
	t := Type{Import: s.pkg.Import, Name: name}
	b.unions[t] = u
	var variants []Expr
	b.variants(s, u, &variants, node.Get("refs").Items, map[*source.Def]bool{})
	if len(u.Variants) == 0 {
		delete(b.unions, t)
		return raw()
	}
	v := b.named(s, node, name)
	v.done = true
	u.Table = v.table.Table
	b.declare(s.file, node, "New"+name)
	if u.Schema = call("OpenUnion", variants...); !u.Open {
		u.Schema.Func = "ClosedUnion"
	}
	s.types = append(s.types, u)
	return v
}

func (b *builder) variants(s *scope, u *Union, tables *[]Expr, refs []*source.Value, seen map[*source.Def]bool) {
	for _, node := range refs {
		def := b.lookup(s, node.Text)
		if def == nil {
			u.Open = true // what cannot be checked must be let through
			continue
		}
		if seen[def] {
			continue
		}
		seen[def] = true
		switch def.Schema.Inner.(type) {
		case lexicon.SchemaUnion:
			sub := &scope{file: b.file(def.Doc), def: def}
			b.variants(sub, u, tables, def.Node.Get("refs").Items, seen)
			continue
		case lexicon.SchemaObject, lexicon.SchemaRecord:
		default:
			b.problems.Warn(s.doc, node, "%q is no object, so no variant of a union; left out", node.Text)
			continue
		}
		v := b.build(def)
		b.uses(s, node, def)
		u.Variants = append(u.Variants, &Variant{NSID: def.ID(), Type: v.typ})
		*tables = append(*tables, call("Variant", quoted(def.ID()), v.table))
	}
}
