package handle

import (
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

func TestNormalize(t *testing.T) {
	for _, tt := range []struct{ text, want, message string }{
		{"Alice.Test", "alice.test", ""},
		{"a.b.c-d.e0", "a.b.c-d.e0", ""},
		{"xn--bcher-kva.example.com", "xn--bcher-kva.example.com", ""},
		{"al_ice.test", "", "Disallowed characters in handle (ASCII letters, digits, dashes, periods only)"},
		{"älice.test", "", "Disallowed characters in handle (ASCII letters, digits, dashes, periods only)"},
		{"alice.test\n", "", "Disallowed characters in handle (ASCII letters, digits, dashes, periods only)"},
		{strings.Repeat("a.", 126) + "b", strings.Repeat("a.", 126) + "b", ""},
		{strings.Repeat("a.", 126) + "bc", "", "Handle is too long (253 chars max)"},
		{"alice", "", "Handle domain needs at least two parts"},
		{"", "", "Handle domain needs at least two parts"},
		{"alice.", "", "Handle parts can not be empty"},
		{".test", "", "Handle parts can not be empty"},
		{"a..test", "", "Handle parts can not be empty"},
		{strings.Repeat("a", 63) + ".test", strings.Repeat("a", 63) + ".test", ""},
		{strings.Repeat("a", 64) + ".test", "", "Handle part too long (max 63 chars)"},
		{"-alice.test", "", "Handle parts can not start or end with hyphens"},
		{"alice-.test", "", "Handle parts can not start or end with hyphens"},
		{"alice.4com", "", "Handle final component (TLD) must start with ASCII letter"},
		{"127.0.0.1", "", "Handle final component (TLD) must start with ASCII letter"},
	} {
		got, err := Normalize(tt.text)
		if tt.message == "" {
			if err != nil || got.String() != tt.want {
				t.Errorf("%q: got %q, %v", tt.text, got, err)
			}
			continue
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Name != "InvalidHandle" || e.Message != tt.message {
			t.Errorf("%q: got %v, want %s", tt.text, err, tt.message)
		}
	}
}

// domains are open ones.
func domains(names ...string) *Domains {
	var list []Domain
	for _, name := range names {
		list = append(list, Domain{Name: name, Policy: Open})
	}
	return NewDomains("pds.test", Open, list)
}

func TestCheck(t *testing.T) {
	d, r := domains("test", "pds.example.com"), &Rules{Reserved: builtIn}
	for _, tt := range []struct {
		name, text string
		local      bool
		want       string // "Name: message", "" when accepted
		admin      string
	}{
		{"ordinary", "alice.test", true, "", ""},
		{"capitals", "ALICE.Test", true, "", ""},
		{"second domain", "alice.pds.example.com", true, "", ""},
		{"two labels", "alice.pds.test", true, "InvalidHandle: Invalid characters in handle", "InvalidHandle: Invalid characters in handle"},
		{"syntax", "alice", false, "InvalidHandle: Handle domain needs at least two parts", "InvalidHandle: Handle domain needs at least two parts"},
		{"local TLD", "alice.local", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"arpa", "alice.arpa", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"invalid", "handle.invalid", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"localhost", "alice.localhost", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"internal", "alice.internal", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"example", "alice.example", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"alt", "alice.alt", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"onion", "alice.ONION", false, "InvalidHandle: Handle TLD is invalid or disallowed", "InvalidHandle: Handle TLD is invalid or disallowed"},
		{"slur", "coon.test", false, "InvalidHandle: Inappropriate language in handle", ""},
		{"slur before reserved", "n1gger.test", false, "InvalidHandle: Inappropriate language in handle", ""},
		{"two characters", "ab.test", true, "InvalidHandle: Handle too short", "InvalidHandle: Handle too short"},
		{"three characters", "abc.test", true, "", ""},
		{"18 characters", "abcdefghijklmnopqr.test", true, "", ""},
		{"19 characters", "abcdefghijklmnopqrs.test", true, "InvalidHandle: Handle too long", "InvalidHandle: Handle too long"},
		{"reserved", "Admin.test", true, "HandleNotAvailable: Reserved handle", ""},
		{"reserved elsewhere", "admin.example.com", false, "", ""},
		{"foreign", "alice.example.com", false, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, admin := range []bool{false, true} {
				want := tt.want
				if admin {
					want = tt.admin
				}
				c, err := r.Check(d, tt.text, admin)
				h, local := c.Handle, c.Local
				if want != "" {
					if err == nil || err.Error() != want || h != "" {
						t.Errorf("admin %v: got %q, %v, want %s", admin, h, err, want)
					}
					continue
				}
				if err != nil || h.String() != strings.ToLower(tt.text) {
					t.Errorf("admin %v: got %q, %v", admin, h, err)
				}
				if tt.want == "" && (local != tt.local || (c.Domain != "") != tt.local) {
					t.Errorf("admin %v: local %v", admin, local)
				}
			}
		})
	}
}

func TestForeignErrors(t *testing.T) {
	for err, want := range map[*Error]string{
		ErrUnsupportedDomain: "UnsupportedDomain: Not a supported handle domain",
		ErrUnresolved:        "InvalidRequest: External handle did not resolve to DID",
	} {
		if err.Error() != want {
			t.Errorf("got %s, want %s", err, want)
		}
	}
}

func TestReserved(t *testing.T) {
	names := Reserved([]string{"Acme"}, []string{"BLOG", "acme-labs"})
	for name, want := range map[string]bool{
		"test": true, "admin": true, "about": true, "www": true, "atp": true, "bsky": true, "at": true, "lexicon": true, "did": true,
		"postmaster": true, "support": true, "acme": true, "blog": false, "alice": false, "": false, "# names": false,
	} {
		if names.Has(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	all := Reserved(nil, nil)
	if len(all) < 800 || !all.Has("blog") {
		t.Errorf("%d reserved names", len(all))
	}
	for name := range all {
		if _, err := Normalize(name + ".test"); err != nil || name != strings.ToLower(name) {
			t.Errorf("%q can never match: %v", name, err)
		}
	}
	if (Names)(nil).Has("admin") {
		t.Error("the empty set has something")
	}
}

func TestInappropriate(t *testing.T) {
	for handle, want := range map[string]bool{
		"alice.test":             false,
		"raccoon.test":           false,
		"tycoon.test":            false,
		"snigger.test":           true, // the one that counts within words
		"n-i-g-g-e-r.test":       true,
		"my-n1gg3r-x.test":       true,
		"chink-in-armour.test":   true,
		"ch1nks.test":            true,
		"c00n.test":              true,
		"f4gg0ts.test":           true,
		"f4g.test":               true,
		"fagus.test":             false,
		"k1ke.test":              true,
		"nikkei.test":            false,
		"tranny.test":            true,
		"tr4nnies.test":          true,
		"nigeria.test":           false,
		"niger.example.com":      false,
		"kiker.example.com":      false,
		"cocoon.example.com":     false,
		"transport.example.com":  false,
		"scunthorpe.example.com": false,
	} {
		if Inappropriate(handle) != want {
			t.Errorf("%s: %v", handle, !want)
		}
	}
	d, r := domains("test"), &Rules{Inappropriate: func(h string) bool { return h == "alice.test" }}
	if _, err := r.Check(d, "Alice.test", false); err != ErrInappropriate {
		t.Errorf("own hook: %v", err)
	}
	if _, err := r.Check(d, "coon.test", false); err != nil {
		t.Errorf("own hook: %v", err)
	}
}

func FuzzCheck(f *testing.F) {
	d, r := domains("test", "pds.example.com"), &Rules{Reserved: builtIn}
	for _, text := range []string{"alice.test", "a.b", "-", "xn--a.test", "\xff.test", "Alice.example.com"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := r.Check(d, text, false)
		h := c.Handle
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		// What is accepted is a handle to everyone else too, and stays as it is.
		if _, err := syntax.ParseHandle(h.String()); err != nil || h != h.Normalize() {
			t.Errorf("%q became %q: %v", text, h, err)
		}
		again, err := r.Check(d, h.String(), false)
		if again != c || err != nil {
			t.Errorf("%q: %v, %v", h, again, err)
		}
	})
}

// builtIn are the names that are reserved where the operator has not said anything.
func builtIn() Names { return Reserved(nil, nil) }
