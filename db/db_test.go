package db_test

import (
	"testing"

	"portico/db"
	"portico/db/dbtest"
)

func TestSQLite(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, o ...dbtest.Option) *db.DB { return dbtest.Open(t, o...) })
}

func TestPostgres(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, o ...dbtest.Option) *db.DB { return dbtest.Postgres(t, o...) })
}
