package grant

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// Access tokens are JWTs as RFC 9068 has them, but without a scope: that is in the row of
// their id, so that what is taken away counts at once. They have one header and one algorithm, HS256,
// and nothing that a token says of itself decides how it is verified. So no library does.

// claims are those of an access token, in the order that they have on the wire.
type claims struct {
	ID       string       `json:"jti"`
	Subject  string       `json:"sub"`
	Issued   int64        `json:"iat"`
	Expires  int64        `json:"exp"`
	Audience string       `json:"aud"`
	Key      confirmation `json:"cnf"`
	ClientID string       `json:"client_id"`
	Issuer   string       `json:"iss"`
}

type confirmation struct {
	Thumbprint string `json:"jkt"`
}

var (
	strict = base64.RawURLEncoding.Strict()
	header = strict.EncodeToString([]byte(`{"typ":"at+jwt","alg":"HS256"}`))
)

// maxToken is more bytes than any access token has.
const maxToken = 16 << 10

func (g *Grants) signature(text string) []byte {
	h := hmac.New(sha256.New, g.Secret)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func (g *Grants) sign(c claims) (string, error) {
	body, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	text := header + "." + strict.EncodeToString(body)
	return text + "." + strict.EncodeToString(g.signature(text)), nil
}

// invalid is the Error of an access token that is not good.
func invalid(description string) error { return &Error{"invalid_token", description} }

// read returns the claims of a token that sign made, whether it is over or not. Else it
// returns an [*Error].
func (g *Grants) read(token string) (*claims, error) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return nil, invalid("Malformed token")
	}
	signed, err := strict.DecodeString(parts[2])
	if err != nil || parts[0] != header || !hmac.Equal(signed, g.signature(parts[0]+"."+parts[1])) {
		return nil, invalid(foreign(parts[0], parts[1]))
	}
	var c claims
	body, err := strict.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if err != nil {
		return nil, invalid("Malformed token") // which sign never makes
	}
	return &c, nil
}

// foreign says what is wrong with a token of somebody else.
func foreign(head, body string) string {
	object := func(part string) (o map[string]json.RawMessage) {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || json.Unmarshal(b, &o) != nil {
			return nil
		}
		return o
	}
	says := object(body)
	if object(head) == nil || says == nil {
		return "Malformed token"
	}
	if _, ok := says["iss"]; !ok {
		return `missing required "iss" claim` // such as a session token
	}
	return "signature verification failed"
}
