package db

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// constraints says what a violated constraint means, by the name Postgres gives
// it and by the columns SQLite reports.
var constraints = map[string]error{
	"account_pkey":       ErrDIDTaken,
	"account_handle_key": ErrHandleTaken,
	"account_email_key":  ErrEmailTaken,
	"app_password_pkey":  ErrNameTaken,

	"account.did":                         ErrDIDTaken,
	"account.handle":                      ErrHandleTaken,
	"account.email":                       ErrEmailTaken,
	"app_password.did, app_password.name": ErrNameTaken,
}

// sentinel turns what a driver says into the errors of this package where there
// is one for it.
func sentinel(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrNoRows):
		return ErrNotFound
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "23505": // unique_violation
			if known := constraints[pg.ConstraintName]; known != nil {
				return fmt.Errorf("%w: %w", known, err)
			}
		case "23503": // foreign_key_violation: the account is gone
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		return unpooled(err)
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
			_, columns, _ := strings.Cut(lite.Error(), "UNIQUE constraint failed: ")
			columns, _, _ = strings.Cut(columns, " (")
			if known := constraints[columns]; known != nil {
				return fmt.Errorf("%w: %w", known, err)
			}
		case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
			return fmt.Errorf("%w: %w", ErrNotFound, err)
		}
	}
	return err
}
