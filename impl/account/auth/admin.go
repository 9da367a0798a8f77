package auth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/audit"
	"portico/impl/budget"
)

// Admin accepts the operator's password. Wrong ones are paid for by the caller's address
// alone, so that nobody keeps the operator out from elsewhere.
func (g *Gate) Admin() xrpc.Authenticator { return &admin{gate: g} }

type admin struct{ gate *Gate }

func (*admin) String() string { return "admin" }

func (a *admin) Authenticate(ctx context.Context, c *xrpc.Call) (context.Context, error) {
	c.Private()
	kind, text, err := credential(c)
	if err != nil || kind != basic {
		return nil, xrpc.AuthenticationRequired("Authentication Required")
	}
	if err := a.verify(ctx, c, text); err != nil {
		return nil, err
	}
	return acting(ctx, c, audit.Admin), nil
}

// verify returns nil when a text is name and password of the operator.
func (a *admin) verify(ctx context.Context, c *xrpc.Call, text string) error {
	err := a.gate.Budgets.Left(ctx, budget.WrongAdminPasswords, a.gate.Budgets.Caller(c.IP))
	if spent, ok := errors.AsType[*budget.Spent](err); ok {
		return xrpc.RateLimitExceeded(spent.Wait).Because(err)
	}
	if err != nil {
		return err
	}
	// The whole pair is compared, so that nothing tells a wrong name from a wrong
	// password.
	pair, err := base64.StdEncoding.DecodeString(text)
	if err == nil && subtle.ConstantTimeCompare(pair, []byte("admin:"+a.gate.AdminPassword())) == 1 {
		return nil
	}
	if err := a.countFailure(context.WithoutCancel(ctx), c); err != nil {
		return err
	}
	return xrpc.AuthenticationRequired("Authentication Required")
}

// countFailure takes a wrong password from what the caller's address has, and records it:
// in one entry for all of an address within an hour.
func (a *admin) countFailure(ctx context.Context, c *xrpc.Call) error {
	g := a.gate
	return g.DB.Write(ctx, func(tx *db.Tx) error {
		// In this order others from the address wait, and count into the same entry.
		if err := g.Budgets.CountIn(ctx, tx, budget.WrongAdminPasswords, g.Budgets.Caller(c.IP)); err != nil {
			return err
		}
		return audit.RecordAnother(acting(ctx, c, audit.Stranger), tx, g.Now(), audit.AdminSignInFailed, budget.WrongAdminPasswords.Window)
	})
}
