package words

import (
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	for _, tt := range []struct {
		want   string
		wanted []string
	}{
		{"en", nil},
		{"en", []string{""}},
		{"de", []string{"de"}},
		{"de", []string{"de-AT,en;q=0.5"}},
		{"en", []string{"en-GB,de;q=0.9"}},
		{"de", []string{"fr,de;q=0.9,en;q=0.8"}},
		{"en", []string{"fr"}},
		{"de", []string{"", "de-CH"}},
		{"de", []string{"de", "en"}},
		{"de", []string{"fr", "de"}},
		{"en", []string{"not a language;;;"}},
		{"en", []string{strings.Repeat("de,", 1000)}},
	} {
		if got := Choose(tt.wanted...); got != tt.want {
			t.Errorf("Choose(%q) = %q, want %q", tt.wanted, got, tt.want)
		}
	}
}

func TestSay(t *testing.T) {
	for _, tt := range []struct {
		in, english, want string
		args              []any
	}{
		{"en", "Sign out", "Sign out", nil},
		{"de", "Sign out", "Abmelden", nil},
		{"en", "Forget %s", "Forget @alice.test", []any{"@alice.test"}},
		{"de", "Forget %s", "@alice.test vergessen", []any{"@alice.test"}},
		{"de", "Handle already taken: alice.test", "Dieses Handle ist schon vergeben: alice.test", nil},
		{"de", "That was too often. Try again in 60 minutes.", "Das war zu oft. Versuchen Sie es in 60 Minuten noch einmal.", nil},
		{"de", "Handle already taken: %s%d", "Dieses Handle ist schon vergeben: %s%d", nil},
		{"de", "Nobody has heard of this", "Nobody has heard of this", nil},
		{"de", "100 % of nothing", "100 % of nothing", nil},
		{"fr", "Sign out", "Sign out", nil},
	} {
		if got := Say(tt.in, tt.english, tt.args...); got != tt.want {
			t.Errorf("Say(%q, %q, %v) = %q, want %q", tt.in, tt.english, tt.args, got, tt.want)
		}
	}
}

// Each language says all that there is to say, with the same places for what differs.
func TestTheTableIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range table {
		switch {
		case row.english == "" || row.german == "":
			t.Errorf("%q, %q: one is missing", row.english, row.german)
		case seen[row.english]:
			t.Errorf("%q stands there twice", row.english)
		case strings.Count(row.english, "%") != strings.Count(row.german, "%"), strings.Count(row.english, "%s") != strings.Count(row.german, "%s"):
			t.Errorf("%q and %q have not the same verbs", row.english, row.german)
		}
		seen[row.english] = true
	}
}

func FuzzChooseAndSay(f *testing.F) {
	f.Add("de-AT,en;q=0.5", "Handle already taken: alice.test")
	f.Add("x-y-z;q=2,*;q=0", "%s %d %!")
	f.Fuzz(func(t *testing.T, wanted, text string) {
		if in := Choose(wanted); in != "en" && in != "de" {
			t.Errorf("%q", in)
		}
		if Say("en", text) != text {
			t.Errorf("English %q became %q", text, Say("en", text))
		}
		Say("de", text)
	})
}
