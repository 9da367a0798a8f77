package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	lru "github.com/hashicorp/golang-lru/v2"

	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/serviceauth"
)

// A Token is what a service token says.
type Token struct {
	Audience syntax.DID
	Method   string
}

const (
	// freshFor is how long a token must be good for still, to be sent again.
	freshFor = 30 * time.Second
	// keptTokens is how many are kept, at some 700 bytes each.
	keptTokens = 10_000
)

// tokens are those that may be sent again. The zero value has none.
type tokens struct {
	once sync.Once
	kept *lru.Cache[tokenFor, kept]
}

type tokenFor struct {
	did syntax.DID
	Token
}

type kept struct {
	text    string
	key     *atcrypto.PrivateKeyK256 // that signed it
	expires time.Time
}

// held reports whether did is the caller's account, and in quarantine.
func held(ctx context.Context, did syntax.DID) bool {
	caller, ok := auth.SignedIn(ctx)
	return ok && did != "" && caller.DID == did && caller.Account != nil && caller.Account.Held()
}

// Permit returns the answer to an app that may not call all of the methods at a service. It is
// for what is answered here in the place of the service; what goes there is asked for anyway.
func (p *Proxy) Permit(ctx context.Context, to Service, methods ...string) error {
	for _, method := range methods {
		if err := auth.PermitCall(ctx, method, to.String()); err != nil {
			return err
		}
	}
	return nil
}

// token returns a token of did. Its key is asked for each time, so that nothing is sent in
// the name of an account that is deleted or has another key by now.
func (p *Proxy) token(ctx context.Context, did syntax.DID, of Token) (string, error) {
	key, err := p.Keys.SigningKey(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return "", auth.AccountNotFound()
	}
	if err != nil {
		return "", err
	}
	now, name := p.Now(), tokenFor{did, of}
	if p.ReuseTokens {
		p.tokens.once.Do(func() { p.tokens.kept, err = lru.New[tokenFor, kept](keptTokens) })
		if err != nil {
			return "", fmt.Errorf("keep service tokens: %w", err)
		}
		if k, ok := p.tokens.kept.Get(name); ok && k.key == key && k.expires.Sub(now) > freshFor {
			return k.text, nil
		}
	}
	expires := now.Add(serviceauth.Lifetime)
	text, err := serviceauth.Issue(serviceauth.Request{
		Issuer: did, Audience: of.Audience.String(), Method: of.Method, IssuedAt: now, Expires: expires.Unix(),
	}, key, p.Rand)
	if err != nil {
		return "", err
	}
	if p.ReuseTokens {
		p.tokens.kept.Add(name, kept{text, key, expires})
	}
	return text, nil
}
