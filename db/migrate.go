package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"portico/db/migrations"
)

var (
	errReadOnly     = errors.New("database is open for reading only")
	errSchemaBehind = errors.New("database lacks a migration, which the next start of the server makes")
)

// The table of the steps that were made. It is made by hand: it is there before the
// first step.
var (
	makeMigrations = prepared(func(b *builder) bun.Query {
		return b.NewRaw("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
	})
	waitForMigrations = prepared(func(b *builder) bun.Query { return b.NewSelect().ColumnExpr("pg_advisory_xact_lock(?)", b.p()) })
	selectMigrations  = prepared(func(b *builder) bun.Query { return b.NewSelect().Model((*migration)(nil)) })
	insertMigration   = prepared(func(b *builder) bun.Query { return b.insert(new(migration)) })
)

type migration struct {
	bun.BaseModel `bun:"table:migration"`

	Name      string    `bun:"name,pk"`
	AppliedAt time.Time `bun:"applied_at"`
}

// migrate runs the steps that this database has not seen: they and the memory of them
// are there together or not at all.
//
// bun's own runner is not used. Its lock is a row that fails at once and outlives a
// process that was killed, it marks a step outside of the step's transaction, and it does
// not notice a schema that is ahead.
func (tx *Tx) migrate(ctx context.Context, e engine, c Config) error {
	if tx.postgres {
		if _, err := tx.exec(ctx, waitForMigrations, int64(migrationLock)); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
	}
	steps, err := migrations.For(e.name())
	if err != nil {
		return err
	}
	if _, err := tx.exec(ctx, makeMigrations); err != nil {
		return fmt.Errorf("make migration table: %w", err)
	}
	applied, err := tx.appliedSteps(ctx)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if applied[s.Name] {
			delete(applied, s.Name)
			continue
		}
		began := time.Now()
		// Not prepared: a step is many statements.
		if _, err := tx.run.bun().ExecContext(ctx, s.SQL); err != nil {
			return fmt.Errorf("step %s: %w", s.Name, err)
		}
		if s.Then != nil {
			if err := s.Then(ctx, tx.run.bun()); err != nil {
				return fmt.Errorf("step %s: %w", s.Name, err)
			}
		}
		if _, err := tx.exec(ctx, insertMigration, values(&migration{Name: s.Name, AppliedAt: c.Now()})...); err != nil {
			return fmt.Errorf("remember step %s: %w", s.Name, err)
		}
		if c.Stepped != nil {
			c.Stepped(s.Name, time.Since(began))
		}
		c.Logger.InfoContext(ctx, "database migrated", slog.String("step", s.Name))
	}
	if len(applied) > 0 {
		return fmt.Errorf("%w: it has seen %s", ErrSchemaAhead, strings.Join(slices.Sorted(maps.Keys(applied)), ", "))
	}
	return nil
}

// checkSchema returns an error unless the database has seen the steps of this
// version, no more and, unless it may be behind, no fewer.
func checkSchema(ctx context.Context, e engine, seen *observer, behind bool) error {
	steps, err := migrations.For(e.name())
	if err != nil {
		return err
	}
	applied, err := (&queries{run: e.reader(), seen: seen}).appliedSteps(ctx)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if !applied[s.Name] && !behind {
			return fmt.Errorf("%w: %s", errSchemaBehind, s.Name)
		}
		delete(applied, s.Name)
	}
	for name := range applied {
		return fmt.Errorf("%w: it has seen %s", ErrSchemaAhead, name)
	}
	return nil
}

// PendingSteps are the steps of the schema that this version would make, in their order.
func (db *DB) PendingSteps(ctx context.Context) ([]migrations.Step, error) {
	steps, err := migrations.For(db.Engine())
	if err != nil {
		return nil, err
	}
	applied, err := db.appliedSteps(ctx)
	return slices.DeleteFunc(steps, func(s migrations.Step) bool { return applied[s.Name] }), err
}

func (q *queries) appliedSteps(ctx context.Context) (map[string]bool, error) {
	rows, err := many[migration](ctx, q, selectMigrations)
	applied := make(map[string]bool, len(rows))
	for _, r := range rows {
		applied[r.Name] = true
	}
	return applied, wrap(err, "read migration table")
}
