package xrpc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/net/http/httpguts"
	"golang.org/x/sync/singleflight"
)

// ErrSignIn says that a session is over: that the host takes its refresh token no more, that
// the account was taken down, or that it was signed out. What the host said is in the same
// error, as an *[Error].
var ErrSignIn = errors.New("the session is over, sign in again")

// Tokens are what createSession and createAccount answer, to be kept as they are, as JSON:
// whoever has them is that account. Printed or logged they show the DID alone.
type Tokens struct {
	DID     syntax.DID `json:"did"`
	Access  string     `json:"accessJwt"`
	Refresh string     `json:"refreshJwt"`
}

// String returns the DID.
func (t Tokens) String() string { return "tokens of " + t.DID.String() }

// GoString returns the DID.
func (t Tokens) GoString() string { return t.String() }

// LogValue returns the DID.
func (t Tokens) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A Session authorizes calls of one account to its host, and refreshes itself when the
// access token expires: shortly before, as far as the token tells, or when the host answers
// ExpiredToken. Calls that need it meanwhile wait for the one refresh, and are then sent,
// or sent again, once. It may be used by any number of goroutines and clients.
//
// A refresh that the network lost is tried again with the next call: the host takes the
// same refresh token for two more hours. One that the host refuses ends the session, for
// all calls from then on, with [ErrSignIn].
type Session struct {
	calls   Client // with the session
	host    Client // without
	keep    func(context.Context, Tokens) error
	flights singleflight.Group
	work    sync.Mutex // held while something is asked with the refresh token

	mu     sync.Mutex    // guards what follows
	tokens *Tokens       // never changed; behind a pointer fmt does not find them
	unkept bool          // keep has not taken them
	since  time.Time     // when they came; zero: they were given
	life   time.Duration // of the access token from then on; 0: unknown
	over   error
}

const (
	refreshTime = time.Minute      // for one refresh, whoever waits for it
	beforeEnd   = 30 * time.Second // of the access token, it is refreshed
	// newToken is how long an access token is new. A host that says of such a one that it has
	// expired is not asked for another.
	newToken = time.Minute
)

// NewSession returns the session of t on the host of c, which calls nobody yet. t needs a DID
// and a refresh token:
//
//	out, err := anyone.CreateSession(ctx, &server.CreateSessionInput{Identifier: name, Password: password})
//	…
//	session, err := xrpc.NewSession(anyone.Client, xrpc.Tokens{DID: out.DID, Access: out.AccessJWT, Refresh: out.RefreshJWT}, keep)
//	…
//	pds := repo.Client{Client: session.Client()}
//
// keep is handed new tokens, one call at a time, before any call is made with them. When it
// fails, its error is that of the calls that wait, and the next call has it try again. The
// tokens before are of no use after two hours, so it should be a durable place. nil: they are
// not kept. Its context ends with none of the calls, but after a minute.
func NewSession(c Client, t Tokens, keep func(context.Context, Tokens) error) (*Session, error) {
	if _, err := syntax.ParseDID(t.DID.String()); err != nil {
		return nil, fmt.Errorf("tokens of no account: %w", err)
	}
	if t.Refresh == "" {
		return nil, errors.New("tokens without a refresh token")
	}
	if !httpguts.ValidHeaderFieldValue(t.Access + t.Refresh) {
		return nil, errors.New("tokens that are none")
	}
	s := &Session{calls: c, host: c, keep: keep, tokens: &t}
	s.calls.session = s
	s.host.session, s.host.options = nil, callOptions{}
	s.host.Header = c.Header.Clone()
	for name := range s.host.Header {
		if strings.HasPrefix(http.CanonicalHeaderKey(name), "Atproto-") {
			delete(s.host.Header, name) // are about calls that the host passes on
		}
	}
	return s, nil
}

// Client returns the client that NewSession was given, authorized by s. It may be copied and
// changed as any other, except for its host. deleteSession and refreshSession are not called
// with it, but by [Session.SignOut] and [Session.Refresh].
func (s *Session) Client() Client { return s.calls }

