package adopt

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db/reference"
	"portico/impl/reference/referencetest"
)

// The number of accounts is that of PORTICO_BENCH_ACCOUNTS, or 200. With PORTICO_BENCH_FOLDER
// the directory is made once, and kept there.
func BenchmarkAdoption(b *testing.B) {
	const records = 100
	accounts := 200
	if s := os.Getenv("PORTICO_BENCH_ACCOUNTS"); s != "" {
		var err error
		if accounts, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	folder := os.Getenv("PORTICO_BENCH_FOLDER")
	if folder == "" {
		folder = b.TempDir()
	}
	pds := filepath.Join(folder, "pds")
	if _, err := os.Stat(pds); errors.Is(err, os.ErrNotExist) {
		if err := grow(folder, accounts, records); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		target := b.TempDir()
		a := adoptionOf(b, pds, target, nil)
		last, began := "", time.Now()
		a.Progress = func(p Progress) {
			if p.Part != last {
				b.Logf("%s: %v", p.Part, time.Since(began).Round(time.Millisecond))
				last = p.Part
			}
		}
		if err := a.adoptAll(b.Context()); err != nil {
			b.Fatal(err, a.report.Findings)
		}
		if err := errors.Join(a.Target.Close(), a.Source.Close()); err != nil {
			b.Fatal(err)
		}
		b.Logf("all: %v, %v", time.Since(began).Round(time.Millisecond), a.counted("records"))
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no figures of memory here")
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			b.Log(strings.TrimSpace(line))
		}
	}
}

// grow makes a directory with more accounts, each with so many records.
func grow(folder string, accounts, records int) (err error) {
	if err := referencetest.UnpackTo(folder, referencetest.Stopped); err != nil {
		return err
	}
	pds := filepath.Join(folder, "pds")
	template := filepath.Join(pds, "actors", hashed(bobDID), bobDID.String(), "store.sqlite")
	pool, err := sql.Open("sqlite", "file:"+filepath.Join(pds, "account.sqlite")+"?_pragma=journal_mode(DELETE)&_pragma=synchronous(0)")
	if err != nil {
		return err
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	tx, err := pool.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	empty, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	for n := range accounts {
		sum := sha256.Sum256([]byte(strconv.Itoa(n)))
		did := syntax.DID("did:plc:" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:15])))
		if err := growOne(filepath.Join(pds, "actors", hashed(did), did.String()), did, empty, records); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO actor (did, handle, createdAt) VALUES (?, ?, ?)", did.String(), fmt.Sprintf("user%d.pds.adopt.test", n),
			reference.FormatTime(time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC))); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func hashed(did syntax.DID) string {
	sum := sha256.Sum256([]byte(did))
	return hex.EncodeToString(sum[:1])
}

func growOne(folder string, did syntax.DID, empty []byte, records int) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		return err
	}
	path := filepath.Join(folder, "store.sqlite")
	if err := errors.Join(os.WriteFile(filepath.Join(folder, "key"), key.Bytes(), 0o600), os.WriteFile(path, empty, 0o600)); err != nil {
		return err
	}
	pool, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(DELETE)&_pragma=synchronous(0)")
	if err != nil {
		return err
	}
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	return write(pool, did, key, records, 150)
}
