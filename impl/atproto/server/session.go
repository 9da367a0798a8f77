package server

import (
	"context"
	"encoding/json"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// How an account is shown in the answers that carry a session.

// shownHandle is the account's handle, or the protocol's word for none.
func shownHandle(a *db.Account) syntax.Handle {
	if a.Handle == "" {
		return syntax.HandleInvalid
	}
	return a.Handle
}

func shownEmail(a *db.Account) *string {
	if a.Email == "" {
		return nil
	}
	return new(a.Email)
}

func shownStatus(a *db.Account) *string {
	if a.Active() {
		return nil
	}
	return new(a.Status())
}

// sessionDocument is the DID document of an answer with a session, where the
// operator wants one there. A document that cannot be had is left out: the
// session does not depend on it. Nobody is asked about an account that is held.
func (s *Service) sessionDocument(ctx context.Context, a *db.Account) json.RawMessage {
	if !s.Config().DocumentInSessions {
		return nil
	}
	doc, err := s.Accounts.Document(ctx, a, false, s.Resolve)
	if err != nil {
		s.Log.DebugContext(ctx, "session without DID document", "did", a.DID, "error", err)
		return nil
	}
	return doc.JSON
}
