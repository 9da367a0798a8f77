package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"portico/db/migrations"
)

var (
	errReadOnly     = errors.New("database is open for reading only")
	errSchemaBehind = errors.New("database lacks a migration, which the next start of the server makes")
)

// migrate runs the steps that this database has not seen, in the one transaction
// of r: they and the memory of them are there together or not at all. (bun's own
// runner marks a step outside of the step's transaction.)
func migrate(ctx context.Context, e engine, r runner, c Config) error {
	if e.name() == postgresName {
		if _, err := r.exec(ctx, "SELECT pg_advisory_xact_lock(?)", []any{int64(migrationLock)}); err != nil {
			return fmt.Errorf("wait for other migrations: %w", err)
		}
	}
	steps, err := migrations.For(e.name())
	if err != nil {
		return err
	}
	_, err = r.exec(ctx, "CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)", nil)
	if err != nil {
		return fmt.Errorf("make migration table: %w", err)
	}
	applied, err := appliedSteps(ctx, r)
	if err != nil {
		return err
	}
	for _, s := range steps {
		if applied[s.Name] {
			delete(applied, s.Name)
			continue
		}
		// Not prepared: a step is many statements.
		if _, err := r.bun().ExecContext(ctx, s.SQL); err != nil {
			return fmt.Errorf("step %s: %w", s.Name, err)
		}
		_, err := r.exec(ctx, "INSERT INTO migration (name, applied_at) VALUES (?, ?)", []any{s.Name, micros(c.Now())})
		if err != nil {
			return fmt.Errorf("remember step %s: %w", s.Name, err)
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
func checkSchema(ctx context.Context, e engine, behind bool) error {
	steps, err := migrations.For(e.name())
	if err != nil {
		return err
	}
	applied, err := appliedSteps(ctx, e.reader())
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

func appliedSteps(ctx context.Context, r runner) (map[string]bool, error) {
	applied := make(map[string]bool)
	q := queries{run: r}
	err := q.each(ctx, "SELECT name FROM migration", nil, func(row *sql.Rows) error {
		var name string
		err := row.Scan(&name)
		applied[name] = true
		return err
	})
	return applied, wrap(err, "read migration table")
}
