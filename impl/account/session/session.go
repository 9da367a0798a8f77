// Package session starts, continues and ends logins.
//
// A session is an access token, which lives two hours and is stored nowhere,
// and a refresh token, whose row decides how long the session lives. Rows are
// found by a keyed hash of the token's id, and the id of a token's successor is
// computed from its own: a copy of the database gives nobody a session, and a
// client that lost an answer gets the same successor when it asks again.
package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/adopted"
	"portico/impl/account/token"
	"portico/impl/audit"
	"portico/impl/budget"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// Grace is how long a refresh token works after its first use, so that a
// client's parallel tabs and lost answers do not end its session.
const Grace = 2 * time.Hour

// ErrRevoked says that a refresh token is unknown, ended or past its grace.
var ErrRevoked = errors.New("session is over")

// ErrTakenDown says that the account of a session is taken down.
var ErrTakenDown = errors.New("account is taken down")

// ErrStale says that the credential a session was to be started with has been
// replaced or revoked since it was checked.
var ErrStale = errors.New("credential is no longer valid")

// Tokens are what a client holds of a session.
type Tokens struct {
	Access, Refresh string
}

// Sessions issues the tokens of one server. It is safe for concurrent use.
type Sessions struct {
	DB      *db.DB
	Tokens  *token.Issuer
	Keys    *keyring.Ring
	Budgets *budget.Ledger
	Now     func() time.Time
	// Outbox and Brand are for letters to owners; without them there are none.
	Outbox *outbox.Outbox
	Brand  func() mail.Brand
}

// A Draft is a session whose row is still to be stored: the one thing of a
// sign-up or a login that must happen inside its transaction.
type Draft struct {
	Row    db.Session
	Tokens Tokens
}

// Draft makes a new session of account, as of now. app is the app password it was
// opened with, nil for the account password.
//
// Whoever issues tokens of an account that can be signed in to has locked it first, and
// takes their time before the lock is gone: what ends the tokens of an account ends
// those that were issued until then, and these must be among them.
func (s *Sessions) Draft(account *db.Account, app *db.AppPassword) (*Draft, error) {
	jti, err := s.Tokens.NewID()
	if err != nil {
		return nil, err
	}
	scope, name := token.Access, (*string)(nil)
	if app != nil {
		scope, name = token.ForAppPassword(app.Privileged), &app.Name
	}
	at := s.issueTime(account)
	return &Draft{Tokens: s.issue(account.DID, scope, jti, at), Row: db.Session{
		ID: s.Tokens.HashID(jti), DID: account.DID, AppPassword: name, CreatedAt: at, ExpiresAt: at.Add(token.RefreshLifetime),
	}}, nil
}

// Store stores the row of a draft, and where it is opened: by whom [OpenedBy] said, at the
// address that the context says. It returns db.ErrNotFound, or the transaction fails with it,
// when the account is gone.
func (s *Sessions) Store(ctx context.Context, tx *db.Tx, d *Draft) error {
	if err := tx.InsertSession(ctx, d.Row); err != nil {
		return err
	}
	agent, _ := ctx.Value(agentKey{}).(string)
	return tx.InsertSessionOrigin(ctx, db.SessionOrigin{
		DID: d.Row.DID, Family: d.Row.ID, OpenedAt: d.Row.CreatedAt, Address: audit.From(ctx).Address, Agent: agent,
	})
}

type agentKey struct{}

// maxAgent is how much is kept of what clients call themselves, in bytes.
const maxAgent = 300

// OpenedBy says that sessions which are opened in ctx are opened by a client that calls itself
// agent, for their owner to tell them apart.
func OpenedBy(ctx context.Context, agent string) context.Context {
	agent = strings.ReplaceAll(strings.ToValidUTF8(agent, ""), "\x00", "")
	for len(agent) > maxAgent {
		agent = strings.ToValidUTF8(agent[:maxAgent], "")
	}
	return context.WithValue(ctx, agentKey{}, agent)
}

