package db

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// States of a [DIDMove].
const (
	DIDWaiting = "waiting" // to be looked at
	DIDDone    = "done"    // it says what it is to say
	DIDLeft    = "left"    // it is not changed, for the reason that stands beside
)

// A DIDMove is the DID of an account in the move of all DIDs that is under way, or was the
// last one.
type DIDMove struct {
	bun.BaseModel `bun:"table:did_move,alias:m"`

	DID      syntax.DID `bun:"did,pk"`
	State    string     `bun:"state"`
	NextAt   time.Time  `bun:"next_at"` // of one that waits: when its turn comes, or who works on it gives up
	Attempts int        `bun:"attempts"`
	Reason   string     `bun:"reason,nullzero"` // why it was left, or what the last attempt failed with, none during one
}

// DIDMoveCounts says how many DIDs are in each state.
type DIDMoveCounts struct{ Waiting, Done, Left int }

var (
	addDIDMoves = prepared(func(b *builder) bun.Query {
		known := b.NewSelect().Model((*DIDMove)(nil)).ColumnExpr("1").Where("m.did = a.did")
		at := b.p()
		accounts := b.NewSelect().Model((*Account)(nil)).Column("did").ColumnExpr("CAST('waiting' AS TEXT) AS state").
			ColumnExpr("CAST(? AS BIGINT) AS next_at", at).Where("a.did > ?", b.p()).Where("NOT EXISTS (?)", known)
		return b.NewInsert().Model((*DIDMove)(nil)).Column("did", "state", "next_at").
			TableExpr("(?) AS added", b.limit(accounts, "a.did")).Returning("did")
	})
	selectDIDMove = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*DIDMove)(nil)).Where("did = ?", b.p())
	})
	selectDueDIDMoves = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*DIDMove)(nil)).Where("state = 'waiting'").Where("next_at <= ?", b.p()).Order("next_at"), "did")
	})
	selectDIDMoves = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*DIDMove)(nil)).Where("state = ?", b.p()).Where("did > ?", b.p()), "did")
	})
	countDIDMoves = prepared(func(b *builder) bun.Query {
		count := func(state string) *bun.SelectQuery {
			return b.NewSelect().Model((*DIDMove)(nil)).ColumnExpr("count(*)").Where("state = ?", state)
		}
		return b.NewSelect().ColumnExpr("(?), (?), (?)", count(DIDWaiting), count(DIDDone), count(DIDLeft))
	})
	claimDIDMove = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*DIDMove)(nil)).Set("next_at = ?", b.p()).Set("attempts = attempts + 1").
			Set("reason = NULL").Where("did = ?", b.p()).Where("state = 'waiting'").Where("next_at = ?", b.p())
	})
	settleDIDMove = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*DIDMove)(nil)).Set("state = ?", b.p()).Set("next_at = ?", b.p()).Set("reason = ?", b.p()).
			Set("attempts = ?", b.p()).Where("did = ?", b.p()).Where("state = 'waiting'").Where("next_at = ?", b.p())
	})
	hastenDIDMoves = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*DIDMove)(nil)).Set("next_at = ?", b.p()).Where("state = 'waiting'").Where("next_at > ?", b.p())
	})
	// Of those that wait, one with an attempt and no reason is claimed.
	releaseDIDMoves = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*DIDMove)(nil)).Set("next_at = ?", b.p()).
			Where("state = 'waiting'").Where("attempts > 0").Where("reason IS NULL")
	})
	restartDIDMoves = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*DIDMove)(nil)).Set("state = 'waiting'").Set("next_at = ?", b.p()).Set("attempts = 0").
			Set("reason = NULL").Where(anyDIDMove)
	})
	retryDIDMoves = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*DIDMove)(nil)).Set("state = 'waiting'").Set("next_at = ?", b.p()).Set("attempts = 0").
			Set("reason = NULL").Where("state = 'left'")
	})
	deleteDIDMoves = prepared(func(b *builder) bun.Query { return b.NewDelete().Model((*DIDMove)(nil)).Where(anyDIDMove) })
)

const anyDIDMove = "state IN ('waiting', 'done', 'left')"

// AddDIDMoves has the DIDs of up to limit accounts in any state wait for their turn at a
// time, those behind after that are in no row yet, in the order of the DIDs. It returns
// them.
func (tx *Tx) AddDIDMoves(ctx context.Context, after syntax.DID, limit int, at time.Time) (added []syntax.DID, err error) {
	err = tx.each(ctx, addDIDMoves, []any{at, after, limit}, func(row scanner) error {
		var did string
		err := row.Scan(&did)
		added = append(added, syntax.DID(did))
		return err
	})
	return added, wrap(err, "add DIDs to the move")
}

