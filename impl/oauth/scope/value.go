package scope

import (
	"net/url"
	"slices"
	"strings"
)

// A resource is what the values of a scope begin with, if they do not stand for themselves.
type resource string

const (
	repo     resource = "repo"
	rpc      resource = "rpc"
	blob     resource = "blob"
	account  resource = "account"
	identity resource = "identity"
	include  resource = "include"
)

// A form is how the values of a resource are written: RESOURCE:NAME?PARAMETER=VALUE&…
type form struct {
	name    string // of the parameter that may stand behind the colon instead
	many    bool   // it may stand there more than once
	valid   func(name string) bool
	actions actions // that there are
	usual   actions // when none is given
	aud     bool    // there is an audience
}

var forms = map[resource]form{
	repo:     {name: "collection", many: true, valid: nsidOrAll, actions: everyAction, usual: everyAction},
	rpc:      {name: "lxm", many: true, valid: nsidOrAll, aud: true},
	blob:     {name: "accept", many: true, valid: validAccept},
	account:  {name: "attr", valid: oneOf("email", "repo", "status"), actions: read | manage, usual: read},
	identity: {name: "attr", valid: oneOf("handle", "*")},
	include:  {name: "nsid", valid: validNSID, aud: true},
}

func oneOf(names ...string) func(string) bool {
	return func(s string) bool { return slices.Contains(names, s) }
}

func nsidOrAll(s string) bool { return s == "*" || validNSID(s) }

// actions are a set of what may be done.
type actions uint8

const (
	create actions = 1 << iota
	update
	del
	read
	manage

	everyAction = create | update | del
)

// actionNames are in the order in which actions are written.
var actionNames = [...]string{"create", "update", "delete", "read", "manage"}

// actionNamed is 0 for none.
func actionNamed(name string) actions {
	if i := slices.Index(actionNames[:], name); i >= 0 {
		return 1 << i
	}
	return 0
}

func (a actions) names() []string {
	var all []string
	for i, name := range actionNames {
		if a&(1<<i) != 0 {
			all = append(all, name)
		}
	}
	return all
}

// A value is one that was understood.
type value struct {
	resource resource
	names    []string // collections, methods, MIME types; one attr; one NSID
	actions  actions
	audience string
}

// parse reads a value that does not stand for itself.
func parse(text string) (v value, ok bool) {
	end := strings.IndexAny(text, ":?")
	if end < 0 {
		return v, false
	}
	v.resource = resource(text[:end])
	form, ok := forms[v.resource]
	if !ok {
		return v, false
	}
	query, positional := text[end+1:], text[end] == ':'
	if positional {
		var name string
		name, query, _ = strings.Cut(query, "?")
		if name, ok = unescape(name, false); !ok {
			return v, false
		}
		v.names = append(v.names, name)
	}
	for parameter := range strings.SplitSeq(query, "&") {
		if parameter == "" {
			continue
		}
		name, text, _ := strings.Cut(parameter, "=")
		name, nameOK := unescape(name, true)
		text, textOK := unescape(text, true)
		if !nameOK || !textOK {
			return v, false
		}
		switch {
		case name == form.name && !positional && (form.many || len(v.names) == 0):
			v.names = append(v.names, text)
		case name == "action" && actionNamed(text)&form.actions != 0:
			v.actions |= actionNamed(text)
		case name == "aud" && form.aud && v.audience == "" && text != "":
			v.audience = text
		default:
			return v, false
		}
	}
	if v.actions == 0 {
		v.actions = form.usual
	}
	return v, v.valid(form)
}

func (v value) valid(form form) bool {
	if len(v.names) == 0 {
		return false
	}
	for _, name := range v.names {
		if !form.valid(name) {
			return false
		}
	}
	switch {
	case v.resource == rpc && v.audience == "*":
		return !slices.Contains(v.names, "*")
	case v.resource == rpc || v.audience != "":
		return validAudience(v.audience)
	}
	return true
}

// String is the shortest form.
func (v value) String() string {
	form := forms[v.resource]
	names := v.names
	switch {
	case v.resource == blob:
		names = shortestAccepts(names)
	case slices.Contains(names, "*"):
		names = []string{"*"}
	default:
		names = sorted(names)
	}
	var b strings.Builder
	b.WriteString(string(v.resource))
	next := byte('?')
	parameter := func(name, text string) {
		b.WriteByte(next)
		b.WriteString(name + "=" + escape(text, false))
		next = '&'
	}
	if len(names) == 1 {
		b.WriteString(":" + escape(names[0], true))
	} else {
		for _, name := range names {
			parameter(form.name, name)
		}
	}
	if v.actions != form.usual {
		for _, name := range v.actions.names() {
			parameter("action", name)
		}
	}
	if v.audience != "" {
		parameter("aud", v.audience)
	}
	return b.String()
}