// Start opens a session of account with the account password, or with app when
// it is not nil. It returns ErrStale when the password of account or app itself
// was changed or revoked, or the account taken down, after they were read: a reset
// that races with a login wins, and so does a takedown.
func (s *Sessions) Start(ctx context.Context, account *db.Account, app *db.AppPassword) (*Tokens, error) {
	var draft *Draft
	err := s.DB.Write(ctx, func(tx *db.Tx) error {
		now, err := tx.LockAccount(ctx, account.DID)
		switch {
		case errors.Is(err, db.ErrNotFound):
			return ErrStale
		case err != nil:
			return err
		case now.TakenDown() && !account.TakenDown(), app == nil && now.PasswordHash != account.PasswordHash:
			return ErrStale
		case app != nil:
			if _, err := tx.AppPasswordByMAC(ctx, account.DID, app.MAC); errors.Is(err, db.ErrNotFound) {
				return ErrStale
			} else if err != nil {
				return err
			}
		}
		if draft, err = s.Draft(now, app); err != nil {
			return err
		}
		detail := ""
		if app != nil {
			detail = "app password " + app.Name
		} else if err := s.SignedIn(ctx, tx, now); err != nil {
			return err
		}
		if err := audit.Record(ctx, tx, s.Now(), account.DID, audit.SignedIn, detail); err != nil {
			return err
		}
		return s.Store(ctx, tx, draft)
	})
	if err != nil {
		return nil, fmt.Errorf("start session of %s: %w", account.DID, err)
	}
	return &draft.Tokens, nil
}

// SignedIn notes that the owner of an account, which is locked, has proved to be there with all
// that is asked for, at the address that the context says. Where that is new, and the owner's
// email address is confirmed, a letter says so, once a day.
func (s *Sessions) SignedIn(ctx context.Context, tx *db.Tx, account *db.Account) error {
	if err := s.tellOfNewPlace(ctx, tx, account); err != nil {
		return err
	}
	return s.Budgets.SignedIn(ctx, tx, account.DID, address(ctx))
}

func (s *Sessions) tellOfNewPlace(ctx context.Context, tx *db.Tx, account *db.Account) error {
	ip := address(ctx)
	if s.Outbox == nil || s.Budgets.Nobody(ip) || account.EmailConfirmedAt == nil {
		return nil
	}
	known, err := s.Budgets.KnownIn(ctx, tx, account.DID, ip)
	if known || err != nil {
		return err
	}
	err = s.Budgets.SpendIn(ctx, tx, budget.NewPlaces, budget.Account(account.DID))
	if _, spent := errors.AsType[*budget.Spent](err); spent {
		return nil
	}
	if err != nil {
		return err
	}
	letter := s.Brand().NewPlace(account.Email, outbox.Named(account), ip.Unmap().String(), s.Now())
	return s.Outbox.Announce(ctx, tx, account.DID, mail.KindNewPlace, letter)
}

// KnowAddress remembers where the owner of an account is: wrong passwords that
// strangers send from elsewhere are not to be held against that address.
func (s *Sessions) KnowAddress(ctx context.Context, tx *db.Tx, did syntax.DID) error {
	return s.Budgets.Know(ctx, tx, did, address(ctx))
}

// address is that of who acts in ctx, invalid where nobody said.
func address(ctx context.Context) netip.Addr {
	ip, err := netip.ParseAddr(audit.From(ctx).Address)
	if err != nil {
		return netip.Addr{}
	}
	return ip
}

// Restricted gives a taken-down account the narrow tokens of its appeal. The
// refresh token is for show: nothing of it is stored, and it never works. It returns
// ErrStale when the password of account was changed after it was read.
func (s *Sessions) Restricted(ctx context.Context, account *db.Account) (*Tokens, error) {
	jti, err := s.Tokens.NewID()
	if err != nil {
		return nil, err
	}
	var tokens Tokens
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		now, err := tx.LockAccount(ctx, account.DID)
		switch {
		case errors.Is(err, db.ErrNotFound), err == nil && now.PasswordHash != account.PasswordHash:
			return ErrStale
		case err != nil:
			return err
		}
		tokens = s.issue(account.DID, token.Takendown, jti, s.issueTime(now))
		return audit.Record(ctx, tx, s.Now(), account.DID, audit.SignedIn, "while taken down")
	})
	if err != nil {
		return nil, fmt.Errorf("start restricted session of %s: %w", account.DID, err)
	}
	return &tokens, nil
}

