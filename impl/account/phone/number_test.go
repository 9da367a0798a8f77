package phone

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		typed string
		want  Number // "" for none
	}{
		{"+15551234567", "+15551234567"},
		{"5551234567", "+15551234567"},
		{"(555) 123-4567", "+15551234567"},
		{" +1 (555) 123-4567 ", "+15551234567"},
		{"+1 [555] 123–4567", "+15551234567"}, // en dash
		{"\u202a+1\u00a0555\u00a0123\u20114567\u202c", "+15551234567"},
		{"+49 170 1234567", "+491701234567"},
		{"0612345678", "+10612345678"}, // ten digits are never a number of elsewhere
		{"+12", "+12"},
		{"+123456789012345", "+123456789012345"},

		{"", ""},
		{"+", ""},
		{"+1", ""},
		{"15551234567", ""}, // eleven digits do not say of where
		{"555123456", ""},
		{"+1234567890123456", ""},
		{"+05551234567", ""},
		{"++15551234567", ""},
		{"+1555123456x", ""},
		{"555.123.4567", ""},
		{"555\t123\t4567", ""},
		{"+1555123٤567", ""}, // a digit, but none of a number
		{"555123٤567", ""},
		{"+1555\x00123", ""},
		{strings.Repeat(" ", 1000), ""},
	} {
		got, err := Parse(tt.typed)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %q, %v; want %q", tt.typed, string(got), err, string(tt.want))
		}
	}
}

func TestNumbersAreNotPrinted(t *testing.T) {
	var b strings.Builder
	n := Number("+15551234567")
	fmt.Fprintf(&b, "%v %s %+v %#v %q %v", n, n, n, n, n, []Number{n})
	// Without the time, which can have any digits.
	log := slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	slog.New(log).Info("sent", "to", n)
	if strings.Contains(b.String(), "5551234") || strings.Count(b.String(), "67") != 7 {
		t.Errorf("printed %s", b.String())
	}
	if got := Number("").String(); got != "+…" {
		t.Errorf("of nothing: %s", got)
	}
}

func TestParseCode(t *testing.T) {
	for typed, want := range map[string]string{
		"123456": "123456", " 123 456 ": "123456", "123-456": "123456", "0000": "0000", "1234567890": "1234567890",
		"": "", "123": "", "12345678901": "", "12345a": "", "１２３４": "", "12 34\n": "",
	} {
		code, ok := parseCode(typed)
		if ok != (want != "") || ok && code != want {
			t.Errorf("parseCode(%q) = %q, %v", typed, code, ok)
		}
	}
}

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"+15551234567", "(555) 123-4567", "123 456", "+", "\u202a+1\u00a05\u202c", "\xff+12"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		n, err := Parse(typed)
		if err == nil {
			if !e164.MatchString(string(n)) {
				t.Errorf("%q is taken for %q", typed, string(n))
			}
			if again, err := Parse(string(n)); again != n || err != nil {
				t.Errorf("%q becomes %q when it is parsed again: %v", string(n), string(again), err)
			}
		}
		if code, ok := parseCode(typed); ok && (len(code) < 4 || len(code) > 10 || strings.Trim(code, "0123456789") != "") {
			t.Errorf("%q is taken for the code %q", typed, code)
		}
	})
}
