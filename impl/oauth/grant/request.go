package grant

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/budget"
	"portico/impl/oauth/scope"
)

const (
	uriPrefix   = "urn:ietf:params:oauth:request_uri:req-"
	uriSize     = 16
	codePrefix  = "cod-"
	codeSize    = 32
	maxPushed   = 16 << 10 // bytes of a request
	maxClientID = 2048     // bytes

	// opensWithin is how long a browser that is sent here may take to open its request: one that
	// was pushed as lately makes way for no other.
	opensWithin = 5 * time.Second
)

// Push keeps a request, which payer pays for, for [RequestLasts], and returns its URI. A payer that
// has [MaxRequests] loses the oldest that nobody opened within seconds: an app with a server pushes those of
// all its users from one address, and who never opens what they asked for is not to shut
// out the others. When there are too many of all payers together, who has the most loses one. It returns ErrMany where
// there is none to lose, and an [*Error] for one that is too long.
func (g *Grants) Push(ctx context.Context, payer budget.Payer, r Request) (uri string, err error) {
	parameters, err := json.Marshal(r.Parameters)
	if err != nil {
		return "", fmt.Errorf("push authorization request: %w", err)
	}
	known := r.ClientID + r.ClientKey + r.DPoPKey
	if len(parameters)+len(known) > maxPushed || len(r.ClientID) > maxClientID || !utf8.ValidString(known) || strings.Contains(known, "\x00") {
		return "", &Error{"invalid_request", "Authorization request is too long"}
	}
	uri, err = g.secret(uriPrefix, uriSize)
	if err != nil {
		return "", err
	}
	now := g.Now()
	row := db.OAuthRequest{
		ID: g.mac("request", uri), Payer: g.Budgets.Hash(payer), ClientID: r.ClientID, ClientKey: r.ClientKey, DPoPKey: r.DPoPKey,
		Parameters: string(parameters), CreatedAt: now, ExpiresAt: now.Add(RequestLasts),
	}
	pays := row.Payer != nil
	if !pays {
		row.Payer = []byte{}
	}
	err = g.DB.Write(ctx, func(tx *db.Tx) error {
		live, all, err := tx.CountOAuthRequests(ctx, row.Payer, now)
		if err != nil {
			return err
		}
		switch {
		case pays && live >= MaxRequests:
			err = tx.DropOAuthRequestOf(ctx, row.Payer, now.Add(-opensWithin))
		case all >= maxRequests:
			err = tx.DropOAuthRequest(ctx, live)
		}
		if errors.Is(err, db.ErrNotFound) {
			return ErrMany
		}
		if err != nil {
			return err
		}
		return tx.InsertOAuthRequest(ctx, row)
	})
	if err != nil {
		return "", fmt.Errorf("push authorization request: %w", err)
	}
	return uri, nil
}

func requestOf(row *db.OAuthRequest) (*Request, error) {
	r := &Request{ClientID: row.ClientID, ClientKey: row.ClientKey, DPoPKey: row.DPoPKey, ExpiresAt: row.ExpiresAt, id: row.ID}
	if err := json.Unmarshal([]byte(row.Parameters), &r.Parameters); err != nil {
		return nil, fmt.Errorf("parameters of authorization request: %w", err)
	}
	return r, nil
}

// denied is an Error of a request that gets no other answer.
func denied(description string) error { return &Error{"access_denied", description} }

// stand is why browser may not answer a request at now, or nil. Where nobody opened it yet
// it may.
func stand(row *db.OAuthRequest, browser []byte, now time.Time) error {
	switch {
	case row.Browser != nil && !bytes.Equal(row.Browser, browser):
		return denied("This request was initiated from another device")
	case row.AnsweredAt != nil && row.DID == "":
		return denied(rejected)
	case row.AnsweredAt != nil:
		return denied(authorized)
	case !row.ExpiresAt.After(now):
		return denied("This request has expired")
	}
	return nil
}

// Open returns a request for a browser, which is the only one that may answer it from then on:
// the first that opens it. It returns an [*Error] where the client may be told, with the request: it has
// expired, was pushed by another client, is open in another browser or was answered; none of
// that changes anything, and nor does it when the same browser opens it again. Else it returns ErrUnknown.
func (g *Grants) Open(ctx context.Context, uri, clientID string, browser []byte) (*Request, error) {
	if !made(uri, uriPrefix, uriSize) {
		return nil, ErrUnknown
	}
	id, opener := g.mac("request", uri), g.mac("browser", string(browser))
	// Twice, since somebody else may open it meanwhile.
	for range 2 {
		row, err := g.DB.OAuthRequest(ctx, id)
		if errors.Is(err, db.ErrNotFound) {
			return nil, ErrUnknown
		}
		if err != nil {
			return nil, fmt.Errorf("open authorization request: %w", err)
		}
		r, err := requestOf(row)
		if err != nil {
			return nil, err
		}
		if row.ClientID != clientID {
			return r, denied("This request was initiated for another client")
		}
		if err := stand(row, opener, g.Now()); err != nil || row.Browser != nil {
			return r, err
		}
		err = g.DB.Write(ctx, func(tx *db.Tx) error { return tx.OpenOAuthRequest(ctx, id, opener) })
		if err == nil {
			return r, nil
		}
		if !errors.Is(err, db.ErrNotFound) {
			return nil, fmt.Errorf("open authorization request: %w", err)
		}
	}
	return nil, ErrUnknown
}

