package grant

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/oauth/scope"
)

const (
	refreshPrefix = "ref-"
	refreshSize   = 32
	tokenPrefix   = "tok-"
	tokenSize     = 16
	sessionSize   = 16
)

// An Exchange is who wants tokens.
type Exchange struct {
	ClientID, ClientKey, DPoPKey string
	Confidential                 bool
	Refreshes                    bool // the client registered refresh_token
}

// refused is the Error of a code or refresh token that is not exchanged.
func refused(description string) error { return &Error{"invalid_grant", description} }

// fits is why x gets nothing that was granted to a client with these keys, or nil. A client
// that had no key may have one since.
func (x Exchange) fits(clientID, clientKey, dpopKey string) error {
	switch {
	case x.ClientID != clientID:
		return refused("Token was not issued to this client")
	case x.DPoPKey != dpopKey:
		return refused("DPoP proof does not match the expected JKT")
	case clientKey != "" && clientKey != x.ClientKey:
		return refused("The session was initiated with a different key than the client assertion currently used")
	}
	return nil
}

// issued is what a client gets, before its session is stored.
type issued struct {
	id      string // of the access token
	refresh string // "" for none
}

func (g *Grants) issue(refreshes bool) (i issued, err error) {
	if i.id, err = g.secret(tokenPrefix, tokenSize); err != nil || !refreshes {
		return i, err
	}
	i.refresh, err = g.secret(refreshPrefix, refreshSize)
	return i, err
}

// put gives a session what was issued at now, and the times that it ends at.
func (g *Grants) put(s *db.OAuthSession, i issued, confidential bool, now time.Time) {
	last := g.Lifetimes()
	life, unused := last.PublicSession, last.PublicRefresh
	if confidential {
		life, unused = last.ConfidentialSession, last.ConfidentialRefresh
	}
	first := func(a, b time.Time) time.Time {
		if a.Before(b) {
			return a
		}
		return b
	}
	s.Token, s.TokenExpiresAt = g.mac("token", i.id), now.Add(last.Access)
	s.Refresh, s.RefreshExpiresAt = nil, s.TokenExpiresAt
	if i.refresh != "" {
		s.Refresh, s.RefreshExpiresAt = g.mac("refresh", i.refresh), now.Add(unused)
	}
	s.ExpiresAt = s.RefreshExpiresAt
	if life > 0 && i.refresh != "" {
		s.ExpiresAt = s.CreatedAt.Add(life)
	}
	s.RefreshExpiresAt = first(s.RefreshExpiresAt, s.ExpiresAt)
	// Tokens know whole seconds.
	s.TokenExpiresAt = first(s.TokenExpiresAt, s.RefreshExpiresAt).Truncate(time.Second)
}

// tokens are those of a session that was stored.
func (g *Grants) tokens(s *db.OAuthSession, i issued, now time.Time) (*Tokens, error) {
	access, err := g.sign(claims{
		ID: i.id, Subject: s.DID.String(), Issued: now.Unix(), Expires: s.TokenExpiresAt.Unix(), Audience: g.Audience(),
		Key: confirmation{s.DPoPKey}, ClientID: s.ClientID, Issuer: g.Issuer,
	})
	if err != nil {
		return nil, err
	}
	return &Tokens{Access: access, Refresh: i.refresh, Scope: s.Granted, ExpiresIn: s.TokenExpiresAt.Sub(now), DID: s.DID}, nil
}

// spellOut is what a scope is now, as far as its owner consented to it when it was consented:
// a set that lost something takes that away, one that has more than then counts for
// what it was. So does one that cannot be had.
func (g *Grants) spellOut(ctx context.Context, asked, consented string) string {
	if consented == "" {
		consented = asked
	}
	if !strings.Contains(asked, "include:") {
		return consented
	}
	now, err := g.Expand(ctx, asked)
	if err != nil || !scope.Parse(consented).Covers(scope.Parse(now)) {
		return consented
	}
	return now
}

