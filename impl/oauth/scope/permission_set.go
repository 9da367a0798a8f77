package scope

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Bounds of a permission set. What it gives goes into the scope of tokens.
const (
	MaxDocument    = 64 << 10 // bytes
	maxPermissions = 100
	maxNames       = 1000 // of all its permissions
	maxTitle       = 200  // characters; what is more is cut off
	maxDetail      = 2000
	maxLanguages   = 100
)

// An Include asks for a permission set of the network: "include:com.example.auth?aud=…".
type Include struct {
	NSID     syntax.NSID
	Audience string // "" for none
}

// ParseInclude reads a value that is an include.
func ParseInclude(value string) (i Include, ok bool) {
	v, ok := parse(value)
	if !ok || v.resource != include {
		return i, false
	}
	return Include{syntax.NSID(v.names[0]), v.audience}, true
}

// A PermissionSet is the document that an include names: a lexicon whose main is one.
type PermissionSet struct {
	NSID          syntax.NSID
	Title, Detail map[string]string // by language; "" is that of no language

	permissions []permission
}

// A permission is one of a set. Which parts it has depends on its resource, and strangers write
// what they want: each is looked at when it is used.
type permission map[string]json.RawMessage

// ParsePermissionSet reads the lexicon of a permission set. The error says what is wrong with
// it, in words for the app's developer.
func ParsePermissionSet(document []byte) (*PermissionSet, error) {
	if len(document) > MaxDocument {
		return nil, fmt.Errorf("the lexicon has more than %d bytes", MaxDocument)
	}
	var in struct {
		ID   string `json:"id"`
		Defs struct {
			Main struct {
				Type        string            `json:"type"`
				Title       string            `json:"title"`
				Titles      map[string]string `json:"title:lang"`
				Detail      string            `json:"detail"`
				Details     map[string]string `json:"detail:lang"`
				Permissions []permission      `json:"permissions"`
			} `json:"main"`
		} `json:"defs"`
	}
	if err := json.Unmarshal(document, &in); err != nil {
		return nil, errors.New("the document is no lexicon of a permission set")
	}
	if !validNSID(in.ID) {
		return nil, errors.New("the lexicon has no id")
	}
	main := in.Defs.Main
	if main.Type != "permission-set" {
		return nil, errors.New("the lexicon's main is no permission-set")
	}
	if len(main.Permissions) > maxPermissions {
		return nil, fmt.Errorf("the set has more than %d permissions", maxPermissions)
	}
	names := 0
	for _, p := range main.Permissions {
		if text(p["type"]) != "permission" || text(p["resource"]) == "" {
			return nil, errors.New("one of the set's permissions is none")
		}
		names += len(list(p["collection"])) + len(list(p["lxm"]))
	}
	if names > maxNames {
		return nil, fmt.Errorf("the set's permissions have more than %d names", maxNames)
	}
	set := &PermissionSet{NSID: syntax.NSID(in.ID), permissions: main.Permissions}
	var err error
	if set.Title, err = byLanguage(main.Title, main.Titles, maxTitle); err != nil {
		return nil, err
	}
	if set.Detail, err = byLanguage(main.Detail, main.Details, maxDetail); err != nil {
		return nil, err
	}
	return set, nil
}

// byLanguage cuts texts to size. One that is empty is none.
func byLanguage(plain string, others map[string]string, size int) (map[string]string, error) {
	if len(others) > maxLanguages {
		return nil, fmt.Errorf("the set has words in more than %d languages", maxLanguages)
	}
	all := map[string]string{}
	add := func(language, s string) {
		n := 0
		for i := range s {
			if n++; n > size {
				s = s[:i] + "…"
				break
			}
		}
		if s != "" {
			all[language] = s
		}
	}
	for language, s := range others {
		add(language, s)
	}
	delete(all, "")
	add("", plain)
	return all, nil
}

// text is "" for what is no text.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// list is nil for what is no list of texts.
func list(raw json.RawMessage) []string {
	var all []*string
	if json.Unmarshal(raw, &all) != nil {
		return nil
	}
	texts := make([]string, len(all))
	for i, s := range all {
		if s == nil {
			return nil
		}
		texts[i] = *s
	}
	return texts
}

// Expand spells out what a set gives through i: values, in the order of the set. What the set
// may not give, since it is not of its own names, is left out; so is, as a whole, each permission
// that has something in it that is not understood.
func (i Include) Expand(set *PermissionSet) []string {
	var all []string
	for _, p := range set.permissions {
		if v, ok := i.value(p); ok {
			all = append(all, v.String())
		}
	}
	return all
}

func (i Include) value(p permission) (v value, ok bool) {
	v.resource = resource(text(p["resource"]))
	form := forms[v.resource]
	if v.resource != repo && v.resource != rpc {
		return v, false
	}
	inherits := false
	for name, raw := range p {
		switch {
		case name == "type", name == "resource":
		case name == form.name:
			v.names = list(raw)
		case name == "action" && v.resource == repo:
			given := list(raw)
			for _, a := range given {
				if actionNamed(a)&form.actions == 0 {
					return v, false
				}
				v.actions |= actionNamed(a)
			}
			if len(given) == 0 {
				return v, false
			}
		case name == "aud" && v.resource == rpc:
			// A set names no service of its own choice.
			if v.audience = text(raw); v.audience != "*" {
				return v, false
			}
		case name == "inheritAud" && v.resource == rpc:
			if json.Unmarshal(raw, &inherits) != nil {
				return v, false
			}
		default:
			return v, false
		}
	}
	if inherits {
		if v.audience != "" {
			return v, false
		}
		v.audience = i.Audience
	}
	if v.actions == 0 {
		v.actions = form.usual
	}
	for _, name := range v.names {
		if !speaksOf(i.NSID, name) {
			return v, false
		}
	}
	return v, v.valid(form)
}

// speaksOf says whether a set may give what has a name: one of its own group, or below.
func speaksOf(set syntax.NSID, name string) bool {
	group := string(set[:strings.LastIndexByte(string(set), '.')+1])
	return validNSID(name) && strings.HasPrefix(name, group)
}
