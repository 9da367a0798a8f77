package reference_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/db/reference"
	"portico/impl/reference/referencetest"
)

// openFile tells this binary to be a process that has a database open until its input ends.
const openFile = "PORTICO_REFERENCE_TEST_OPEN"

func TestMain(m *testing.M) {
	if path := os.Getenv(openFile); path != "" {
		if err := keepOpen(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func keepOpen(path string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	var n int
	if err := conn.QueryRowContext(context.Background(), "SELECT count(*) FROM kysely_migration").Scan(&n); err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

const (
	alice = "did:plc:n7flptxnnur5t4ulmjv3oz37"
	bob   = "did:plc:pu2pzz5wjr6fmhepelxsvkqv"
	ivan  = "did:web:localhost%3A3633"
)

func layout(dir string) reference.Layout {
	return reference.Layout{
		AccountDB:   filepath.Join(dir, "account.sqlite"),
		SequencerDB: filepath.Join(dir, "sequencer.sqlite"),
		Actors:      filepath.Join(dir, "actors"),
		Blobs:       filepath.Join(dir, "blocks"),
		Temporary:   filepath.Join(dir, "blocks", "tempt"),
		Quarantine:  filepath.Join(dir, "blocks", "quarantine"),
		Settings:    filepath.Join(dir, "pds.env"),
	}
}

func open(t *testing.T, dir string) *reference.Source {
	t.Helper()
	s, err := reference.Open(t.Context(), layout(dir), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openStore(t *testing.T, s *reference.Source, did string) *reference.Store {
	t.Helper()
	store, err := s.Store(t.Context(), did)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

// all are the values of a sequence, which must not fail.
func all[T any](t *testing.T, seq iter.Seq2[T, error]) []T {
	t.Helper()
	var found []T
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, v)
	}
	return found
}

// failure is the error that ends a sequence.
func failure[T any](seq iter.Seq2[T, error]) error {
	for _, err := range seq {
		if err != nil {
			return err
		}
	}
	return nil
}

// execute runs statements on a database of the source, and leaves no log.
func execute(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(path, "%", "%25"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func storePath(t *testing.T, dir, did, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "actors", "??", did))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return filepath.Join(found[0], name)
}

// traces are the bytes, modes and times of all files below a folder, and the folders.
func traces(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		found[path] = fmt.Sprint(info.Mode(), info.ModTime().UnixNano(), " ")
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			found[path] += string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// readAll reads everything that a source has, and says how much of what there is.
func readAll(t *testing.T, s *reference.Source) map[string]int {
	t.Helper()
	ctx := t.Context()
	n := map[string]int{
		"actors":          len(all(t, s.Actors(ctx))),
		"app passwords":   len(all(t, s.AppPasswords(ctx))),
		"refresh tokens":  len(all(t, s.RefreshTokens(ctx))),
		"email tokens":    len(all(t, s.EmailTokens(ctx))),
		"invite codes":    len(all(t, s.InviteCodes(ctx))),
		"invite uses":     len(all(t, s.InviteCodeUses(ctx))),
		"events":          len(all(t, s.Events(ctx, 0))),
		"events after 60": len(all(t, s.Events(ctx, 60))),
		"roots":           len(all(t, s.RepoRoots(ctx))),
	}
	grants, err := s.OAuthGrants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n["grants"] = grants
	revs, err := s.LastRevs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n["revs"] = len(revs)
	reserved, err := s.ReservedKeys()
	if err != nil {
		t.Fatal(err)
	}
	n["reserved keys"] = len(reserved)
	for _, did := range all(t, s.Folders(ctx)) {
		n["stores"]++
		if _, err := s.Key(did); err != nil {
			t.Error(err)
		}
		store := openStore(t, s, did)
		root, err := store.Root(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := store.Block(ctx, root.CID); err != nil || int64(len(b.Content)) != b.Size {
			t.Errorf("root of %s: %v, %v", did, b, err)
		}
		blocks, err := store.BlockCount(ctx)
		if err != nil || len(all(t, store.Blocks(ctx))) != int(blocks) {
			t.Errorf("%d blocks of %s, %v", blocks, did, err)
		}
		n["blocks"] += int(blocks)
		n["records"] += len(all(t, store.Records(ctx)))
		n["blobs"] += len(all(t, store.Blobs(ctx)))
		n["record blobs"] += len(all(t, store.RecordBlobs(ctx)))
		n["preferences"] += len(all(t, store.Preferences(ctx)))
	}
	return n
}

// Everything is read, what only the logs have as well, and nothing is left or changed.
func TestRead(t *testing.T) {
	for name, want := range map[string]map[string]int{
		referencetest.Stopped: {
			"actors": 12, "app passwords": 6, "refresh tokens": 24, "email tokens": 5, "invite codes": 6, "invite uses": 13,
			"events": 83, "events after 60": 27, "grants": 3, "revs": 11, "reserved keys": 2, "stores": 12, "roots": 12,
			"blocks": 182, "records": 123, "blobs": 7, "record blobs": 8, "preferences": 5,
		},
		// Two posts and a sign-in are in the logs only.
		referencetest.Crashed: {
			"actors": 12, "app passwords": 6, "refresh tokens": 26, "email tokens": 5, "invite codes": 6, "invite uses": 13,
			"events": 85, "events after 60": 29, "grants": 3, "revs": 11, "reserved keys": 2, "stores": 12, "roots": 12,
			"blocks": 186, "records": 125, "blobs": 7, "record blobs": 8, "preferences": 5,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := referencetest.Unpack(t, name)
			before, scratch := traces(t, dir), t.TempDir()
			s, err := reference.Open(t.Context(), layout(dir), scratch)
			if err != nil {
				t.Fatal(err)
			}
			printed, err := s.Fingerprint()
			if err != nil {
				t.Fatal(err)
			}
			t.Run("all", func(t *testing.T) {
				if got := readAll(t, s); !maps.Equal(got, want) {
					t.Errorf("got %v\nwant %v", got, want)
				}
			})
			if again, err := s.Fingerprint(); err != nil || again != printed {
				t.Errorf("fingerprint was %s, is %s, %v", printed, again, err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if left := traces(t, scratch); len(left) != 1 {
				t.Errorf("left in scratch: %v", slices.Collect(maps.Keys(left)))
			}
			if !maps.Equal(traces(t, dir), before) {
				t.Error("the directory has changed")
			}
		})
	}
}

// text is what a column that may be NULL has, for failures.
func text(s *string) string {
	if s == nil {
		return "NULL"
	}
	return *s
}

func TestRows(t *testing.T) {
	s := open(t, referencetest.Unpack(t, referencetest.Stopped))
	var actors []string
	for _, a := range all(t, s.Actors(t.Context())) {
		actors = append(actors, a.DID)
		switch text(a.Handle) {
		case "alice.pds.adopt.test":
			if text(a.Email) != "alice@adopt.test" || len(text(a.PasswordScrypt)) != 32+1+128 || a.TakedownRef != nil || a.InvitesDisabled {
				t.Errorf("%+v", a)
			}
		case "bob.pds.adopt.test":
			if !a.InvitesDisabled {
				t.Error("bob may invite")
			}
		case "frank.pds.adopt.test":
			if a.TakedownRef == nil || a.DeactivatedAt == nil {
				t.Errorf("%+v", a)
			}
		case "kim.pds.adopt.test": // has no row among the accounts
			if a.Email != nil || a.PasswordScrypt != nil || a.InvitesDisabled {
				t.Errorf("%+v", a)
			}
		}
	}
	if !slices.IsSorted(actors) || !slices.Contains(actors, ivan) {
		t.Errorf("got %q", actors)
	}
	for _, p := range all(t, s.AppPasswords(t.Context())) {
		if p.DID == alice && p.Name == "desk top ☎" {
			return
		}
	}
	t.Error("alice's app password is missing")
}

func TestEvents(t *testing.T) {
	s := open(t, referencetest.Unpack(t, referencetest.Crashed))
	seq, at, err := s.LastEvent(t.Context())
	if err != nil || seq != 90 {
		t.Fatalf("last event %d, %v", seq, err)
	}
	events := all(t, s.Events(t.Context(), 88))
	if len(events) != 2 || events[0].Seq != 89 || events[1].Seq != 90 || events[1].SequencedAt != at || events[1].DID != alice || events[1].Type != "append" {
		t.Errorf("after 88: %v", events)
	}
	for i, want := range map[int64]int64{89: 88, 90: 89} {
		when, err := reference.ParseTime(events[i-89].SequencedAt)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.LastBefore(t.Context(), when); err != nil || got != want {
			t.Errorf("last before %d: %d, %v", i, got, err)
		}
	}
	if got, err := s.LastBefore(t.Context(), time.Time{}); err != nil || got != 0 {
		t.Errorf("last before all: %d, %v", got, err)
	}
	revs, err := s.LastRevs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for did, want := range map[string]string{alice: "3n3exfjz5xk2v", bob: "3n3exeyj73u26"} {
		if revs[did] != want {
			t.Errorf("last rev of %s is %q", did, revs[did])
		}
	}
	root, err := openStore(t, s, bob).Root(t.Context())
	if err != nil || root.Rev != "3n3exfo7kqk2v" {
		t.Errorf("root %v, %v", root, err)
	}
}

func TestEventCounts(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Stopped)
	execute(t, layout(dir).SequencerDB, "UPDATE repo_seq SET eventType = 'handle' WHERE seq = 1", "UPDATE repo_seq SET invalidated = 1 WHERE seq = 88",
		"UPDATE repo_seq SET sequencedAt = '2020-01-01T00:00:00.000Z' WHERE seq IN (2, 10)")
	s := open(t, dir)
	last, err := s.LastBefore(t.Context(), time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil || last != 10 {
		t.Fatal(last, err)
	}
	counts, err := s.EventCounts(t.Context(), last)
	if err != nil {
		t.Fatal(err)
	}
	var all, older, withdrawn, handles int64
	for _, c := range counts {
		all += c.Events
		if c.Older {
			older += c.Events
		}
		if c.Invalidated {
			withdrawn += c.Events
		}
		if c.Type == "handle" {
			handles += c.Events
		}
	}
	if all != 83 || older != 10 || withdrawn != 1 || handles != 1 {
		t.Errorf("got %+v", counts)
	}
}

// Of an erased event the number stays given.
func TestLastEventErased(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Stopped)
	execute(t, layout(dir).SequencerDB, "DELETE FROM repo_seq WHERE seq > 60")
	if seq, _, err := open(t, dir).LastEvent(t.Context()); seq != 88 || err != nil {
		t.Errorf("got %d, %v", seq, err)
	}
	execute(t, layout(dir).SequencerDB, "DELETE FROM repo_seq", "DELETE FROM sqlite_sequence")
	if seq, at, err := open(t, dir).LastEvent(t.Context()); seq != 0 || at != "" || err != nil {
		t.Errorf("got %d, %q, %v", seq, at, err)
	}
}

// Editions from before a migration lack what it brought.
func TestOlderEditions(t *testing.T) {
	dropOAuth := []string{"DROP TABLE used_refresh_token", "DROP TABLE token"}
	for name, change := range map[string][]string{
		"004 half way to 005": {"DELETE FROM kysely_migration WHERE name > '004'"},
		"002": append(dropOAuth, "DELETE FROM kysely_migration WHERE name > '002'",
			"ALTER TABLE app_password DROP COLUMN privileged"),
		"001": append(dropOAuth, "DELETE FROM kysely_migration WHERE name > '001'",
			"ALTER TABLE app_password DROP COLUMN privileged",
			"ALTER TABLE actor DROP COLUMN deactivatedAt", "ALTER TABLE actor DROP COLUMN deleteAfter"),
	} {
		t.Run(name, func(t *testing.T) {
			dir := referencetest.Unpack(t, referencetest.Stopped)
			execute(t, layout(dir).AccountDB, change...)
			s := open(t, dir)
			if got := s.Migrations(); got[len(got)-1] != name[:3] {
				t.Errorf("migrations %v", got)
			}
			old := name[:3] < "004"
			for _, p := range all(t, s.AppPasswords(t.Context())) {
				if old && p.Privileged {
					t.Errorf("%s is privileged", p.Name)
				}
			}
			for _, a := range all(t, s.Actors(t.Context())) {
				if name == "001" && (a.DeactivatedAt != nil || a.DeleteAfter != nil) {
					t.Errorf("%+v", a)
				}
			}
			if n, err := s.OAuthGrants(t.Context()); err != nil || (n == 0) != old {
				t.Errorf("%d grants, %v", n, err)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	sequencer := func(dir string) string { return layout(dir).SequencerDB }
	accounts := func(dir string) string { return layout(dir).AccountDB }
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   error
		says   string
	}{
		{"unknown migration", func(t *testing.T, dir string) {
			execute(t, accounts(dir), "INSERT INTO kysely_migration VALUES ('008', '')")
		}, reference.ErrUnknownEdition, `account.sqlite: edition is not known: migration "008" was run`},
		{"unknown migration of events", func(t *testing.T, dir string) {
			execute(t, sequencer(dir), "INSERT INTO kysely_migration VALUES ('002', '')")
		}, reference.ErrUnknownEdition, `sequencer.sqlite: edition is not known: migration "002" was run`},
		{"migration cut off", func(t *testing.T, dir string) {
			execute(t, accounts(dir), "UPDATE kysely_migration_lock SET is_locked = 1")
		}, reference.ErrUnknownEdition, "account.sqlite: edition is not known: a migration was cut off"},
		{"another program's", func(t *testing.T, dir string) {
			execute(t, accounts(dir), "DROP TABLE kysely_migration")
		}, reference.ErrUnknownEdition, "account.sqlite: edition is not known: it has no table kysely_migration"},
		{"empty file", func(t *testing.T, dir string) {
			truncate(t, accounts(dir), 0)
		}, reference.ErrUnknownEdition, "account.sqlite: edition is not known: it has no table kysely_migration"},
		{"of 2023", func(t *testing.T, dir string) {
			if err := os.Rename(accounts(dir), filepath.Join(dir, "pds.sqlite")); err != nil {
				t.Fatal(err)
			}
		}, reference.ErrTooOld, "edition is too old: there is pds.sqlite in place of account.sqlite"},
		{"no directory", func(t *testing.T, dir string) {
			if err := os.Remove(accounts(dir)); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist, "account.sqlite: no such file"},
		{"no sequencer", func(t *testing.T, dir string) {
			if err := os.Remove(sequencer(dir)); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrNotExist, "sequencer.sqlite: no such file"},
		{"table missing", func(t *testing.T, dir string) {
			execute(t, accounts(dir), "DROP TABLE invite_code")
		}, reference.ErrDamaged, "account.sqlite: file is damaged: it has no table invite_code"},
		{"cut off", func(t *testing.T, dir string) {
			truncate(t, sequencer(dir), 20000)
		}, reference.ErrDamaged, "sequencer.sqlite: file is damaged"},
		{"no database", func(t *testing.T, dir string) {
			overwrite(t, accounts(dir), 0, strings.Repeat("x", 200))
		}, reference.ErrDamaged, "account.sqlite: file is damaged"},
		{"garbage in a page", func(t *testing.T, dir string) {
			overwrite(t, accounts(dir), 8*4096, strings.Repeat("x", 4096))
		}, reference.ErrDamaged, "account.sqlite: file is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, scratch := referencetest.Unpack(t, referencetest.Stopped), t.TempDir()
			tt.change(t, dir)
			s, err := reference.Open(t.Context(), layout(dir), scratch)
			if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.says) || s != nil {
				t.Errorf("got %v", err)
			}
			if left := traces(t, scratch); len(left) != 1 {
				t.Errorf("left in scratch: %v", slices.Collect(maps.Keys(left)))
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path string, at int64, with string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte(with), at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// A process that has one of the databases open is named, and one that was killed is not
// taken for it.
func TestInUse(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"account.sqlite", "sequencer.sqlite"} {
		t.Run(name, func(t *testing.T) {
			dir := referencetest.Unpack(t, referencetest.Crashed)
			path := filepath.Join(dir, name)
			s := open(t, dir)
			child := exec.CommandContext(t.Context(), self)
			child.Env = append(os.Environ(), openFile+"="+path)
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
				t.Fatal(line, err)
			}
			want := fmt.Sprintf("directory is in use: process %d has %s open", child.Process.Pid, path)
			if err := s.InUse(); !errors.Is(err, reference.ErrInUse) || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
			if _, err := reference.Open(t.Context(), layout(dir), t.TempDir()); !errors.Is(err, reference.ErrInUse) {
				t.Errorf("opened: %v", err)
			}
			if err := errors.Join(in.Close(), child.Wait()); err != nil {
				t.Fatal(err)
			}
			if err := s.InUse(); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is written after the first look, or to the settings, shows.
func TestFingerprint(t *testing.T) {
	dir := referencetest.Unpack(t, referencetest.Stopped)
	s := open(t, dir)
	seen := make(map[string]string)
	look := func(after string) {
		t.Helper()
		printed, err := s.Fingerprint()
		if err != nil {
			t.Fatal(err)
		}
		if before, ok := seen[printed]; ok {
			t.Errorf("the same after %s as after %s", after, before)
		}
		seen[printed] = after
	}
	look("nothing")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		look(name)
	}
	write("account.sqlite-wal", "x")
	write("sequencer.sqlite-wal", "x")
	write("pds.env", "x")
	for _, name := range []string{"account.sqlite", "sequencer.sqlite", "pds.env"} {
		if err := os.Chtimes(filepath.Join(dir, name), time.Time{}, time.Unix(1e9, 1)); err != nil {
			t.Fatal(err)
		}
		look("new time of " + name)
	}
	if err := os.Remove(filepath.Join(dir, "pds.env")); err != nil {
		t.Fatal(err)
	}
	look("removing pds.env")
}

// Columns take values of any type: what does not belong there is named, but not what a
// session or a code goes by.
func TestLooseTypes(t *testing.T) {
	const secret = "secret-code"
	for _, tt := range []struct {
		change string // of account.sqlite or sequencer.sqlite
		says   string // after the file's name; "" when it is as good
		read   func(ctx context.Context, s *reference.Source) error
	}{
		{"UPDATE actor SET createdAt = x'00' WHERE did = '" + bob + "'", "table actor: row 2 of " + bob + ": file is damaged", actors},
		{"UPDATE actor SET did = NULL WHERE rowid = 3", "table actor: row 3: file is damaged", actors},
		{"UPDATE actor SET handle = CAST(x'ff' AS TEXT) WHERE did = '" + bob + "'", "table actor: row 2 of " + bob + ": file is damaged", actors},
		{"UPDATE account SET email = x'00' WHERE did = '" + bob + "'", "table actor: row 2 of " + bob + ": file is damaged", actors},
		{"UPDATE account SET invitesDisabled = 'yes' WHERE did = '" + bob + "'", "table actor: row 2 of " + bob + ": file is damaged", actors},
		{"UPDATE account SET invitesDisabled = 2 WHERE did = '" + bob + "'", "table actor: row 2 of " + bob + ": file is damaged", actors},
		{"UPDATE app_password SET privileged = 0.5 WHERE rowid = 1", "table app_password: row 1 of " + alice + ": file is damaged", appPasswords},
		{"UPDATE refresh_token SET expiresAt = x'00', id = '" + secret + "' WHERE rowid = 1", "table refresh_token: row 1", refreshTokens},
		{"UPDATE refresh_token SET id = NULL WHERE rowid = 1", "table refresh_token: row 1: file is damaged", refreshTokens},
		{"UPDATE refresh_token SET nextId = x'00' WHERE rowid = 1", "table refresh_token: row 1 of did:", refreshTokens},
		{"UPDATE email_token SET requestedAt = x'00', token = '" + secret + "' WHERE rowid = 1", "table email_token: row 1 of did:", emailTokens},
		{"UPDATE invite_code SET disabled = NULL", "", inviteCodes},
		{"UPDATE invite_code SET disabled = 'no', code = '" + secret + "' WHERE rowid = 1", "table invite_code: row 1: file is damaged", inviteCodes},
		{"UPDATE invite_code SET availableUses = 'many' WHERE rowid = 1", "table invite_code: row 1: file is damaged", inviteCodes},
		{"UPDATE invite_code_use SET usedAt = x'00', code = '" + secret + "' WHERE rowid = 1", "table invite_code_use: row 1: file is damaged", inviteUses},
		{"UPDATE repo_seq SET event = 'text' WHERE seq = 40", "table repo_seq: row 40 of did:", events},
		{"UPDATE repo_seq SET event = x'' WHERE seq = 40", "", events},
		{"UPDATE repo_seq SET invalidated = 'x' WHERE seq = 40", "table repo_seq: row 40 of did:", events},
		{"UPDATE repo_seq SET eventType = x'00' WHERE seq = 40", "table repo_seq: row 40 of did:", events},
		{"UPDATE repo_seq SET eventType = x'00' WHERE seq = 40", "table repo_seq: file is damaged: column eventType: bytes where text belongs", eventCounts},
		{"UPDATE repo_seq SET sequencedAt = x'00' WHERE seq = 88", "table repo_seq: file is damaged", lastEvent},
		{"UPDATE sqlite_sequence SET seq = 'x'", "table sqlite_sequence: file is damaged", lastEvent},
		{"UPDATE repo_seq SET event = x'a163726576' WHERE did = '" + bob + "'", "table repo_seq, last event of " + bob + ": file is damaged", lastRevs},
		{"UPDATE repo_seq SET event = 7 WHERE did = '" + bob + "'", "table repo_seq, last event of " + bob + ": file is damaged", lastRevs},
		{"UPDATE sqlite_sequence SET seq = 88.0", "", lastEvent}, // as JavaScript writes numbers
		{"UPDATE sqlite_sequence SET seq = 88.5", "table sqlite_sequence: file is damaged", lastEvent},
		{"UPDATE repo_seq SET did = x'00' WHERE seq = 40", "table repo_seq: file is damaged", lastRevs},
	} {
		t.Run(tt.change, func(t *testing.T) {
			dir := referencetest.Unpack(t, referencetest.Stopped)
			path, file := layout(dir).AccountDB, "account.sqlite, "
			if strings.Contains(tt.change, "_seq") {
				path, file = layout(dir).SequencerDB, "sequencer.sqlite, "
			}
			execute(t, path, tt.change)
			err := tt.read(t.Context(), open(t, dir))
			if tt.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, reference.ErrDamaged) || !strings.HasPrefix(err.Error(), file+tt.says) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func actors(ctx context.Context, s *reference.Source) error { return failure(s.Actors(ctx)) }
func appPasswords(ctx context.Context, s *reference.Source) error {
	return failure(s.AppPasswords(ctx))
}
func refreshTokens(ctx context.Context, s *reference.Source) error {
	return failure(s.RefreshTokens(ctx))
}
func emailTokens(ctx context.Context, s *reference.Source) error { return failure(s.EmailTokens(ctx)) }
func inviteCodes(ctx context.Context, s *reference.Source) error { return failure(s.InviteCodes(ctx)) }
func inviteUses(ctx context.Context, s *reference.Source) error {
	return failure(s.InviteCodeUses(ctx))
}
func events(ctx context.Context, s *reference.Source) error { return failure(s.Events(ctx, 0)) }
func lastEvent(ctx context.Context, s *reference.Source) error {
	_, _, err := s.LastEvent(ctx)
	return err
}
func eventCounts(ctx context.Context, s *reference.Source) error {
	_, err := s.EventCounts(ctx, 0)
	return err
}
func lastRevs(ctx context.Context, s *reference.Source) error {
	_, err := s.LastRevs(ctx)
	return err
}

// What a killed process had begun to write, and had not committed, is undone in a copy.
func TestBegunTransaction(t *testing.T) {
	dir, killed := referencetest.Unpack(t, referencetest.Stopped), referencetest.Unpack(t, referencetest.Stopped)
	path := layout(dir).SequencerDB
	d, err := sql.Open("sqlite", path)
	must(t, err)
	defer d.Close()
	conn, err := d.Conn(t.Context())
	must(t, err)
	for _, s := range []string{"PRAGMA journal_mode = DELETE", "PRAGMA cache_size = 1", "BEGIN", "UPDATE repo_seq SET invalidated = 1"} {
		_, err := conn.ExecContext(t.Context(), s)
		must(t, err)
	}
	unchanged, err := os.ReadFile(layout(killed).SequencerDB)
	must(t, err)
	for _, suffix := range []string{"", "-journal"} {
		b, err := os.ReadFile(path + suffix)
		must(t, err)
		must(t, os.WriteFile(layout(killed).SequencerDB+suffix, b, 0o600))
		if len(b) == 0 || bytes.Equal(b[len(b)/2:], unchanged[len(unchanged)/2:]) {
			t.Fatal("nothing was written before the process was killed")
		}
	}
	before := traces(t, killed)
	events := all(t, open(t, killed).Events(t.Context(), 0))
	for _, e := range events {
		if e.Invalidated {
			t.Fatalf("event %d was withdrawn", e.Seq)
		}
	}
	if len(events) != 83 || !maps.Equal(traces(t, killed), before) {
		t.Errorf("%d events, or the directory has changed", len(events))
	}
}
