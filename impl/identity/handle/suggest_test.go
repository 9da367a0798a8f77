package handle

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// random is a source that begins anew.
func random(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func TestSuggest(t *testing.T) {
	d, r := domains("test", "users.example.com"), &Rules{Reserved: builtIn}
	for _, tt := range []struct {
		name, wanted string
		about        Hints
		want         string // the names, in order; a name and digits stand for numbers after it
	}{
		{"nothing told", "alice.test", Hints{}, "alice##"},
		{"everything told", "Alice.test", Hints{"Alice.Smith+spam", 1984}, "alice-smith alicesmith alice84 alice1984 alice##"},
		{"2005", "alice.test", Hints{Year: 2005}, "alice05 alice2005 alice##"},
		{"the address is the name", "alice.test", Hints{Mailbox: "ALICE"}, "alice##"},
		{"short", "al.test", Hints{}, "al##"},
		{"short, with an address that is", "al.test", Hints{Mailbox: "x"}, "al##"},
		{"long", "a-very-long-name-indeed.test", Hints{Year: 1984}, "a-very-long-name84 a-very-long-na1984 a-very-long-name##"},
		{"with a dot", "al.ice.users.example.com", Hints{}, "al-ice##"},
		{"with a number", "agent99.test", Hints{}, "agent99-##"},
		{"reserved", "admin.test", Hints{}, ""},
		{"reserved, with an address", "admin.test", Hints{Mailbox: "j.doe", Year: 1984}, "j-doe jdoe j-doe84 j-doe1984 j-doe##"},
		{"reserved twice", "admin.test", Hints{Mailbox: "support", Year: 1984}, ""},
		{"inappropriate", "c00n.test", Hints{Year: 1984}, ""},
		{"inappropriate twice", "c00n.test", Hints{Mailbox: "coon"}, ""},
		{"foreign letters", "alice.test", Hints{Mailbox: "jürgen"}, "j-rgen jrgen alice##"},
		{"no letters", "alice.test", Hints{Mailbox: "..üü..+x"}, "alice##"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := r.Suggest(d, syntax.Handle(tt.wanted), tt.about, random(1))
			if err != nil {
				t.Fatal(err)
			}
			domain := "." + d.Of(syntax.Handle(tt.wanted))
			var names []string
			for _, s := range got {
				if !strings.HasSuffix(s.Handle.String(), domain) {
					t.Errorf("%s under another domain", s.Handle)
				}
				name := strings.TrimSuffix(s.Handle.String(), domain)
				if s.Method == "number" {
					name = strings.TrimRight(name, "0123456789") + "##"
				}
				names = append(names, name)
			}
			// Numbers of more digits take more of a long name.
			if i := slices.Index(names, "a-very-long-name##"); i >= 0 {
				names = names[:i+1]
			}
			if got := strings.Join(slices.Compact(names), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// The same bytes of chance make the same suggestions, other bytes make others, and none
// make none.
func TestSuggestIsChanceAlone(t *testing.T) {
	d, r := domains("test"), new(Rules)
	suggest := func(seed byte) []Suggestion {
		got, err := r.Suggest(d, "alice.test", Hints{}, random(seed))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if !slices.Equal(suggest(1), suggest(1)) || slices.Equal(suggest(1), suggest(2)) {
		t.Errorf("%v, %v, %v", suggest(1), suggest(1), suggest(2))
	}
	if got, err := r.Suggest(d, "alice.test", Hints{}, iotest.ErrReader(bytes.ErrTooLarge)); err == nil || got != nil {
		t.Errorf("without chance: %v, %v", got, err)
	}
}

func FuzzSuggest(f *testing.F) {
	for _, s := range []string{"alice", "a", "admin", "c00n", "a-very-long-name-indeed", "1", "al.ice"} {
		f.Add(s, s, 1984, byte(1))
	}
	d, r := domains("test", "users.example.com"), &Rules{Reserved: builtIn}
	f.Fuzz(func(t *testing.T, name, mailbox string, year int, seed byte) {
		wanted, err := Normalize(name + ".test")
		if err != nil {
			return
		}
		got, err := r.Suggest(d, wanted, Hints{mailbox, year % 10000}, random(seed))
		if err != nil || len(got) > MaxSuggestions {
			t.Fatalf("%d suggestions, %v", len(got), err)
		}
		for i, s := range got {
			if c, err := r.Check(d, s.Handle.String(), false); err != nil || c.Handle != s.Handle || s.Handle == wanted || slices.Contains(got[:i], s) {
				t.Errorf("suggested %s: %v, %v", s.Handle, c, err)
			}
		}
	})
}
