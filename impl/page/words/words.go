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

// Say is an English text in a language, with args for its verbs, which are all %s. What there
// is no other text for stays English. A text of no args may be one with something at the place of each %s.
func Say(in, english string, args ...any) string {
	text, ok := english, false
	if in == "de" {
		text, ok = german()[english]
	}
	if ok || in == English {
		if !ok {
			text = english
		}
		if len(args) > 0 {
			return fmt.Sprintf(text, args...)
		}
		return text
	}
	if len(args) > 0 {
		return fmt.Sprintf(english, args...)
	}
	if in == "de" {
		for _, p := range filled() {
			if m := p.english.FindStringSubmatch(english); m != nil {
				var found []any
				for _, part := range m[1:] {
					found = append(found, part)
				}
				return fmt.Sprintf(p.german, found...)
			}
		}
	}
	return english
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
