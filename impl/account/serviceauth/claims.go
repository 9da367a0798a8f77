package serviceauth

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"

	"portico/impl/account/jws"
)

// claims are those of a service token, in the order that they have on the wire. Of those that are decoded everything must be
// valid that can be found out without asking anybody: Validate holds them against demand.
type claims struct {
	Issued   *jwt.NumericDate `json:"iat"`
	Issuer   string           `json:"iss"`
	Audience string           `json:"aud"`
	Expires  *jwt.NumericDate `json:"exp"`
	Method   string           `json:"lxm,omitempty"`
	ID       string           `json:"jti"`

	hasMethod bool // lxm is there, whatever it says
	demand    demand
}

// demand is what a call asks of the token that it comes with.
type demand struct {
	method  string   // "" for any
	issuers []string // none for any
}

// UnmarshalJSON fails when a claim that is looked at is of the wrong type, or is missing and must not be.
func (c *claims) UnmarshalJSON(raw []byte) error {
	// A map, not the struct: encoding/json would take "ISS" for "iss".
	var said map[string]any
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	var iss, aud, exp, lxm, nonce bool
	var seconds float64
	c.Issuer, iss = said["iss"].(string)
	c.Audience, aud = said["aud"].(string)
	seconds, exp = said["exp"].(float64)
	c.Method, lxm = optional(said["lxm"])
	_, nonce = optional(said["nonce"])
	if !iss || !aud || !exp || !lxm || !nonce {
		return errors.New("a claim is missing, or of the wrong type")
	}
	c.Expires = jws.Date(seconds)
	_, c.hasMethod = said["lxm"]
	return nil
}

// optional reads a claim that must be a string unless it is something that means nothing in JavaScript.
func optional(claim any) (string, bool) {
	switch claim {
	case nil, false, 0.0:
		return "", true
	}
	s, ok := claim.(string)
	return s, ok
}

// Validate returns an [*Error].
func (c *claims) Validate() error {
	if want := c.demand.method; want != "" && c.Method != want {
		word := "missing"
		if c.hasMethod {
			word = "bad"
		}
		return &Error{Name: "BadJwtLexiconMethod", Message: word + ` jwt lexicon method ("lxm"). must match: ` + want}
	}
	did, fragment, found := strings.Cut(c.Issuer, "#")
	if _, err := syntax.ParseDID(did); err != nil || found && fragment == "" || strings.Contains(fragment, "#") {
		return &Error{Name: "BadJwtIss", Message: "jwt iss is not a valid did"}
	}
	if len(c.demand.issuers) > 0 && !slices.Contains(c.demand.issuers, c.Issuer) {
		return &Error{Name: "UntrustedIss", Message: "Untrusted issuer"}
	}
	return nil
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.Issued, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil } // not looked at
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return "", nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings{c.Audience}, nil }
