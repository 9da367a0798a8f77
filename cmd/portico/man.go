package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"
)

// manCommand is "portico man".
func manCommand(stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "man",
		Usage: "print what all commands say of themselves, as a manual page",
		Description: `Where the package of Debian is not installed, "man portico" finds it once it is there:

  portico man > /usr/local/share/man/man1/portico.1`,
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("man takes no arguments, not even %q", c.Args().First())
			}
			return writeManual(stdout, c.Root())
		},
	}
}

// writeManual writes the manual page of root, with all commands below it that help shows.
// Ours because urfave/cli-docs takes descriptions for Markdown, where lines that are
// indented or of a table run together, and brings a renderer of Markdown along.
func writeManual(w io.Writer, root *cli.Command) error {
	m := &manual{w: bufio.NewWriter(w)}
	m.line(`.TH %s 1 "" %s "User Commands"`, strings.ToUpper(root.Name), roffArgument(root.Name+" "+root.Version))
	m.line(".SH NAME")
	m.line(`%s \- %s`, roff(root.Name), roff(root.Usage))
	m.line(".SH SYNOPSIS")
	m.line(".B %s", roff(root.Name))
	m.line(".I COMMAND")
	m.line(".RI [ FLAGS ]")
	m.line(".RI [ ARGUMENTS ]")
	m.line(".SH DESCRIPTION")
	m.text(root.Description)
	m.line(".SH COMMANDS")
	for _, c := range root.VisibleCommands() {
		m.command(root.Name, c)
	}
	m.line(".SH FILES")
	for _, f := range []struct{ path, what string }{
		{"/etc/portico/portico.env", "The settings of the server, as its service and its package for Debian have them. It has secrets: keep a copy of it where nobody else reads it, for without it no backup is of use."},
		{"/var/lib/portico", "The database and the blobs."},
	} {
		m.line(".TP")
		m.line(".I %s", roff(f.path))
		m.text(f.what)
	}
	return m.w.Flush()
}

type manual struct{ w *bufio.Writer }

// line writes a line of roff. What goes wrong, the Flush at the end says.
func (m *manual) line(format string, args ...any) { fmt.Fprintf(m.w, format+"\n", args...) }

// command writes about c and the commands below it; path is what stands before its name.
func (m *manual) command(path string, c *cli.Command) {
	path += " " + c.Name
	title := path
	if c.ArgsUsage != "" {
		title += " " + c.ArgsUsage
	}
	m.line(".SS %s", roffArgument(title))
	usage := c.Usage
	if names := c.Names()[1:]; len(names) > 0 {
		usage += " (also: " + strings.Join(names, ", ") + ")"
	}
	m.text(usage)
	if c.Description != "" {
		m.line(".PP")
		m.text(c.Description)
	}
	for _, f := range c.Flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		name, about, _ := strings.Cut(f.String(), "\t")
		m.line(".TP")
		m.line(".B %s", roff(name))
		m.text(about)
	}
	for _, sub := range c.VisibleCommands() {
		if sub.Name != "help" {
			m.command(path, sub)
		}
	}
}

// text writes paragraphs as help shows them: an indented line stays a line of its own.
func (m *manual) text(text string) {
	verbatim := false
	for line := range strings.Lines(strings.TrimSpace(text)) {
		line = strings.TrimRight(line, " \n")
		if indented := strings.HasPrefix(line, " "); indented != verbatim && line != "" {
			m.line("%s", map[bool]string{true: ".PP\n.nf", false: ".fi"}[indented])
			verbatim = indented
		}
		switch {
		case line != "":
			m.line("%s", roff(line))
		case verbatim:
			m.line(`\&`)
		default:
			m.line(".PP")
		}
	}
	if verbatim {
		m.line(".fi")
	}
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`)

// roff is text as it stands in a line of roff, where it is no request whatever it begins with.
func roff(text string) string {
	text = roffEscapes.Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}

// roffArgument is text as one argument of a request.
func roffArgument(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }
