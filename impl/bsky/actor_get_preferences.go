package bsky

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

var errNotFound = xrpc.Undeclared("NotFound")

// ActorGetPreferences returns the preferences of the caller, or of the account that the
// moderation service asks about. Who is not signed in with the account's password is not
// told when its owner was born, but how old the owner is.
func (s *Service) ActorGetPreferences(ctx context.Context) (*api.ActorGetPreferencesOutput, error) {
	c := xrpc.CallFrom(ctx)
	did, full := syntax.DID(""), auth.Moderates(ctx)
	moderates := full
	if moderates {
		var err error
		if did, err = accountAsked(c); err != nil {
			return nil, err
		}
	} else {
		caller := auth.Caller(ctx)
		did, full = caller.DID, token.Full.Has(caller.Scope)
	}
	to, err := s.Proxy.Target(ctx, c, s.Proxy.AppView)
	switch {
	case err != nil:
		return nil, err
	case to == s.Proxy.AppView:
		if err := s.Proxy.Permit(ctx, to, c.NSID); err != nil {
			return nil, err
		}
		return nil, s.preferences(ctx, did, full)
	case moderates:
		return nil, xrpc.InvalidRequest("Moderator requests cannot be proxied to other app views")
	}
	// The one who may see what is here while the account is taken down gets nothing elsewhere
	// in its name.
	if err := auth.NotTakenDown.Verify(auth.Caller(ctx).Account); err != nil {
		return nil, err
	}
	answer, err := s.Proxy.Ask(ctx, c, to, did)
	if err != nil {
		return nil, err
	}
	return nil, answer.Response
}

// accountAsked is the parameter that no lexicon has: the account that a moderator wants to
// see.
func accountAsked(c *xrpc.Call) (syntax.DID, error) {
	all := c.Request.URL.Query()["did"]
	if len(all) == 1 {
		if did, err := syntax.ParseDID(all[0]); err == nil {
			return did, nil
		}
	}
	return "", xrpc.InvalidRequest("Invalid or missing did parameter")
}

// preferences answers with those of an account; full is everything.
func (s *Service) preferences(ctx context.Context, did syntax.DID, full bool) error {
	_, err := s.DB.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return errNotFound.New(http.StatusBadRequest, "Repo not found")
	}
	if err != nil {
		return err
	}
	texts, err := s.DB.Preferences(ctx, did)
	if err != nil {
		return err
	}
	list, err := stored(texts)
	if err != nil {
		return fmt.Errorf("read preferences of %s: %w", did, err)
	}
	if age, ok := ageOf(list, s.Now()); ok {
		list = append(list, preference{declaredAge, age})
	}
	out := []byte(`{"preferences":[`)
	first := len(out)
	for _, p := range list {
		if p.kind == personalDetails && !full {
			continue
		}
		if len(out) > first {
			out = append(out, ',')
		}
		out = append(out, p.text...)
	}
	return xrpc.JSON(append(out, `]}`...))
}
