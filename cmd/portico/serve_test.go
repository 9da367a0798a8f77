package main

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
)

// A database on another machine does not tell by its file that its secrets are
// missing.
func TestCheckSecrets(t *testing.T) {
	store := dbtest.Open(t)
	start := func() (*settings, error) {
		dir := t.TempDir()
		s, err := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir}, Rand: rand.Reader, Now: time.Now}.load()
		if err != nil {
			t.Fatal(err)
		}
		return s, checkSecrets(t.Context(), s, store)
	}
	if _, err := start(); err != nil {
		t.Fatalf("with an empty database: %v", err)
	}
	err := store.Write(t.Context(), func(tx *db.Tx) error {
		a := db.Account{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "alice.test", CreatedAt: time.Now()}
		err := tx.ReserveAccount(t.Context(), db.Reservation{
			Account: a, Holder: "test", LeaseUntil: time.Now(),
			Key: db.SigningKey{DID: a.DID, Purpose: "atproto", Public: "did:key:z", Sealed: []byte{1}},
		})
		if err != nil {
			return err
		}
		return tx.FinishAccount(t.Context(), a.DID, "test")
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := start()
	if err == nil || !strings.Contains(err.Error(), "secrets.env") {
		t.Fatalf("with accounts: %v", err)
	}
	// The next start must not take the made-up secrets for the right ones.
	if _, err := os.Stat(filepath.Join(s.DataDirectory, "secrets.env")); !os.IsNotExist(err) {
		t.Errorf("the new secrets are still there: %v", err)
	}
}

// Who starts a second server beside another learns which setting keeps them apart.
func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	s, err := configuration{
		Environ: []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), fmt.Sprint("PDS_PORT=", port), "PORTICO_PLC_PORT=0", "PORTICO_LOG_LEVEL=error"},
		Rand:    rand.Reader, Now: time.Now,
	}.load()
	if err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), s, io.Discard); err == nil || !strings.Contains(err.Error(), "PDS_PORT") || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("at a port in use: %v", err)
	}
}

// A database that a newer version has brought up to date is named as such, with what
// can be done.
func TestSchemaAhead(t *testing.T) {
	dir := t.TempDir()
	store, err := db.Open(t.Context(), db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := sql.Open("sqlite", filepath.Join(dir, "portico.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.ExecContext(t.Context(), `INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)`)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir, "PDS_PORT=0"}, Rand: rand.Reader, Now: time.Now}.read()
	if s == nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), s, io.Discard); !errors.Is(err, db.ErrSchemaAhead) || !strings.Contains(err.Error(), "restore the backup") {
		t.Errorf("a newer schema: %v", err)
	}
}