// Redeem exchanges a code. It returns an [*Error]. A code is gone with the first exchange that
// is tried, whatever comes of it.
func (g *Grants) Redeem(ctx context.Context, x Exchange, code, redirectURI, verifier string) (*Tokens, error) {
	if !made(code, codePrefix, codeSize) {
		return nil, refused("Invalid code")
	}
	hash := g.mac("code", code)
	row, err := g.DB.OAuthRequestByCode(ctx, hash)
	if errors.Is(err, db.ErrNotFound) {
		return nil, g.codeAgain(ctx, x, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("exchange code: %w", err)
	}
	r, err := requestOf(row)
	if err != nil {
		return nil, err
	}
	now := g.Now()
	fault := g.mayRedeem(x, row, r, redirectURI, verifier, now)
	if fault != nil {
		err := g.DB.Write(ctx, func(tx *db.Tx) error { return tx.TakeOAuthCode(ctx, hash) })
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return nil, fmt.Errorf("exchange code: %w", err)
		}
		return nil, fault
	}
	made, err := g.issue(x.Refreshes)
	if err != nil {
		return nil, err
	}
	id := make([]byte, sessionSize)
	if _, err := io.ReadFull(g.Rand, id); err != nil {
		return nil, fmt.Errorf("make session: %w", err)
	}
	granted := g.spellOut(ctx, row.Scope, row.Consented)
	var s db.OAuthSession
	var reused bool
	err = g.DB.Write(ctx, func(tx *db.Tx) error {
		reused = false
		account, err := tx.LockAccount(ctx, row.DID)
		if err != nil {
			return err
		}
		if err := tx.TakeOAuthCode(ctx, hash); err != nil {
			return err // ErrNotFound: somebody else has just done so, or the account ended it
		}
		if !account.Active() || account.Held() || row.ProvedAt.Before(account.TokensValidFrom) {
			return db.ErrNotFound
		}
		err = tx.UseOAuthOnce(ctx, g.mac("challenge", r.CodeChallenge), now, now.Add(challengesLast))
		if errors.Is(err, db.ErrStale) {
			reused = true
			return nil
		}
		if err != nil {
			return err
		}
		s = db.OAuthSession{
			ID: id, DID: row.DID, ClientID: row.ClientID, ClientKey: x.ClientKey, ClientName: row.ClientName, DPoPKey: x.DPoPKey,
			Scope: row.Scope, Consented: row.Consented, Granted: granted, Code: hash,
			CreatedAt: now, UsedAt: now, Address: row.Address, Agent: row.Agent,
		}
		// As young as the account's tokens have to be.
		if s.CreatedAt.Before(account.TokensValidFrom) {
			s.CreatedAt = account.TokensValidFrom
		}
		g.put(&s, made, x.Confidential, now)
		if err := audit.Record(acting(ctx, s.DID), tx, now, s.DID, audit.AppAllowed, s.ClientID); err != nil {
			return err
		}
		return tx.InsertOAuthSession(ctx, s, MaxSessions)
	})
	switch {
	case errors.Is(err, db.ErrNotFound):
		return nil, g.codeAgain(ctx, x, hash)
	case err != nil:
		return nil, fmt.Errorf("exchange code: %w", err)
	case reused:
		return nil, refused("Code challenge already used")
	}
	return g.tokens(&s, made, now)
}

func (g *Grants) mayRedeem(x Exchange, row *db.OAuthRequest, r *Request, redirectURI, verifier string, now time.Time) error {
	if !row.CodeExpiresAt.After(now) {
		return refused("This code has expired")
	}
	if err := x.fits(row.ClientID, row.ClientKey, row.DPoPKey); err != nil {
		return err
	}
	if redirectURI != r.RedirectURI {
		return refused("The redirect_uri parameter must match the one used in the authorization request")
	}
	if verifier == "" {
		return refused("code_verifier is required")
	}
	sum := sha256.Sum256([]byte(verifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(challenge), []byte(r.CodeChallenge)) != 1 {
		return refused("Invalid code_verifier")
	}
	return nil
}

// codeAgain is the answer to a code that is not good, or not any more. It ends the session
// that came from it, see the package comment.
func (g *Grants) codeAgain(ctx context.Context, x Exchange, code []byte) error {
	s, err := g.DB.OAuthSessionByCode(ctx, code)
	if errors.Is(err, db.ErrNotFound) {
		return refused("Invalid code")
	}
	if err != nil {
		return fmt.Errorf("exchange code: %w", err)
	}
	// Where the clock was set back, or the session had to be younger than it, it is a race for
	// somewhat longer.
	if err := g.again(ctx, x, s, s.CreatedAt, "code was shown again"); err != nil {
		return err
	}
	return refused("Invalid code")
}

// again ends a session of which something is shown that was exchanged at some time, where
// that is so as the package comment says.
func (g *Grants) again(ctx context.Context, x Exchange, s *db.OAuthSession, exchanged time.Time, why string) error {
	if x.fits(s.ClientID, s.ClientKey, s.DPoPKey) != nil || g.Now().Sub(exchanged) < RaceLasts {
		return nil
	}
	return g.end(ctx, s, why)
}

// end ends a session. One that is over is no error.
func (g *Grants) end(ctx context.Context, s *db.OAuthSession, why string) error {
	err := g.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, s.DID); err != nil {
			return err
		}
		if err := tx.EndOAuthSession(ctx, s.DID, s.ID); err != nil {
			return err
		}
		detail := s.ClientID
		if why != "" {
			detail += ": " + why
		}
		return audit.Record(acting(ctx, s.DID), tx, g.Now(), s.DID, audit.AppEnded, detail)
	})
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("end session of an app: %w", err)
	}
	return nil
}

