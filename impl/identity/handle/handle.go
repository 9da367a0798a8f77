// Package handle decides which handles people may have on this server.
//
// It is pure: it knows syntax, this server's domains, reserved names and bad language, and nothing of the network or of who
// has which handle already. A refusal is an [*Error] with the name and message that clients of the reference know.
package handle

import (
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

// Errors about handles that this server does not give. But for closed domains Check leaves these to its caller, who knows whose
// handle it is to be.
var (
	// ErrUnsupportedDomain: such a handle needs a DID that it can point to already, or its domain is closed.
	ErrUnsupportedDomain = &Error{"UnsupportedDomain", "Not a supported handle domain"}
	// ErrUninvited: the handle is under a domain that is for who was invited.
	ErrUninvited = &Error{"UnsupportedDomain", "Handles under this domain are for accounts that signed up with an invite code"}
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
	// Reserved returns the names that nobody gets under this server's domains at the moment, see [Reserved]; nil: there are none.
	Reserved func() Names
	// Inappropriate says whether a handle in lower case must not be; nil stands for [Inappropriate].
	Inappropriate func(handle string) bool
}

// Choice is a handle that the rules let somebody have.
type Choice struct {
	Handle syntax.Handle // in lower case
	// Domain is the domain of this server that the handle is under, or is; "" when it is none's.
	Domain string
	// Local says that this server says whose the handle is. One that is not must still be shown to point to its owner's DID.
	Local bool
}

// Check applies the rules to a handle that somebody wants. An administrator may give away reserved and inappropriate names,
// those under closed domains, and those of the server itself. The error is a syntax error or a policy error, or
// ErrUnsupportedDomain for a closed domain; then the choice is what it would be if that were open.
func (r *Rules) Check(d *Domains, text string, admin bool) (Choice, error) {
	h, err := Normalize(text)
	if err != nil {
		return Choice{}, err
	}
	if !h.AllowedTLD() {
		return Choice{}, ErrTLD
	}
	if !admin && r.inappropriate(h) {
		return Choice{}, ErrInappropriate
	}
	if admin && d.Root(h.String()) {
		return d.rootChoice(h), nil
	}
	domain, _, local := d.over(h.String())
	if !local {
		return Choice{Handle: h}, nil
	}
	name := strings.TrimSuffix(h.String(), "."+domain.Name)
	choice := Choice{Handle: h, Domain: domain.Name, Local: true}
	switch {
	case domain.Policy == Closed && !admin:
		return choice, ErrUnsupportedDomain
	case strings.Contains(name, "."):
		return Choice{}, ErrDot
	case len(name) < minLabel:
		return Choice{}, ErrTooShort
	case len(name) > maxLabel:
		return Choice{}, ErrTooLong
	case !admin && (r.reserved(name) || d.Root(h.String())):
		return Choice{}, ErrReserved
	}
	return choice, nil
}

// Ordinary returns ErrReserved or ErrInappropriate for a name that only an administrator gives away, which is under closed domains
// what it is elsewhere. For other names that Check lets an administrator have it returns nil.
func (r *Rules) Ordinary(d *Domains, c Choice) error {
	domain, _, _ := d.over(c.Handle.String())
	switch {
	case r.inappropriate(c.Handle):
		return ErrInappropriate
	case d.Root(c.Handle.String()), r.reserved(strings.TrimSuffix(c.Handle.String(), "."+domain.Name)):
		return ErrReserved
	}
	return nil
}

func (r *Rules) reserved(name string) bool { return r.Reserved != nil && r.Reserved().Has(name) }

func (r *Rules) inappropriate(h syntax.Handle) bool {
	if r.Inappropriate != nil {
		return r.Inappropriate(h.String())
	}
	return Inappropriate(h.String())
}

// rootChoice is the server itself as a handle.
func (d *Domains) rootChoice(h syntax.Handle) Choice {
	c := Choice{Handle: h, Local: true}
	if domain, ok := d.Named(h.String()); ok {
		c.Domain = domain.Name
	} else if domain, _, ok := d.over(h.String()); ok {
		c.Domain = domain.Name
	}
	return c
}
