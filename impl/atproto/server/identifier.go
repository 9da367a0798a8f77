package server

import (
	"cmp"
	"context"
	"strings"
	"unicode"

	"portico/db"
	"portico/impl/mail/email"
)

// accountNamed returns the account that somebody who signs in names, nil for none: the
// one that the text names as it was typed or else, where that is none, without what
// copying and pasting left around it.
func (s *Service) accountNamed(ctx context.Context, typed string) (*db.Account, error) {
	exact, err := s.findAccount(ctx, email.ToLower(typed))
	cleaned := cleanIdentifier(typed)
	if err != nil || cleaned == typed {
		return exact, err
	}
	// Where the first one was found too: how much is looked for depends on the text
	// alone, and tells nothing of who is here.
	found, err := s.findAccount(ctx, email.ToLower(cleaned))
	return cmp.Or(exact, found), err
}

// cleanIdentifier removes at both ends of what was typed or pasted what does not show,
// and before it the one @ that handles are written with. What is inside stays.
func cleanIdentifier(typed string) string {
	t, _ := strings.CutPrefix(strings.TrimFunc(typed, invisible), "@")
	return strings.TrimLeftFunc(t, invisible)
}

// invisible are blanks, and the marks that say how text is joined and in which direction
// it runs.
func invisible(r rune) bool {
	return unicode.IsSpace(r) || 0x200B <= r && r <= 0x200F || 0x202A <= r && r <= 0x202E || 0x2060 <= r && r <= 0x2069 || r == 0xFEFF
}
