// Package model decides what is generated from a set of lexicons: packages, files,
// declarations, Go names and Go types. Rendering a model takes no decision.
package model

import "portico/gen/source"

// Config says which documents are generated and where their packages go.
type Config struct {
	Emit        []string          // NSIDs or "com.example.*"; other documents as far as these refer to them
	Import      string            // import path of the folder that holds the packages
	Merge       map[string]string // group of namespaces → folder: all namespaces below the group become one package, and so do groups with one folder
	Folders     map[string]string // namespace → folder, where the usual one is no good
	Rename      map[string]string // "NSID:/json/pointer" → Go identifier, to settle a collision
	Initialisms []string
}

// Package is one generated package.
type Package struct {
	Dir     string // below the output folder, and below Config.Import
	Import  string
	Name    string
	Source  string // the namespace, com.atproto.server
	Files   []*File
	Methods []*Method
	Records []*Record // of documents that are emitted
	Idents  map[string]bool

	owners map[string]owner // of Idents
}

// File is what is generated from one document.
type File struct {
	Name   string
	Source string // NSID
	Decls  []Decl
}

// Decl is a declaration; Template names what renders it.
type Decl interface{ Template() string }

// TypeKind says how a [Type] is made.
type TypeKind byte

// The kinds of Go types that a lexicon needs.
const (
	Named TypeKind = iota
	Pointer
	Slice
	Nullable // xrpc.Nullable[Elem]
)

// Type is a Go type.
type Type struct {
	Kind   TypeKind
	Elem   *Type
	Import string // of the package that declares it; "" for predeclared types
	Name   string
}

// Import paths of the packages that generated code stands on.
const (
	Runtime = "portico/api/xrpc"
	Syntax  = "github.com/bluesky-social/indigo/atproto/syntax"
	Atdata  = "github.com/bluesky-social/indigo/atproto/atdata"
)

// Expr is an expression that makes a schema table: a call of a function of the
// runtime, a literal, or a table that is declared elsewhere.
type Expr struct {
	Func    string
	Args    []Expr
	Literal string
	Table   *Table
}

// Table is the schema table of a named type.
type Table struct {
	Import string
	Type   string
	Var    string
}

// Method is a query, a procedure or a subscription.
type Method struct {
	Name    string // exported
	Var     string
	NSID    string
	Kind    string   // Query, Procedure, Subscription
	Doc     []string // paragraphs
	Params  *Params
	Input   *Media
	Output  *Media
	Message *Message // of a subscription
	Errors  *Errors
}

// Template names what renders the variable of the method.
func (*Method) Template() string { return "method" }

// Media is the body of a request or response.
type Media struct {
	Encoding string
	Type     Type  // what the handler sees
	Schema   *Expr // nil: the body is a stream
}

// Message is a message of a subscription.
type Message struct {
	Type   Type
	Schema *Expr // nil: it is raw JSON
}

// Record is a type of records.
type Record struct {
	Const string // that has its NSID
	Key   Expr   // makes the table of its record keys
	Table *Table
}

// Errors are the errors that a method declares.
type Errors struct {
	NSID  string
	Names []ErrorName
}

// ErrorName is one declared error.
type ErrorName struct {
	Name string
	Var  string
	Doc  []string
}

// Template names what renders the errors.
func (*Errors) Template() string { return "errors" }

// Consts is a group of string constants.
type Consts struct {
	Doc    []string
	Values []Const
}

// Const is one constant.
type Const struct {
	Name  string
	Value string
	Doc   []string
}

// Single tells whether c is one constant that the comment of the group is about.
func (c *Consts) Single() bool { return len(c.Values) == 1 && len(c.Values[0].Doc) == 0 }

// Template names what renders the constants.
func (*Consts) Template() string { return "consts" }

// Struct is an object, the body of a record, or the parameters of a method.
type Struct struct {
	Doc       []string
	Name      string
	Fields    []*Field
	Table     *Table
	Schema    Expr
	Recursive bool   // the table refers to itself
	NSID      string // of a record
	ID        string // of a definition
	Normalize bool
}

// Template names what renders the struct.
func (*Struct) Template() string { return "struct" }

// Field is one field of a struct.
type Field struct {
	Name     string
	JSON     string
	Type     Type
	Under    Type // Type with every alias replaced by what it stands for
	Omit     bool // left out of the JSON when zero
	Required bool // a nil slice is an empty list
	Doc      []string
	Param    Param

	node *source.Value // the property
}

// Param is how a parameter moves between a query string and its field.
type Param struct {
	Kind     string // String, Integer, Boolean
	List     bool
	Optional bool
	SkipZero string // what the field is compared with: zero is not sent, so that the default applies
}

// Params is the struct of a method's parameters.
type Params struct{ Struct }

// Template names what renders the parameters.
func (*Params) Template() string { return "params" }

// Union is a value of one of several types.
type Union struct {
	Doc       []string
	Name      string
	Open      bool
	Variants  []*Variant
	Table     *Table
	Schema    Expr
	Recursive bool
	Normalize bool
}

// Variant is one alternative of a union.
type Variant struct {
	NSID string // the $type
	Type Type
}

// Template names what renders the union.
func (*Union) Template() string { return "union" }

// Alias is a name for a type that is no object.
type Alias struct {
	Doc  []string
	Name string
	Type Type
}

// Template names what renders the alias.
func (*Alias) Template() string { return "alias" }
