package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/keyring"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

// keyEncryptionKey is the setting of all servers here.
const keyEncryptionKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// keyPurpose is what the signing keys of accounts are sealed for.
const keyPurpose = "atproto"

const (
	seedBatch = 1000 // records or nodes that one transaction writes
	seedGroup = 500  // accounts that one transaction makes
)

// A seeding fills the database of a server that does not run.
type seeding struct {
	db   *db.DB
	keys *keyring.Ring
	from time.Time // of the first record

	picture int    // bytes of the one that a profile shows; 0: there is no profile
	blobs   string // the folder of pictures
}

const (
	pictureType = "image/jpeg"
	blobFolder  = "blobs" // in the data folder
)

// seed makes the accounts of s with their posts in the database in dir. They have keys that
// the server can open, and DIDs that no directory knows.
func seed(ctx context.Context, dir string, of size) (err error) {
	store, err := db.Open(ctx, db.Config{Dir: dir, Synchronous: "OFF", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer store.Close()
	kek, err := hex.DecodeString(keyEncryptionKey)
	if err != nil {
		return err
	}
	s := &seeding{db: store, from: time.Now().Add(-24 * time.Hour).Truncate(time.Second), picture: of.picture, blobs: filepath.Join(dir, blobFolder)}
	if s.keys, err = keyring.New(rand.Reader, kek); err != nil {
		return err
	}
	for first := 0; first < of.accounts; first += seedGroup {
		err := s.group(ctx, first, min(first+seedGroup, of.accounts), of.records)
		if err != nil {
			return fmt.Errorf("seed accounts from %d: %w", first, err)
		}
	}
	return nil
}

// group makes accounts, in one transaction unless they have many records.
func (s *seeding) group(ctx context.Context, first, end, records int) error {
	if s.picture > 0 {
		if err := s.pictures(first, end); err != nil {
			return err
		}
	}
	keys := make([]*atcrypto.PrivateKeyK256, end-first)
	write := func(fn func(tx *db.Tx) error) error { return s.db.Write(ctx, fn) }
	err := write(func(tx *db.Tx) (err error) {
		for n := range keys {
			if keys[n], err = s.account(ctx, tx, first+n); err != nil {
				return err
			}
		}
		return nil
	})
	fill := func(write func(func(tx *db.Tx) error) error) error {
		for n, key := range keys {
			if err := s.repository(ctx, write, first+n, key, records); err != nil {
				return err
			}
		}
		return nil
	}
	switch {
	case err != nil:
		return err
	case records > seedBatch:
		return fill(write)
	}
	return write(func(tx *db.Tx) error {
		return fill(func(fn func(tx *db.Tx) error) error { return fn(tx) })
	})
}

func (s *seeding) account(ctx context.Context, tx *db.Tx, n int) (*atcrypto.PrivateKeyK256, error) {
	did := seededDID(n)
	key, err := keyring.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	sealed, err := s.keys.Seal(keyPurpose, did.String(), key.Bytes())
	if err != nil {
		return nil, err
	}
	r := db.Reservation{
		Account: db.Account{
			DID: did, Handle: syntax.Handle(fmt.Sprintf("seed-%d.bench.example.com", n)), Email: fmt.Sprintf("seed-%d@example.com", n),
			CreatedAt: s.from,
		},
		Key:    db.SigningKey{DID: did, Purpose: keyPurpose, Public: public.DIDKey(), Sealed: sealed},
		Holder: "bench", LeaseUntil: s.from,
	}
	if err := tx.ReserveAccount(ctx, r); err != nil {
		return nil, err
	}
	return key, tx.FinishAccount(ctx, did, "bench")
}

// pictures puts the pictures of accounts where the store has them, but waits for no disk.
func (s *seeding) pictures(first, end int) error {
	for n := first; n < end; n++ {
		data := seededPicture(n, s.picture)
		dir := filepath.Join(s.blobs, seededDID(n).String())
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, dagcbor.Sum(dagcbor.CodecRaw, data).String()), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// profile stores a profile with its picture, and returns its row.
func (s *seeding) profile(ctx context.Context, write func(func(tx *db.Tx) error) error, n int, rev string) (db.Record, error) {
	picture := dagcbor.Sum(dagcbor.CodecRaw, seededPicture(n, s.picture))
	value, err := dagcbor.Marshal(map[string]any{
		"$type": profiles, "displayName": fmt.Sprint("Person ", n), "description": "Somebody who is measured.",
		"avatar": map[string]any{"$type": "blob", "mimeType": pictureType, "size": s.picture, "ref": picture},
	})
	if err != nil {
		return db.Record{}, err
	}
	cid, did := dagcbor.Sum(dagcbor.CodecDAGCBOR, value), seededDID(n)
	r := db.Record{Path: profiles + "/self", CID: cid[:], Rev: rev, IndexedAt: s.from, Value: value}
	return r, write(func(tx *db.Tx) error {
		if err := tx.PutBlobs(ctx, did, db.Blob{CID: picture[:], MIME: pictureType, Size: int64(s.picture), CreatedAt: s.from}); err != nil {
			return err
		}
		return tx.PutRecordBlobs(ctx, did, []db.RecordBlob{{Path: r.Path, CID: picture[:]}})
	})
}

// repository makes the repository of account n, some rows at a time.
func (s *seeding) repository(
	ctx context.Context, write func(func(tx *db.Tx) error) error, n int, key *atcrypto.PrivateKeyK256, records int,
) error {
	did := seededDID(n)
	rev := syntax.NewTIDFromTime(s.from, 0)
	var rows []db.Record
	var nodes []db.Node
	flush := func() error {
		err := write(func(tx *db.Tx) error {
			if err := tx.PutRecords(ctx, did, rows...); err != nil {
				return err
			}
			return tx.PutNodes(ctx, did, nodes...)
		})
		rows, nodes = rows[:0], nodes[:0]
		return err
	}
	b := tree.Builder{Emit: func(r tree.Row) error {
		nodes = append(nodes, db.Node{Low: r.Place.Low, Layer: r.Place.Layer, CID: r.CID[:], Rev: rev.String(), Data: r.Data})
		return nil
	}}
	var collections []string
	if records > 0 {
		collections = append(collections, posts)
	}
	pictures := 0
	if s.picture > 0 {
		profile, err := s.profile(ctx, write, n, rev.String())
		if err != nil {
			return err
		}
		if err := b.Add(profile.Path, dagcbor.CID(profile.CID)); err != nil {
			return err
		}
		rows, collections, pictures = append(rows, profile), append(collections, profiles), 1
	}
	for n := range records {
		at := s.from.Add(time.Duration(n) * time.Millisecond)
		value, err := seededPost(n, at)
		if err != nil {
			return err
		}
		block := car.Block{CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, value), Data: value}
		path := posts + "/" + syntax.NewTIDFromTime(at, 0).String()
		if err := b.Add(path, block.CID); err != nil {
			return err
		}
		rows = append(rows, db.Record{Path: path, CID: block.CID[:], Rev: rev.String(), IndexedAt: at, Value: value})
		if len(rows) == seedBatch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	root, err := b.Root()
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	signed, err := repo.Sign(did, key, rev, root.CID)
	if err != nil {
		return err
	}
	return write(func(tx *db.Tx) error {
		for _, collection := range collections {
			if err := tx.AddCollection(ctx, did, collection); err != nil {
				return err
			}
		}
		return tx.InsertRepo(ctx, did, db.Repo{
			CommitCID: signed.Commit.CID[:], CommitBlock: signed.Commit.Data, Rev: rev.String(), DataCID: root.CID[:], Layer: root.Layer,
			Records: b.Records, Nodes: b.Nodes, ExpectedBlobs: pictures, ImportedBlobs: pictures,
		})
	})
}

func seededPost(n int, at time.Time) ([]byte, error) {
	return dagcbor.Marshal(map[string]any{
		"$type": posts, "createdAt": at.UTC().Format("2006-01-02T15:04:05.000Z"), "langs": []any{"en"},
		"text": fmt.Sprintf("What a day, number %d: the lake was as flat as a mirror, and nobody was there but us and a heron.", n),
	})
}
