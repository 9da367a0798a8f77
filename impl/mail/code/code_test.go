package code

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for random, want := range map[string]string{
		"00443214c74254": "ABCDE-FGHIJ",
		"ffffffffffffff": "77777-77777",
		"00000000000000": "AAAAA-AAAAA",
	} {
		b, _ := hex.DecodeString(random)
		if got, err := New(bytes.NewReader(b)); err != nil || got != want || !Valid(got) {
			t.Errorf("%s: got %s, %v", random, got, err)
		}
	}
	if _, err := New(strings.NewReader("short")); err == nil {
		t.Error("made one from too little randomness")
	}
}

func TestNormalize(t *testing.T) {
	for _, tt := range []struct {
		typed, want string
		valid       bool
	}{
		{"ABCDE-23456", "ABCDE-23456", true},
		{" abcde-23456\r\n", "ABCDE-23456", true},
		{"\u00a0AbCdE-23456\u2003", "ABCDE-23456", true},
		// DESIGN §10: everything but letters and digits is dropped.
		{"ABCDE23456", "ABCDE-23456", true},
		{"ABCDE 23456", "ABCDE-23456", true},
		{"ABCDE\u201323456.", "ABCDE-23456", true},
		{"\u202aabcde\u2011 23456\u202c", "ABCDE-23456", true},
		{"A-B-C-D-E-2-3-4-5-6", "ABCDE-23456", true},
		{"ABCD-E23456", "ABCDE-23456", true},
		{"ABCDE-1890!", "ABCDE1890", false},
		{"ABCDE-234567", "ABCDE234567", false},
		{"ABCDE-2345\u0663", "ABCDE2345\u0663", false},
		{"\uff21\uff22\uff23\uff24\uff25-23456", "\uff21\uff22\uff23\uff24\uff2523456", false},
		{"...", "", false},
		{"", "", false},
	} {
		got := Normalize(tt.typed)
		if got != tt.want || Valid(got) != tt.valid {
			t.Errorf("%q: got %q, valid %v", tt.typed, got, Valid(got))
		}
	}
}

func FuzzNormalize(f *testing.F) {
	f.Add(" abcde-23456 ")
	f.Add("ıſabc-23456")
	f.Fuzz(func(t *testing.T, typed string) {
		got := Normalize(typed)
		if Normalize(got) != got && Valid(got) {
			t.Errorf("%q is %q and then %q", typed, got, Normalize(got))
		}
	})
}