// DIDMove returns the row of a DID, or ErrNotFound.
func (q *queries) DIDMove(ctx context.Context, did syntax.DID) (*DIDMove, error) {
	m, err := one[DIDMove](ctx, q, selectDIDMove, did)
	return m, wrap(err, "read the move of %s", did)
}

// DueDIDMoves returns up to limit DIDs whose turn has come, the longest ago first.
func (q *queries) DueDIDMoves(ctx context.Context, now time.Time, limit int) ([]DIDMove, error) {
	due, err := many[DIDMove](ctx, q, selectDueDIDMoves, now, limit)
	return due, wrap(err, "list DIDs that are to be moved")
}

// DIDMoves returns up to limit DIDs in a state, those behind after, in their order.
func (q *queries) DIDMoves(ctx context.Context, state string, after syntax.DID, limit int) ([]DIDMove, error) {
	if !storable(state) || !storable(string(after)) {
		return nil, nil
	}
	all, err := many[DIDMove](ctx, q, selectDIDMoves, state, after, limit)
	return all, wrap(err, "list DIDs of the move")
}

// CountDIDMoves counts the rows.
func (q *queries) CountDIDMoves(ctx context.Context) (n DIDMoveCounts, err error) {
	err = q.get(ctx, countDIDMoves, nil, &n.Waiting, &n.Done, &n.Left)
	return n, wrap(err, "count DIDs of the move")
}

// ClaimDIDMove gives whoever read m until a time to work on it, and counts an attempt. It
// returns ErrNotFound when somebody was faster. What was claimed is m from then on.
func (tx *Tx) ClaimDIDMove(ctx context.Context, m *DIDMove, until time.Time) error {
	if err := found(tx.exec(ctx, claimDIDMove, until, m.DID, m.NextAt)); err != nil {
		return wrap(err, "claim the move of %s", m.DID)
	}
	m.NextAt, m.Attempts, m.Reason = until, m.Attempts+1, ""
	return nil
}

// SettleDIDMove stores what became of a DID that was claimed until a time. It returns
// ErrNotFound, and stores nothing, when it is not claimed any more: the time was over and
// another took it up, all were started anew, or the account is gone.
func (tx *Tx) SettleDIDMove(ctx context.Context, m DIDMove, claimed time.Time) error {
	var reason any
	if m.Reason != "" {
		reason = m.Reason
	}
	err := found(tx.exec(ctx, settleDIDMove, m.State, m.NextAt, reason, m.Attempts, m.DID, claimed))
	return wrap(err, "store the move of %s", m.DID)
}

// HastenDIDMoves has the DIDs whose turn would come after a time wait for it at another.
func (tx *Tx) HastenDIDMoves(ctx context.Context, after, at time.Time) error {
	_, err := tx.exec(ctx, hastenDIDMoves, at, after)
	return wrap(err, "hasten the move of DIDs")
}

// ReleaseDIDMoves has the DIDs that are claimed wait for their turn at a time, for a process
// that knows that nobody works on them; see [DB.Exclusive]. The attempts count. It returns
// how many there are.
func (tx *Tx) ReleaseDIDMoves(ctx context.Context, at time.Time) (int, error) {
	n, err := tx.exec(ctx, releaseDIDMoves, at)
	return int(n), wrap(err, "release claims of the move")
}

// RestartDIDMoves has all DIDs wait for their turn at a time. What is claimed is not any
// more.
func (tx *Tx) RestartDIDMoves(ctx context.Context, at time.Time) error {
	_, err := tx.exec(ctx, restartDIDMoves, at)
	return wrap(err, "start the move of all DIDs anew")
}

// RetryDIDMoves has the DIDs that were left wait for their turn at a time, and returns how
// many there are.
func (tx *Tx) RetryDIDMoves(ctx context.Context, at time.Time) (int, error) {
	n, err := tx.exec(ctx, retryDIDMoves, at)
	return int(n), wrap(err, "look anew at DIDs that were left")
}

// DeleteDIDMoves forgets all rows.
func (tx *Tx) DeleteDIDMoves(ctx context.Context) error {
	_, err := tx.exec(ctx, deleteDIDMoves)
	return wrap(err, "forget the last move")
}
