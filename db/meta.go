package db

import (
	"context"

	"github.com/uptrace/bun"
)

// meta is a named value about the database itself.
type meta struct {
	bun.BaseModel `bun:"table:meta,alias:meta"`

	Name  string `bun:"name,pk"`
	Value []byte `bun:"value"`
}

var (
	selectMeta = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*meta)(nil)).Column("value").Where("name = ?", b.p())
	})
	putMeta = prepared(func(b *builder) bun.Query {
		return b.insert(new(meta)).On("CONFLICT (name) DO UPDATE").Set("value = excluded.value")
	})
	swapMeta = prepared(func(b *builder) bun.Query {
		return b.NewUpdate().Model((*meta)(nil)).Set("value = ?", b.p()).Where("name = ?", b.p()).Where("value = ?", b.p())
	})
	deleteMeta = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*meta)(nil)).Where("name = ?", b.p())
	})
	putMissingMeta = prepared(func(b *builder) bun.Query { return b.insert(new(meta)).On("CONFLICT (name) DO NOTHING") })
)

// Meta returns a named value about the database itself, or ErrNotFound.
func (q *queries) Meta(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := q.get(ctx, selectMeta, []any{name}, &value)
	return value, wrap(err, "read meta value %s", name)
}

// PutMeta stores a named value in the place of the one there was.
func (tx *Tx) PutMeta(ctx context.Context, name string, value []byte) error {
	_, err := tx.exec(ctx, putMeta, name, value)
	return wrap(err, "store meta value %s", name)
}

// MetaOr returns a named value, having stored value where there was none.
func (tx *Tx) MetaOr(ctx context.Context, name string, value []byte) ([]byte, error) {
	if _, err := tx.exec(ctx, putMissingMeta, name, value); err != nil {
		return nil, wrap(err, "store meta value %s", name)
	}
	return tx.Meta(ctx, name)
}

// DeleteMeta removes a named value, if there is one.
func (tx *Tx) DeleteMeta(ctx context.Context, name string) error {
	_, err := tx.exec(ctx, deleteMeta, name)
	return wrap(err, "delete meta value %s", name)
}

// SwapMeta stores a named value in the place of the one that was read, nil for none. It
// returns ErrStale when another one is there by now.
func (tx *Tx) SwapMeta(ctx context.Context, name string, before, after []byte) error {
	var n int64
	var err error
	if before == nil {
		n, err = tx.exec(ctx, putMissingMeta, name, after)
	} else {
		n, err = tx.exec(ctx, swapMeta, after, name, before)
	}
	return wrap(fresh(n, err), "change meta value %s", name)
}
