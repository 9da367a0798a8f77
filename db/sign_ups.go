package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"
)

// SignUps counts the accounts of a day.
type SignUps struct {
	Day     time.Time // its beginning, in UTC
	Made    int       // accounts that were made on it and are there still
	Held    int       // those of them whose quarantine has not ended
	Deleted int       // accounts that were deleted on it, as long as the record tells
}

// aDay is how long a day is, as times are stored.
const aDay = "86400000000"

var (
	countSignUps = prepared(func(b *builder) bun.Query {
		return b.NewSelect().Model((*Account)(nil)).ColumnExpr("a.created_at / "+aDay+" AS day").
			ColumnExpr("count(*)").ColumnExpr("count(q.did)").
			Join("LEFT JOIN quarantine AS q ON q.did = a.did AND "+silent).
			Where("a.state = 'ready'").Where("a.created_at >= ?", b.p()).GroupExpr("1")
	})
	// The ages of entries are in two indexes.
	countDeletions = prepared(func(b *builder) bun.Query {
		since := b.p()
		of := func(addresses string) *bun.SelectQuery {
			return b.NewSelect().Model((*AuditEntry)(nil)).ColumnExpr("at / "+aDay+" AS day").
				Where("event = 'account_deleted'").Where("at >= ?", since).Where(addresses)
		}
		return b.NewSelect().Column("day").ColumnExpr("count(*)").
			TableExpr("(?) AS deletion", of("address IS NULL").UnionAll(of("address IS NOT NULL"))).GroupExpr("1")
	})
)

// SignUps counts the accounts of the days from since on, which is the beginning of one,
// until today, the first day first: there is one for each. It reads all accounts that were
// made since, and all of the record.
func (q *queries) SignUps(ctx context.Context, since, today time.Time) ([]SignUps, error) {
	var days []SignUps
	for day := since; !day.After(today); day = day.Add(24 * time.Hour) {
		days = append(days, SignUps{Day: day})
	}
	first := since.Unix() / (24 * 60 * 60)
	of := func(day int64) *SignUps {
		if i := day - first; i >= 0 && i < int64(len(days)) {
			return &days[i]
		}
		return new(SignUps) // of a clock that is ahead
	}
	err := q.each(ctx, countSignUps, []any{since}, func(row scanner) error {
		var day int64
		var made, held int
		err := row.Scan(&day, &made, &held)
		of(day).Made, of(day).Held = made, held
		return err
	})
	if err != nil {
		return nil, wrap(err, "count accounts by day")
	}
	err = q.each(ctx, countDeletions, []any{since}, func(row scanner) error {
		var day int64
		var deleted int
		err := row.Scan(&day, &deleted)
		of(day).Deleted = deleted
		return err
	})
	return days, wrap(err, "count deletions by day")
}
