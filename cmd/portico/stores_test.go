package main

import (
	"testing"

	"portico/db/dbtest"
	"portico/impl/directory"
	"portico/impl/directory/directorytest"
)

func TestPLCStore(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		directorytest.Run(t, func(t testing.TB) directory.Store { return plcStore{dbtest.Open(t)} })
	})
	t.Run("postgres", func(t *testing.T) {
		directorytest.Run(t, func(t testing.TB) directory.Store { return plcStore{dbtest.Postgres(t)} })
	})
}
