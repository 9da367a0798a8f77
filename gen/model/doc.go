package model

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// paragraphs are a first sentence and the description from the lexicon.
func paragraphs(format string, description *string, args ...any) []string {
	first := format
	if len(args) > 0 {
		first = fmt.Sprintf(format, args...)
	}
	return append([]string{first}, prose(description)...)
}

// prose is a description as paragraphs of plain text. One that begins with
// "deprecated" is put in the form that Go's tools know.
func prose(description *string) []string {
	if description == nil {
		return nil
	}
	var all []string
	for block := range strings.SplitSeq(strings.ReplaceAll(*description, "\r\n", "\n"), "\n\n") {
		text := strings.Join(strings.FieldsFunc(block, func(r rune) bool {
			return unicode.IsSpace(r) || unicode.IsControl(r) || r == utf8.RuneError || r == '\ufeff'
		}), " ")
		if text != "" {
			all = append(all, text)
		}
	}
	if len(all) > 0 && len(all[0]) >= len("deprecated") && strings.EqualFold(all[0][:len("deprecated")], "deprecated") {
		rest := strings.TrimLeft(all[0][len("deprecated"):], " :.,;-–—")
		if rest == "" {
			rest = "do not use."
		}
		all[0] = "Deprecated: " + rest
		all = append(all[1:], all[0])
	}
	return all
}