// Refresh exchanges the refresh token of did with id jti, and returns the account as it is.
// For the length of Grace after its first use it answers with the same successor, also when
// that was chosen by the server that the account was adopted from. It returns
// db.ErrNotFound when there is no such account, ErrTakenDown when it is taken down,
// and else ErrRevoked when the token's row is gone or its time is over.
func (s *Sessions) Refresh(ctx context.Context, did syntax.DID, jti string) (*db.Account, *Tokens, error) {
	ip := address(ctx)
	here := ""
	if !s.Budgets.Nobody(ip) {
		here = budget.Address(ip)
	}
	var row *db.LockedSession
	var next string
	var at time.Time
	err := s.DB.Write(ctx, func(tx *db.Tx) (err error) {
		now := s.Now()
		row, err = tx.LockSession(ctx, s.Tokens.HashID(jti), here, now)
		switch {
		case errors.Is(err, db.ErrNotFound), err == nil && row.DID != did:
			return ErrRevoked
		case err != nil:
			return err
		case row.Account.TakenDown():
			return ErrTakenDown
		}
		if next, err = s.successor(ctx, tx, row, jti); err != nil {
			return err
		}
		_, err = tx.Exchange(ctx, row, s.Tokens.HashID(next), now, Grace, token.RefreshLifetime)
		if errors.Is(err, db.ErrNotFound) {
			return ErrRevoked
		}
		if err != nil {
			return err
		}
		at = s.issueTime(&row.Account)
		if row.AppPassword == nil && !row.SeenHere {
			return s.KnowAddress(ctx, tx, did)
		}
		return nil
	})
	if errors.Is(err, ErrRevoked) {
		// Nor does what has no account any more, or was taken down, have a session.
		a, gone := s.DB.AccountByDID(ctx, did)
		if gone != nil {
			return nil, nil, fmt.Errorf("session of %s: %w", did, gone)
		}
		if a.TakenDown() {
			err = ErrTakenDown
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("rotate session of %s: %w", did, err)
	}
	scope := token.Access
	if row.AppPassword != nil {
		scope = token.ForAppPassword(row.Privileged != nil && *row.Privileged)
	}
	return &row.Account, new(s.issue(did, scope, next, at)), nil
}

// successor is the id of the token that comes after jti, whose row is locked. It is
// computed, but for a token that another server exchanged before its account was adopted:
// that one chose an id, which is ErrRevoked when it was not kept or does not open.
func (s *Sessions) successor(ctx context.Context, tx *db.Tx, row *db.LockedSession, jti string) (string, error) {
	next := s.Tokens.SuccessorID(jti)
	if row.NextID == nil || bytes.Equal(row.NextID, s.Tokens.HashID(next)) {
		return next, nil
	}
	kept, err := tx.AdoptedSecret(ctx, row.DID, db.AdoptedSession, row.NextID)
	if errors.Is(err, db.ErrNotFound) {
		return "", ErrRevoked
	}
	if err != nil {
		return "", err
	}
	next, err = adopted.Open(s.Keys, *kept)
	if errors.Is(err, keyring.ErrUnknownKey) || errors.Is(err, keyring.ErrSealed) {
		return "", fmt.Errorf("%w: %w", ErrRevoked, err)
	}
	return next, err
}

// End ends the session that the refresh token jti belongs to, its predecessor
// and its successor included. An unknown token is no error.
func (s *Sessions) End(ctx context.Context, jti string) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error { return tx.EndSession(ctx, s.Tokens.HashID(jti)) })
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// ValidFrom is the moment from which tokens of an account are to be accepted when all
// that were issued until now shall end; before is what it has been, zero for never.
// Tokens know whole seconds only, so it is the next full one. When that has been said
// already, tokens were issued for it (see issueTime), and it is the one after.
func ValidFrom(now, before time.Time) time.Time {
	if before.After(now) {
		now = before
	}
	return now.Truncate(time.Second).Add(time.Second)
}

// issueTime is now, but never before the account's ValidFrom: otherwise a login
// in the second of a password reset would be taken for one from before it.
func (s *Sessions) issueTime(account *db.Account) time.Time { return IssueTime(s.Now(), account) }

// IssueTime is when what is issued for an account now, which is locked, was issued: see
// [ValidFrom].
func IssueTime(now time.Time, account *db.Account) time.Time {
	if now.After(account.TokensValidFrom) {
		return now
	}
	return account.TokensValidFrom
}

func (s *Sessions) issue(did syntax.DID, scope token.Scope, jti string, at time.Time) Tokens {
	return Tokens{
		Access:  s.Tokens.Access(did, scope, at),
		Refresh: s.Tokens.Refresh(did, jti, at),
	}
}

// AppPasswordMAC is the keyed hash by which an app password of did is found.
func (s *Sessions) AppPasswordMAC(did syntax.DID, text string) []byte {
	mac := s.Keys.MAC(appPasswords, appPasswordText(did, text))
	return mac[:]
}