// Refresh exchanges a refresh token. It returns an [*Error]: see the package comment for what becomes of
// the session then. The access token before is not good any more.
func (g *Grants) Refresh(ctx context.Context, x Exchange, refresh string) (*Tokens, error) {
	if !x.Refreshes {
		return nil, &Error{"unauthorized_client", "Client is not registered for the refresh_token grant type"}
	}
	if !made(refresh, refreshPrefix, refreshSize) {
		return nil, refused("Invalid refresh token")
	}
	hash, now := g.mac("refresh", refresh), g.Now()
	s, err := g.DB.OAuthSessionByRefresh(ctx, hash)
	if errors.Is(err, db.ErrNotFound) {
		return nil, g.refreshAgain(ctx, x, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("refresh session: %w", err)
	}
	if err := x.fits(s.ClientID, s.ClientKey, s.DPoPKey); err != nil {
		return nil, err
	}
	if fault := g.overdue(s, x.Confidential, now); fault != nil {
		if err := g.end(ctx, s, fault.Description); err != nil {
			return nil, err
		}
		return nil, fault
	}
	next, err := g.issue(true)
	if err != nil {
		return nil, err
	}
	granted := g.spellOut(ctx, s.Scope, s.Consented)
	var stored db.OAuthSession
	err = g.DB.Write(ctx, func(tx *db.Tx) error {
		account, err := tx.LockAccount(ctx, s.DID)
		if err != nil {
			return err
		}
		if account.TakenDown() || s.CreatedAt.Before(account.TokensValidFrom) {
			return db.ErrNotFound
		}
		stored = *s
		stored.ClientKey, stored.Granted, stored.UsedAt = x.ClientKey, granted, now
		stored.Refreshes++
		g.put(&stored, next, x.Confidential, now)
		return tx.RefreshOAuthSession(ctx, &stored, hash)
	})
	if errors.Is(err, db.ErrNotFound) {
		return nil, g.refreshAgain(ctx, x, hash) // somebody else was first, or it was ended
	}
	if err != nil {
		return nil, fmt.Errorf("refresh session: %w", err)
	}
	return g.tokens(&stored, next, now)
}

// overdue is why a session is over, or nil. The lifetimes of today count.
func (g *Grants) overdue(s *db.OAuthSession, confidential bool, now time.Time) *Error {
	life := g.Lifetimes().PublicSession
	if confidential {
		life = g.Lifetimes().ConfidentialSession
	}
	switch {
	case life > 0 && !s.CreatedAt.Add(life).After(now):
		return &Error{"invalid_grant", "Session expired"}
	case !s.RefreshExpiresAt.After(now):
		return &Error{"invalid_grant", "Refresh token expired"}
	}
	return nil
}

// refreshAgain is the answer to a refresh token that no session has now.
func (g *Grants) refreshAgain(ctx context.Context, x Exchange, hash []byte) error {
	s, spent, err := g.DB.OAuthSessionBySpent(ctx, hash)
	if errors.Is(err, db.ErrNotFound) {
		return refused("Invalid refresh token")
	}
	if err != nil {
		return fmt.Errorf("refresh session: %w", err)
	}
	if err := x.fits(s.ClientID, s.ClientKey, s.DPoPKey); err != nil {
		return err
	}
	if err := g.again(ctx, x, s, spent, "refresh token was shown again"); err != nil {
		return err
	}
	return refused("Refresh token replayed")
}

// Revoke ends the session of a token of any kind (RFC 7009), also of one that has expired or was
// exchanged: an access token or its id, a refresh token, or a code, which is then good no
// more. It does so if the session is of the client and the DPoP key of x, and says nothing of
// whether it is.
func (g *Grants) Revoke(ctx context.Context, x Exchange, token string) error {
	s, err := g.sessionOf(ctx, x, token)
	if errors.Is(err, db.ErrNotFound) || err == nil && (s == nil || s.ClientID != x.ClientID || s.DPoPKey != x.DPoPKey) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return g.end(ctx, s, "revoked")
}

// sessionOf is the session of a token, nil or db.ErrNotFound for none. A code of x that was
// not exchanged is taken.
func (g *Grants) sessionOf(ctx context.Context, x Exchange, token string) (*db.OAuthSession, error) {
	switch {
	case made(token, refreshPrefix, refreshSize):
		hash := g.mac("refresh", token)
		s, err := g.DB.OAuthSessionByRefresh(ctx, hash)
		if errors.Is(err, db.ErrNotFound) {
			s, _, err = g.DB.OAuthSessionBySpent(ctx, hash)
		}
		return s, err
	case made(token, codePrefix, codeSize):
		hash := g.mac("code", token)
		row, err := g.DB.OAuthRequestByCode(ctx, hash)
		if errors.Is(err, db.ErrNotFound) {
			return g.DB.OAuthSessionByCode(ctx, hash)
		}
		if err != nil || row.ClientID != x.ClientID || row.DPoPKey != x.DPoPKey {
			return nil, err
		}
		return nil, g.DB.Write(ctx, func(tx *db.Tx) error { return tx.TakeOAuthCode(ctx, hash) })
	case made(token, tokenPrefix, tokenSize):
		return g.DB.OAuthSessionByToken(ctx, g.mac("token", token))
	}
	c, err := g.read(token)
	if err != nil {
		return nil, nil
	}
	return g.DB.OAuthSessionByToken(ctx, g.mac("token", c.ID))
}

// Verify returns the session of an access token, which has to be bound to the DPoP key of that
// thumbprint. It returns an [*Error] named invalid_token. It costs one row read, and nothing
// for what this server did not sign.
func (g *Grants) Verify(ctx context.Context, token, dpopKey string) (*Session, error) {
	c, err := g.read(token)
	if err != nil {
		return nil, err
	}
	now := g.Now()
	switch {
	case c.Issuer != g.Issuer:
		return nil, invalid(`unexpected "iss" claim value`)
	case c.Audience != g.Audience():
		return nil, invalid(`unexpected "aud" claim value`)
	case c.Expires <= now.Unix():
		return nil, invalid(`"exp" claim timestamp check failed`)
	case c.Key.Thumbprint != dpopKey:
		return nil, invalid("Invalid DPoP key binding")
	}
	s, err := g.DB.OAuthSessionByToken(ctx, g.mac("token", c.ID))
	if errors.Is(err, db.ErrNotFound) || err == nil && (s.DID.String() != c.Subject || s.DPoPKey != dpopKey || !s.TokenExpiresAt.After(now)) {
		return nil, invalid("Invalid token")
	}
	if err != nil {
		return nil, fmt.Errorf("verify access token: %w", err)
	}
	return new(sessionFrom(s)), nil
}

func sessionFrom(s *db.OAuthSession) Session {
	return Session{
		ID: s.ID, DID: s.DID, ClientID: s.ClientID, ClientName: s.ClientName, ClientKey: s.ClientKey, DPoPKey: s.DPoPKey,
		Scope: s.Scope, Granted: s.Granted, CreatedAt: s.CreatedAt, UsedAt: s.UsedAt, ExpiresAt: s.RefreshExpiresAt, Address: s.Address, Agent: s.Agent,
	}
}

// Sessions are those of an account, the newest first.
func (g *Grants) Sessions(ctx context.Context, did syntax.DID) ([]Session, error) {
	rows, err := g.DB.OAuthSessions(ctx, did, g.Now())
	if err != nil {
		return nil, err
	}
	all := make([]Session, len(rows))
	for i := range rows {
		all[i] = sessionFrom(&rows[i])
	}
	return all, nil
}

// End ends a session of an account, codes that its client did not exchange yet, and what the
// owner consented to for that client. One that is over is no error.
func (g *Grants) End(ctx context.Context, did syntax.DID, id []byte) error {
	err := g.DB.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.LockAccount(ctx, did); err != nil {
			return err
		}
		s, err := tx.OAuthSession(ctx, did, id)
		if err != nil {
			return err
		}
		if err := tx.EndOAuthSession(ctx, did, id); err != nil {
			return err
		}
		if err := tx.EndOAuthCodes(ctx, did, s.ClientID); err != nil {
			return err
		}
		if err := tx.EndOAuthConsent(ctx, did, s.ClientID); err != nil {
			return err
		}
		return audit.Record(acting(ctx, did), tx, g.Now(), did, audit.AppEnded, s.ClientID)
	})
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return fmt.Errorf("end session of an app: %w", err)
	}
	return nil
}

// Good says whether there is a code, or a session with a refresh token, that is this. It
// changes nothing, and says nothing of whose it is.
func (g *Grants) Good(ctx context.Context, secret string) (bool, error) {
	var err error
	switch {
	case made(secret, codePrefix, codeSize):
		_, err = g.DB.OAuthRequestByCode(ctx, g.mac("code", secret))
	case made(secret, refreshPrefix, refreshSize):
		_, err = g.DB.OAuthSessionByRefresh(ctx, g.mac("refresh", secret))
	default:
		return false, nil
	}
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Once notes that something with this id was used, and says false if it had been before. It is
// remembered until then, also by other processes and after a restart.
func (g *Grants) Once(ctx context.Context, id []byte, until time.Time) (bool, error) {
	hash := g.mac("once", string(id))
	err := g.DB.Write(ctx, func(tx *db.Tx) error { return tx.UseOAuthOnce(ctx, hash, g.Now(), until) })
	if errors.Is(err, db.ErrStale) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, nil
}
