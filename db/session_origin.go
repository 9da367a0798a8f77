package db

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// A SessionOrigin is where the first session of a family was opened. It stays for as long as
// the family, and some days more where there are very many; its address for 90 days. Sessions
// from before this was kept have none.
type SessionOrigin struct {
	bun.BaseModel `bun:"table:session_origin,alias:so"`

	DID      syntax.DID `bun:"did,pk"`
	Family   []byte     `bun:"family,pk"`
	OpenedAt time.Time  `bun:"opened_at"`
	Address  string     `bun:"address,nullzero"` // of the network; "" for none that is kept
	Agent    string     `bun:"agent"`            // what the client calls itself, which anybody may have made up
}

// An OpenSession is a family of sessions as its owner sees it: what an app was signed in
// with once, and goes on refreshing.
type OpenSession struct {
	Family      []byte
	AppPassword *string   // nil: the account's own
	OpenedAt    time.Time // or the oldest sign of it that is left
	UsedAt      time.Time // when it was refreshed last
	Address     string    // "" for one that is not known
	Agent       string
}

var (
	insertSessionOrigin = prepared(func(b *builder) bun.Query {
		return b.insert(new(SessionOrigin)).On("CONFLICT (did, family) DO NOTHING")
	})
	// The sessions of a family that can still be refreshed, with where it began.
	selectOpenSessions = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*LinkedSession)(nil)).Column("s.family", "s.app_password").
			ColumnExpr("coalesce(min(so.opened_at), min(s.created_at)) AS opened_at").ColumnExpr("max(s.created_at) AS used_at").
			ColumnExpr("coalesce(min(so.address), '')").ColumnExpr("coalesce(min(so.agent), '')").
			Join("LEFT JOIN session_origin AS so ON so.did = s.did AND so.family = s.family").
			Where("s.did = ?", b.p()).Where("s.expires_at > ?", b.p()).
			GroupExpr("s.family, s.app_password").OrderExpr("used_at DESC, s.family LIMIT 1000")
	})
	selectOriginAfter = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*SessionOrigin)(nil)).Column("did", "family").Where("(so.did, so.family) > (?, ?)", b.p(), b.p()).
			OrderExpr("so.did, so.family LIMIT 1 OFFSET ?", b.p())
	})
	// The parameters of the second place are of the last that are looked at.
	forgetOrigins = prepared(func(b *builder) bun.Query {
		left := b.NewSelect().Model((*LinkedSession)(nil)).ColumnExpr("1").Where("s.did = so.did").Where("s.family = so.family")
		return b.NewDelete().Model((*SessionOrigin)(nil)).Where("(so.did, so.family) > (?, ?)", b.p(), b.p()).
			Where("(so.did, so.family) <= (?, ?)", b.p(), b.p()).Where("NOT EXISTS (?)", left).Where("so.opened_at <= ?", b.p())
	})
	forgetLastOrigins = prepared(func(b *builder) bun.Query {
		left := b.NewSelect().Model((*LinkedSession)(nil)).ColumnExpr("1").Where("s.did = so.did").Where("s.family = so.family")
		return b.NewDelete().Model((*SessionOrigin)(nil)).Where("(so.did, so.family) > (?, ?)", b.p(), b.p()).
			Where("NOT EXISTS (?)", left).Where("so.opened_at <= ?", b.p())
	})
	forgetOriginAddresses = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*SessionOrigin)(nil)).Set("address = NULL").Where("address IS NOT NULL").Where("opened_at <= ?", b.p())
	})
)

// InsertSessionOrigin stores where a session was opened that this transaction stores. What
// was noted of it before stays. The transaction fails with ErrNotFound, at its end at the
// latest, when the account is gone.
func (tx *Tx) InsertSessionOrigin(ctx context.Context, o SessionOrigin) error {
	return tx.later(ctx, "store origin of session", insertSessionOrigin, values(&o)...)
}

// OpenSessions returns what is signed in to an account at now, what was used last first: the
// latest 1000.
func (q *queries) OpenSessions(ctx context.Context, did syntax.DID, now time.Time) ([]OpenSession, error) {
	var all []OpenSession
	err := q.each(ctx, selectOpenSessions, []any{did, now}, func(row scanner) error {
		var s OpenSession
		err := row.Scan(&s.Family, &s.AppPassword, (*stamp)(&s.OpenedAt), (*stamp)(&s.UsedAt), &s.Address, &s.Agent)
		all = append(all, s)
		return err
	})
	return all, wrap(err, "list open sessions of %s", did)
}

// originsLooked is how many origins one purge looks at: to look at all would take seconds
// where there are millions, in which nobody else could write.
const originsLooked = 20_000

// originsLookedTo is the meta value that says after which origin the next purge goes on:
// its DID, a NUL and its family.
const originsLookedTo = "session origins looked at to"

// forgetOrigins removes the origins of families of which no session is left, those opened
// later than at now aside. It looks at some, each time at the ones after those of the last
// time, and at the end begins anew.
func (tx *Tx) forgetOrigins(ctx context.Context, now time.Time, some int) error {
	var from, to SessionOrigin
	place, err := tx.Meta(ctx, originsLookedTo)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	did, family, _ := bytes.Cut(place, []byte{0})
	from.DID, from.Family = syntax.DID(did), append([]byte{}, family...)
	err = tx.get(ctx, selectOriginAfter, []any{from.DID, from.Family, some - 1}, &to.DID, &to.Family)
	if errors.Is(err, ErrNotFound) { // there are not so many any more
		if _, err := tx.exec(ctx, forgetLastOrigins, from.DID, from.Family, now); err != nil {
			return wrap(err, "forget origins of sessions")
		}
		return tx.DeleteMeta(ctx, originsLookedTo)
	}
	if err == nil {
		_, err = tx.exec(ctx, forgetOrigins, from.DID, from.Family, to.DID, to.Family, now)
	}
	if err != nil {
		return wrap(err, "forget origins of sessions")
	}
	return tx.PutMeta(ctx, originsLookedTo, slices.Concat([]byte(to.DID), []byte{0}, to.Family))
}

// EndFamily ends all sessions of an account that came from each other. One that is unknown
// is no error. It returns ErrNotFound when there is no account.
func (tx *Tx) EndFamily(ctx context.Context, did syntax.DID, family []byte) error {
	_, err := tx.LockAccount(ctx, did) // no exchange of these sessions may be under way
	if err == nil {
		_, err = tx.exec(ctx, deleteFamily, did, family)
	}
	return wrap(err, "end sessions of %s that came from one", did)
}

// EndAppSessions ends all sessions of an account that are not a browser's, those of OAuth
// too, and all else that [Tx.EndOAuth] does. It returns ErrNotFound when there is no account.
func (tx *Tx) EndAppSessions(ctx context.Context, did syntax.DID) error {
	_, err := tx.LockAccount(ctx, did)
	if err == nil {
		_, err = tx.exec(ctx, deleteSessions, did)
	}
	if err == nil {
		err = tx.endOAuth(ctx, did)
	}
	return wrap(err, "end sessions of apps of %s", did)
}
