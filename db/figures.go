package db

import (
	"context"
	"database/sql"
	"time"

	"github.com/uptrace/bun"
)

// Figures are what a database has done since it was opened, and how it is.
type Figures struct {
	// Statements were run, BEGIN and COMMIT among them; Slow of them took as long as
	// [Config] says.
	Statements, Slow int64
	// Pool are the connections: to Postgres all, to SQLite those that read.
	Pool sql.DBStats
	// Waiting is how many wait for their turn to write, on SQLite.
	Waiting int
	// OnStandby is how often [Read] and the like were answered by the standby, NotOnStandby how
	// often by the primary although there is a standby.
	OnStandby, NotOnStandby int64
	// File and Log are the bytes of SQLite's database and of its write-ahead log.
	File, Log int64
}

// Figures returns them. It reads nothing of the database itself.
func (db *DB) Figures() Figures {
	f := Figures{
		Statements: db.seen.count.Load(), Slow: db.seen.slowly.Load(), Pool: db.engine.pool().Stats(), Waiting: db.engine.waiting(),
	}
	f.File, f.Log = db.engine.files()
	if s := db.standby; s != nil {
		f.OnStandby, f.NotOnStandby = s.read.Load(), s.missed.Load()
	}
	return f
}

// The states that accounts are counted in.
const (
	CountedActive      = "active"
	CountedCreating    = "creating"
	CountedDeactivated = "deactivated"
	CountedHeld        = "quarantined"
	CountedTakenDown   = "takendown"
)

// notActive are the statuses that most accounts are not in.
var notActive = [...]string{CountedCreating, CountedDeactivated, CountedTakenDown}

// A Backlog is what is there and what waits.
type Backlog struct {
	// Accounts are counted by state, each in one; a state that none is in is not named.
	Accounts map[string]int
	// Quarantined accounts wait for whoever releases them.
	Quarantined int
	// Creations, CleanUps and HandleChanges have operations of the directory that are not known to
	// be there, or to be absent. Moves are DIDs of a move that are still to be looked at.
	Creations, CleanUps, HandleChanges, Moves int
	// Mails wait to be delivered, the first of them since Oldest, which is zero if none does.
	Mails  int
	Oldest time.Time
}

var (
	// Active accounts are what is left: SQLite counts all by an index alone, but looks at the
	// row of each that it counts by its status, which is generated.
	countByStatus = prepared(func(b *builder) bun.Query {
		s := b.NewSelect().ColumnExpr("(?)", b.NewSelect().Model((*Account)(nil)).ColumnExpr("count(*)"))
		for _, status := range notActive {
			s = s.ColumnExpr("(?)", b.NewSelect().Model((*Account)(nil)).ColumnExpr("count(*)").Where("a.status = ?", status))
		}
		return s
	})
	// CROSS has SQLite begin with the quarantine, and not with all that are active.
	countHeldActive = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Quarantined)(nil)).ColumnExpr("count(*)").Join("CROSS JOIN account AS a").
			Where("a.did = q.did").Where("a.held_at IS NOT NULL").Where("a.status = ?", CountedActive)
	})
	selectBacklog = prepared(func(b *builder) bun.Query {
		rows := func(model any) *bun.SelectQuery { return b.NewSelect().Model(model).ColumnExpr("count(*)") }
		return b.NewSelect().ColumnExpr("(?)", rows((*Quarantined)(nil)).Where("q.state IN ('held', 'sent')")).
			ColumnExpr("(?)", rows((*creation)(nil))).ColumnExpr("(?)", rows((*Cleanup)(nil))).
			ColumnExpr("(?)", rows((*HandleChange)(nil))).ColumnExpr("(?)", rows((*DIDMove)(nil)).Where("state = ?", DIDWaiting)).
			ColumnExpr("(?)", b.waitingMails().ColumnExpr("count(*)")).ColumnExpr("(?)", b.waitingMails().ColumnExpr("min(created_at)"))
	})
)

// Backlog counts what is there and what waits. It reads all of an index of accounts and, on
// SQLite, each account that is not active, which takes a part of a second where there are some
// million: ask now and then.
func (q *queries) Backlog(ctx context.Context) (Backlog, error) {
	b := Backlog{Accounts: make(map[string]int)}
	err := q.get(ctx, selectBacklog, nil, &b.Quarantined, &b.Creations, &b.CleanUps, &b.HandleChanges, &b.Moves, &b.Mails, &b.Oldest)
	if err != nil {
		return b, wrap(err, "count what waits")
	}
	var all int
	var others [len(notActive)]int
	if err := q.get(ctx, countByStatus, nil, &all, &others[0], &others[1], &others[2]); err != nil {
		return b, wrap(err, "count accounts by state")
	}
	b.count(CountedActive, all)
	for i, status := range notActive {
		b.count(status, others[i])
		b.count(CountedActive, -others[i])
	}
	var held int
	err = q.get(ctx, countHeldActive, nil, &held)
	if held = min(held, b.Accounts[CountedActive]); held > 0 { // it was counted a bit later
		b.count(CountedHeld, held)
		b.count(CountedActive, -held)
	}
	return b, wrap(err, "count accounts by state")
}

// count adds to the accounts in a state.
func (b *Backlog) count(state string, n int) {
	if b.Accounts[state] += n; b.Accounts[state] == 0 {
		delete(b.Accounts, state)
	}
}
