package db

import (
	"context"
	"encoding/json"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// States of an [AccountMove]. The account leaves in the first four, and comes in the others.
const (
	MoveStopped  = "stopped"  // it is switched off here, and the directory was told nothing
	MovePointing = "pointing" // the directory may have been told
	MoveUndoing  = "undoing"  // it is to stay, and nothing may be told to the directory any more
	MoveGone     = "gone"     // its DID names the other host
	MoveComing   = "coming"   // it is being copied
	MoveReady    = "ready"    // all of it is here
)

// An AccountMove is an account that leaves for another host, or comes from one.
type AccountMove struct {
	bun.BaseModel `bun:"table:account_move,alias:am"`

	DID   syntax.DID `bun:"did,pk"`
	State string     `bun:"state"`
	Host  string     `bun:"host"` // the public URL of the other
	Since time.Time  `bun:"since"`
	// NextAt is when a job looks after it, nil for never.
	NextAt  *time.Time `bun:"next_at"`
	Details string     `bun:"details"` // JSON
}

// Leaves reports whether the account leaves, and is not gone yet.
func (m *AccountMove) Leaves() bool {
	return m.State == MoveStopped || m.State == MovePointing || m.State == MoveUndoing
}

// Comes reports whether the account comes.
func (m *AccountMove) Comes() bool { return m.State == MoveComing || m.State == MoveReady }

var (
	selectAccountMove = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*AccountMove)(nil)).Where("am.did = ?", b.p())
	})
	putAccountMove = prepared(func(b *builder) bun.Query {
		return b.insert(new(AccountMove)).On("CONFLICT (did) DO UPDATE").Set("state = excluded.state").Set("host = excluded.host").
			Set("since = excluded.since").Set("next_at = excluded.next_at").Set("details = excluded.details")
	})
	deleteAccountMove = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*AccountMove)(nil)).Where("did = ?", b.p())
	})
	selectDueAccountMoves = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*AccountMove)(nil)).Where("am.next_at <= ?", b.p()), "am.next_at")
	})
	selectRecordTakedowns = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Record)(nil)).Column("path", "takedown_ref").Where("r.did = ?", b.p()).
			Where("r.takedown_ref IS NOT NULL"), "r.path")
	})
	selectBlobTakedowns = prepared(func(b *builder) bun.Query {
		return b.limit(b.NewSelect().Model((*Blob)(nil)).Column("cid", "takedown_ref").Where("b.did = ?", b.p()).
			Where("b.takedown_ref IS NOT NULL"), "b.cid")
	})
	selectAppPasswordHashes = prepared(func(b *builder) bun.Query { return b.appPasswords().Order("name") })
)

// AccountMove returns the move of an account, or ErrNotFound. Who decides by it has locked the
// account.
func (q *queries) AccountMove(ctx context.Context, did syntax.DID) (*AccountMove, error) {
	m, err := one[AccountMove](ctx, q, selectAccountMove, did)
	return m, wrap(err, "read move of account %s", did)
}

// PutAccountMove stores the move of an account in the place of the one that it is in. It returns
// ErrNotFound when there is no account.
func (tx *Tx) PutAccountMove(ctx context.Context, m AccountMove) error {
	if !json.Valid([]byte(m.Details)) {
		m.Details = "{}"
	}
	_, err := tx.exec(ctx, putAccountMove, values(&m)...)
	return wrap(err, "store move of account %s", m.DID)
}

// DeleteAccountMove forgets the move of an account, if there is one.
func (tx *Tx) DeleteAccountMove(ctx context.Context, did syntax.DID) error {
	_, err := tx.exec(ctx, deleteAccountMove, did)
	return wrap(err, "forget move of account %s", did)
}

// DueAccountMoves returns up to limit moves whose turn has come, the longest ago first.
func (q *queries) DueAccountMoves(ctx context.Context, now time.Time, limit int) ([]AccountMove, error) {
	due, err := many[AccountMove](ctx, q, selectDueAccountMoves, now, limit)
	return due, wrap(err, "list moves of accounts")
}

// A Takedown is that of a record or of a blob.
type Takedown struct {
	Path string // of the record; "" for a blob
	CID  []byte // of the blob
	Ref  string
}

// Takedowns returns up to limit records of an account that are taken down, and as many blobs.
func (q *queries) Takedowns(ctx context.Context, did syntax.DID, limit int) ([]Takedown, error) {
	var all []Takedown
	err := q.each(ctx, selectRecordTakedowns, []any{did, limit}, func(row scanner) error {
		all = append(all, Takedown{})
		last := &all[len(all)-1]
		return row.Scan(&last.Path, &last.Ref)
	})
	if err == nil {
		err = q.each(ctx, selectBlobTakedowns, []any{did, limit}, func(row scanner) error {
			all = append(all, Takedown{})
			last := &all[len(all)-1]
			return row.Scan(&last.CID, &last.Ref)
		})
	}
	return all, wrap(err, "list what of %s is taken down", did)
}

// AppPasswordHashes returns the app passwords of an account, in the order of their names, with
// their hashes.
func (q *queries) AppPasswordHashes(ctx context.Context, did syntax.DID) ([]AppPassword, error) {
	all, err := many[AppPassword](ctx, q, selectAppPasswordHashes, did)
	return all, wrap(err, "list hashes of app passwords of %s", did)
}