// An Answer is an owner's consent.
type Answer struct {
	DID            syntax.DID
	ProvedAt       time.Time // when they proved who they are
	Scope          string    // what they consent to, at most what was asked for
	Granted        string    // what that was, spelled out, when they saw it
	Remember       bool      // what was consented to, for the next time
	ClientName     string
	Address, Agent string
}

// Approve answers a request that browser opened, and returns the code for the client. It
// returns an [*Error] when it was answered or is over, when the scope lacks "atproto", and when the account is taken down
// or deactivated; ErrHeld when that is in quarantine; and ErrOver. None of that changes
// anything. Values of the scope that were not asked for are left out.
func (g *Grants) Approve(ctx context.Context, r *Request, browser []byte, a Answer) (code string, err error) {
	asked := strings.Fields(r.Scope)
	allowed := slices.DeleteFunc(strings.Fields(a.Scope), func(value string) bool { return !slices.Contains(asked, value) })
	if !slices.Contains(allowed, scope.ATProto) {
		return "", denied(`The "atproto" scope is required`)
	}
	code, err = g.secret(codePrefix, codeSize)
	if err != nil {
		return "", err
	}
	now, opener := g.Now(), g.mac("browser", string(browser))
	err = g.DB.Write(ctx, func(tx *db.Tx) error {
		account, err := tx.LockAccount(ctx, a.DID)
		switch {
		case errors.Is(err, db.ErrNotFound), err == nil && a.ProvedAt.Before(account.TokensValidFrom):
			return ErrOver
		case err != nil:
			return err
		case account.Held():
			return ErrHeld
		case account.TakenDown():
			return denied("This account has been taken down")
		case account.Deactivated():
			return denied("This account has been deactivated")
		}
		row, err := tx.OAuthRequest(ctx, r.id)
		if errors.Is(err, db.ErrNotFound) {
			return denied("This request has expired")
		}
		if err != nil {
			return err
		}
		if row.Browser == nil {
			return ErrUnknown // nobody opened it
		}
		if err := stand(row, opener, now); err != nil {
			return err
		}
		row.AnsweredAt = &now
		row.OAuthAnswer = db.OAuthAnswer{
			DID: a.DID, ProvedAt: a.ProvedAt, Scope: strings.Join(allowed, " "), Consented: a.Granted,
			Code: g.mac("code", code), CodeExpiresAt: now.Add(CodeLasts),
			ClientName: line(a.ClientName), Address: line(a.Address), Agent: line(a.Agent),
		}
		if row.CodeExpiresAt.After(row.ExpiresAt) {
			row.ExpiresAt = row.CodeExpiresAt
		}
		if err := tx.AnswerOAuthRequest(ctx, row); errors.Is(err, db.ErrNotFound) {
			return denied(authorized) // just now
		} else if err != nil {
			return err
		}
		if !a.Remember {
			return nil
		}
		return tx.SetOAuthConsent(ctx, db.OAuthConsent{
			DID: a.DID, ClientID: row.ClientID, Scope: row.Scope, Granted: a.Granted, UpdatedAt: now,
		}, maxConsents)
	})
	if err != nil {
		return "", fmt.Errorf("approve authorization request: %w", err)
	}
	return code, nil
}

// Reject answers a request that browser opened: nothing comes of it. One that was answered, is over,
// or is open elsewhere is no error.
func (g *Grants) Reject(ctx context.Context, r *Request, browser []byte) error {
	now, opener := g.Now(), g.mac("browser", string(browser))
	err := g.DB.Write(ctx, func(tx *db.Tx) error {
		err := tx.AnswerOAuthRequest(ctx, &db.OAuthRequest{ID: r.id, Browser: opener, ExpiresAt: r.ExpiresAt, AnsweredAt: &now})
		if errors.Is(err, db.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("reject authorization request: %w", err)
	}
	return nil
}

// Consented says whether the owner allowed the client all of this before: scope, and what it
// is spelled out.
func (g *Grants) Consented(ctx context.Context, did syntax.DID, clientID, asked, granted string) (bool, error) {
	c, err := g.DB.OAuthConsent(ctx, did, clientID)
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	allowed := strings.Fields(c.Scope)
	for _, value := range strings.Fields(asked) {
		if !slices.Contains(allowed, value) {
			return false, nil
		}
	}
	return scope.Parse(c.Granted).Covers(scope.Parse(granted)), nil
}
