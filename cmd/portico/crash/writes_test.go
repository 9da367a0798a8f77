//go:build crash

package crash

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
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

	"portico/cmd/portico/launch"
	"portico/db"
	"portico/db/dbtest"
)

var writes = flag.Int("writes", 2000, "writes of a round")

const (
	accounts = 4
	keys     = 24 // of a writer in an account, at a time
)

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
	*testing.T
	fleet
	directory string
	disk      *disk     // nil: it is never full
	config    db.Config // of its database
	random    *rand.Rand
	people    []*person
	writers   []*writer
	consumers []*consumer

	filled  int
	answers map[string]int // that were not 200, under fleet.mu
}

type person struct {
	did    syntax.DID
	access string

	mu   sync.Mutex
	revs []string // of commits that were acknowledged
}

// A writer has keys of its own in each repository, so it knows what is there.
type writer struct {
	*host
	id       int
	random   *rand.Rand
	server   int
	count    int
	uploaded int
	// states are what a path of a person may be: the text of its record, "" when there is
	// none. There is one but where nobody answered.
	states map[*person]map[string][]string
}

func newHost(t *testing.T, seed uint64, postgres, full bool) *host {
	t.Helper()
	h := &host{
		T: t, directory: startDirectory(t), random: rand.New(rand.NewPCG(seed, 3)), answers: map[string]int{},
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
		"PDS_DID_PLC_URL=" + h.directory, "PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1",
	}
	folders := []string{data}
	if postgres {
		h.config = db.Config{URL: dbtest.EmptyPostgresURL(t), ReadOnly: true, Logger: h.config.Logger}
		env = append(env, "PORTICO_DATABASE_URL="+h.config.URL)
		folders = append(folders, data) // they share blobs
	}
	h.start(t, env, folders...)
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
		h.people = append(h.people, &person{did: out.DID, access: out.AccessJwt})
	}
	for i := range concurrency {
		w := &writer{host: h, id: i, random: rand.New(rand.NewPCG(seed, uint64(100+i))), server: i % len(h.servers), states: map[*person]map[string][]string{}}
		for _, p := range h.people {
			w.states[p] = map[string][]string{}
		}
		h.writers = append(h.writers, w)
	}
	for i, k := range []kind{steady, restless, live} {
		h.consumers = append(h.consumers, &consumer{host: h, kind: k, server: i % len(h.servers), random: rand.New(rand.NewPCG(seed, uint64(200+i)))})
	}
	return h
}

// run lets all write while servers are killed and the disk gets full, and consumers read
// until they have all.
func (h *host) run() {
	left := make(chan struct{})
	var over atomic.Bool
	var writers, trouble sync.WaitGroup
	for _, w := range h.writers {
		writers.Go(func() {
			for range left {
				w.write()
			}
		})
	}
	for _, c := range h.consumers {
		c.begin()
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

// write is one request that writes, made until somebody answers.
func (w *writer) write() {
	p := w.people[w.random.IntN(len(w.people))]
	switch n := w.random.IntN(10); {
	case n < 3: // a blob and a record that names it
		size := 1 + w.random.IntN(60_000)
		if blob := w.upload(p, size); blob != nil {
			w.put(p, w.path("com.example.photo"), blob)
		}
	case n < 5:
		w.put(p, w.path("com.example.note"), nil)
	case n < 6:
		w.delete(p, w.path([]string{"com.example.note", "com.example.photo"}[w.random.IntN(2)]))
	case n < 8:
		w.create(p)
	default:
		w.apply(p)
	}
}

func (w *writer) path(collection string) string {
	return fmt.Sprintf("%s/w%d-%d", collection, w.id, w.random.IntN(keys))
}

// text is one that nobody has used.
func (w *writer) text() string {
	w.count++
	return fmt.Sprintf("%d of writer %d", w.count, w.id)
}

func (w *writer) known(p *person, path string) []string {
	if s := w.states[p][path]; s != nil {
		return s
	}
	return []string{""}
}

// a change is what a request makes of a path.
type change struct{ path, text string }

// send makes a request until it is answered, and notes what the paths may be now.
func (w *writer) send(p *person, method string, in any, changes ...change) {
	body, err := json.Marshal(in)
	if err != nil {
		w.Error(err)
		return
	}
	clear := true // all requests were answered, and none with 5xx
	maybe := func() {
		for _, c := range changes {
			if known := w.known(p, c.path); !slices.Contains(known, c.text) {
				w.states[p][c.path] = append(slices.Clone(known), c.text)
			}
		}
		clear = false
	}
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); {
		var out struct {
			Commit *struct {
				Rev string `json:"rev"`
			} `json:"commit"`
		}
		status, answer, err := w.call(p, method, "application/json", body, &out)
		switch {
		case err != nil:
			maybe()
			time.Sleep(20 * time.Millisecond)
			continue
		case status >= 500:
			maybe()
			time.Sleep(50 * time.Millisecond) // as a client does that is told so
		case status != http.StatusOK && clear:
			w.Errorf("%s %s: %d %s", method, body, status, answer)
		case status == http.StatusOK:
			for _, c := range changes {
				w.states[p][c.path] = []string{c.text}
			}
			if out.Commit != nil {
				p.mu.Lock()
				p.revs = append(p.revs, out.Commit.Rev)
				p.mu.Unlock()
			}
		}
		return
	}
	w.Errorf("%s: nobody answers", method)
}

// call is one request. An error means that no whole answer came.
func (h *writer) call(p *person, method, contentType string, body []byte, out any) (int, string, error) {
	url := h.host.server(h.server).URL + "/xrpc/com.atproto.repo." + method
	req, err := http.NewRequestWithContext(h.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+p.access)
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(answer, out)
	} else {
		h.mu.Lock()
		h.answers[fmt.Sprintf("%s: %d %s", method, resp.StatusCode, answer)]++
		h.mu.Unlock()
	}
	return resp.StatusCode, string(answer), err
}

