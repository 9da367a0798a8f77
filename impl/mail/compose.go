package mail

import (
	"embed"
	"fmt"
	html "html/template"
	"net/url"
	"regexp"
	"strings"
	text "text/template"
)

//go:embed templates
var files embed.FS

var (
	htmlPart = html.Must(html.ParseFS(files, "templates/letter.html.tmpl"))
	textPart = text.Must(text.ParseFS(files, "templates/letter.txt.tmpl"))
)

// content is what one letter says, in its order. All of it is plain text.
type content struct {
	Title   string
	Preview string // what lists of mails show beside the subject
	Lead    []string
	Code    string // "" for none
	Button  *button
	After   []string
	Small   []string // what to do when the letter was not expected
}

type button struct{ Text, URL string }

// page is what the templates see.
type page struct {
	content
	Service string
	Home    *url.URL
	Logo    *url.URL
	Color   html.CSS
}

var color = regexp.MustCompile(`^(#[0-9a-fA-F]{3,8}|[a-zA-Z]+|(rgb|hsl)a?\([0-9., %/a-z]+\))$`)

func (b Brand) compose(to, subject string, c content) Letter {
	p := page{content: c, Service: clean(b.ServiceName), Home: b.HomeURL, Logo: b.LogoURL, Color: "#067df7"}
	if color.MatchString(b.PrimaryColor) {
		// The template's own filter refuses colours in the form of functions.
		p.Color = html.CSS(b.PrimaryColor)
	}
	var h, t strings.Builder
	if err := htmlPart.Execute(&h, p); err != nil {
		panic(fmt.Sprintf("mail: compose %q: %v", subject, err)) // a template that no letter fits: the tests compose them all
	}
	if err := textPart.Execute(&t, p); err != nil {
		panic(fmt.Sprintf("mail: compose %q: %v", subject, err))
	}
	return Letter{To: to, Subject: subject, Text: t.String(), HTML: h.String()}
}
