// Package scope reads the scopes of OAuth tokens as the AT Protocol has them (specification
// "Permissions"): what an app may ask for, and what a token lets it do.
//
// A scope is a text of values with spaces between. A value that is not understood, in any part
// of it, permits nothing; [Known] tells which are. The questions that are asked of a [Set] are
// the permissions: [Repo], [RPC], [Blob], [Account], [Identity]. The package is pure.
package scope

import "github.com/bluesky-social/indigo/atproto/syntax"

// Values of a scope that stand for themselves.
const (
	ATProto           = "atproto"
	TransitionGeneric = "transition:generic"
	TransitionEmail   = "transition:email"
	TransitionChat    = "transition:chat.bsky"
)

// A Permission is something that a token is to permit.
type Permission interface {
	// String is the shortest scope that would do, as refusals name it.
	String() string
	permitted(s Set) bool
}

// Repo writes a record of a collection: "create", "update" or "delete" it.
type Repo struct{ Collection, Action string }

// RPC calls a method of a service, "did:web:example.com#service"; Method or Audience may be
// "*", for a token that is not for one alone.
type RPC struct{ Method, Audience string }

// Blob uploads a blob of a MIME type.
type Blob struct{ MIME string }

// Account reads or manages ("read", "manage") a part of the account: "email", "repo", "status".
type Account struct{ Attr, Action string }

// Identity changes the "handle" of an account, or with "*" all that is of its identity.
type Identity struct{ Attr string }

// A Set is the scope of a token. The zero value permits nothing. It is not changed once made,
// and safe for concurrent use.
type Set struct{}

// Parse reads the scope of a token.
func Parse(text string) Set { panic("not written") }

// Allows says whether the token permits p.
func (s Set) Allows(p Permission) bool { panic("not written") }

// Has says whether a value stands in the scope as it is written here.
func (s Set) Has(value string) bool { panic("not written") }

// Known says whether an app may ask for a value, and the shortest form of it.
func Known(value string) (shortest string, ok bool) { panic("not written") }

// Values are the values of a scope in their order, each once.
func Values(text string) []string { panic("not written") }

// An Include asks for a permission set of the network: "include:com.example.auth?aud=…".
type Include struct {
	NSID     syntax.NSID
	Audience string // "" for none
}

// ParseInclude reads a value that is an include.
func ParseInclude(value string) (i Include, ok bool) { panic("not written") }

// A PermissionSet is the document that an include names: a lexicon whose main is one.
type PermissionSet struct {
	Title, Detail map[string]string // by language; "" is that of no language
}

// ParsePermissionSet reads the lexicon of a permission set. The error says what is wrong with
// it, in words for the app's developer.
func ParsePermissionSet(document []byte) (*PermissionSet, error) { panic("not written") }

// Expand spells out what a set gives through i: values, in the order of the set. What the set
// may not give, since it is not of its own names, is left out.
func (i Include) Expand(set *PermissionSet) []string { panic("not written") }
