package bsky

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	api "portico/api/bsky"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account/auth"
	"portico/impl/account/token"
)

// ActorPutPreferences stores the preferences of the caller, each as it was sent, in the
// place of those that it may set; or passes them on to another service than the app view.
func (s *Service) ActorPutPreferences(ctx context.Context, in *api.ActorPutPreferencesInput) error {
	c, caller := xrpc.CallFrom(ctx), auth.Caller(ctx)
	to, err := s.Proxy.Target(ctx, c, s.Proxy.AppView)
	if err != nil {
		return err
	}
	if to != s.Proxy.AppView {
		answer, err := s.Proxy.PassOn(ctx, c, to, caller.DID)
		if err != nil {
			return err
		}
		return answer
	}
	if err := s.Proxy.Permit(ctx, to, c.NSID); err != nil {
		return err
	}
	full := token.Full.Has(caller.Scope)
	given, err := givenPreferences(c.Sent(), full)
	if err != nil {
		return err
	}
	return s.DB.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.LockAccount(ctx, caller.DID)
		if errors.Is(err, db.ErrNotFound) {
			return auth.AccountNotFound()
		}
		if err != nil {
			return err
		}
		list := given
		if !full {
			texts, err := tx.Preferences(ctx, caller.DID)
			if err != nil {
				return err
			}
			if list, err = withDetails(texts, given); err != nil {
				return fmt.Errorf("read preferences of %s: %w", caller.DID, err)
			}
		}
		size := 0
		for _, text := range list {
			size += len(text)
		}
		if size > maxPreferences {
			return xrpc.InvalidRequest(fmt.Sprintf("Preferences are too large (maximum %d bytes, got %d)", maxPreferences, size))
		}
		return tx.PutPreferences(ctx, caller.DID, list)
	})
}

// givenPreferences are those of a body that the lexicon allows which are stored; its errors
// are answers.
func givenPreferences(body []byte, full bool) ([]json.RawMessage, error) {
	root, err := (*api.ActorPutPreferencesInput)(nil).Schema().Parse(body)
	if err != nil {
		return nil, fmt.Errorf("read preferences: %w", err)
	}
	var given []json.RawMessage
	var forbidden []string
	for item := range root.Member("preferences").Items() {
		kind := item.Member("$type").Text()
		if kind != "app.bsky" && !strings.HasPrefix(kind, "app.bsky.") {
			return nil, xrpc.InvalidRequest("Some preferences are not in the app.bsky namespace")
		}
		switch {
		case kind == declaredAge:
		case kind == personalDetails && !full:
			forbidden = append(forbidden, kind)
		default:
			// What is no UTF-8 is read as such elsewhere, too.
			given = append(given, bytes.ToValidUTF8(item.Raw(), []byte("\ufffd")))
		}
	}
	if len(forbidden) > 0 {
		return nil, xrpc.InvalidRequest("Do not have authorization to set preferences: " + strings.Join(forbidden, ", "))
	}
	return given, nil
}

// withDetails are the preferences given by a session that neither sees nor sets the
// personal details, behind those that there are.
func withDetails(texts, given []json.RawMessage) ([]json.RawMessage, error) {
	list, err := stored(texts)
	if err != nil {
		return nil, err
	}
	var kept []json.RawMessage
	for _, p := range list {
		if p.kind == personalDetails {
			kept = append(kept, p.text)
		}
	}
	return append(kept, given...), nil
}