// Tokens returns those that are used at the moment.
func (s *Session) Tokens() Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.tokens
}

// String tells whose it is.
func (s *Session) String() string { return "session of " + s.Tokens().DID.String() }

// GoString tells whose it is.
func (s *Session) GoString() string { return s.String() }

// LogValue tells whose it is.
func (s *Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Refresh gets new tokens, or waits for who does already. It returns [ErrSignIn] when there
// are none. When ctx ends it does not wait, and the refresh goes on.
func (s *Session) Refresh(ctx context.Context) error { return s.renew(ctx, s.Tokens().Access) }

// SignOut ends the session on the host and here. The access token goes on working on hosts
// until it expires. When ctx ends it does not wait, and the session is ended nevertheless.
func (s *Session) SignOut(ctx context.Context) error { return s.alone(ctx, "end", s.end) }

// alone runs f once for all who want the same at a time, without an end that ctx has: a
// refresh that is broken off may have cost the tokens.
func (s *Session) alone(ctx context.Context, what string, f func(context.Context) error) error {
	detached := context.WithoutCancel(ctx)
	done := s.flights.DoChan(what, func() (any, error) {
		s.work.Lock()
		defer s.work.Unlock()
		ctx, cancel := context.WithTimeout(detached, refreshTime)
		defer cancel()
		return nil, f(ctx)
	})
	select {
	case r := <-done:
		return r.Err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// authorize returns the access token for a call of m on that host.
func (s *Session) authorize(ctx context.Context, host string, m *Method) (string, error) {
	switch {
	case host != s.host.Host:
		return "", fmt.Errorf("the session is one of %s, not of %s", s.host.Host, host)
	case m.NSID == refreshSession.NSID:
		return "", errors.New("sessions are refreshed by Session.Refresh")
	case m.NSID == deleteSession.NSID:
		return "", errors.New("sessions are ended by Session.SignOut")
	}
	stale, ready, err := s.look()
	if err != nil {
		return "", err
	}
	if !ready {
		if err := s.renew(ctx, stale); err != nil {
			return "", err
		}
	}
	return s.Tokens().Access, nil
}

// kept stands for a stale token where there is none, but one that has to be kept.
const kept = "none"

// look reports whether calls can be made as it is, and if not, the token that is stale.
func (s *Session) look() (stale string, ready bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over != nil:
		return "", false, s.over
	case s.isStale(s.host.Clock.now()):
		return s.tokens.Access, false, nil
	}
	return kept, !s.unkept, nil
}

// isStale reports whether the access token is about to expire. The clock here may be wrong,
// which does not matter for a token that was seen coming.
func (s *Session) isStale(now time.Time) bool {
	if s.since.IsZero() {
		exp, _ := claimsOf(s.tokens.Access)
		return s.tokens.Access == "" || exp != 0 && !now.Before(time.Unix(exp, 0).Add(-beforeEnd))
	}
	return s.life > 2*beforeEnd && now.Sub(s.since) >= s.life-beforeEnd
}

// claimsOf returns when a token expires, and for how long it was issued; 0 is unknown.
func claimsOf(token string) (exp int64, life time.Duration) {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return 0, 0
	}
	data, err := base64.RawURLEncoding.DecodeString(part[1])
	var claims struct{ Exp, IAT int64 }
	if err != nil || json.Unmarshal(data, &claims) != nil {
		return 0, 0
	}
	if n := claims.Exp - claims.IAT; claims.IAT > 0 && 0 < n && n < 1<<31 {
		life = time.Duration(n) * time.Second
	}
	return claims.Exp, life
}

// renew refreshes the session unless stale is no longer its token, and has the tokens kept.
func (s *Session) renew(ctx context.Context, stale string) error {
	err := s.alone(ctx, "renew "+stale, func(ctx context.Context) error {
		if stale == s.Tokens().Access {
			if err := s.refresh(ctx); err != nil {
				return err
			}
		}
		return s.keepTokens(ctx)
	})
	if err != nil {
		return fmt.Errorf("refresh session: %w", err)
	}
	return nil
}

// The methods for sessions, with what is needed of their answers.
var (
	refreshSession = Method{
		NSID: "com.atproto.server.refreshSession", Kind: Procedure,
		Output: &Media{Encoding: "application/json", Schema: Object(
			Required("did", String(FormatDID)),
			Required("accessJwt", String(MinLength(1))),
			Required("refreshJwt", String(MinLength(1))),
		)},
	}
	deleteSession = Method{NSID: "com.atproto.server.deleteSession", Kind: Procedure}
)

// refresh asks the host for new tokens.
func (s *Session) refresh(ctx context.Context) error {
	s.mu.Lock()
	t, over := *s.tokens, s.over
	s.mu.Unlock()
	if over != nil {
		return over
	}
	out, err := Do[None, Tokens](ctx, s.asked(t), &refreshSession, nil)
	if answered, ok := err.(*Error); ok && endsSession[answered.Name] {
		err = fmt.Errorf("%w: %w", ErrSignIn, err)
		s.finish(err)
	}
	switch {
	case err != nil:
		return err
	case out.DID != t.DID:
		return fmt.Errorf("the host answers for %s, not for %s", out.DID, t.DID)
	case !httpguts.ValidHeaderFieldValue(out.Access + out.Refresh):
		return errors.New("the host answers tokens that are none")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens, s.unkept, s.since = out, true, s.host.Clock.now()
	_, s.life = claimsOf(out.Access)
	return nil
}

// endsSession are the names with which a host says that a refresh token is good for nothing.
var endsSession = map[string]bool{"ExpiredToken": true, "InvalidToken": true, "AccountTakedown": true}

// asked is the client for what is asked with the refresh token.
func (s *Session) asked(t Tokens) *Client {
	c := s.host
	c.Authorization = Bearer(t.Refresh)
	return &c
}

func (s *Session) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = err
}

// keepTokens hands new tokens to whoever keeps them.
func (s *Session) keepTokens(ctx context.Context) error {
	s.mu.Lock()
	t, unkept := *s.tokens, s.unkept
	s.mu.Unlock()
	if !unkept {
		return nil
	}
	if s.keep != nil {
		if err := s.keep(ctx, t); err != nil {
			return fmt.Errorf("keep the tokens: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unkept = false
	return nil
}

// refused is for a call that was refused because the access token has expired. It reports
// whether there is another one now.
func (s *Session) refused(ctx context.Context, access string) (bool, error) {
	if s.isNew(access) {
		return false, nil
	}
	if err := s.renew(ctx, access); err != nil {
		return false, err
	}
	return s.Tokens().Access != access, nil
}

func (s *Session) isNew(access string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.host.Clock.now().Sub(s.since)
	return access == s.tokens.Access && !s.since.IsZero() && 0 <= age && age < newToken
}

// isExpired reports whether e says that the access token of a call of m has expired. Some
// methods say so of a code that was mailed.
func (e *Error) isExpired(m *Method) bool {
	return e.Name == "ExpiredToken" && (e.Status == http.StatusBadRequest || e.Status == http.StatusUnauthorized) &&
		!slices.Contains(m.Errors, e.Name)
}

// end signs out.
func (s *Session) end(ctx context.Context) error {
	s.mu.Lock()
	t, over := *s.tokens, s.over
	s.mu.Unlock()
	if over != nil {
		return over
	}
	_, err := Do[None, None](ctx, s.asked(t), &deleteSession, nil)
	if answered, ok := err.(*Error); ok && endsSession[answered.Name] {
		err = nil // so it is
	}
	if err == nil {
		s.finish(fmt.Errorf("%w: signed out", ErrSignIn))
	}
	return err
}