// sorted is names in order, each once.
func sorted(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}

// shortestAccepts leaves out what others of them cover.
func shortestAccepts(accepts []string) []string {
	all := make([]string, len(accepts))
	for i, a := range accepts {
		all[i] = strings.ToLower(a)
	}
	all = sorted(all)
	if slices.Contains(all, "*/*") {
		return []string{"*/*"}
	}
	// In this order TYPE/* comes before most types that it covers, but "+" and such are before "*".
	whole := map[string]bool{}
	for _, a := range all {
		if kind, ok := strings.CutSuffix(a, "/*"); ok {
			whole[kind] = true
		}
	}
	return slices.DeleteFunc(all, func(a string) bool {
		kind, sub, _ := strings.Cut(a, "/")
		return sub != "*" && whole[kind]
	})
}

// covers says whether a value of accept is for a MIME type.
func covers(accept, mime string) bool {
	kind, sub, ok := strings.Cut(mime, "/")
	if !ok || kind == "" || sub == "" || strings.ContainsAny(mime, " *") || strings.Contains(sub, "/") {
		return false
	}
	return accept == mime || widens(accept, mime)
}

// widens says whether accept is a pattern that covers another value of accept.
func widens(accept, other string) bool {
	if accept == "*/*" {
		return true
	}
	prefix, ok := strings.CutSuffix(accept, "*")
	return ok && strings.HasPrefix(other, prefix)
}

// validAccept takes TYPE/SUBTYPE, TYPE/* and */*.
func validAccept(s string) bool {
	kind, sub, ok := strings.Cut(s, "/")
	return s == "*/*" || ok && token(kind) && (sub == "*" || token(sub))
}

// token takes what RFC 9110 has types of media made of, without "*", which is for patterns here.
func token(s string) bool {
	for i := range len(s) {
		if !alphanumeric(s[i]) && strings.IndexByte("!#$%&'+-.^_`|~", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}

// validNSID takes what [syntax.ParseNSID] does, in a tenth of the time: a token may name hundreds.
func validNSID(s string) bool {
	if len(s) > 317 {
		return false
	}
	segments := 0
	for {
		segment, rest, more := strings.Cut(s, ".")
		if !label(segment) || segments == 0 && !alphabetic(segment[0]) {
			return false
		}
		segments++
		if !more {
			return segments >= 3 && alphabetic(segment[0]) && strings.IndexByte(segment, '-') < 0
		}
		s = rest
	}
}

// label takes a label of a domain name.
func label(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// validAudience takes a DID of a kind that the AT Protocol has, with the name of a service:
// "did:web:example.com#service".
func validAudience(s string) bool {
	did, service, ok := strings.Cut(s, "#")
	if !ok || service == "" {
		return false
	}
	for i := range len(service) {
		if !alphanumeric(service[i]) && strings.IndexByte("-._~!$&'()*+,;=:@/?%", service[i]) < 0 {
			return false
		}
	}
	if id, ok := strings.CutPrefix(did, "did:plc:"); ok {
		return len(id) == 24 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
	}
	host, ok := strings.CutPrefix(did, "did:web:")
	if !ok || len(host) > 253 {
		return false
	}
	if port, ok := strings.CutPrefix(host, "localhost%3A"); ok {
		return port != "" && len(port) <= 5 && strings.Trim(port, "0123456789") == ""
	}
	for {
		first, rest, more := strings.Cut(host, ".")
		if !label(first) {
			return false
		}
		if !more {
			return true
		}
		host = rest
	}
}

func alphabetic(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

func alphanumeric(c byte) bool { return alphabetic(c) || '0' <= c && c <= '9' }

// unescape undoes the percent escapes of a part of a value. In parameters a plus is a space.
func unescape(s string, parameter bool) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && !(parameter && strings.IndexByte(s, '+') >= 0) {
		return s, true
	}
	undo := url.PathUnescape
	if parameter {
		undo = url.QueryUnescape
	}
	s, err := undo(s)
	return s, err == nil
}

// escape is the opposite of unescape, and lets stand what values may have as it is.
func escape(s string, positional bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case alphanumeric(c), strings.IndexByte("-._~:/*@,!$'()", c) >= 0, c == '+' && positional:
			b.WriteByte(c)
		default:
			const digits = "0123456789ABCDEF"
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}
