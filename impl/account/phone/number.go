// Package phone proves, at sign-up, that somebody reads the text messages of a phone
// number.
//
// A [Provider] sends codes and knows them again: package phone/twilio speaks to one,
// and [Outbox] is that of a development server. [Verification] is what asks it: it
// holds how many accounts a number may have, and what text messages may cost. Nothing
// but a keyed hash of a number is kept.
package phone

import (
	"errors"
	"log/slog"
	"strings"
	"unicode"
)

// ErrInvalid says that a text is no phone number.
var ErrInvalid = errors.New("not a phone number")

// Number is a phone number as E.164 writes it: a plus sign and 2 to 15 digits, the
// first of them not 0. Printing or logging one shows its end alone.
type Number string

// Parse reads a number as people type it, or returns [ErrInvalid]. Spaces, dashes and
// brackets do not count; ten digits without a plus sign are a number of North America.
// Ours because which numbers there are is the provider's to say: a module would have the
// numbering plans of all countries for it, megabytes that age.
func Parse(typed string) (Number, error) {
	text := bare(typed)
	if len(text) == 10 && digits(text) {
		text = "+1" + text
	}
	rest, ok := strings.CutPrefix(text, "+")
	if !ok || len(rest) < 2 || len(rest) > 15 || rest[0] == '0' || !digits(rest) {
		return "", ErrInvalid
	}
	return Number(text), nil
}

// String is the end of the number.
func (n Number) String() string { return "+…" + string(n[max(0, len(n)-2):]) }

// GoString is the end of the number.
func (n Number) GoString() string { return n.String() }

// LogValue is the end of the number.
func (n Number) LogValue() slog.Value { return slog.StringValue(n.String()) }

// parseCode reads a code as people type it. ok is false when no provider can have
// sent it.
func parseCode(typed string) (code string, ok bool) {
	code = bare(typed)
	return code, 4 <= len(code) && len(code) <= 10 && digits(code)
}

// bare is s without what only makes numbers easier to read. That includes what phones
// and word processors put in the place of a space or a dash, and the marks of writing
// direction around a copied number.
func bare(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Zs, unicode.Pd, unicode.Ps, unicode.Pe, unicode.Bidi_Control) {
			return -1
		}
		return r
	}, s)
}

// digits reports whether s has nothing but the digits from 0 to 9.
func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}
