package mail

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// KindMessage is a letter that moderators wrote.
const KindMessage = "moderator_message"

// DefaultSubject is that of a message whose writer gave none.
const DefaultSubject = "Message via your PDS"

// Message is a letter that moderators wrote: content is HTML, and is sent as it is.
// It goes out under the moderators' address, see Letter.Moderation.
func Message(to, subject, content string) Letter {
	if strings.TrimSpace(clean(subject)) == "" {
		subject = DefaultSubject
	}
	return Letter{To: to, Subject: subject, Text: PlainText(content), HTML: content, Moderation: true}
}

// PlainText is what a reader of HTML sees, more or less: lines where paragraphs
// and the like begin, the addresses of links in brackets, nothing of styles and
// scripts. There is no HTML that it cannot read. Ours because it is one loop over what
// x/net/html reads: a module would be that loop with other decisions.
func PlainText(content string) string {
	var b strings.Builder
	tokens := html.NewTokenizer(strings.NewReader(content))
	hidden := 0
	var links []string
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return tidy(b.String())
		case html.TextToken:
			if hidden == 0 {
				b.WriteString(squeezed(string(tokens.Text())))
			}
		case html.StartTagToken:
			t := tokens.Token()
			switch t.DataAtom {
			case atom.Style, atom.Script, atom.Title:
				hidden++
			case atom.A:
				links = append(links, reference(t))
			}
			b.WriteString(lineBefore(t.DataAtom))
		case html.SelfClosingTagToken:
			b.WriteString(lineBefore(tokens.Token().DataAtom))
		case html.EndTagToken:
			t := tokens.Token()
			switch t.DataAtom {
			case atom.Style, atom.Script, atom.Title:
				hidden = max(hidden-1, 0)
			case atom.A:
				if n := len(links); n > 0 {
					if links[n-1] != "" {
						b.WriteString(" [" + links[n-1] + "]")
					}
					links = links[:n-1]
				}
			}
			b.WriteString(lineBefore(t.DataAtom))
		}
	}
}

// squeezed is s with one space for every run of blanks.
func squeezed(s string) string {
	var b strings.Builder
	blank := false
	for _, r := range s {
		switch r {
		case ' ', '\n', '\t', '\r', '\f':
			if !blank {
				b.WriteByte(' ')
			}
			blank = true
		default:
			b.WriteRune(r)
			blank = false
		}
	}
	return b.String()
}

func reference(t html.Token) string {
	for _, a := range t.Attr {
		if a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
			return clean(a.Val)
		}
	}
	return ""
}

// lineBefore is what stands between an element and what is before it.
func lineBefore(a atom.Atom) string {
	switch a {
	case atom.P, atom.Div, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Table, atom.Ul, atom.Ol,
		atom.Blockquote, atom.Pre, atom.Hr:
		return "\n\n"
	case atom.Br, atom.Tr, atom.Li:
		return "\n"
	}
	return ""
}

// tidy takes blanks off the ends of lines, and lines beyond one that are empty.
func tidy(s string) string {
	var b strings.Builder
	empty := true // the line before, or there is none
	for line := range strings.SplitSeq(s, "\n") {
		line = strings.TrimSpace(line)
		if line == "" && empty {
			continue
		}
		empty = line == ""
		b.WriteString(line + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
