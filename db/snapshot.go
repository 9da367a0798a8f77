package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
)

// A Snapshot is one state of the database for several statements. It lives as long as the
// function given to [DB.Snapshot] and belongs to one goroutine.
type Snapshot struct{ queries }

// Snapshot runs fn on the state that the database has when fn first reads: what is
// committed meanwhile does not show. Meanwhile fn has a connection, of which there are
// few, and SQLite keeps all that is written in its log; so fn waits for nobody.
func (db *DB) Snapshot(ctx context.Context, fn func(s *Snapshot) error) error {
	return db.engine.snapshot(ctx, func(r runner) error {
		return fn(&Snapshot{queries{run: r, now: db.now, seen: db.seen}})
	})
}

func (e *sqliteEngine) snapshot(ctx context.Context, fn func(runner) error) error {
	tx, err := e.readers.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin snapshot: %w", err)
	}
	defer tx.Rollback() // there is nothing to commit
	return fn(&liteSnapshot{tx})
}

func (e *postgresEngine) snapshot(ctx context.Context, fn func(runner) error) error {
	return e.pgPool.snapshot(ctx, fn)
}

func (p *pgPool) snapshot(ctx context.Context, fn func(runner) error) error {
	s := &pgSnapshot{pool: p}
	s.begin = func() (err error) {
		s.tx, err = p.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		return err
	}
	if err := p.repeat(ctx, s.begin); err != nil {
		return fmt.Errorf("begin snapshot: %w", err)
	}
	defer func() { s.tx.Rollback() }() // there is nothing to commit
	return fn(s)
}

// pgSnapshot runs statements in a transaction that reads. Until the first has read
// something it may become another transaction, when its connection is lost or a
// standby ends it.
type pgSnapshot struct {
	pool  *pgPool
	begin func() error // makes tx
	tx    bun.Tx
	over  bool // tx is
	read  bool // tx has
}

func (r *pgSnapshot) exec(context.Context, *statement, []any) (sql.Result, error) {
	return nil, errInSnapshot
}

func (r *pgSnapshot) query(ctx context.Context, s *statement, args []any) (found rows, err error) {
	err = r.in(ctx, func() (err error) {
		found, err = r.tx.Tx.QueryContext(ctx, s.postgres(), args...) // it has read the first row
		return err
	})
	return found, err
}

func (r *pgSnapshot) queryRow(ctx context.Context, s *statement, args []any) scanner {
	return scannerFunc(func(dest ...any) error {
		return r.in(ctx, func() error { return r.tx.Tx.QueryRowContext(ctx, s.postgres(), args...).Scan(dest...) })
	})
}

// in reads in the transaction, or in the one that takes its place.
func (r *pgSnapshot) in(ctx context.Context, read func() error) error {
	if r.read {
		return r.judge(ctx, read())
	}
	return r.pool.repeat(ctx, func() error {
		if r.over {
			if err := r.begin(); err != nil {
				return err
			}
			r.over = false
		}
		err := read()
		if r.read = err == nil || errors.Is(err, sql.ErrNoRows); !r.read {
			_ = r.tx.Rollback() // there is nothing to commit
			r.over = true
		}
		return err
	})
}

func (r *pgSnapshot) judge(ctx context.Context, err error) error { return r.pool.judge(ctx, err) }

func (r *pgSnapshot) bun() bun.IDB {
	r.read = true
	return r.tx
}

var errInSnapshot = errors.New("write in a snapshot")

// liteSnapshot runs statements in a transaction that reads. They are not prepared: that
// would take another connection of the pool. As for contexts, see liteWriter.
type liteSnapshot struct{ tx bun.Tx }

func (r *liteSnapshot) exec(context.Context, *statement, []any) (sql.Result, error) {
	return nil, errInSnapshot
}

func (r *liteSnapshot) query(ctx context.Context, s *statement, args []any) (rows, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return r.tx.Tx.QueryContext(context.Background(), s.lite(), args...)
}

func (r *liteSnapshot) queryRow(ctx context.Context, s *statement, args []any) scanner {
	if ctx.Err() == nil {
		ctx = context.Background()
	}
	return r.tx.Tx.QueryRowContext(ctx, s.lite(), args...)
}

func (r *liteSnapshot) bun() bun.IDB { return r.tx }

// Nodes come in the order in which they are stored, and so do values, but for those since
// a rev, which come in the order of their revs.
var (
	selectNodeBlocks = prepared(func(b *builder) bun.Query {
		order := "n.low, n.layer"
		if b.Dialect().Name() == dialect.PG {
			order = "n.layer, n.low"
		}
		return b.nodeBlocks().Where("n.rev > ?", b.p()).OrderExpr(order)
	})
	selectValueBlocks = prepared(func(b *builder) bun.Query { return b.valueBlocks().OrderExpr("r.path") })
	selectValuesSince = prepared(func(b *builder) bun.Query {
		return b.valueBlocks().Where("r.rev > ?", b.p()).OrderExpr("r.rev")
	})
	selectNodesNamed  = prepared(func(b *builder) bun.Query { return b.nodeBlocks().Where("?", b.among("n.cid", "bytea")) })
	selectValuesNamed = prepared(func(b *builder) bun.Query { return b.valueBlocks().Where("?", b.among("r.cid", "bytea")) })
)

func (b *builder) nodeBlocks() *bun.SelectQuery {
	return b.NewSelect().Model((*Node)(nil)).ColumnExpr("n.cid, n.data").Where("n.did = ?", b.p())
}

func (b *builder) valueBlocks() *bun.SelectQuery {
	return b.NewSelect().Model((*Record)(nil)).ColumnExpr("r.cid, r.value").Where("r.did = ?", b.p())
}

// NodeBlocks calls visit with name and data of each node of a repository that was made by
// a commit after since; empty: of all. Both are overwritten afterwards.
func (s *Snapshot) NodeBlocks(ctx context.Context, did syntax.DID, since string, visit func(cid, data []byte) error) error {
	return wrap(s.blocks(ctx, visit, selectNodeBlocks, did, since), "read nodes of %s", did)
}

// ValueBlocks is NodeBlocks for the values of records, also of those that are taken down.
// Records with the same value are several.
func (s *Snapshot) ValueBlocks(ctx context.Context, did syntax.DID, since string, visit func(cid, data []byte) error) error {
	if since == "" {
		return wrap(s.blocks(ctx, visit, selectValueBlocks, did), "read records of %s", did)
	}
	return wrap(s.blocks(ctx, visit, selectValuesSince, did, since), "read records of %s", did)
}

// BlocksNamed calls visit with each node and each value that has one of some names, as
// NodeBlocks and ValueBlocks do. Names have no index: all rows of the account are read.
func (s *Snapshot) BlocksNamed(ctx context.Context, did syntax.DID, names [][]byte, visit func(cid, data []byte) error) error {
	named := list(&s.queries, names)
	err := s.blocks(ctx, visit, selectNodesNamed, did, named)
	if err == nil {
		err = s.blocks(ctx, visit, selectValuesNamed, did, named)
	}
	return wrap(err, "find blocks of %s", did)
}

func (s *Snapshot) blocks(ctx context.Context, visit func(cid, data []byte) error, by *statement, args ...any) error {
	var cid, data sql.RawBytes
	return s.each(ctx, by, args, func(row scanner) error {
		if err := row.Scan(&cid, &data); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return visit(cid, data)
	})
}
