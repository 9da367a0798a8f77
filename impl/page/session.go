package page

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/keyring"
)

// ErrOver says that a session is not there any more, or that what was to open one was
// replaced since it was checked.
var ErrOver = errors.New("session of a browser is over")

// Sessions are who is signed in to a site. They end after Life, and Idle after their last
// use, or up to a tenth of it and at most an hour sooner, since not each use is noted; when an account has more than Most the oldest goes. Those of an account end with its
// others when the password is reset, the account taken down or deleted, and when its tokens
// are no longer valid; those of the console when Bound is another.
//
// It is safe for concurrent use.
type Sessions struct {
	DB   *db.DB
	Keys *keyring.Ring
	Now  func() time.Time
	Rand io.Reader

	Kind       string // db.BrowserOfAccount or db.BrowserOfConsole
	Idle, Life time.Duration
	Most       int    // at most 1000
	Bound      []byte // what sessions of the console end with, such as the password; not stored in clear
}

// A Guest is who opens a session, as far as it is kept.
type Guest struct {
	Address string // of the network
	Agent   string // what the browser calls itself
}

const (
	secretSize = 32
	maxAgent   = 300 // bytes
)

// newSecret is the content of a cookie that nobody has had.
func (s *Sessions) newSecret() (string, error) {
	var b [secretSize]byte
	if _, err := io.ReadFull(s.Rand, b[:]); err != nil {
		return "", fmt.Errorf("make cookie: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(b[:]), nil
}

// secretOf is the content of a cookie if it can be one of newSecret's, else "".
func secretOf(text string) string {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != secretSize {
		return ""
	}
	return text
}

func (s *Sessions) id(secret string) []byte {
	mac := s.Keys.MAC("browser session of "+s.Kind, []byte(secret))
	return mac[:]
}

func (s *Sessions) bound() []byte {
	if s.Bound == nil {
		return nil
	}
	mac := s.Keys.MAC("bond of browser sessions", s.Bound)
	return mac[:]
}

// open stores a session of did, "" for the console, and returns what its cookie has.
// proved is when the proof of who it is was given or, where this is one of a session token,
// when that was issued. It returns ErrOver when the account is gone or takes no proofs of
// then.
func (s *Sessions) open(ctx context.Context, did syntax.DID, proved time.Time, g Guest) (string, *db.BrowserSession, error) {
	secret, err := s.newSecret()
	if err != nil {
		return "", nil, err
	}
	now := s.Now()
	row := db.BrowserSession{
		ID: s.id(secret), Kind: s.Kind, DID: did, CreatedAt: now, SeenAt: now, ProvedAt: now, ExpiresAt: s.end(now, now),
		Address: g.Address, Agent: Printable(g.Agent, maxAgent), Bound: s.bound(),
	}
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.stillValid(ctx, tx, &row, proved); err != nil {
			return err
		}
		return tx.InsertBrowserSession(ctx, row, s.Most)
	})
	if err != nil {
		return "", nil, fmt.Errorf("open session of a browser: %w", err)
	}
	return secret, &row, nil
}

// stillValid locks the account of row, and lets row be as young as the account's tokens have
// to be. It returns ErrOver when what was proved then counts no more.
func (s *Sessions) stillValid(ctx context.Context, tx *db.Tx, row *db.BrowserSession, proved time.Time) error {
	if row.DID == "" {
		return nil
	}
	a, err := tx.LockAccount(ctx, row.DID)
	switch {
	case errors.Is(err, db.ErrNotFound), err == nil && proved.Before(a.TokensValidFrom):
		return ErrOver
	case err != nil:
		return err
	}
	if row.CreatedAt.Before(a.TokensValidFrom) {
		row.CreatedAt = a.TokensValidFrom
	}
	return nil
}

// end is when a session ends that is used for the last time now.
func (s *Sessions) end(created, now time.Time) time.Time {
	if last := created.Add(s.Life); last.Before(now.Add(s.Idle)) {
		return last
	}
	return now.Add(s.Idle)
}

// find returns the session whose cookie has secret, and the account that it is of, if it is
// of one; it returns ErrOver when there is none, or none any more. It notes that the session
// is used, every now and then.
func (s *Sessions) find(ctx context.Context, secret string) (*db.BrowserSession, *db.Account, error) {
	if s.DB == nil {
		return nil, nil, ErrOver
	}
	row, err := s.DB.BrowserSession(ctx, s.id(secret))
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil, ErrOver
	}
	if err != nil {
		return nil, nil, err
	}
	now := s.Now()
	if row.Kind != s.Kind || !row.ExpiresAt.After(now) || !bytes.Equal(row.Bound, s.bound()) {
		return nil, nil, ErrOver
	}
	var account *db.Account
	if row.DID != "" {
		account, err = s.DB.AccountByDID(ctx, row.DID)
		if errors.Is(err, db.ErrNotFound) || err == nil && row.CreatedAt.Before(account.TokensValidFrom) {
			return nil, nil, ErrOver
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if now.Sub(row.SeenAt) > min(s.Idle/10, time.Hour) {
		row.SeenAt, row.ExpiresAt = now, s.end(row.CreatedAt, now)
		err := s.DB.Write(ctx, func(tx *db.Tx) error { return tx.SeeBrowserSession(ctx, row.ID, now, row.ExpiresAt) })
		if errors.Is(err, db.ErrNotFound) {
			return nil, nil, ErrOver
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return row, account, nil
}

// renew exchanges a session for one that is the same but for its cookie, and for when
// its owner proved who it is: see open. It returns ErrOver when it is gone.
func (s *Sessions) renew(ctx context.Context, old *db.BrowserSession, proved time.Time) (string, *db.BrowserSession, error) {
	secret, err := s.newSecret()
	if err != nil {
		return "", nil, err
	}
	row, now := *old, s.Now()
	row.ID, row.ProvedAt, row.SeenAt, row.ExpiresAt = s.id(secret), now, now, s.end(old.CreatedAt, now)
	err = s.DB.Write(ctx, func(tx *db.Tx) error {
		if err := s.stillValid(ctx, tx, &row, proved); err != nil {
			return err
		}
		err := tx.EndBrowserSession(ctx, old.ID)
		if errors.Is(err, db.ErrNotFound) {
			return ErrOver
		}
		if err != nil {
			return err
		}
		return tx.InsertBrowserSession(ctx, row, s.Most)
	})
	if err != nil {
		return "", nil, fmt.Errorf("renew session of a browser: %w", err)
	}
	return secret, &row, nil
}

// endOne ends a session; one that is over is no error.
func (s *Sessions) endOne(ctx context.Context, id []byte) error {
	err := s.DB.Write(ctx, func(tx *db.Tx) error { return tx.EndBrowserSession(ctx, id) })
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	return err
}

// Printable is text as far as it is one to be shown in a line: without control characters and
// those that turn the direction of what follows, in valid UTF-8 of at most so many bytes.
func Printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(text, " "))
	for len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return strings.TrimSpace(text)
}
