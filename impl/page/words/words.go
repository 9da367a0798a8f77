// Package words says what pages say in the languages that they know. What is written in the
// code and the templates is English, and is what the others are looked up by.
package words

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"golang.org/x/text/language"
)

// English is the language of what is written in the code.
const English = "en"

// Languages are those that there are.
var Languages = []string{English, "de"}

var matcher = sync.OnceValue(func() language.Matcher {
	var tags []language.Tag
	for _, l := range Languages {
		tags = append(tags, language.MustParse(l))
	}
	return language.NewMatcher(tags)
})

// maxWanted is how much is read of what languages somebody wants, in bytes.
const maxWanted = 500

// Choose is the language for somebody who wants one of these: each is a list as in
// Accept-Language, and the first that can be read counts.
func Choose(wanted ...string) string {
	for _, list := range wanted {
		if len(list) > maxWanted {
			continue
		}
		tags, _, err := language.ParseAcceptLanguage(list)
		if err != nil || len(tags) == 0 {
			continue
		}
		_, i, confidence := matcher().Match(tags...)
		if confidence > language.No {
			return Languages[i]
		}
	}
	return English
}

// Say is an English text in a language, with each %s in it replaced by one of args. What there is
// no other text for stays English. A text may also come with its places filled in.
func Say(in, english string, args ...any) string {
	if in != "de" {
		return fill(english, args)
	}
	if text, ok := german()[english]; ok {
		return fill(text, args)
	}
	if len(args) == 0 {
		for _, p := range filled() {
			if m := p.english.FindStringSubmatch(english); m != nil {
				var found []any
				for _, part := range m[1:] {
					found = append(found, part)
				}
				return fill(p.german, found)
			}
		}
	}
	return fill(english, args)
}

// fill replaces each %s of a text by what there is to put in its place.
func fill(text string, with []any) string {
	var b strings.Builder
	for _, arg := range with {
		before, after, ok := strings.Cut(text, "%s")
		if !ok {
			break
		}
		b.WriteString(before)
		b.WriteString(fmt.Sprint(arg))
		text = after
	}
	return b.String() + text
}

var german = sync.OnceValue(func() map[string]string {
	all := make(map[string]string, len(table))
	for _, row := range table {
		all[row.english] = row.german
	}
	return all
})

// A pattern knows a text that has its verbs filled in.
type pattern struct {
	english *regexp.Regexp
	german  string
}

var filled = sync.OnceValue(func() (all []pattern) {
	for _, row := range table {
		if strings.Contains(row.english, "%s") {
			quoted := strings.ReplaceAll(regexp.QuoteMeta(row.english), "%s", "(.{1,300})")
			all = append(all, pattern{regexp.MustCompile("^" + quoted + "$"), row.german})
		}
	}
	return all
})

// Known says whether an English text is in the table.
func Known(english string) bool { _, ok := german()[english]; return ok }
