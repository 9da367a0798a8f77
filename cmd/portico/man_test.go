package main

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v3"
)

// The manual page has every command that help shows, with its flags, and none that it hides.
func TestManualHasEveryCommand(t *testing.T) {
	var page bytes.Buffer
	root := newCommand(nil, &page, io.Discard)
	if err := root.Run(t.Context(), []string{"portico", "man"}); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	var look func(path string, c *cli.Command)
	look = func(path string, c *cli.Command) {
		path += " " + c.Name
		if shown := strings.Contains(text, ".SS \""+roff(path)); shown == c.Hidden {
			t.Errorf("%s is shown: %v", path, shown)
		}
		if c.Hidden {
			return
		}
		for _, f := range c.Flags {
			if v := f.(cli.VisibleFlag); v.IsVisible() && !strings.Contains(text, roff("--"+f.Names()[0])) {
				t.Errorf("%s has no --%s", path, f.Names()[0])
			}
		}
		for _, sub := range c.Commands {
			if sub.Name != "help" {
				look(path, sub)
			}
		}
	}
	for _, c := range root.Commands {
		if c.Name != "help" {
			look("portico", c)
		}
	}
	requests := map[string]bool{".TH": true, ".SH": true, ".SS": true, ".TP": true, ".PP": true, ".B": true, ".I": true, ".RI": true, ".nf": true, ".fi": true}
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !requests[name] {
			t.Errorf("a line of text is taken for a request: %s", line)
		}
	}
}

func TestTextOfManual(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`.env is a file`, `\&.env is a file`},
		{`'a\b' --flag`, `\(aqa\eb\(aq \-\-flag`},
		{"one\ntwo\n\nthree\n", "one\ntwo\n.PP\nthree"},
		{"as in\n\n  .portico serve\n\n  again\nand on", "as in\n.PP\n.PP\n.nf\n  .portico serve\n\\&\n  again\n.fi\nand on"},
	} {
		var b strings.Builder
		root := &cli.Command{Name: "x", Usage: "y", Description: tt.text}
		if err := writeManual(&b, root); err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(b.String(), ".SH DESCRIPTION\n")
		got, _, _ = strings.Cut(got, "\n.SH COMMANDS")
		if got != tt.want {
			t.Errorf("%q becomes\n%s\nnot\n%s", tt.text, got, tt.want)
		}
	}
}
