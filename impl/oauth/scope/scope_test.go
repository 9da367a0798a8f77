package scope

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

func TestNotUnderstood(t *testing.T) {
	for _, value := range []string{
		"", ":", "?", "repo", "repo:%zz", "repo:%", "repo?collection=%f", "rpc:com.example.a?aud=%", "blob:image/%E4%", "repo:com.example.a?%zz=1",
		"repo:com.example.a?=", "repo:com.example.a?action", "include:com.example.a?aud", "blob:a/b\x00", "blob:a/ü", "repo:com.example.a\u200b",
		"rpc:com.example.a?aud=did:web:example.com:path%23x", "rpc:com.example.a?aud=did:web:localhost%253A%23x", "rpc:com.example.a?aud=did:web:-a.com%23x",
		"rpc:com.example.a?aud=did:web:a.com%23x%23y", "rpc:com.example.a?aud=did:web:a.com%23x%20y", "account:email?action=create", "repo:com.example.a?action=read",
		"identity:handle?aud=*", "account:email?attr=email", "repo:com.example.1a", "repo:1com.example.a", "REPO:com.example.a",
	} {
		if got, ok := Known(value); ok {
			t.Errorf("Known(%q) = %q", value, got)
		}
		if got := Describe([]string{value}, nil); len(got) != 1 || got[0].Kind != Unknown || !slices.Equal(got[0].Names, []string{value}) {
			t.Errorf("Describe(%q) = %+v", value, got)
		}
	}
	for _, value := range []string{"rpc:com.example.a?aud=did:web:localhost%253A2583%23x", "rpc:com.example.a?aud=did:web:localhost%23x"} {
		if got, ok := Known(value); !ok || got != value {
			t.Errorf("Known(%q) = %q, %v", value, got, ok)
		}
	}
}

func TestSet(t *testing.T) {
	s := Parse("atproto  repo:com.example.a?action=create repo:com.example.a?action=delete atproto include:com.example.set")
	for value, want := range map[string]bool{
		"atproto": true, "include:com.example.set": true, "repo:com.example.a": false, "": false, "repo:com.example.a?action=create": true,
	} {
		if s.Has(value) != want {
			t.Errorf("Has(%q) = %v", value, !want)
		}
	}
	for p, want := range map[Permission]bool{
		Repo{"com.example.a", "create"}: true, Repo{"com.example.a", "delete"}: true, Repo{"com.example.a", "update"}: false,
		Repo{"com.example.a", "read"}: false, Repo{"com.example.a", ""}: false, Repo{"", "create"}: false,
	} {
		if s.Allows(p) != want {
			t.Errorf("Allows(%s) = %v", p, !want)
		}
	}
	for _, p := range []Permission{Repo{"a", "create"}, RPC{"*", "*"}, Blob{"a/b"}, Account{"email", "read"}, Identity{"handle"}, Identity{""}} {
		if (Set{}).Allows(p) || Parse("").Allows(p) {
			t.Errorf("nothing allows %s", p)
		}
	}
	if p := (Account{"email", "create"}); Parse("account:email?action=manage").Allows(p) {
		t.Errorf("allows %s", p)
	}
	if got, want := Values(" b a  b\ta c "), []string{"b", "a", "b\ta", "c"}; !slices.Equal(got, want) {
		t.Errorf("Values: %q", got)
	}
}

// What is asked for comes from requests too.
func TestNeededOfAnything(t *testing.T) {
	for want, p := range map[string]Permission{
		"blob:%22%3E%0D%0A%20/%EF%BF%BD":       Blob{"\">\r\n /\xff"},
		"repo:%26%3F?action=create":            Repo{"&?", "create"},
		"rpc:a%20b?aud=%2B%26":                 RPC{"a b", "+&"},
		"account:x%23":                         Account{"x#", "read"},
		"identity:%25":                         Identity{"%"},
		"rpc:a.b.c?aud=did:web:l%253A1%23bsky": RPC{"a.b.c", "did:web:l%3A1#bsky"},
	} {
		if got := p.String(); got != want {
			t.Errorf("%#v needs %q, want %q", p, got, want)
		}
	}
}

