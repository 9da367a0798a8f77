package serviceauth

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/golang-jwt/jwt/v5"

	"portico/impl/account/jws"
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
	method := jws.MethodOf(key)
	if method == nil {
		return "", fmt.Errorf("sign service token: no method for keys of type %T", key)
	}
	return jws.Sign(jwt.NewWithClaims(method, &claims{
		Issued:   jwt.NewNumericDate(r.IssuedAt),
		Issuer:   r.Issuer.String(),
		Audience: r.Audience,
		Expires:  jwt.NewNumericDate(time.Unix(r.Expires, 0)),
		Method:   r.Method,
		ID:       hex.EncodeToString(id[:]),
	}), key)
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
