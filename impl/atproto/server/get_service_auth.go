package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	api "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/serviceauth"
	"portico/impl/account/token"
)

// moveAway is the method of another server to which an account takes its token
// when it moves there.
const moveAway = "com.atproto.server.createAccount"

// GetServiceAuth gives the caller a token, signed with the account's own key, by
// which another service knows it. An account that was taken down gets the one for
// moving away and none besides.
func (s *Service) GetServiceAuth(ctx context.Context, p *api.GetServiceAuthParams) (*api.GetServiceAuthOutput, error) {
	caller, lxm, now := auth.Caller(ctx), xrpc.ValueOf(p.Lxm).String(), s.Now()
	if err := auth.PermitCall(ctx, cmp.Or(lxm, "*"), p.Aud); err != nil {
		return nil, err
	}
	switch {
	case !serviceauth.ValidAudience(p.Aud):
		return nil, xrpc.InvalidRequest("aud must be a valid atproto DID or did#serviceId reference")
	case caller.Scope == token.Takendown && lxm != moveAway:
		return nil, xrpc.InvalidToken("Bad token scope")
	case caller.Account.TakenDown() && lxm != moveAway:
		return nil, errAccountTakedown.New(http.StatusUnauthorized, "Account has been taken down")
	}
	if err := s.checkMethod(caller, lxm); err != nil {
		return nil, err
	}
	expires := now.Add(serviceauth.Lifetime).Unix()
	if p.Exp != nil {
		// Zero is no time to be checked, but what the token then says: a token
		// that is of no use, which clients ask for all the same.
		expires = *p.Exp
		if err := checkExpiration(expires, now, lxm); expires != 0 && err != nil {
			return nil, err
		}
	}
	if serviceauth.Protected(lxm) {
		return nil, xrpc.InvalidRequest("cannot request a service auth token for the following protected method: " + lxm)
	}
	key, err := s.Accounts.SigningKey(ctx, caller.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, auth.AccountNotFound()
	}
	if err != nil {
		return nil, err
	}
	text, err := serviceauth.Issue(serviceauth.Request{
		Issuer: caller.DID, Audience: p.Aud, Method: lxm, IssuedAt: now, Expires: expires,
	}, key, s.Rand)
	if err != nil {
		return nil, err
	}
	return &api.GetServiceAuthOutput{Token: text}, nil
}

// checkMethod refuses an app what it could go beyond itself with: a token for a
// privileged method, for one of moderators, or for any method where that would be one
// of theirs.
func (s *Service) checkMethod(caller auth.Principal, lxm string) error {
	switch {
	case caller.ByApp() && serviceauth.Administrative(lxm), caller.Scope == token.AppPass && serviceauth.Privileged(lxm):
		return xrpc.InvalidRequest("insufficient access to request a service auth token for the following method: " + lxm)
	case caller.ByApp() && lxm == "" && caller.DID == s.Config().ModService:
		return xrpc.InvalidRequest("insufficient access to request a service auth token without a method")
	}
	return nil
}

// checkExpiration limits how long a service token may live: one that is good for
// every method, a minute.
func checkExpiration(unix int64, now time.Time, lxm string) error {
	bad := func(message string) error {
		return api.ErrGetServiceAuthBadExpiration.New(http.StatusBadRequest, message)
	}
	switch left := time.Unix(unix, 0).Sub(now); {
	case left < 0:
		return bad("expiration is in past")
	case left > time.Hour:
		return bad("cannot request a token with an expiration more than an hour in the future")
	case lxm == "" && left > time.Minute:
		return bad("cannot request a method-less token with an expiration more than a minute in the future")
	}
	return nil
}
