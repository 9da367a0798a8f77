package token

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// The headers of our own tokens, as sign writes them.
var ownHeaders = map[string]string{
	accessType:  ownHeader(accessType),
	refreshType: ownHeader(refreshType),
}

func ownHeader(typ string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"` + typ + `","alg":"HS256"}`))
}

// readOwn verifies a token that is laid out exactly as sign writes it, at a fifth of what parse costs: nearly every request
// carries one, and parse would be more than a tenth of getSession. It only ever accepts. Whatever it is not sure of goes to
// parse, which accepts the same tokens; FuzzVerify holds one against the other.
func (i *Issuer) readOwn(token, typ string, allowed Scopes, anyTime bool) (Claims, bool) {
	header, rest, _ := strings.Cut(token, ".")
	body, sig, _ := strings.Cut(rest, ".")
	if header != ownHeaders[typ] || len(token) > maxOwn || strings.ContainsAny(rest, "\r\n") {
		return Claims{}, false
	}
	// The signature comes before anything in the claims is believed, or even read.
	var room [512]byte
	signature, err := strict.AppendDecode(room[:0], []byte(sig))
	if err != nil || !i.signed(token[:len(header)+1+len(body)], signature) {
		return Claims{}, false
	}
	raw, err := strict.AppendDecode(room[:0], []byte(body))
	if err != nil {
		return Claims{}, false
	}
	text := cutter{rest: string(raw)}
	scope := Scope(text.next(`{"scope":"`, `","aud":"`))
	audience := text.next(``, `","sub":"`)
	subject := text.next(``, `",`)
	id := ""
	if strings.HasPrefix(text.rest, `"jti"`) {
		id = text.next(`"jti":"`, `",`)
	}
	issued, ok1 := digits(text.next(`"iat":`, `,`))
	expires, ok2 := digits(text.next(`"exp":`, `}`))
	if text.failed || text.rest != "" || !ok1 || !ok2 || !anyTime && expires <= i.Now().Unix() {
		return Claims{}, false
	}
	// None of what is accepted here has anything in it that JSON would escape.
	did, err := syntax.ParseDID(subject)
	if err != nil || !allowed.Has(scope) || audience != i.ServiceDID && !slices.Contains(i.audiences(), audience) || !strings.HasPrefix(audience, "did:") ||
		strings.ContainsFunc(id, notBase64) {
		return Claims{}, false
	}
	return Claims{
		DID:       did,
		Scope:     scope,
		ID:        id,
		IssuedAt:  time.Unix(issued, 0).UTC(),
		ExpiresAt: time.Unix(expires, 0).UTC(),
	}, true
}

var strict = base64.RawURLEncoding.Strict()

// signed reports whether signature is the one of text by HS256.
func (i *Issuer) signed(text string, signature []byte) bool {
	h, _ := i.hashes.Get().(*keyedHash)
	if h == nil {
		h = &keyedHash{Hash: hmac.New(sha256.New, i.Secret)}
	}
	defer i.hashes.Put(h)
	h.Reset()
	h.room = append(h.room[:0], text...)
	h.Write(h.room)
	h.room = h.Sum(h.room[:0])
	return hmac.Equal(signature, h.room)
}

// keyedHash is an HMAC that is used again, which spares it the work on the key, and room for
// what goes in and comes out.
type keyedHash struct {
	hash.Hash
	room []byte
}

// maxOwn bounds the room that is kept, in bytes; a longer token is left to parse.
const maxOwn = 2048

// cutter takes a text apart.
type cutter struct {
	rest   string
	failed bool
}

// next returns what stands between before, which must come first, and after, and goes on behind that.
func (c *cutter) next(before, after string) string {
	rest, ok1 := strings.CutPrefix(c.rest, before)
	between, rest, ok2 := strings.Cut(rest, after)
	c.rest, c.failed = rest, c.failed || !ok1 || !ok2
	return between
}

func notBase64(r rune) bool {
	return !('A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '+' || r == '/')
}

// digits reads a time of this age: exactly ten digits, without sign or leading zero.
func digits(s string) (int64, bool) {
	if len(s) != 10 || s[0] == '0' {
		return 0, false
	}
	var n int64
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
