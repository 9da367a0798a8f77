package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"portico/db"
)

// openData opens the database, and before it the secrets that it is used with. Where
// they do not go together both are left, or made to be, as they were.
func openData(ctx context.Context, c configuration, s *settings, slow func() time.Duration, log *slog.Logger) (*db.DB, error) {
	absent := absentDirectories(s.DataDirectory)
	warned := len(s.Warnings)
	if err := c.fill(s); err != nil {
		return nil, err
	}
	for _, warning := range s.Warnings[warned:] {
		log.Warn(warning)
	}
	store, err := db.Open(ctx, db.Config{
		URL: string(s.DatabaseURL), Pooled: s.DatabasePooled, ReadURL: string(s.DatabaseReadURL), ListenURL: string(s.DatabaseListenURL),
		Dir: s.DataDirectory, Serves: s.localURL(), Synchronous: s.SQLiteSynchronous,
		SequenceStart: s.SequenceStart, Slow: slow, Logger: log, LockWait: c.LockWait,
		Check: func(ctx context.Context, tx *db.Tx) error {
			for _, check := range []func(context.Context, *settings, *db.Tx) error{checkDirectory, checkSecrets, checkKeys} {
				if err := check(ctx, s, tx); err != nil {
					return err
				}
			}
			return nil
		},
	})
	switch {
	case errors.Is(err, db.ErrLocked):
		return nil, fmt.Errorf("open database: %w", err) // the other may have read our secrets
	case errors.Is(err, db.ErrSchemaAhead):
		err = unfit(fmt.Errorf("%w: start a version that does, or restore the backup from before", err))
	case errors.Is(err, db.ErrPooler):
		err = unfit(err)
	case err == nil && s.SecretsFile != "" && !exists(s.SecretsFile):
		err = errors.Join(fmt.Errorf("%s was taken away during the start: start again", s.SecretsFile), store.Close())
	}
	if err == nil {
		return store, nil
	}
	where := ""
	if s.DatabaseURL != "" {
		where = " (PORTICO_DATABASE_URL)"
	}
	return nil, errors.Join(fmt.Errorf("open database%s: %w", where, err), s.takeBack(absent))
}

// takeBack removes the secrets that this start has made, unless there is a database of
// theirs, and those of the directories that are empty then.
func (s *settings) takeBack(directories []string) error {
	if !s.SecretsMade || s.DatabaseURL == "" && exists(s.databaseFile()) {
		return nil
	}
	if err := removeIfThere(s.SecretsFile); err != nil {
		return fmt.Errorf("take back the new secrets: %w", err)
	}
	for _, dir := range directories {
		if os.Remove(dir) != nil {
			break // somebody has put something there
		}
	}
	return nil
}

// absentDirectories is dir and those above it that do not exist, the innermost first.
func absentDirectories(dir string) []string {
	var absent []string
	for ; !exists(dir); dir = filepath.Dir(dir) {
		absent = append(absent, dir)
	}
	return absent
}

// checkDirectory refuses to take DIDs that nobody else knows into the world.
func checkDirectory(ctx context.Context, s *settings, tx *db.Tx) error {
	if s.PLCURL == nil {
		return nil
	}
	used, err := tx.HasPLCOperations(ctx)
	if err != nil {
		return err
	}
	if used && !s.Development {
		return unfit(errors.New("the accounts of this database were made with the embedded PLC directory of a " +
			"development server: their DIDs exist nowhere else. Use an empty data directory (PDS_DATA_DIRECTORY) " +
			"or database (PORTICO_DATABASE_URL)"))
	}
	return nil
}

// checkSecrets refuses to go on with a database of accounts when the secrets it
// was used with are gone. For a database in a file this was found out earlier.
func checkSecrets(ctx context.Context, s *settings, tx *db.Tx) error {
	if !s.SecretsMade {
		return nil
	}
	accounts, err := tx.Accounts(ctx, "", 1)
	if err != nil || len(accounts) == 0 {
		return err
	}
	return unfit(fmt.Errorf("the database has accounts, but %s, which has the secrets they were made with, is gone. "+
		"Restore it, or set the variables it held to their old values (portico config names them)", s.SecretsFile))
}
