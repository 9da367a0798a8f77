package db_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// The benchmarks do not wait for the disk: they show the CPU that SQL costs.

func benchmarkAccounts(b *testing.B) (*db.DB, []syntax.DID) {
	b.Helper()
	d := dbtest.Open(b, func(c *db.Config) { c.Now = func() time.Time { return start } })
	dids := make([]syntax.DID, 1000)
	for n := range dids {
		dids[n] = create(b, d, n)
	}
	return d, dids
}

func BenchmarkAccountByDID(b *testing.B) {
	d, dids := benchmarkAccounts(b)
	// Like that of a request: a context that can end.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if _, err := d.AccountByDID(ctx, dids[n%len(dids)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

func benchmarkWrite(b *testing.B, write func(ctx context.Context, tx *db.Tx, did syntax.DID, n int) error) {
	d, dids := benchmarkAccounts(b)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		err := d.Write(ctx, func(tx *db.Tx) error { return write(ctx, tx, dids[n%len(dids)], n) })
		if err != nil {
			b.Fatal(err)
		}
		n++
	}
}

func id(n int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 24), uint64(n)) }

func BenchmarkEmptyWrite(b *testing.B) {
	benchmarkWrite(b, func(context.Context, *db.Tx, syntax.DID, int) error { return nil })
}

func BenchmarkInsertSession(b *testing.B) {
	benchmarkWrite(b, func(ctx context.Context, tx *db.Tx, did syntax.DID, n int) error {
		return tx.InsertSession(ctx, db.Session{ID: id(n), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)})
	})
}

func BenchmarkExchangeSession(b *testing.B) {
	benchmarkWrite(b, func(ctx context.Context, tx *db.Tx, did syntax.DID, n int) error {
		at := n/100*1000 + n%100 // in families of a hundred
		if n%100 == 0 {
			if err := tx.InsertSession(ctx, db.Session{ID: id(at), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}); err != nil {
				return err
			}
		}
		s, err := tx.LockSession(ctx, id(at), "", start)
		if err != nil {
			return err
		}
		_, err = tx.Exchange(ctx, s, id(at+1), start, 2*time.Hour, 90*24*time.Hour)
		return err
	})
}

func BenchmarkSpendBudget(b *testing.B) {
	benchmarkWrite(b, func(ctx context.Context, tx *db.Tx, did syntax.DID, _ int) error {
		_, _, err := tx.SpendBudget(ctx, "kind", did.String(), 10, time.Hour, start)
		return err
	})
}

// BenchmarkCreateAccount is the reservation and the completion.
func BenchmarkCreateAccount(b *testing.B) {
	d := dbtest.Open(b)
	ctx := b.Context()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		r := account(n)
		r.Account.DID = syntax.DID(fmt.Sprintf("did:plc:c%023d", n))
		r.Key.DID, r.Genesis = r.Account.DID, make([]byte, 900)
		did := r.Account.DID
		if err := d.Write(ctx, func(tx *db.Tx) error { return tx.ReserveAccount(ctx, r) }); err != nil {
			b.Fatal(err)
		}
		err := d.Write(ctx, func(tx *db.Tx) error {
			if err := tx.FinishAccount(ctx, did, "me"); err != nil {
				return err
			}
			err := errors.Join(
				tx.InsertRepo(ctx, did, db.Repo{CommitCID: make([]byte, 36), CommitBlock: make([]byte, 230), Rev: "rev", DataCID: make([]byte, 36), Nodes: 1}),
				tx.PutNode(ctx, did, db.Node{CID: make([]byte, 36), Rev: "rev", Data: make([]byte, 7)}))
			if err != nil {
				return err
			}
			if err := tx.DeleteReservedKeys(ctx, did); err != nil {
				return err
			}
			if err := tx.InsertSession(ctx, db.Session{ID: id(n), DID: did, CreatedAt: start, ExpiresAt: start.Add(time.Hour)}); err != nil {
				return err
			}
			e := db.Event{DID: did, Kind: "commit", Body: make([]byte, 400)}
			return tx.AppendEvents(ctx, e, e, e, e)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
