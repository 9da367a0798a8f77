package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
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
	// Postgres' only; a transaction of SQLite is alone. Who waited sees what the others made,
	// and who reads does not wait.
	seeOthers = prepared(func(b *builder) bun.Query {
		return b.NewRaw("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
	})
	lockMigrations = prepared(func(b *builder) bun.Query {
		return b.NewRaw("LOCK TABLE migration IN SHARE ROW EXCLUSIVE MODE")
	})
	selectMigrations = prepared(func(b *builder) bun.Query { return b.NewSelect().Model((*migration)(nil)).Column("name") })
	selectOldest     = prepared(func(b *builder) bun.Query { return b.NewSelect().Model((*migration)(nil)).Column("name", "oldest") })
	insertMigration  = prepared(func(b *builder) bun.Query { return b.insert(new(migration), "oldest") })
	insertOldest     = prepared(func(b *builder) bun.Query { return b.insert(new(migration)) })
)

// oldestSince is the step from which on the table has the column oldest.
const oldestSince = "0024_more_nodes"

type migration struct {
	bun.BaseModel `bun:"table:migration"`

	Name      string    `bun:"name,pk"`
	AppliedAt time.Time `bun:"applied_at"`
	// Oldest is that of the step, "" where it is the step itself.
	Oldest string `bun:"oldest,nullzero"`
}

// migrate runs the steps that this database has not seen: they and the memory of them
// are there together or not at all.
//
// bun's own runner is not used. Its lock is a row that fails at once and outlives a
// process that was killed, it marks a step outside of the step's transaction, and it does
// not notice a schema that is ahead.
func (tx *Tx) migrate(ctx context.Context, e engine, c Config) error {
	steps, err := migrations.For(e.name())
	if err != nil {
		return err
	}
	if tx.postgres {
		if _, err := tx.exec(ctx, seeOthers); err != nil {
			return err
		}
	}
	if _, err := tx.exec(ctx, makeMigrations); err != nil {
		if tx.postgres && madeMeanwhile(err) {
			err = &passing{err}
		}
		return fmt.Errorf("make migration table: %w", err)
	}
	if tx.postgres {
		if _, err := tx.exec(ctx, lockMigrations); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
	}
	applied, err := tx.appliedSteps(ctx)
	if err != nil {
		return err
	}
	unknown, err := tx.unknownSteps(ctx, steps, applied)
	if err != nil {
		return err
	}
	if len(unknown) > 0 {
		c.Logger.WarnContext(ctx, "a newer version has migrated the database, and this one works with that", slog.Any("steps", unknown))
	}
	for _, s := range steps {
		if applied[s.Name] {
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
		if err := tx.rememberStep(ctx, s, c.Now()); err != nil {
			return fmt.Errorf("remember step %s: %w", s.Name, err)
		}
		if c.Stepped != nil {
			c.Stepped(s.Name, time.Since(began))
		}
		c.Logger.InfoContext(ctx, "database migrated", slog.String("step", s.Name))
	}
	return nil
}

func (tx *Tx) rememberStep(ctx context.Context, s migrations.Step, now time.Time) error {
	m := &migration{Name: s.Name, AppliedAt: now}
	if s.Name < oldestSince {
		_, err := tx.exec(ctx, insertMigration, values(m, "oldest")...)
		return err
	}
	if s.Oldest != s.Name {
		m.Oldest = s.Oldest
	}
	_, err := tx.exec(ctx, insertOldest, values(m)...)
	return err
}

// madeMeanwhile reports whether an error is that of CREATE TABLE IF NOT EXISTS when another
// process made the table at the same time.
func madeMeanwhile(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "23505" || pg.Code == "42P07") // unique_violation, duplicate_table
}

// checkSchema returns an error unless the database has seen the steps of this
// version, none that does not work with it and, unless it may be behind, no fewer.
func checkSchema(ctx context.Context, e engine, seen *observer, behind bool) error {
	steps, err := migrations.For(e.name())
	if err != nil {
		return err
	}
	q := &queries{run: e.reader(), seen: seen}
	applied, err := q.appliedSteps(ctx)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if !applied[s.Name] && !behind {
			return fmt.Errorf("%w: %s", errSchemaBehind, s.Name)
		}
	}
	_, err = q.unknownSteps(ctx, steps, applied)
	return err
}

// unknownSteps are those that were made and are none of steps, which are all of this version,
// in their order. It is ErrSchemaAhead where this version does not work with one of them.
func (q *queries) unknownSteps(ctx context.Context, steps []migrations.Step, applied map[string]bool) ([]string, error) {
	unknown := maps.Clone(applied)
	newest := ""
	for _, s := range steps {
		delete(unknown, s.Name)
		newest = s.Name
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	names := slices.Sorted(maps.Keys(unknown))
	oldest, err := q.oldestVersions(ctx, applied)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if oldest[name] > newest {
			return nil, fmt.Errorf("%w: it has seen %s, with which only a version works that knows %s", ErrSchemaAhead, name, oldest[name])
		}
	}
	return names, nil
}

// oldestVersions has the newest step of the oldest version that works with each step that was
// made, as far as the steps said so.
func (q *queries) oldestVersions(ctx context.Context, applied map[string]bool) (map[string]string, error) {
	oldest := make(map[string]string, len(applied))
	for name := range applied {
		oldest[name] = name
	}
	if !applied[oldestSince] {
		return oldest, nil
	}
	err := q.each(ctx, selectOldest, nil, func(row scanner) error {
		var name, said string
		err := row.Scan(&name, orEmpty{&said})
		if said != "" {
			oldest[name] = said
		}
		return err
	})
	return oldest, wrap(err, "read migration table")
}

// OldestVersion is the newest step that the oldest version knows which works with the database
// as it is, or will be once the given steps are made.
func (q *queries) OldestVersion(ctx context.Context, pending ...migrations.Step) (string, error) {
	applied, err := q.appliedSteps(ctx)
	if err != nil {
		return "", err
	}
	all, err := q.oldestVersions(ctx, applied)
	oldest := ""
	for _, step := range all {
		oldest = max(oldest, step)
	}
	for _, s := range pending {
		oldest = max(oldest, s.Oldest)
	}
	return oldest, err
}

// Fits is ErrSchemaAhead once another process has made a step of the schema with which this
// version does not work.
func (db *DB) Fits(ctx context.Context) error {
	steps, err := migrations.For(db.Engine())
	if err != nil {
		return err
	}
	applied, err := db.appliedSteps(ctx)
	if err != nil {
		return err
	}
	_, err = db.unknownSteps(ctx, steps, applied)
	return err
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
	applied := make(map[string]bool)
	err := q.each(ctx, selectMigrations, nil, func(row scanner) error {
		var name string
		err := row.Scan(&name)
		applied[name] = true
		return err
	})
	return applied, wrap(err, "read migration table")
}
