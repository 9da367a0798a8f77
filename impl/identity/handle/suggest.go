package handle

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Hints are what somebody who wants a handle told about themselves.
type Hints struct {
	Mailbox string // the part of an email address before the "@", "" for none
	Year    int    // of birth, 0 for one that is not to be part of a name
}

// A Suggestion is a handle that somebody may like instead of another.
type Suggestion struct {
	Handle syntax.Handle
	Method string // how it was found, for statistics
}

// MaxSuggestions is how many suggestions there are for one handle at most.
const MaxSuggestions = 14

// numbers are how many digits the numbers have that are put after a name: where the short
// ones are taken, the long ones are not.
var numbers = []int{2, 2, 3, 3, 4, 4, 4, 5, 5, 6}

// Suggest returns handles under the domain of wanted, which is under one, the best first. The rules
// let people have each of them; whether somebody has it already is not known here. Names that are
// reserved or inappropriate lend nothing to others: the server itself names no "support42". It fails only if
// random does, of which the same bytes make the same suggestions.
func (r *Rules) Suggest(d *Domains, wanted syntax.Handle, about Hints, random io.Reader) ([]Suggestion, error) {
	var draws [10][8]byte
	for i := range draws {
		if _, err := io.ReadFull(random, draws[i][:]); err != nil {
			return nil, fmt.Errorf("suggest handles: %w", err)
		}
	}
	wanted = wanted.Normalize()
	domain := d.Of(wanted)
	var made []Suggestion
	add := func(name, method string) {
		h := syntax.Handle(name + "." + domain)
		known := h == wanted || slices.ContainsFunc(made, func(s Suggestion) bool { return s.Handle == h })
		if _, err := r.Check(d, h.String(), false); err == nil && !known {
			made = append(made, Suggestion{h, method})
		}
	}
	mailbox, _, _ := strings.Cut(about.Mailbox, "+")
	mailbox = stem(mailbox)
	add(mailbox, "email")
	add(strings.ReplaceAll(mailbox, "-", ""), "email")

	name := stem(strings.TrimSuffix(wanted.String(), "."+domain))
	if !r.lends(name, domain) {
		name = mailbox
	}
	if !r.lends(name, domain) {
		return made, nil
	}
	if about.Year > 0 {
		year := strconv.Itoa(about.Year)
		add(numbered(name, year[max(0, len(year)-2):]), "birth-year")
		add(numbered(name, year), "birth-year")
	}
	for i, digits := range numbers {
		least := power(digits - 1)
		number := least + binary.BigEndian.Uint64(draws[i][:])%(9*least)
		add(numbered(name, strconv.FormatUint(number, 10)), "number")
	}
	return made, nil
}

// lends reports whether a name may be part of others.
func (r *Rules) lends(name, domain string) bool {
	return name != "" && !r.reserved(name) && !r.inappropriate(syntax.Handle(name+"."+domain))
}

// stem is text as a label: what cannot be in one is a hyphen, where it stands between others.
func stem(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(c rune) bool {
		return !('a' <= c && c <= 'z' || '0' <= c && c <= '9')
	})
	return strings.Join(words, "-")
}

// numbered puts a number after a name, which loses its end where there is no room for both.
func numbered(name, number string) string {
	name = strings.TrimRight(name[:min(len(name), maxLabel-len(number))], "-")
	if last := name[len(name)-1]; '0' <= last && last <= '9' {
		name = strings.TrimRight(name[:min(len(name), maxLabel-len(number)-1)], "-") + "-"
	}
	return name + number
}

func power(n int) uint64 {
	p := uint64(1)
	for range n {
		p *= 10
	}
	return p
}