func value(path, text string, blob json.RawMessage) map[string]any {
	collection, _, _ := strings.Cut(path, "/")
	v := map[string]any{"$type": collection, "text": text}
	if blob != nil {
		v["blob"] = blob
	}
	return v
}

func (w *writer) at(p *person, path string) map[string]any {
	collection, rkey, _ := strings.Cut(path, "/")
	return map[string]any{"repo": p.did, "collection": collection, "rkey": rkey}
}

func (w *writer) put(p *person, path string, blob json.RawMessage) {
	text := w.text()
	in := w.at(p, path)
	in["record"] = value(path, text, blob)
	w.send(p, "putRecord", in, change{path, text})
}

func (w *writer) delete(p *person, path string) {
	w.send(p, "deleteRecord", w.at(p, path), change{path, ""})
}

// create creates at a key of its own, so that there are ever more of them.
func (w *writer) create(p *person) {
	text := w.text()
	path := fmt.Sprintf("com.example.note/w%d-new-%d", w.id, w.count)
	in := w.at(p, path)
	in["record"] = value(path, text, nil)
	w.send(p, "createRecord", in, change{path, text})
}

// apply changes up to five paths in one commit, of which it is known what they are.
func (w *writer) apply(p *person) {
	var changes []change
	var all []any
	for range 1 + w.random.IntN(5) {
		path := w.path("com.example.note")
		known := w.known(p, path)
		if len(known) > 1 || slices.ContainsFunc(changes, func(c change) bool { return c.path == path }) {
			continue
		}
		collection, rkey, _ := strings.Cut(path, "/")
		one := map[string]any{"collection": collection, "rkey": rkey}
		c := change{path: path}
		switch {
		case known[0] != "" && w.random.IntN(3) == 0:
			one["$type"] = "com.atproto.repo.applyWrites#delete"
		case known[0] != "":
			one["$type"] = "com.atproto.repo.applyWrites#update"
			c.text = w.text()
		default:
			one["$type"] = "com.atproto.repo.applyWrites#create"
			c.text = w.text()
		}
		if c.text != "" {
			one["value"] = value(path, c.text, nil)
		}
		changes, all = append(changes, c), append(all, one)
	}
	if len(changes) > 0 {
		w.send(p, "applyWrites", map[string]any{"repo": p.did, "writes": all}, changes...)
	}
}

// upload returns the blob as it is to stand in a record, nil when the server refused.
func (w *writer) upload(p *person, size int) json.RawMessage {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(w.random.Uint32())
	}
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); {
		var out struct {
			Blob json.RawMessage `json:"blob"`
		}
		status, answer, err := w.call(p, "uploadBlob", "application/octet-stream", body, &out)
		switch {
		case err != nil:
			time.Sleep(20 * time.Millisecond)
			continue
		case status >= 500:
			time.Sleep(50 * time.Millisecond)
			return nil
		case status != http.StatusOK:
			w.Errorf("uploadBlob: %d %s", status, answer)
			return nil
		}
		w.uploaded++
		return out.Blob
	}
	w.Error("uploadBlob: nobody answers")
	return nil
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

func (h *host) summary(records, blobs, events int) {
	revs := 0
	for _, p := range h.people {
		revs += len(p.revs)
	}
	uploaded := 0
	for _, w := range h.writers {
		uploaded += w.uploaded
	}
	h.Logf("%d kills, disk full %d times: %d commits and %d blobs acknowledged, %d records, %d blobs named, %d events",
		h.kills, h.filled, revs, uploaded, records, blobs, events)
	for _, a := range slices.Sorted(maps.Keys(h.answers)) {
		h.Logf("  %d × %s", h.answers[a], a)
	}
	if revs < *writes/2 || uploaded == 0 || h.kills == 0 {
		h.Errorf("only %d of %d writes came through: the round shows nothing", revs, *writes)
	}
}
