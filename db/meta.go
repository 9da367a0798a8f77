package db

import "context"

// Meta returns a named value about the database itself, or ErrNotFound.
func (q *queries) Meta(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := q.getText(ctx, `SELECT value FROM meta WHERE name = ?`, []any{name}, &value)
	return value, wrap(err, "read meta value %s", name)
}

// PutMeta stores a named value in the place of the one there was.
func (tx *Tx) PutMeta(ctx context.Context, name string, value []byte) error {
	_, err := tx.execText(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value)
	return wrap(err, "store meta value %s", name)
}

// MetaOr returns a named value, having stored value where there was none.
func (tx *Tx) MetaOr(ctx context.Context, name string, value []byte) ([]byte, error) {
	_, err := tx.execText(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, name, value)
	if err != nil {
		return nil, wrap(err, "store meta value %s", name)
	}
	return tx.Meta(ctx, name)
}