func TestCovers(t *testing.T) {
	for _, tt := range []struct {
		of, other string
		want      bool
	}{
		{"", "", true},
		{"atproto", "", true},
		{"", "atproto", false},
		{"atproto", "openid", false},
		{"atproto openid", "openid", true},
		{"include:com.example.a", "include:com.example.a", true},
		{"include:com.example.a", "include:com.example.a?aud=did:web:a.com%23x", false},
		{"repo:com.example.a", "repo:com.example.a?action=create", true},
		{"repo:com.example.a?action=create", "repo:com.example.a", false},
		{"repo:com.example.a?action=create repo:com.example.a?action=update&action=delete", "repo:com.example.a", true},
		{"repo:*?action=create repo:com.example.a?action=update&action=delete", "repo:com.example.a", true},
		{"repo:com.example.a repo:com.example.b", "repo?collection=com.example.a&collection=com.example.b", true},
		{"repo:com.example.a", "repo?collection=com.example.a&collection=com.example.b", false},
		{"repo:com.example.a", "repo:*", false},
		{"repo:*", "repo:com.example.a", true},
		{"transition:generic", "repo:*", true},
		{"repo:*", "transition:generic", false},
		{"rpc:com.example.a?aud=*", "rpc:com.example.a?aud=did:web:a.com%23x", true},
		{"rpc:com.example.a?aud=did:web:a.com%23x", "rpc:com.example.a?aud=*", false},
		{"rpc:com.example.a?aud=did:web:a.com%23x", "rpc:com.example.a?aud=did:web:a.com%23y", false},
		{"rpc:*?aud=did:web:a.com%23x", "rpc:com.example.a?aud=did:web:a.com%23x", true},
		{"rpc:*?aud=did:web:a.com%23x", "rpc:com.example.a?aud=*", false},
		{"rpc:com.example.a?aud=did:web:a.com%23x", "rpc:*?aud=did:web:a.com%23x", false},
		{"transition:generic", "rpc:com.example.a?aud=*", true},
		{"transition:generic", "rpc:*?aud=did:web:a.com%23x", false},
		{"transition:generic transition:chat.bsky", "rpc:*?aud=did:web:a.com%23x", true},
		{"transition:generic", "rpc:chat.bsky.convo.getConvo?aud=*", false},
		{"transition:chat.bsky", "rpc:chat.bsky.convo.getConvo?aud=*", true},
		{"blob:image/*", "blob:image/png", true},
		{"blob:image/png", "blob:image/*", false},
		{"blob:image/*", "blob:image/*", true},
		{"blob:*/*", "blob?accept=image/*&accept=a/b", true},
		{"blob:image/*", "blob:imagex/png", false},
		{"transition:generic", "blob:*/*", true},
		{"account:email", "transition:email", true},
		{"transition:email", "account:email", true},
		{"transition:email", "account:email?action=manage", false},
		{"account:email?action=manage", "account:email", true},
		{"account:email", "account:email?action=manage", false},
		{"account:repo?action=manage", "account:status?action=manage", false},
		{"identity:*", "identity:handle", true},
		{"identity:handle", "identity:*", false},
	} {
		if got := Parse(tt.of).Covers(Parse(tt.other)); got != tt.want {
			t.Errorf("does %q cover %q: %v", tt.of, tt.other, got)
		}
	}
}

