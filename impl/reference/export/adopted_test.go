package export_test

import (
	"crypto/rand"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/token"
	"portico/impl/blob"
	"portico/impl/keyring"
	"portico/impl/reference/adopt"
	"portico/impl/reference/export"
	"portico/impl/reference/referencetest"
)

// thereAndBack adopts a directory and exports it again.
func thereAndBack(t *testing.T, pds string) (folder string, r *export.Report) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	blocks, ours, log := filepath.Join(pds, "blocks"), t.TempDir(), slog.New(slog.DiscardHandler)
	now := func() time.Time { return time.Date(2026, 11, 28, 14, 53, 22, 73_000_000, time.UTC) }
	l := reference.Layout{
		AccountDB: filepath.Join(pds, "account.sqlite"), SequencerDB: filepath.Join(pds, "sequencer.sqlite"), Actors: filepath.Join(pds, "actors"),
		Blobs: blocks, Temporary: filepath.Join(blocks, "tempt"), Quarantine: filepath.Join(blocks, "quarantine"), Settings: filepath.Join(pds, "pds.env"),
	}
	source, err := reference.Open(t.Context(), l, t.TempDir())
	check(err)
	defer source.Close()
	mark := adopt.Mark{Source: pds, Began: now()}
	mark.Fingerprint, err = source.Fingerprint()
	check(err)
	_, err = adopt.Begin(ours, mark)
	check(err)
	target, err := db.Open(t.Context(), db.Config{Dir: ours, Draft: true, Synchronous: "OFF", Now: now, Logger: log})
	check(err)
	keys, err := keyring.New(rand.Reader, make([]byte, keyring.KeySize))
	check(err)
	canary, err := keys.NewCanary()
	check(err)
	check(keys.Unlock(canary))
	disk, err := blob.OpenDisk(filepath.Join(ours, "blobs"), "", blob.Bounds{})
	check(err)
	tokens := &token.Issuer{Secret: []byte("8b8c5db6e13a84a33641018730c8cccd"), ServiceDID: "did:web:pds.adopt.test", Now: now, Rand: rand.Reader}
	a := &adopt.Adoption{
		Source: source, Layout: l, Target: target, Folder: ours, Keys: keys, Blobs: disk, How: adopt.CopyBlobs, Tokens: tokens, Now: now, Rand: rand.Reader, Log: log,
		Confirm: func([]syntax.DID) bool { return true }, // nobody was asked about them
	}
	adopted, err := a.Run(t.Context())
	if err != nil {
		t.Fatalf("%v: %+v", err, adopted)
	}

	store, err := db.Open(t.Context(), db.Config{Dir: ours, ReadOnly: true, Now: now, Logger: log})
	check(err)
	defer store.Close()
	folder = filepath.Join(t.TempDir(), "pds")
	to, err := reference.Create(t.Context(), folder, now())
	check(err)
	x := &export.Export{DB: store, Keys: keys, Tokens: tokens, Blobs: disk, Target: to, Now: now}
	r, err = x.Run(t.Context())
	check(err)
	return folder, r
}

// A directory that was adopted and exported has the rows that it had, but for those that
// expired, are another server's to make, or of what is not taken along.
func TestThereAndBack(t *testing.T) {
	pds := referencetest.Unpack(t, referencetest.Stopped)
	folder, r := thereAndBack(t, pds)
	want, got := referencetest.Tables(t, pds), referencetest.Tables(t, folder)
	gone := []string{
		// OAuth, codes that were mailed, and what is made when it is missing.
		"email_token", "device", "account_device", "token", "authorized_client", "used_refresh_token", "authorization_request", "lexicon",
		"kysely_migration",
	}
	id, indexed := regexp.MustCompile(`^id=\d+ `), regexp.MustCompile(` indexedAt=\S+$`)
	for table, rows := range want {
		_, name, _ := strings.Cut(table, " ")
		if slices.Contains(gone, name) || table == "account sqlite_sequence" {
			if name != "kysely_migration" && len(got[table]) > 0 {
				t.Errorf("%s has %s", table, got[table])
			}
			delete(want, table)
			delete(got, table)
			continue
		}
		for _, all := range [][]string{rows, got[table]} {
			for i, row := range all {
				switch {
				case name == "account_pref": // in the same order, with new numbers
					all[i] = id.ReplaceAllString(row, "")
				case name == "repo_root": // when somebody wrote it down
					all[i] = indexed.ReplaceAllString(row, "")
				case strings.HasSuffix(table, " sqlite_sequence") && !strings.HasPrefix(table, "sequencer"):
					all[i] = ""
				}
			}
		}
		if table == "account app_password" { // of an account that was deleted
			want[table] = slices.DeleteFunc(rows, func(row string) bool { return strings.Contains(row, "did:plc:alt2nolwpvfysopxelbrakx2") })
		}
	}
	// The copy there was behind for who had just moved in.
	want["account repo_root"] = nil
	for table, rows := range maps.Clone(want) {
		if strings.HasSuffix(table, " repo_root") {
			want["account repo_root"] = append(want["account repo_root"], rows...)
		}
	}
	slices.Sort(want["account repo_root"])
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	sameFiles(t, pds, folder)
	if len(r.Findings) > 0 {
		t.Errorf("found %v", r.Findings)
	}
}

// sameFiles checks that both have the same keys and blobs.
func sameFiles(t *testing.T, want, got string) {
	t.Helper()
	list := func(dir string) map[string]string {
		all := make(map[string]string)
		for _, pattern := range []string{"actors/*/*/key", "actors/reserved_keys/*", "blocks/*/*", "blocks/*/*/*"} {
			names, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if info, err := os.Stat(name); err != nil || info.IsDir() {
					continue
				}
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				all[strings.TrimPrefix(name, dir)] = string(b)
			}
		}
		return all
	}
	if diff := cmp.Diff(list(want), list(got)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
