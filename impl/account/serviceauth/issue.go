package serviceauth

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Lifetime is how long a token is valid when its bearer did not ask for a time.
const Lifetime = time.Minute

// Request is what a token is to say.
type Request struct {
	Issuer   syntax.DID // the account
	Audience string     // the service that the token is for: a DID, perhaps with a service's fragment
	Method   string     // the only method that it may be used for; empty: any
	IssuedAt time.Time
	Expires  int64 // unix seconds, as asked for
}

// Issue returns a token signed with the account's signing key. random gives the token its id. It returns an error only when
// random or the key fails.
func Issue(r Request, key atcrypto.PrivateKey, random io.Reader) (string, error) {
	var id [16]byte
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return "", fmt.Errorf("make service token id: %w", err)
	}
	pub, err := key.PublicKey()
	if err != nil {
		return "", fmt.Errorf("sign service token: %w", err)
	}
	// Fields in wire order. The encoder leaves "&" in a fragment alone, as other implementations do.
	var claims bytes.Buffer
	enc := json.NewEncoder(&claims)
	enc.SetEscapeHTML(false)
	err = enc.Encode(struct {
		IssuedAt int64      `json:"iat"`
		Issuer   syntax.DID `json:"iss"`
		Audience string     `json:"aud"`
		Expires  int64      `json:"exp"`
		Method   string     `json:"lxm,omitempty"`
		ID       string     `json:"jti"`
	}{r.IssuedAt.Unix(), r.Issuer, r.Audience, r.Expires, r.Method, hex.EncodeToString(id[:])})
	if err != nil {
		return "", fmt.Errorf("encode service token: %w", err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"typ":"JWT","alg":"`+algorithm(pub)+`"}`)) + "." + b64(bytes.TrimSuffix(claims.Bytes(), []byte("\n")))
	sig, err := key.HashAndSign([]byte(text))
	if err != nil {
		return "", fmt.Errorf("sign service token: %w", err)
	}
	return text + "." + b64(sig), nil
}

// algorithm is the JOSE name of a key's signatures, or "" for a key of no known kind.
func algorithm(key atcrypto.PublicKey) string {
	switch key.(type) {
	case *atcrypto.PublicKeyK256:
		return "ES256K"
	case *atcrypto.PublicKeyP256:
		return "ES256"
	}
	return ""
}

var (
	plcPattern      = regexp.MustCompile(`^did:plc:[a-z2-7]{24}$`)
	webPattern      = regexp.MustCompile(`^did:web:([a-zA-Z0-9._-]+)$`)
	localPattern    = regexp.MustCompile(`^did:web:localhost(?:%3A([0-9]*))?$`)
	fragmentPattern = regexp.MustCompile(`^(?:[a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})+$`)
	numberPattern   = regexp.MustCompile(`(?:^|\.)[0-9]+\.?$`)
)

// ValidAudience reports whether aud names a service: a did:plc, or a did:web of a host without path or port (localhost may have
// one), optionally with "#" and the URI fragment of one of its services.
func ValidAudience(aud string) bool {
	did, fragment, found := strings.Cut(aud, "#")
	if found && !fragmentPattern.MatchString(fragment) {
		return false
	}
	if plcPattern.MatchString(did) {
		return true
	}
	if m := localPattern.FindStringSubmatch(did); m != nil {
		if m[1] == "" {
			return true
		}
		port, err := strconv.Atoi(m[1])
		return err == nil && port <= 65535
	}
	m := webPattern.FindStringSubmatch(did)
	if m == nil {
		return false
	}
	// URLs read a host that ends in a number as an IPv4 address.
	if numberPattern.MatchString(m[1]) {
		_, err := netip.ParseAddr(m[1])
		return err == nil
	}
	return true
}
