package main

import (
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"portico/cmd/portico/launch"
	"portico/db"
	"portico/db/dbtest"
)

// failStart starts a server that does not come up, and returns why.
func failStart(t *testing.T, environ ...string) error {
	t.Helper()
	c := configuration{Environ: with([]string{"PORTICO_LOG_LEVEL=error"}, environ...), Rand: rand.Reader, Now: time.Now}
	s, err := c.read()
	if err != nil {
		return err
	}
	if err := run(t.Context(), c, s, io.Discard); err != nil {
		return err
	}
	t.Fatal("the server came up, and ended well")
	return nil
}

// contents are the files below dir, by their hashes, and its folders. What a process keeps
// beside a database while it reads is none of them.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "-wal") || strings.HasSuffix(path, "-shm") {
			found[path] = ""
			return err
		}
		data, err := os.ReadFile(path)
		found[path] = fmt.Sprintf("%x", sha256.Sum256(data))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// takenPort is one of this machine that is taken until the test ends.
func takenPort(t *testing.T) int {
	t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	return taken.Addr().(*net.TCPAddr).Port
}

// Who starts a second server beside another learns which setting keeps them apart, and
// finds no data where there were none.
func TestPortInUse(t *testing.T) {
	for _, name := range []string{"PDS_PORT", "PORTICO_PLC_PORT"} {
		parent := t.TempDir()
		environ := []string{"PDS_DATA_DIRECTORY=" + filepath.Join(parent, "a", "data"), "PORTICO_PLC_PORT=0", fmt.Sprint("PDS_PORT=", freePort(t)), fmt.Sprint(name, "=", takenPort(t))}
		err := failStart(t, environ...)
		if err == nil || !strings.Contains(err.Error(), name) || !errors.Is(err, syscall.EADDRINUSE) || exitStatus(err) != 1 {
			t.Errorf("%s in use: %v", name, err)
		}
		if found := contents(t, parent); len(found) != 1 {
			t.Errorf("%s in use: it left %v", name, found)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// A start that fails for the database's sake leaves it at the version where it was, and
// ends with the status that says that another one is of no use.
func TestAFailedStartLeavesTheDatabase(t *testing.T) {
	port := func() string { return fmt.Sprint("PDS_PORT=", freePort(t)) }
	for _, tt := range []struct {
		name    string
		prepare string // a statement
		environ []string
		want    string
	}{
		{"another key", "", []string{"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee"},
			"PORTICO_KEY_ENCRYPTION_KEY is not the key that this database was sealed with"},
		{"a newer schema", "INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)", nil, "restore the backup"},
		{"accounts of the embedded directory", "INSERT INTO plc_operation (did, cid, operation, created_at) VALUES ('did:plc:x', 'x', x'7b7d', 0)",
			production, "their DIDs exist nowhere else"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			_, stop := startFor(t, "PDS_DATA_DIRECTORY="+dir)
			stop()
			raw, err := sql.Open("sqlite", filepath.Join(dir, databaseName))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := raw.ExecContext(t.Context(), "CREATE TABLE untouched AS SELECT 1 AS one; PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
				t.Fatal(err)
			}
			if tt.prepare != "" {
				if _, err := raw.ExecContext(t.Context(), tt.prepare); err != nil {
					t.Fatal(err)
				}
			}
			if err := raw.Close(); err != nil {
				t.Fatal(err)
			}
			before := contents(t, dir)
			err = failStart(t, with(append(tt.environ, "PDS_DATA_DIRECTORY="+dir, "PORTICO_PLC_PORT=0", "PORTICO_BIND=127.0.0.1"), port())...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || exitStatus(err) != 78 {
				t.Errorf("ends with %d: %v", exitStatus(err), err)
			}
			if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
				t.Errorf("the start changed: %s", diff)
			}
		})
	}
}

// A database on another machine does not tell by its file that its secrets are
// missing. The next start must not take made-up secrets for the right ones.
func TestSecretsOfADatabaseElsewhere(t *testing.T) {
	database := "PORTICO_DATABASE_URL=" + dbtest.PostgresURL(t)
	const key = "PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee"
	first := t.TempDir()
	_, stop := startFor(t, database, key, "PDS_DATA_DIRECTORY="+first)
	stop()
	elsewhere := t.TempDir()
	environ := func(dir string) []string {
		return []string{database, key, "PDS_DATA_DIRECTORY=" + dir, "PORTICO_PLC_PORT=0", fmt.Sprint("PDS_PORT=", freePort(t))}
	}
	_, stop = startFor(t, database, key, "PDS_DATA_DIRECTORY="+elsewhere) // there is nothing to lose yet
	stop()

	store, err := db.Open(t.Context(), db.Config{URL: strings.TrimPrefix(database, "PORTICO_DATABASE_URL="), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	err = store.Write(t.Context(), func(tx *db.Tx) error {
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
	parent := t.TempDir()
	err = failStart(t, environ(filepath.Join(parent, "a", "data"))...)
	if err == nil || !strings.Contains(err.Error(), "secrets.env") || exitStatus(err) != 78 {
		t.Fatalf("with accounts: %v", err)
	}
	if found := contents(t, parent); len(found) != 1 {
		t.Errorf("it left %v", found)
	}
	// Neither does one that has no database to go to leave secrets.
	err = failStart(t, "PORTICO_DATABASE_URL=postgres://127.0.0.1:"+fmt.Sprint(freePort(t))+"/x", key,
		"PDS_DATA_DIRECTORY="+filepath.Join(parent, "data"), "PORTICO_PLC_PORT=0", fmt.Sprint("PDS_PORT=", freePort(t)))
	if err == nil || !strings.Contains(err.Error(), "open database (PORTICO_DATABASE_URL)") || exitStatus(err) != 1 {
		t.Errorf("without a database: %v", err)
	}
	if found := contents(t, parent); len(found) != 1 {
		t.Errorf("it left %v", found)
	}
}

// The data of a reference PDS are neither read nor written beside.
func TestDataOfAReferencePDS(t *testing.T) {
	for _, name := range []string{"account.sqlite", "actors/"} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		before := contents(t, dir)
		err := failStart(t, with(production, "PDS_DATA_DIRECTORY="+dir)...)
		want := "PDS_DATA_DIRECTORY has the data of a reference PDS (" + strings.TrimSuffix(name, "/") + "): leave that folder as it is. To take its accounts over, stop that server and run \"portico adopt " + dir + " --into FOLDER\""
		if err == nil || !strings.Contains(err.Error(), want) || exitStatus(err) != 78 {
			t.Errorf("%s: ends with %d: %v", name, exitStatus(err), err)
		}
		if diff := cmp.Diff(before, contents(t, dir)); diff != "" {
			t.Errorf("%s: the start changed: %s", name, diff)
		}
		// Nothing is kept there when everything is elsewhere.
		mustRead(t, with(production, "PDS_DATA_DIRECTORY="+dir, "PORTICO_DATABASE_URL=postgres://localhost/portico",
			"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee")...)
	}
}

// A server ends as one that is refused at its start when a newer version has made a step that it
// does not work with.
func TestSchemaAheadOfARunningServer(t *testing.T) {
	database := dbtest.DirectURL(t)
	c := configuration{Environ: with([]string{"PORTICO_LOG_LEVEL=error"}, "PORTICO_DATABASE_URL="+database, "PDS_DATA_DIRECTORY="+t.TempDir(),
		"PORTICO_SIGNUP_RETRY=10ms", "PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee",
		"PORTICO_PLC_PORT=0", fmt.Sprint("PDS_PORT=", freePort(t))), Rand: rand.Reader, Now: time.Now}
	s, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	up := &starting{ready: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), c, s, up) }()
	select {
	case <-up.ready:
	case err := <-ended:
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)"); err != nil {
		t.Fatal(err)
	}
	err = <-ended
	if err == nil || !strings.Contains(err.Error(), "it has seen 9999_future, with which only a version works that knows 9999_future: start a version that does") || exitStatus(err) != 78 {
		t.Errorf("ended with %v, status %d", err, exitStatus(err))
	}
}
