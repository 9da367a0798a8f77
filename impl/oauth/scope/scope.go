// Package scope reads the scopes of OAuth tokens as the AT Protocol has them (specification
// "Permissions"): what an app may ask for, and what a token lets it do.
//
// A scope is a text of values with spaces between. A value that is not understood, in any part
// of it, permits nothing; [Known] tells which are. The questions that are asked of a [Set] are
// the permissions: [Repo], [RPC], [Blob], [Account], [Identity]. The package is pure, and takes
// time and memory in proportion to what it reads.
package scope

import (
	"slices"
	"strings"
)

// Values of a scope that stand for themselves.
const (
	ATProto           = "atproto"
	TransitionGeneric = "transition:generic"
	TransitionEmail   = "transition:email"
	TransitionChat    = "transition:chat.bsky"
)

// chat begins the names of the methods that [TransitionChat] is for, and [TransitionGeneric] not.
const chat = "chat.bsky."

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

func (p Repo) String() string {
	return "repo:" + escape(p.Collection, true) + "?action=" + escape(p.Action, false)
}

func (p RPC) String() string {
	return "rpc:" + escape(p.Method, true) + "?aud=" + escape(p.Audience, false)
}

func (p Blob) String() string { return "blob:" + escape(strings.ToLower(p.MIME), true) }

func (p Account) String() string {
	if p.Action == "read" {
		return "account:" + escape(p.Attr, true)
	}
	return "account:" + escape(p.Attr, true) + "?action=" + escape(p.Action, false)
}

func (p Identity) String() string { return "identity:" + escape(p.Attr, true) }

func (p Repo) permitted(s Set) bool {
	action := actionNamed(p.Action) & everyAction
	return action != 0 && (s.generic || (s.collections["*"]|s.collections[p.Collection])&action != 0)
}

func (p RPC) permitted(s Set) bool {
	if strings.HasPrefix(p.Method, chat) {
		if s.chat {
			return true
		}
	} else if s.generic {
		return true
	}
	return s.calls(p.Method, p.Audience) || s.calls("*", p.Audience)
}

func (p Blob) permitted(s Set) bool {
	return s.generic || slices.ContainsFunc(s.accepts, func(accept string) bool { return covers(accept, p.MIME) })
}

func (p Account) permitted(s Set) bool {
	action := actionNamed(p.Action)
	if p.Attr == "email" && action == read && s.email {
		return true
	}
	return action&(read|manage) != 0 && s.account[p.Attr]&action != 0
}

func (p Identity) permitted(s Set) bool {
	return s.identity || s.handle && p.Attr == "handle"
}

// A Set is the scope of a token. The zero value permits nothing. It is not changed once made,
// and safe for concurrent use.
type Set struct {
	has map[string]struct{} // as they are written

	generic, chat, email bool

	collections      map[string]actions  // by NSID, or "*"
	audiences        map[string][]string // by method, or "*"
	accepts          []string
	account          map[string]actions // by attr
	handle, identity bool
}

// Parse reads the scope of a token. One who asks much of the same scope should keep the set.
func Parse(text string) Set {
	var s Set
	for v := range strings.SplitSeq(text, " ") {
		if v != "" {
			s.add(v)
		}
	}
	return s
}

func (s *Set) add(text string) {
	if _, ok := s.has[text]; ok {
		return
	}
	put(&s.has, text, struct{}{})
	switch text {
	case ATProto:
		return
	case TransitionGeneric:
		s.generic = true
		return
	case TransitionEmail:
		s.email = true
		return
	case TransitionChat:
		s.chat = true
		return
	}
	v, ok := parse(text)
	if !ok {
		return
	}
	switch v.resource {
	case repo:
		for _, name := range v.names {
			put(&s.collections, name, s.collections[name]|v.actions)
		}
	case rpc:
		for _, name := range v.names {
			put(&s.audiences, name, append(s.audiences[name], v.audience))
		}
	case blob:
		s.accepts = append(s.accepts, v.names...)
	case account:
		granted := v.actions
		if granted&manage != 0 {
			granted |= read
		}
		put(&s.account, v.names[0], s.account[v.names[0]]|granted)
	case identity:
		s.handle = s.handle || v.names[0] == "handle"
		s.identity = s.identity || v.names[0] == "*"
	}
}

// put is m[key] = value. Most scopes have few kinds of values, so maps are made when they are
// needed.
func put[K comparable, V any](m *map[K]V, key K, value V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[key] = value
}

func (s Set) calls(method, audience string) bool {
	return slices.ContainsFunc(s.audiences[method], func(a string) bool { return a == audience || a == "*" })
}

// Allows says whether the token permits p.
func (s Set) Allows(p Permission) bool { return p.permitted(s) }

// Has says whether a value stands in the scope as it is written here.
func (s Set) Has(value string) bool {
	_, ok := s.has[value]
	return ok
}

// Covers says whether s permits all that o does. Of values that this package does not understand,
// and of includes, nobody knows what they will permit: they are covered by the same value alone.
// It may say no where several values of s together permit what one of o does.
func (s Set) Covers(o Set) bool {
	for text := range o.has {
		if !s.Has(text) && !s.covers(text) {
			return false
		}
	}
	return true
}

func (s Set) covers(text string) bool {
	v, ok := parse(text)
	if !ok {
		return text == TransitionEmail && s.account["email"]&read != 0
	}
	switch v.resource {
	case repo:
		return s.generic || !slices.ContainsFunc(v.names, func(name string) bool {
			return v.actions&^(s.collections["*"]|s.collections[name]) != 0
		})
	case rpc:
		return !slices.ContainsFunc(v.names, func(name string) bool {
			if name == "*" {
				// Generic is for all methods but those of chats.
				return !(s.generic && s.chat) && !s.calls("*", v.audience)
			}
			return !s.Allows(RPC{name, v.audience})
		})
	case blob:
		return s.generic || !slices.ContainsFunc(v.names, func(name string) bool {
			return !slices.ContainsFunc(s.accepts, func(accept string) bool { return accept == name || widens(accept, name) })
		})
	case account:
		attr := v.names[0]
		return v.actions&^s.account[attr] == 0 || attr == "email" && s.email && v.actions == read
	case identity:
		return s.Allows(Identity{v.names[0]})
	}
	return false
}

// Known says whether an app may ask for a value, and the shortest form of it.
func Known(value string) (shortest string, ok bool) {
	switch value {
	case ATProto, TransitionGeneric, TransitionEmail, TransitionChat:
		return value, true
	}
	v, ok := parse(value)
	if !ok {
		return "", false
	}
	return v.String(), true
}

// Values are the values of a scope in their order, each once.
func Values(text string) []string {
	var all []string
	seen := map[string]struct{}{}
	for v := range strings.SplitSeq(text, " ") {
		if _, ok := seen[v]; !ok && v != "" {
			seen[v] = struct{}{}
			all = append(all, v)
		}
	}
	return all
}
