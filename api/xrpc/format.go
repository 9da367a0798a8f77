package xrpc

import (
	"strings"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// format is a string format of the lexicon language. what is its name in issues.
// Every string that valid accepts is accepted by UnmarshalText of the syntax type
// that generated structs have for it, but for URIs.
type format struct {
	what  string
	valid func(string) bool
}

// parses takes what parse takes. Those that plain takes as well are not shown to parse, whose
// regular expressions are most of what it costs to check a body: plain knows how such a string
// is usually written, and takes no other.
func parses[T any](parse func(string) (T, error), plain func(string) bool) func(string) bool {
	return func(s string) bool {
		if plain(s) {
			return true
		}
		_, err := parse(s)
		return err == nil
	}
}

func never(string) bool { return false }

var (
	formatDID          = &format{"DID", parses(syntax.ParseDID, plainDID)}
	formatHandle       = &format{"handle", parses(syntax.ParseHandle, plainHandle)}
	formatAtIdentifier = &format{"AT identifier", parses(syntax.ParseAtIdentifier, plainAtIdentifier)}
	formatNSID         = &format{"NSID", parses(syntax.ParseNSID, plainNSID)}
	formatATURI        = &format{"at-uri", parses(syntax.ParseATURI, plainATURI)}
	formatURI          = &format{"uri", validURI}
	formatCID          = &format{"CID string", validCID}
	formatDatetime     = &format{"datetime", validDatetime}
	formatTID          = &format{"TID string", parses(syntax.ParseTID, plainTID)}
	formatRecordKey    = &format{"record key", parses(syntax.ParseRecordKey, plainRecordKey)}
	formatLanguage     = &format{"language", parses(syntax.ParseLanguage, never)}
)

// validDatetime is syntax.ParseDatetime without the comma that it lets stand for
// the decimal point, and without time zones of a whole day.
func validDatetime(s string) bool {
	if plainDatetime(s) {
		return true
	}
	_, err := syntax.ParseDatetime(s)
	return err == nil && strings.IndexByte(s, ',') < 0 && (s[len(s)-1] == 'Z' || s[len(s)-5:len(s)-3] != "24")
}

// validCID takes the one way in which a CID is written, which syntax.ParseCID does
// not look for.
func validCID(s string) bool {
	if plainCID(s) {
		return true
	}
	if _, err := syntax.ParseCID(s); err != nil {
		return false
	}
	var link atdata.CIDLink
	err := link.UnmarshalJSON([]byte(`{"$link":"` + s + `"}`)) // nothing is left to escape
	return err == nil && link.String() == s
}

// validURI takes what the reference takes: a scheme, and behind it anything without white
// space. People link to addresses in their own language, which syntax.ParseURI refuses.
func validURI(s string) bool {
	scheme, rest, found := strings.Cut(s, ":")
	if !found || scheme == "" || strings.ContainsFunc(scheme, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r|0x20 < 'a' || r|0x20 > 'z')
	}) {
		return false
	}
	rest = strings.TrimPrefix(rest, "//")
	return rest != "" && rest[0] != '/' && !strings.ContainsFunc(rest, isSpace)
}

// isSpace reports whether r is white space to a regular expression of JavaScript.
func isSpace(r rune) bool {
	return r == '\ufeff' || r != '\u0085' && unicode.IsSpace(r)
}

// FormatDID wants a DID.
func FormatDID(s *Schema) { s.format = formatDID }

// FormatHandle wants a handle.
func FormatHandle(s *Schema) { s.format = formatHandle }

// FormatAtIdentifier wants a DID or a handle.
func FormatAtIdentifier(s *Schema) { s.format = formatAtIdentifier }

// FormatNSID wants an NSID.
func FormatNSID(s *Schema) { s.format = formatNSID }

// FormatATURI wants an at:// URI.
func FormatATURI(s *Schema) { s.format = formatATURI }

// FormatURI wants a scheme, a colon, and something without white space behind it. It is wider
// than what [syntax.ParseURI] takes, which encoding/json would decode.
func FormatURI(s *Schema) { s.format = formatURI }

// FormatCID wants a CID as a string: version 1 in base32, or version 0.
func FormatCID(s *Schema) { s.format = formatCID }

// FormatDatetime wants an RFC 3339 date and time with seconds and a time zone.
func FormatDatetime(s *Schema) { s.format = formatDatetime }

// FormatTID wants a timestamp identifier.
func FormatTID(s *Schema) { s.format = formatTID }

// FormatRecordKey wants a record key.
func FormatRecordKey(s *Schema) { s.format = formatRecordKey }

// FormatLanguage wants a BCP 47 language tag.
func FormatLanguage(s *Schema) { s.format = formatLanguage }