func TestDescribe(t *testing.T) {
	set, err := ParsePermissionSet([]byte(`{"id":"com.example.auth","defs":{"main":{"type":"permission-set","title":"T","title:lang":{"de":"D","":"x"},
		"permissions":[{"type":"permission","resource":"repo","collection":["com.example.b"]}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if set.NSID != "com.example.auth" || len(set.Title) != 2 || set.Title[""] != "T" || set.Title["de"] != "D" || len(set.Detail) != 0 {
		t.Errorf("%+v", set)
	}
	got := Describe(Values("repo:com.example.b?action=create repo?collection=com.example.a&collection=com.example.b&action=delete repo:app.bsky.feed.post "+
		"repo:app.bsky.feed.like transition:generic what:is blob:image/* blob:video/mp4 identity:* identity:handle transition:chat.bsky atproto "+
		"transition:email account:email?action=manage account:status account:repo?action=manage rpc:com.example.q?aud=* rpc:com.example.a?aud=* "+
		"rpc:app.bsky.feed.getFeed?aud=* rpc:com.example.q?aud=did:web:a.com%23x include:com.example.auth include:com.example.other ask:%zz"),
		map[syntax.NSID]*PermissionSet{"com.example.auth": set})
	var lines []string
	var write func(indent string, items []Item)
	write = func(indent string, items []Item) {
		for _, i := range items {
			line := indent + string(i.Kind)
			if i.Dangerous {
				line += "!"
			}
			if i.Bluesky {
				line += " bluesky"
			}
			for _, more := range []string{strings.Join(i.Names, ","), strings.Join(i.Actions, ","), i.Audience, string(i.Include.NSID)} {
				if more != "" {
					line += " " + more
				}
			}
			if i.Set != nil {
				line += " " + i.Set.Title[""]
			}
			lines = append(lines, line+fmt.Sprintf(" (%d)", len(i.Values)))
			write(indent+"  ", i.Items)
		}
	}
	write("", got)
	want := `identify (1)
full-identity! (1)
handle (1)
status read (1)
email manage (2)
generic (1)
chat (1)
repository manage (1)
records bluesky app.bsky.feed.like,app.bsky.feed.post create,update,delete (2)
records com.example.a delete (1)
records com.example.b create,delete (2)
blobs image/*,video/mp4 (2)
calls bluesky app.bsky.feed.getFeed * (1)
calls com.example.a,com.example.q * (2)
calls com.example.q did:web:a.com#x (1)
included com.example.auth T (1)
  records com.example.b create,update,delete (1)
included com.example.other (1)
unknown what:is,ask:%zz (2)`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, i := range got {
		if !slices.Contains(kinds, i.Kind) {
			t.Errorf("%s has no place in the order", i.Kind)
		}
	}
}

func TestParsePermissionSet(t *testing.T) {
	main := func(fields string) string {
		return `{"id":"com.example.auth","defs":{"main":{"type":"permission-set"` + fields + `}}}`
	}
	many := func(n int, one string) string { return strings.TrimSuffix(strings.Repeat(one+",", n), ",") }
	const permission = `{"type":"permission","resource":"repo","collection":["com.example.a"]}`
	for _, tt := range []struct{ document, want string }{
		{main(""), ""},
		{main(`,"permissions":[` + many(100, permission) + `]`), ""},
		{main(`,"permissions":[` + many(101, permission) + `]`), "the set has more than 100 permissions"},
		{main(`,"permissions":[{"type":"permission","resource":"repo","collection":[` + many(1001, `"com.example.a"`) + `]}]`), "the set's permissions have more than 1000 names"},
		{main(`,"permissions":[{"type":"permission"}]`), "one of the set's permissions is none"},
		{main(`,"permissions":[null]`), "one of the set's permissions is none"},
		{main(`,"permissions":[5]`), "the document is no lexicon of a permission set"},
		{main(`,"permissions":{}`), "the document is no lexicon of a permission set"},
		{main(`,"title":5`), "the document is no lexicon of a permission set"},
		{main(`,"title":"` + strings.Repeat("a", 65<<10) + `"`), "the lexicon has more than 65536 bytes"},
		{`{"id":"com.example.auth","defs":{"main":{"type":"record"}}}`, "the lexicon's main is no permission-set"},
		{`{"id":"com.example.auth","defs":{}}`, "the lexicon's main is no permission-set"},
		{`{"id":"x","defs":{"main":{"type":"permission-set"}}}`, "the lexicon has no id"},
		{`null`, "the lexicon has no id"},
		{`[]`, "the document is no lexicon of a permission set"},
		{``, "the document is no lexicon of a permission set"},
	} {
		_, err := ParsePermissionSet([]byte(tt.document))
		if got := fmt.Sprint(err); got != tt.want && !(err == nil && tt.want == "") {
			t.Errorf("%.80s: %s, want %s", tt.document, got, tt.want)
		}
	}
	set, err := ParsePermissionSet([]byte(main(`,"title":"` + strings.Repeat("ä", 201) + `","detail":"` + strings.Repeat("ä", 2000) + `"`)))
	if err != nil || set.Title[""] != strings.Repeat("ä", 200)+"…" || set.Detail[""] != strings.Repeat("ä", 2000) {
		t.Errorf("%v, title %q", err, set.Title[""])
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range readVectors(f).Ask {
		f.Add(v.Scopes)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := Parse(text)
		all := Values(text)
		for _, v := range all {
			if !s.Has(v) {
				t.Errorf("%q has no %q", text, v)
			}
		}
		for _, p := range []Permission{Repo{"com.example.a", "create"}, RPC{"com.example.a", "did:web:a.com#x"}, Blob{"a/b"}, Account{"email", "read"}, Identity{"handle"}} {
			s.Allows(p)
		}
		if !s.Covers(s) {
			t.Errorf("%q does not cover itself", text)
		}
		values := 0
		for _, i := range Describe(all, nil) {
			values += len(i.Values)
		}
		if values < len(all) {
			t.Errorf("of %d values %d are described", len(all), values)
		}
	})
}

func FuzzKnown(f *testing.F) {
	for _, v := range readVectors(f).Known {
		f.Add(v.Input)
	}
	f.Fuzz(func(t *testing.T, value string) {
		shortest, ok := Known(value)
		if !ok {
			if n := strings.IndexByte(value, ' '); n < 0 && value != "" && Parse(value).Covers(Parse("repo:com.example.a?action=create")) {
				t.Errorf("%q is not understood and permits something", value)
			}
			return
		}
		again, ok := Known(shortest)
		if !ok || again != shortest || strings.Contains(shortest, " ") {
			t.Errorf("shortest of %q is %q, of that %q, %v", value, shortest, again, ok)
		}
		if _, isInclude := ParseInclude(value); isInclude {
			return
		}
		a, b := Parse(value), Parse(shortest)
		if !strings.HasPrefix(value, "blob") && !strings.Contains(value, " ") && (!a.Covers(b) || !b.Covers(a)) {
			t.Errorf("%q and %q permit other things", value, shortest)
		}
	})
}

func FuzzNSID(f *testing.F) {
	for _, s := range []string{"com.example.a", "a.b", "a-.b.c", "1.b.c", "a.b.c1", "a.b.1c", "a.b.c-d", "a..b", "a.1.c", strings.Repeat("a", 64) + ".b.c", "a.b." + strings.Repeat("c", 63)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := syntax.ParseNSID(s); validNSID(s) != (err == nil) {
			t.Errorf("%q: %v, %v", s, validNSID(s), err)
		}
	})
}

func FuzzParseInclude(f *testing.F) {
	for _, v := range readVectors(f).Include {
		f.Add(v.Scope)
	}
	f.Fuzz(func(t *testing.T, value string) {
		i, ok := ParseInclude(value)
		if !ok {
			return
		}
		if _, err := syntax.ParseNSID(i.NSID.String()); err != nil {
			t.Errorf("%q: %v", value, err)
		}
		if i.Audience != "" && !validAudience(i.Audience) {
			t.Errorf("%q: audience %q", value, i.Audience)
		}
	})
}

func FuzzParsePermissionSet(f *testing.F) {
	for _, v := range readVectors(f).Include {
		f.Add(fmt.Appendf(nil, `{"id":"com.example.calendar.auth","defs":{"main":%s}}`, v.Set))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		set, err := ParsePermissionSet(document)
		if err != nil {
			return
		}
		for _, i := range []Include{{set.NSID, ""}, {set.NSID, "did:web:a.com#x"}} {
			for _, v := range i.Expand(set) {
				p, ok := parse(v)
				if !ok || p.resource != repo && p.resource != rpc {
					t.Fatalf("gives %q", v)
				}
				for _, name := range p.names {
					if !speaksOf(set.NSID, name) {
						t.Errorf("%s gives %q", set.NSID, v)
					}
				}
				if p.resource == rpc && p.audience != "*" && p.audience != i.Audience {
					t.Errorf("%s gives %q", set.NSID, v)
				}
			}
		}
	})
}

// One value of many parts, and many values, take time in proportion.
func TestLinear(t *testing.T) {
	for _, text := range []string{
		"repo?" + strings.Repeat("collection=com.example.a&", 40_000),
		strings.Repeat("repo:com.example.a ", 50_000),
		"blob?" + strings.Repeat("accept=a/b&", 90_000),
		"rpc:a.b.c?aud=*&" + strings.Repeat("&", 1<<20),
		"repo:" + strings.Repeat("%", 1<<20),
		"repo:" + strings.Repeat("a.", 1<<19),
	} {
		s := Parse(text)
		s.Covers(s)
		Describe(Values(text), nil)
		for _, v := range Values(text) {
			Known(v)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range []struct{ name, text string }{
		{"transition", "atproto transition:generic transition:chat.bsky"},
		{"granular", "atproto repo:app.bsky.feed.post?action=create rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview blob:image/* account:email"},
		{"set", "atproto repo?" + strings.Repeat("&collection=com.example.forum.post", 100)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(bb.text)
			}
		})
	}
}

func BenchmarkAllows(b *testing.B) {
	s := Parse("atproto repo:app.bsky.feed.post?action=create rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview blob:image/*")
	b.ReportAllocs()
	for b.Loop() {
		s.Allows(RPC{"app.bsky.feed.getTimeline", "did:web:api.bsky.app#bsky_appview"})
	}
}
