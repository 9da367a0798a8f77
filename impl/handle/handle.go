// Package handle decides which handles people may have on this server.
//
// It is pure: it knows syntax, this server's domains, reserved names and bad language, and nothing of the network or of who
// has which handle already. A refusal is an [*Error] with the name and message that clients of the reference know.
package handle

import (
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Error is a reason to refuse a handle, in the words that a client gets with status 400.
type Error struct{ Name, Message string }

func (e *Error) Error() string { return e.Name + ": " + e.Message }

// Syntax errors, from [Normalize].
var (
	ErrCharacters  = &Error{"InvalidHandle", "Disallowed characters in handle (ASCII letters, digits, dashes, periods only)"}
	ErrLength      = &Error{"InvalidHandle", "Handle is too long (253 chars max)"}
	ErrOneLabel    = &Error{"InvalidHandle", "Handle domain needs at least two parts"}
	ErrEmptyLabel  = &Error{"InvalidHandle", "Handle parts can not be empty"}
	ErrLabelLength = &Error{"InvalidHandle", "Handle part too long (max 63 chars)"}
	ErrHyphen      = &Error{"InvalidHandle", "Handle parts can not start or end with hyphens"}
	ErrTLDStart    = &Error{"InvalidHandle", "Handle final component (TLD) must start with ASCII letter"}
)

// Policy errors, from [Rules.Check], in the order of its checks.
var (
	ErrTLD           = &Error{"InvalidHandle", "Handle TLD is invalid or disallowed"}
	ErrInappropriate = &Error{"InvalidHandle", "Inappropriate language in handle"}
	ErrDot           = &Error{"InvalidHandle", "Invalid characters in handle"}
	ErrTooShort      = &Error{"InvalidHandle", "Handle too short"}
	ErrTooLong       = &Error{"InvalidHandle", "Handle too long"}
	ErrReserved      = &Error{"HandleNotAvailable", "Reserved handle"}
)

// Errors about handles outside this server's domains. Check leaves these to its caller, who knows whose handle it is to be.
var (
	// ErrUnsupportedDomain: such a handle needs a DID that it can point to already.
	ErrUnsupportedDomain = &Error{"UnsupportedDomain", "Not a supported handle domain"}
	// ErrUnresolved: the handle does not point to its owner's DID.
	ErrUnresolved = &Error{"InvalidRequest", "External handle did not resolve to DID"}
)

// Lengths of the part of a handle before this server's domain.
const (
	minLabel = 3
	maxLabel = 18
)

// Normalize returns text in lower case if it has the syntax of a handle, otherwise one of the syntax errors.
func Normalize(text string) (syntax.Handle, error) {
	for _, c := range []byte(text) {
		if !isLetter(c) && !('0' <= c && c <= '9') && c != '-' && c != '.' {
			return "", ErrCharacters
		}
	}
	if len(text) > 253 {
		return "", ErrLength
	}
	labels := strings.Split(text, ".")
	if len(labels) < 2 {
		return "", ErrOneLabel
	}
	for i, label := range labels {
		switch {
		case label == "":
			return "", ErrEmptyLabel
		case len(label) > 63:
			return "", ErrLabelLength
		case label[0] == '-' || label[len(label)-1] == '-':
			return "", ErrHyphen
		case i == len(labels)-1 && !isLetter(label[0]):
			return "", ErrTLDStart
		}
	}
	return syntax.Handle(strings.ToLower(text)), nil
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// Rules are one server's. They may be used concurrently; nothing may change them meanwhile.
type Rules struct {
	// Domains are those under which this server gives handles away, in lower case, each with its leading dot.
	Domains []string
	// Reserved are the names that nobody gets there; see [Reserved].
	Reserved Names
	// Inappropriate says whether a handle in lower case must not be; nil stands for [Inappropriate].
	Inappropriate func(handle string) bool
}

// Check applies the rules to a handle that somebody wants, and returns it in lower case. An administrator may give away
// reserved and inappropriate names. local tells whether the handle is under one of this server's domains; one that is not must
// still be shown to point to its owner's DID. The error is a syntax error or a policy error.
func (r *Rules) Check(text string, admin bool) (h syntax.Handle, local bool, err error) {
	h, err = Normalize(text)
	if err != nil {
		return "", false, err
	}
	if !h.AllowedTLD() {
		return "", false, ErrTLD
	}
	inappropriate := r.Inappropriate
	if inappropriate == nil {
		inappropriate = Inappropriate
	}
	if !admin && inappropriate(h.String()) {
		return "", false, ErrInappropriate
	}
	name, local := r.local(h)
	if !local {
		return h, false, nil
	}
	switch {
	case strings.Contains(name, "."):
		return "", true, ErrDot
	case len(name) < minLabel:
		return "", true, ErrTooShort
	case len(name) > maxLabel:
		return "", true, ErrTooLong
	case !admin && r.Reserved.Has(name):
		return "", true, ErrReserved
	}
	return h, true, nil
}

// Local reports whether h is under one of this server's domains, so that nobody else can say whose it is.
func (r *Rules) Local(h syntax.Handle) bool {
	_, ok := r.local(h.Normalize())
	return ok
}

// Ours reports whether h is under one of this server's domains or is one itself, so that there is nobody else to ask about it.
func (r *Rules) Ours(h syntax.Handle) bool {
	h = h.Normalize()
	return r.Local(h) || slices.Contains(r.Domains, "."+h.String())
}

func (r *Rules) local(h syntax.Handle) (name string, ok bool) {
	for _, domain := range r.Domains {
		if name, ok := strings.CutSuffix(h.String(), domain); ok {
			return name, true
		}
	}
	return "", false
}
