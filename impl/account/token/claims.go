package token

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"

	"portico/impl/account/jws"
)

// claims are those of a session token, in the order that they have on the wire. What is decoded into them must be valid too:
// of a scope among allowed and, unless anyTime, now.
type claims struct {
	Scope    Scope            `json:"scope"`
	Audience string           `json:"aud"` // "" when a list was decoded
	Subject  string           `json:"sub"`
	ID       string           `json:"jti,omitempty"`
	Issued   *jwt.NumericDate `json:"iat"`
	Expires  *jwt.NumericDate `json:"exp"`

	// What no token of ours says.
	audiences jwt.ClaimStrings
	notBefore *jwt.NumericDate
	foreign   bool // something that a session token never says

	allowed Scopes
	anyTime bool
}

// UnmarshalJSON fails when a time is no number. Whatever else is of the wrong type is as if it were missing, and Validate
// says so: such a token may have expired, which is answered first.
func (c *claims) UnmarshalJSON(raw []byte) error {
	// A map, not the struct: encoding/json would take "SUB" for "sub".
	var said map[string]any
	if err := json.Unmarshal(raw, &said); err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		date **jwt.NumericDate
	}{{"iat", &c.Issued}, {"nbf", &c.notBefore}, {"exp", &c.Expires}} {
		if v, ok := said[t.name]; ok {
			seconds, ok := v.(float64)
			if !ok {
				return fmt.Errorf("%s is no number", t.name)
			}
			*t.date = jws.Date(seconds)
		}
	}
	switch aud := said["aud"].(type) {
	case string:
		c.Audience, c.audiences = aud, jwt.ClaimStrings{aud}
	case []any:
		for _, v := range aud {
			if s, ok := v.(string); ok {
				c.audiences = append(c.audiences, s)
			}
		}
	}
	scope, _ := said["scope"].(string)
	c.Scope = Scope(scope)
	c.Subject, _ = said["sub"].(string)
	var text bool
	c.ID, text = said["jti"].(string)
	_, hasID := said["jti"]
	// A service token has lxm, a token bound to a client's key has cnf: neither is a session of ours.
	_, hasMethod := said["lxm"]
	_, hasKey := said["cnf"]
	c.foreign = hasID && !text || hasMethod || hasKey
	return nil
}

// Validate returns ErrMalformed or ErrScope.
func (c *claims) Validate() error {
	_, err := syntax.ParseDID(c.Subject)
	if err != nil || c.foreign || !strings.HasPrefix(c.Audience, "did:") {
		return ErrMalformed
	}
	if !c.allowed.Has(c.Scope) {
		return ErrScope
	}
	return nil
}

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) {
	if c.anyTime {
		return nil, nil
	}
	return c.Expires, nil
}

func (c *claims) GetNotBefore() (*jwt.NumericDate, error) {
	if c.anyTime {
		return nil, nil
	}
	return c.notBefore, nil
}

func (c *claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.Issued, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error) { return c.audiences, nil }
func (c *claims) GetIssuer() (string, error)             { return "", nil }
func (c *claims) GetSubject() (string, error)            { return c.Subject, nil }
