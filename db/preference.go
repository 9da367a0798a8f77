package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
)

// preferences are those of an account. They are read and written as a whole, so they have
// one row.
type preferences struct {
	bun.BaseModel `bun:"table:preferences,alias:p"`

	DID  syntax.DID `bun:"did"`
	List []byte     `bun:"list"` // a JSON array
}

var (
	selectPreferences = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*preferences)(nil)).Column("list").Where("p.did = ?", b.p())
	})
	putPreferences = prepared(func(b *builder) bun.Query {
		return b.insert(new(preferences)).On("CONFLICT (did) DO UPDATE").Set("list = excluded.list")
	})
	deletePreferences = prepared(func(b *builder) bun.Query {
		return b.NewDelete().Model((*preferences)(nil)).Where("did = ?", b.p())
	})
)

// Preferences returns the preferences of an account, JSON each, in the order in which they
// were put; none where there is no account.
func (q *queries) Preferences(ctx context.Context, did syntax.DID) ([]json.RawMessage, error) {
	var text []byte
	err := q.get(ctx, selectPreferences, []any{did}, &text)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	var list []json.RawMessage
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	return list, wrap(err, "read preferences of %s", did)
}

// PutPreferences stores the preferences of an account in the place of those that it has.
// Who goes by the latter locks the account first. It returns ErrNotFound when there is no
// account.
func (tx *Tx) PutPreferences(ctx context.Context, did syntax.DID, list []json.RawMessage) error {
	if len(list) == 0 {
		_, err := tx.exec(ctx, deletePreferences, did)
		return wrap(err, "delete preferences of %s", did)
	}
	text := []byte("[")
	for i, one := range list {
		if !json.Valid(one) { // the list could not be read any more
			return fmt.Errorf("store preferences of %s: not JSON", did)
		}
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, one...)
	}
	_, err := tx.exec(ctx, putPreferences, values(&preferences{DID: did, List: append(text, ']')})...)
	return wrap(err, "store preferences of %s", did)
}
