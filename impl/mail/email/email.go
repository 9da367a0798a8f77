// Package email decides which email addresses accounts may have.
//
// It looks at the text alone: whether a domain exists or a mailbox is read is found out by sending mail there.
package email

import (
	_ "embed"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

//go:embed disposable.txt
var disposableText string

// Domains is a set of domains in lower case. The zero value is empty.
type Domains map[string]struct{}

// Disposable returns the built-in list of domains that give mailboxes to anybody for minutes.
func Disposable() Domains { return ParseDomains(disposableText) }

// ParseDomains reads a list: one domain a line, empty lines and lines that begin with "#" aside.
func ParseDomains(text string) Domains {
	domains := make(Domains)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			domains[strings.ToLower(line)] = struct{}{}
		}
	}
	return domains
}

// Rules are one server's. They may be used concurrently; nothing may change them meanwhile.
type Rules struct {
	Disposable Domains // domains that are refused; their subdomains are not
}

// Supported reports whether an account may have this address: it is [Valid] and not at a disposable domain.
func (r *Rules) Supported(address string) bool {
	if !Valid(address) {
		return false
	}
	_, domain, _ := strings.Cut(Normalize(address), "@")
	_, disposable := r.Disposable[domain]
	return !disposable
}

// Normalize returns the form in which addresses are stored and compared: in lower case, otherwise as they are.
func Normalize(address string) string { return ToLower(address) }

// Valid reports whether address is one mailbox at one domain, written without quotes, comments, blanks or an address in brackets.
// Letters of any script may be part of it. Ours because net/mail also takes quotes, comments and names.
func Valid(address string) bool {
	if !utf8.ValidString(address) || utf8.RuneCountInString(address) > 254 {
		return false
	}
	local, domain, ok := strings.Cut(address, "@")
	return ok && validLocal(local) && validDomain(domain)
}

func validLocal(local string) bool {
	if len(local) > 64 {
		return false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, notInAtom) {
			return false
		}
	}
	return true
}

func notInAtom(r rune) bool {
	if r < utf8.RuneSelf {
		return !isAlphanumeric(r) && !strings.ContainsRune("_!#$%&'*+-/=?^`{|}~", r)
	}
	// Marks and signs of other scripts, but nothing that does not show: addresses that look alike should be alike.
	return !unicode.IsGraphic(r) || unicode.IsSpace(r)
}

func validDomain(domain string) bool {
	labels := strings.Split(domain, ".")
	if len(labels) < 2 || len(domain) > 253 {
		return false
	}
	for _, label := range labels {
		if !validLabel(label) {
			return false
		}
	}
	first, _ := utf8.DecodeRuneInString(labels[len(labels)-1])
	return unicode.IsLetter(first)
}

func validLabel(label string) bool {
	runes := []rune(label)
	if len(runes) == 0 || runes[0] == '-' || runes[len(runes)-1] == '-' || slices.ContainsFunc(runes, notInLabel) {
		return false
	}
	// The limit counts what DNS gets to see.
	ascii, err := idna.Punycode.ToASCII(label)
	return err == nil && len(ascii) <= 63
}

func notInLabel(r rune) bool {
	if r < utf8.RuneSelf {
		return !isAlphanumeric(r) && r != '-'
	}
	return !unicode.In(r, unicode.L, unicode.M, unicode.N)
}

func isAlphanumeric(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}
