//go:build crash

package crash

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/repotest"
	"portico/db"
	"portico/db/dbtest"
)

var writes = flag.Int("writes", 2000, "writes of a round")

const accounts = 4

// TestKilledInTheMidstOfWrites kills servers while records and blobs are written to them
// and relays read. The first and every third round is on SQLite, the next on SQLite with a disk
// that is full now and then, the next has two servers on one Postgres, whose blobs are on
// such a disk.
func TestKilledInTheMidstOfWrites(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i := range *rounds {
		name := []string{"sqlite", "sqlite, disk full", "postgres, disk full"}[i%3]
		t.Run(fmt.Sprintf("%d %s", i+1, name), func(t *testing.T) {
			h := newHost(t, *seed+uint64(i), i%3 == 2, i%3 != 0)
			h.run()
			h.check()
		})
	}
}

// A host is one PDS, of one server or two, and those who write to it.
type host struct {
	*repotest.Host
	*testing.T
	fleet
	disk   *disk     // nil: it is never full
	config db.Config // of its database
	random *rand.Rand

	filled int
}

func newHost(t *testing.T, seed uint64, postgres, full bool) *host {
	t.Helper()
	h := &host{T: t, random: rand.New(rand.NewPCG(seed, 3))}
	h.Host = &repotest.Host{
		TB: t, Directory: startDirectory(t), Client: client,
		URL: func(i int) string { return h.server(i).URL },
	}
	data := t.TempDir()
	if full {
		h.disk = newDisk(t, data)
	}
	h.config = db.Config{Dir: data, ReadOnly: true, Logger: slog.New(slog.DiscardHandler)}
	env := []string{
		"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_ADMIN_PASSWORD=9b1a2c63e7d84f50",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("5d", 32),
		"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		"PDS_DID_PLC_URL=" + h.Directory, "PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1",
	}
	folders := []string{data}
	if postgres {
		h.config = db.Config{URL: dbtest.EmptyPostgresURL(t), ReadOnly: true, Logger: h.config.Logger}
		env = append(env, "PORTICO_DATABASE_URL="+h.config.URL)
		folders = append(folders, data) // they share blobs
	}
	h.start(t, env, folders...)
	h.Doors = len(h.servers)
	for i := range accounts {
		var out struct {
			DID       syntax.DID `json:"did"`
			AccessJwt string     `json:"accessJwt"`
		}
		handle := fmt.Sprintf("person-%d.test", i)
		status, answer, err := post(t.Context(), h.server(0).URL+"/xrpc/com.atproto.server.createAccount",
			map[string]string{"handle": handle, "email": handle + "@example.com", "password": "password of " + handle}, &out)
		if err != nil || status != http.StatusOK {
			t.Fatalf("sign up %s: %d %s, %v", handle, status, answer, err)
		}
		h.People = append(h.People, &repotest.Person{DID: out.DID, Access: out.AccessJwt})
	}
	for i := range concurrency {
		h.AddWriter(i%h.Doors, rand.New(rand.NewPCG(seed, uint64(100+i))))
	}
	for i, k := range []repotest.Kind{repotest.Steady, repotest.Restless, repotest.Live} {
		h.AddConsumer(k, i%h.Doors, false, rand.New(rand.NewPCG(seed, uint64(200+i))))
	}
	return h
}

// run lets all write while servers are killed and the disk gets full, and consumers read
// until they have all.
func (h *host) run() {
	left := make(chan struct{})
	var over atomic.Bool
	var writers, trouble sync.WaitGroup
	for _, w := range h.Writers {
		writers.Go(func() {
			for range left {
				w.Write()
			}
		})
	}
	for _, c := range h.Consumers {
		c.Begin()
	}
	trouble.Go(func() {
		// Each kind of trouble at least once, however fast the writers are.
		for !over.Load() || h.kills == 0 || h.disk != nil && h.filled == 0 {
			time.Sleep(50*time.Millisecond + time.Duration(h.random.Int64N(int64(400*time.Millisecond))))
			fills := h.disk != nil && h.random.IntN(2) == 0
			if fills {
				h.disk.fill()
				h.filled++
				time.Sleep(time.Duration(h.random.Int64N(int64(300 * time.Millisecond))))
			}
			kills := !fills || h.random.IntN(3) == 0
			i := h.random.IntN(len(h.servers))
			if kills {
				h.kill(i)
			}
			if fills {
				h.disk.empty()
			}
			if kills {
				h.again(h.T, i)
			}
		}
	})
	for range *writes {
		left <- struct{}{}
	}
	close(left)
	writers.Wait()
	over.Store(true)
	trouble.Wait()
}

// check looks for what must never be, once all have written.
func (h *host) check() {
	sums := h.Check(h.lastEvent())
	commits, blobs := h.Acknowledged()
	h.T.Logf("%d kills, disk full %d times: %d commits and %d blobs acknowledged, %d records, %d blobs named, %d events",
		h.kills, h.filled, commits, blobs, sums.Records, sums.Blobs, sums.Events)
	answers := h.Answers()
	for _, a := range slices.Sorted(maps.Keys(answers)) {
		h.T.Logf("  %d × %s", answers[a], a)
	}
	if commits < *writes/2 || blobs == 0 || h.kills == 0 {
		h.T.Errorf("only %d of %d writes came through: the round shows nothing", commits, *writes)
	}
	for i := range h.servers {
		if err := h.server(i).Stop(); err != nil {
			h.T.Error(err)
		}
	}
}

func (h *host) lastEvent() int64 {
	store, err := db.Open(h.T.Context(), h.config)
	if err != nil {
		h.T.Fatal(err)
	}
	defer store.Close()
	last, err := store.LastEvent(h.T.Context())
	if err != nil {
		h.T.Fatal(err)
	}
	return last
}

// A disk is one that can be made full.
type disk struct {
	*testing.T
	dir     string
	mounted bool
}

// newDisk puts a small disk of memory at dir where that is allowed. Elsewhere blobs can't
// be written while it is full, and the database can. It is nil where root may not mount.
func newDisk(t *testing.T, dir string) *disk {
	t.Helper()
	d := &disk{T: t, dir: dir}
	root := os.Geteuid() == 0
	if root {
		d.mounted = exec.Command("mount", "-t", "tmpfs", "-o", "size=160m,mode=0700", "portico-crash", dir).Run() == nil
	}
	switch {
	case d.mounted:
		t.Cleanup(func() {
			if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
				t.Errorf("umount: %v\n%s", err, out)
			}
		})
	case root: // whom no folder is shut to
		t.Log("there is no disk to fill, and root writes into any folder: nothing gets full")
		return nil
	default:
		t.Log("there is no disk to fill: folders of blobs are shut in its place")
	}
	return d
}

// fill makes the disk full.
func (d *disk) fill() {
	if !d.mounted {
		d.shut(0o500)
		return
	}
	f, err := os.Create(filepath.Join(d.dir, "filler"))
	if err != nil {
		if !errors.Is(err, syscall.ENOSPC) {
			d.Error(err)
		}
		return
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; size /= 2 { // to the last page
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}

func (d *disk) empty() {
	if !d.mounted {
		d.shut(0o700)
		return
	}
	if err := os.Remove(filepath.Join(d.dir, "filler")); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.Error(err)
	}
}

func (d *disk) shut(mode os.FileMode) {
	err := filepath.WalkDir(filepath.Join(d.dir, "blobs"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			err = os.Chmod(path, mode)
		}
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return err
	})
	if err != nil {
		d.Error(err)
	}
}
