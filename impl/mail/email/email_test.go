package email

import (
	"strings"
	"testing"
)

func TestSupported(t *testing.T) {
	r := &Rules{Disposable: Disposable()}
	b50 := strings.Repeat("b", 50) + "."
	for address, want := range map[string]bool{
		"a@b.co":                    true,
		"A.b+c@Example.COM":         true,
		"a_b@c.de":                  true,
		"A!#$%&'*+/=?^`{|}~-_@c.de": true,
		"a@b.c":                     true,
		"a@b.c1":                    true,
		"a@0x1.de":                  true,
		"ä@c.de":                    true,
		"日本@c.de":                   true,
		"a@bücher.de":               true,
		"a@xn--bcher-kva.de":        true,
		"a@b.日本":                    true,

		"":                 false,
		"a":                false,
		"a@":               false,
		"@c.de":            false,
		"a@b":              false,
		"a@@c.de":          false,
		"a@c@d.de":         false,
		"a..b@c.de":        false,
		".a@c.de":          false,
		"a.@c.de":          false,
		"a b@c.de":         false,
		" a@c.de":          false,
		"a@c.de ":          false,
		"a@c.de\n":         false,
		"a\x00@c.de":       false,
		"a\u200b@c.de":     false,
		"a\u00a0@c.de":     false,
		"a\xff@c.de":       false,
		"a@b\u200b.de":     false,
		`"a b"@c.de`:       false,
		"a(b)@c.de":        false,
		"a,b@c.de":         false,
		"a@[1.2.3.4]":      false,
		"a@1.2.3.4":        false,
		"a@b.1c":           false,
		"a@b.co.":          false,
		"a@b..co":          false,
		"a@-b.co":          false,
		"a@b-.co":          false,
		"a@b_c.de":         false,
		"a@b.com/":         false,
		"a@b.com:80":       false,
		"a@b%41.com":       false,
		"Bob <bob@c.de>":   false,
		"a@c.de\r\nBcc: x": false,

		strings.Repeat("a", 64) + "@c.de":              true,
		strings.Repeat("a", 65) + "@c.de":              false,
		strings.Repeat("ä", 32) + "@c.de":              true,
		strings.Repeat("ä", 33) + "@c.de":              false,
		"a@" + strings.Repeat("b", 63) + ".de":         true,
		"a@" + strings.Repeat("b", 64) + ".de":         false,
		"a@" + strings.Repeat(b50, 4) + b50[5:] + "de": true,  // 252
		"a@" + strings.Repeat(b50, 4) + b50[2:] + "de": false, // 255

		"a@mailinator.com":     false,
		"a@MAILINATOR.com":     false,
		"a@disposeamail.com":   false,
		"a@sub.mailinator.com": true,
	} {
		if got := r.Supported(address); got != want {
			t.Errorf("%q: %v", address, got)
		}
	}
}

func TestDisposable(t *testing.T) {
	if n := len(Disposable()); n < 200 {
		t.Errorf("%d domains", n)
	}
	for domain := range Disposable() {
		if !Valid("a@"+domain) || domain != strings.ToLower(domain) {
			t.Errorf("%q can never match", domain)
		}
	}
	own := &Rules{Disposable: ParseDomains("# mine\n\n Spam.Example.com \n")}
	if own.Supported("a@spam.example.com") || !own.Supported("a@mailinator.com") || !(&Rules{}).Supported("a@mailinator.com") {
		t.Error("an operator's own list does not replace the built-in one")
	}
}

func TestNormalize(t *testing.T) {
	if got := Normalize("Al.Ice+X@Example.COM"); got != "al.ice+x@example.com" {
		t.Error(got)
	}
}

func FuzzSupported(f *testing.F) {
	r := &Rules{Disposable: Disposable()}
	for _, address := range []string{"a@b.co", "ä@bücher.de", "\"a\"@b.c", "a@xn--zzz.de", "İ@İ.com", "a@b.\u0301co"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if !r.Supported(address) {
			return
		}
		if strings.Count(address, "@") != 1 || strings.ContainsAny(address, " \t\r\n\x00\"<>,;:\\()[]") {
			t.Errorf("%q", address)
		}
		if lower := Normalize(address); Normalize(lower) != lower {
			t.Errorf("%q is %q and then %q", address, lower, Normalize(lower))
		}
	})
}

// DESIGN §10, case: lower case is JavaScript's. What is wanted here is what String's
// toLowerCase returns.
func TestDesignLowerCaseIsJavaScripts(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"Alice@Example.COM", "alice@example.com"},
		{"\u0130stanbul@example.com", "i\u0307stanbul@example.com"},
		{"\u0130\u0130", "i\u0307i\u0307"},
		{"I\u0131@x", "i\u0131@x"},
		{"\u212aelvin", "kelvin"},
		{"\u1e9e\u00c4\u01c5", "\u00df\u00e4\u01c6"},
		{"\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3@x", "\u03bf\u03b4\u03c5\u03c3\u03c3\u03b5\u03c5\u03c2@x"},
		{"\u03a3", "\u03c3"},
		{"a\u03a3", "a\u03c2"},
		{"a\u03a3b", "a\u03c3b"},
		{"a\u03a3.b", "a\u03c3.b"},
		{"a\u0387\u03a3", "a\u0387\u03c2"},
		{"a\u03a3.", "a\u03c2."},
		{"1\u03a3", "1\u03c3"},
		{"a\u0301\u03a3\u0301", "a\u0301\u03c2\u0301"},
		{"", ""},
	} {
		if got := ToLower(tt.text); got != tt.want {
			t.Errorf("%+q: %+q, want %+q", tt.text, got, tt.want)
		}
	}
}

func FuzzToLower(f *testing.F) {
	f.Add("\u0130a\u03a3.")
	f.Add(strings.Repeat("\u03a3.", 100))
	f.Fuzz(func(t *testing.T, text string) {
		got := ToLower(text)
		if ToLower(got) != got {
			t.Errorf("%+q is %+q and then %+q", text, got, ToLower(got))
		}
		if len(got) > 3*len(text) { // an invalid byte becomes U+FFFD
			t.Errorf("%d bytes of %d", len(got), len(text))
		}
	})
}
