package mail

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlainText(t *testing.T) {
	for _, tt := range []struct{ content, want string }{
		{"", "\n"},
		{"Hello", "Hello\n"},
		{"Hello &amp; <b>good</b>\n  bye", "Hello & good bye\n"},
		{"<p>One</p><p>Two<br>Three</p>", "One\n\nTwo\nThree\n"},
		{`See <a href="https://example.com/rules">our rules</a>.`, "See our rules [https://example.com/rules].\n"},
		{`<a href="#top">top</a> <a>none</a></a>`, "top none\n"},
		{"<style>p{color:red}</style><script>alert(1)</script>Text", "Text\n"},
		{"<ul><li>one<li>two</ul>after", "one\ntwo\n\nafter\n"},
		{"a < b", "a < b\n"},
		{"<!-- hidden -->seen</p", "seen\n"},
	} {
		if got := PlainText(tt.content); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.content, got, tt.want)
		}
	}
}

func TestMessage(t *testing.T) {
	l := Message("bob@example.com", "", "<p>Hello</p>")
	if l.To != "bob@example.com" || l.Subject != "Message via your PDS" || l.Text != "Hello\n" || l.HTML != "<p>Hello</p>" || !l.Moderation {
		t.Errorf("got %#v", l)
	}
	if l := Message("bob@example.com", "Your post", "x"); l.Subject != "Your post" {
		t.Errorf("got %q", l.Subject)
	}
}

func FuzzPlainText(f *testing.F) {
	f.Add("<p>One</p><a href='x'>y</a><style>")
	f.Add("<<<>>>&#0;</a></style>")
	f.Fuzz(func(t *testing.T, content string) {
		got := PlainText(content)
		if !strings.HasSuffix(got, "\n") {
			t.Errorf("%q ends without a line", got)
		}
		if utf8.ValidString(content) && !utf8.ValidString(got) {
			t.Errorf("%q is no text", got)
		}
	})
}
