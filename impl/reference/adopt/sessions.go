package adopt

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	adoptedsecret "portico/impl/account/adopted"
	"portico/impl/account/session"
	"portico/impl/account/token"
)

// A refreshToken is one that still works.
type refreshToken struct {
	reference.RefreshToken
	expires time.Time
}

// tokenChains are the refresh tokens that were used, which work a little longer, and what
// followed them. There are few: all others are the latest of their sessions.
type tokenChains struct {
	used   []refreshToken
	before map[string]string // the id of the one that a token has followed
	// began is when the followers were issued.
	began map[string]time.Time
}

// place is the first of the tokens that lead to id, and how many steps lie between.
func (c *tokenChains) place(id string) (first string, generation int64) {
	for first = id; generation <= int64(len(c.used)); generation++ {
		before, ok := c.before[first]
		if !ok {
			return first, generation
		}
		first = before
	}
	return id, 0 // in a circle
}

// refreshTokens adopts the sessions that go on. Those that came from each other are a
// family, so that signing out ends all of it, as it does there.
func (w *accountWriter) refreshTokens(ctx context.Context) (Count, error) {
	c := Count{Of: "sessions"}
	chains := &tokenChains{before: make(map[string]string), began: make(map[string]time.Time)}
	err := w.liveTokens(ctx, new(Count), func(t refreshToken) error {
		if t.NextID != nil {
			chains.used = append(chains.used, t)
			chains.before[*t.NextID] = t.ID
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	// A used one was issued nobody knows when; its follower at its first use.
	err = w.liveTokens(ctx, &c, func(t refreshToken) error {
		began := t.expires.Add(-token.RefreshLifetime)
		if t.NextID != nil {
			began = t.expires.Add(-session.Grace)
		}
		if _, ok := chains.before[t.ID]; ok {
			chains.began[t.ID] = began
		}
		if t.NextID != nil {
			return nil
		}
		c.Adopted++
		return w.session(ctx, chains, t, began)
	})
	if err != nil {
		return c, err
	}
	for _, t := range chains.used {
		began, ok := chains.began[*t.NextID]
		if !ok {
			began = t.expires.Add(-session.Grace)
		}
		if err := w.session(ctx, chains, t, began); err != nil {
			return c, err
		}
		c.Adopted++
	}
	return c, nil
}

// liveTokens calls do with every token that works of an account that is there, and counts
// the others.
func (w *accountWriter) liveTokens(ctx context.Context, c *Count, do func(refreshToken) error) error {
	for row, err := range w.Source.RefreshTokens(ctx) {
		if err != nil {
			return err
		}
		c.Source++
		expires, err := reference.ParseTime(row.ExpiresAt)
		if err != nil {
			return fmt.Errorf("session of %s: %w", row.DID, err)
		}
		switch {
		case !w.adopted[syntax.DID(row.DID)]:
			c.drop("their accounts are gone")
		case !expires.After(w.now):
			c.drop("they have expired")
		default:
			if err := do(refreshToken{row, expires}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *accountWriter) session(ctx context.Context, chains *tokenChains, t refreshToken, began time.Time) error {
	first, generation := chains.place(t.ID)
	s := db.Session{
		ID: w.Tokens.HashID(t.ID), DID: syntax.DID(t.DID), AppPassword: t.AppPasswordName, CreatedAt: began, ExpiresAt: t.expires,
	}
	next := ""
	if t.NextID != nil {
		next = *t.NextID
		s.NextID = w.Tokens.HashID(next)
	}
	if err := w.tx.InsertAdoptedSession(ctx, s, w.Tokens.HashID(first), generation); err != nil {
		return err
	}
	return w.keep(ctx)(adoptedsecret.Session(w.Keys, w.Tokens, s.DID, t.ID, next))
}
