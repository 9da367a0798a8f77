package main

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"

	"portico/db/migrations"
)

// oldServer makes a data directory whose database has seen the steps up to one, with the rows
// of their days, and then what more says.
func oldServer(t *testing.T, last string, more ...string) *settings {
	t.Helper()
	dir := t.TempDir()
	raw, err := sql.Open("sqlite", "file:"+filepath.Join(dir, databaseName)+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	pool := bun.NewDB(raw, sqlitedialect.New())
	run := func(text string, args ...any) {
		t.Helper()
		if _, err := raw.ExecContext(t.Context(), text, args...); err != nil {
			t.Fatal(err)
		}
	}
	run("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
	steps, err := migrations.For("sqlite")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		if s.Name > last {
			break
		}
		run(s.SQL)
		if s.Then != nil {
			if err := s.Then(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
		}
		run("INSERT INTO migration (name, applied_at) VALUES (?, 0)", s.Name)
		rows, err := os.ReadFile(filepath.Join("../../db/testdata", s.Name+".sql"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		run(string(rows))
	}
	for _, text := range more {
		run(text)
	}
	if err := pool.Close(); err != nil {
		t.Fatal(err)
	}
	return mustRead(t, "PDS_DATA_DIRECTORY="+dir)
}

// Databases of all ages are brought up to date on a copy, of which nothing stays, and are left
// as they were.
func TestUpgradeCheck(t *testing.T) {
	steps, err := migrations.For("sqlite")
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range steps {
		t.Run(step.Name, func(t *testing.T) {
			s := oldServer(t, step.Name)
			before := contents(t, s.DataDirectory)
			r, err := s.checkUpgrade(t.Context(), trial{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Schema != step.Name || len(r.Steps) != len(steps)-i-1 || r.Tried != (len(r.Steps) > 0) {
				t.Errorf("%+v", r)
			}
			for k, next := range r.Steps {
				if next.Name != steps[i+1+k].Name || next.Seconds <= 0 {
					t.Errorf("step %+v, want %s", next, steps[i+1+k].Name)
				}
			}
			var b strings.Builder
			if err := r.print(&b); err != nil {
				t.Error(err)
			}
			if nothing := strings.Contains(b.String(), "There is nothing to migrate."); nothing != (len(r.Steps) == 0) {
				t.Error(b.String())
			}
			after := contents(t, s.DataDirectory)
			for _, beside := range []string{"-wal", "-shm"} {
				delete(before, filepath.Join(s.DataDirectory, databaseName+beside))
				delete(after, filepath.Join(s.DataDirectory, databaseName+beside))
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("it changed what is there: %s", diff)
			}
		})
	}
}

// What would let a start fail is told with its step, and the database stays as it was.
func TestUpgradeCheckFails(t *testing.T) {
	s := oldServer(t, "0020_adoption", "CREATE TABLE quarantine (x TEXT)")
	before := contents(t, s.DataDirectory)[s.databaseFile()]
	r, err := s.checkUpgrade(t.Context(), trial{})
	if err == nil || !strings.Contains(err.Error(), "step 0021_quarantine") || r.Fails == "" || exitStatus(err) != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	if after := contents(t, s.DataDirectory)[s.databaseFile()]; after != before {
		t.Error("it changed the database")
	}
	if exists(filepath.Join(s.DataDirectory, tryName)) {
		t.Error("the copy is still there")
	}

	ahead := oldServer(t, "9999", "INSERT INTO migration (name, applied_at) VALUES ('9999_future', 0)")
	if _, err := ahead.checkUpgrade(t.Context(), trial{}); err == nil || !strings.Contains(err.Error(), "too old for the database") {
		t.Errorf("a schema that is ahead: %v", err)
	}
	fits := oldServer(t, "9999", "INSERT INTO migration (name, applied_at, oldest) VALUES ('9999_future', 0, '0024_more_nodes')")
	r, err = fits.checkUpgrade(t.Context(), trial{})
	if err != nil || r.Schema != "9999_future" || r.Oldest < "0024" || r.Oldest > "9" || len(r.Steps) > 0 {
		t.Errorf("a schema that is ahead and works: %+v, %v", r, err)
	}
	if _, err := mustRead(t, "PDS_DATA_DIRECTORY="+t.TempDir()).checkUpgrade(t.Context(), trial{}); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("no database: %v", err)
	}
}

// Who upgrades is told whether the version before goes on.
func TestUpgradeCheckSaysWhoGoesOn(t *testing.T) {
	for _, tt := range []struct{ oldest, want string }{
		{"0030_now", "Make a backup first. Servers of a version that knows 0030_now go on beside this one"},
		{"0029_before", "Make a backup first. Servers of a version that knows 0029_before go on beside this one"},
		{"0031_next", "stop all before the first of this version is started"},
	} {
		for _, r := range []upgradeReport{{Tried: true}, {Tried: true, Size: 1}, {Size: 1}} {
			r.Schema, r.Oldest, r.Steps = "0030_now", tt.oldest, []upgradeStep{{Name: "0031_next"}}
			var b strings.Builder
			if err := r.print(&b); err != nil || !strings.Contains(b.String(), tt.want) {
				t.Errorf("%v: %s", err, b.String())
			}
		}
	}
}

// A handover asks the process before to let go of the database where the steps may exclude it.
func TestIsBehind(t *testing.T) {
	for _, tt := range []struct {
		last, more       string
		behind, excludes bool
	}{
		{"0023_second_factor", "", true, true},
		{"9999", "", false, false},
		{"9999", "INSERT INTO migration (name, applied_at, oldest) VALUES ('9999_future', 0, '0024_more_nodes')", false, false},
	} {
		s := oldServer(t, tt.last, tt.more)
		behind, excludes, err := isBehind(t.Context(), s, slog.New(slog.DiscardHandler))
		if err != nil || behind != tt.behind || excludes != tt.excludes {
			t.Errorf("%+v: %v, %v, %v", tt, behind, excludes, err)
		}
	}
}

// One that is interrupted leaves nothing, what a killed one left is removed, and two do not
// work at the same time.
func TestUpgradeCheckInterrupted(t *testing.T) {
	s := oldServer(t, "0001_start")
	folder := filepath.Join(s.DataDirectory, tryName)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.checkUpgrade(ctx, trial{}); err == nil {
		t.Error("it was interrupted, and ended well")
	}
	if exists(folder) {
		t.Error("the copy is still there")
	}

	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{databaseName, databaseName + "-wal"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("half a copy"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	free, err := claimTrial(folder)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.checkUpgrade(t.Context(), trial{}); err == nil || !strings.Contains(err.Error(), "another upgrade-check") {
		t.Errorf("beside another: %v", err)
	}
	if err := free(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.checkUpgrade(t.Context(), trial{on: t.TempDir()}); err != nil {
		t.Error(err)
	}
}

// The server goes on, and says which version it is.
func TestUpgradeCheckBesideTheServer(t *testing.T) {
	dir := t.TempDir()
	s, _ := startFor(t, "PDS_DATA_DIRECTORY="+dir)
	began := time.Now()
	r, err := s.checkUpgrade(t.Context(), trial{})
	if err != nil || len(r.Steps) > 0 || r.Running != s.Version {
		t.Errorf("%+v, %v after %s", r, err, time.Since(began))
	}
}
