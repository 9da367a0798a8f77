package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/token"
)

// Anybody lets anybody call. Whoever asks is told from others only where that decides
// whether an account is there for them, see [Sees]: then access tokens with one of the
// scopes, those of apps and the admin password are looked at. Credentials that do not hold are as good as
// none, and those of a request about an account that everybody may know cost nothing.
func (g *Gate) Anybody(scopes token.Scopes, apps Apps) xrpc.Authenticator {
	return &anybody{owner: session{gate: g, scopes: scopes, apps: apps}, operator: admin{gate: g}}
}

type anybody struct {
	owner    session
	operator admin
}

func (a *anybody) String() string {
	return "public; what is in quarantine: " + a.owner.String() + " or admin"
}

func (a *anybody) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	if len(c.Request.Header["Authorization"]) == 0 {
		return ctx, nil
	}
	return context.WithValue(ctx, presentedKey, &presented{policy: a, call: c}), nil
}

// presented are credentials that nobody may ever look at.
type presented struct {
	policy *anybody
	call   *xrpc.Call

	known bool
	who   reading
	err   error // of the database
}

// reading is whose credentials they are.
func (p *presented) reading(ctx context.Context) (reading, error) {
	if !p.known {
		p.who, p.err = p.policy.reading(ctx, p.call)
		p.known = true
	}
	return p.who, p.err
}

func (a *anybody) reading(ctx context.Context, c *xrpc.Call) (reading, error) {
	kind, text, err := credential(c)
	if err != nil {
		return reading{}, nil
	}
	var who reading
	switch kind {
	case basic:
		err = a.operator.verify(ctx, c, text)
		who.operator = err == nil
	case bearer, proving:
		if kind == proving && !a.owner.apps.open {
			return reading{}, nil
		}
		var p Principal
		p, err = a.owner.verify(ctx, c, kind, text)
		who.did = p.DID
	}
	if err == nil {
		return who, nil
	}
	if _, refused := errors.AsType[*xrpc.Error](err); refused {
		return reading{}, nil
	}
	return reading{}, err
}

// Sees reports whether an account is there for the caller: one that is held in quarantine
// is there for its own sessions and for the operator, and for nobody else. Where the policy
// of the method knows neither of them, it is there for nobody. An error is the database's.
func Sees(ctx context.Context, a *db.Account) (bool, error) {
	if !a.Held() {
		return true, nil
	}
	return sees(ctx, a)
}

// sees asks who the caller is.
func sees(ctx context.Context, a *db.Account) (bool, error) {
	who, ok := ctx.Value(readingKey).(reading)
	if p, later := ctx.Value(presentedKey).(*presented); later {
		var err error
		if who, err = p.reading(ctx); err != nil {
			return false, err
		}
	} else if caller, signedIn := SignedIn(ctx); signedIn && !ok {
		who.did = caller.DID
	}
	if a == nil || !who.operator && who.did != a.DID {
		return false, nil
	}
	if c := xrpc.CallFrom(ctx); c != nil {
		c.Private()
	}
	return true, nil
}

// Seen is what a look-up of an account, which returned a and err, is to be for the caller:
// db.ErrNotFound where the account is not there for them, see [Sees]. Whether it is not
// there at all makes no difference, not even in time.
func Seen(ctx context.Context, a *db.Account, err error) (*db.Account, error) {
	if err != nil && !errors.Is(err, db.ErrNotFound) || err == nil && !a.Held() {
		return a, err
	}
	if err != nil {
		a = nil
	}
	seen, lost := sees(ctx, a)
	switch {
	case lost != nil:
		return nil, lost
	case err == nil && !seen:
		return nil, fmt.Errorf("look for account: %w", db.ErrNotFound)
	}
	return a, err
}

// errQuarantined is the name for what an account in quarantine may not do.
var errQuarantined = xrpc.Undeclared("AccountQuarantined")

// Quarantined answers an account in quarantine that wants what would leave it.
func Quarantined() error {
	return errQuarantined.New(http.StatusForbidden,
		"Account is in quarantine until its email address is confirmed, or the operator approves it where this server asks for that")
}
