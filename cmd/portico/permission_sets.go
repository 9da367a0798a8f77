package main

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/oauth/permissionset"
)

// setStore remembers permission sets in the database, where every node finds them.
type setStore struct{ db *db.DB }

var _ permissionset.Store = setStore{}

func (s setStore) PermissionSet(ctx context.Context, nsid syntax.NSID) (*permissionset.Stored, error) {
	row, err := s.db.PermissionSet(ctx, nsid)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &permissionset.Stored{Document: row.Document, FetchedAt: row.FetchedAt, TriedAt: row.TriedAt}, nil
}

func (s setStore) SavePermissionSet(ctx context.Context, nsid syntax.NSID, found permissionset.Stored) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		return tx.PutPermissionSet(ctx, db.PermissionSet{
			NSID: nsid, Document: found.Document, FetchedAt: found.FetchedAt, TriedAt: found.TriedAt,
		})
	})
}

// own returns the lexicon that an account of this server publishes, as [permissionset.Sets.Own]
// wants it: none of an account that is not active or in quarantine, nor one that is taken down.
func (s setStore) own(ctx context.Context, did syntax.DID, key syntax.NSID) (record []byte, here bool, err error) {
	a, err := s.db.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) || err == nil && a.Held() {
		return nil, false, nil
	}
	if err != nil || !a.Active() {
		// One that is not active may have moved away.
		return nil, false, err
	}
	r, err := s.db.Record(ctx, did, permissionset.Collection+"/"+key.String())
	if errors.Is(err, db.ErrNotFound) {
		return nil, true, nil
	}
	if err != nil || r.TakedownRef != "" {
		return nil, true, err
	}
	return r.Value, true, nil
}
