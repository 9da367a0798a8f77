//go:build crash

package crash

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"portico/cmd/portico/launch"
	"portico/cmd/portico/repotest"
	"portico/db/dbtest"
)

// A service is a server that one process after the other serves, all from the program at
// one path.
type service struct {
	*testing.T
	address string
	data    string
	program string // a link
	env     []string
	pid     int // of the process that serves
	first   int
}

// newService starts a service with more settings.
func newService(t *testing.T, env ...string) *service {
	t.Helper()
	// What processes leave behind is this one's: their status is seen here.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &service{T: t, address: fmt.Sprint("127.0.0.1:", port), data: filepath.Join(dir, "data"), program: filepath.Join(dir, "portico")}
	s.env = append(append(launch.Environ(),
		"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY="+s.data, fmt.Sprint("PDS_PORT=", port), "PORTICO_PLC_PORT=0", "PDS_INVITE_REQUIRED=false",
		"PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1", "PORTICO_LOG_LEVEL=info"), env...)
	s.install(binary)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	gone := filepath.Join(dir, "gone")
	if err := os.Mkdir(gone, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(s.program, "serve", "--handover")
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = s.env, log, log, gone
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil { // nothing is to need it
		t.Fatal(err)
	}
	s.pid, s.first = cmd.Process.Pid, cmd.Process.Pid
	t.Cleanup(func() {
		if t.Failed() {
			for line := range strings.Lines(s.log()) {
				if !strings.Contains(line, "msg=request") || strings.Contains(line, "status=5") {
					t.Logf("log: %s", strings.TrimSpace(line))
				}
			}
		}
		for _, pid := range s.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
	})
	s.until("it serves", func() bool {
		resp, err := http.Get("http://" + s.address + "/xrpc/_health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return s
}

// install leads the path of the program to another one.
func (s *service) install(path string) {
	s.Helper()
	absolute, err := filepath.Abs(path)
	if err == nil {
		err = os.Symlink(absolute, s.program+".new")
	}
	if err == nil {
		err = os.Rename(s.program+".new", s.program)
	}
	if err != nil {
		s.Fatal(err)
	}
}

func (s *service) log() string {
	text, _ := os.ReadFile(filepath.Join(filepath.Dir(s.data), "log"))
	return string(text)
}

// processes are the processes whose log is that of the service.
func (s *service) processes() (pids []int) {
	paths, _ := filepath.Glob("/proc/[0-9]*/fd/2")
	for _, path := range paths {
		if to, err := os.Readlink(path); err == nil && to == filepath.Join(filepath.Dir(s.data), "log") {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

func (s *service) until(what string, f func() bool) {
	s.Helper()
	for deadline := time.Now().Add(launch.Patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("it takes too long until %s", what)
		}
	}
}

// ended waits for the end of a process, and returns its status, 0 where that was its parent's
// to see: one that still sends downloads, and outlives it.
func (s *service) ended(pid int) int {
	s.Helper()
	var status syscall.WaitStatus
	s.until(fmt.Sprint("process ", pid, " ends"), func() bool {
		got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.ECHILD) {
			return syscall.Kill(pid, 0) != nil
		}
		if err != nil && !errors.Is(err, syscall.EINTR) {
			s.Fatalf("wait for %d: %v", pid, err)
		}
		return got == pid
	})
	return status.ExitStatus()
}

type outcome struct {
	From, To int
	Version  string
	Pause    time.Duration `json:"pauseNanoseconds"`
	Error    string
}

// handOver is "portico handover", which must end with a status.
func (s *service) handOver(status int) (o outcome, said string) {
	s.Helper()
	cmd := exec.Command(binary, "handover", "--json", "--pid", fmt.Sprint(s.pid))
	cmd.Env = s.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its status is looked at
	if got := cmd.ProcessState.ExitCode(); got != status {
		s.Fatalf("portico handover ends with %d: %s%s\nthe log:\n%s", got, &out, &errs, s.log())
	}
	if status == 0 {
		if err := json.Unmarshal(out.Bytes(), &o); err != nil {
			s.Fatalf("portico handover prints %s: %v", &out, err)
		}
		s.pid = o.To
	}
	return o, errs.String()
}

// stop ends the process that serves.
func (s *service) stop() {
	s.Helper()
	if err := syscall.Kill(s.pid, syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if status := s.ended(s.pid); status != 0 {
		s.Errorf("the last process ends with %d", status)
	}
}

// A line is one connection of a client that does not try anything twice.
type line struct {
	address string
	conn    net.Conn
	read    *bufio.Reader
	took    time.Duration // that the last answer did
}

// ask makes a request, over a connection that is there or a new one, and returns the answer,
// whose body is open.
func (l *line) ask(method, path, token, contentType string, body io.Reader, size int64) (*http.Response, error) {
	began := time.Now()
	if l.conn == nil {
		conn, err := net.Dial("tcp", l.address)
		if err != nil {
			return nil, err
		}
		l.conn, l.read = conn, bufio.NewReader(conn)
	}
	_ = l.conn.SetDeadline(time.Now().Add(launch.Patience))
	req, err := http.NewRequest(method, "http://"+l.address+path, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if err := req.Write(l.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(l.read, req)
	l.took = time.Since(began)
	if err == nil && resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		err = fmt.Errorf("%s %s", resp.Status, text)
	}
	return resp, err
}

// call is ask with JSON, of which the answer is read into out.
func (l *line) call(method, path, token string, in, out any) error {
	var body io.Reader
	size, contentType := int64(0), ""
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, size, contentType = bytes.NewReader(text), int64(len(text)), "application/json"
	}
	resp, err := l.ask(method, path, token, contentType, body, size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return err
}

func (l *line) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// The phases of a test: while the crowd comes, before there is a handover, and with them.
const (
	coming = iota
	quiet
	changing
	phases
)

// The crowd at a handover, a thousand connections.
const (
	steadyWriters = 100
	askers        = 500 // that ask now and then over one connection
	newcomers     = 300 // that connect for each request
	uploaders     = 40
	downloaders   = 40
	followers     = 20
)

type resident struct {
	did, access string
}

// A crowd asks a service all it can be asked, and remembers what it was told.
type crowd struct {
	*service
	people  []resident
	library resident // whose repository is large, and does not change
	archive [sha256.Size]byte
	blob    string

	over    atomic.Bool
	running sync.WaitGroup
	counts  [6]atomic.Int64
	mu      sync.Mutex
	written map[string]bool // at:// URIs that were acknowledged
	longest [phases][6]time.Duration
	phase   atomic.Int32
	ends    atomic.Int64 // subscriptions that were ended
}

func (s *service) signUp(handle string) (r resident) {
	s.Helper()
	var l line
	l.address = s.address
	defer l.hangUp()
	err := l.call("POST", "/xrpc/com.atproto.server.createAccount", "",
		map[string]string{"handle": handle + ".test", "email": handle + "@example.com", "password": "password of " + handle},
		&struct{ DID, AccessJwt *string }{&r.did, &r.access})
	if err != nil {
		s.Fatalf("sign up %s: %v", handle, err)
	}
	return r
}

func newCrowd(s *service) *crowd {
	s.Helper()
	c := &crowd{service: s, written: map[string]bool{}}
	for i := range 8 {
		c.people = append(c.people, s.signUp(fmt.Sprint("person-", i)))
	}
	c.library = s.signUp("bookshelf")
	l := &line{address: s.address}
	defer l.hangUp()
	for i := range 60 {
		text := make([]byte, 50_000)
		rand.Read(text)
		if err := l.call("POST", "/xrpc/com.atproto.repo.createRecord", c.library.access, map[string]any{
			"repo": c.library.did, "collection": "com.example.book", "record": map[string]any{"$type": "com.example.book", "text": fmt.Sprintf("%d %x", i, text)},
		}, nil); err != nil {
			s.Fatal(err)
		}
	}
	text := make([]byte, 4<<20)
	rand.Read(text)
	var uploaded struct {
		Blob struct {
			Ref struct {
				Link string `json:"$link"`
			} `json:"ref"`
		} `json:"blob"`
	}
	resp, err := l.ask("POST", "/xrpc/com.atproto.repo.uploadBlob", c.library.access, "application/octet-stream", bytes.NewReader(text), int64(len(text)))
	if err != nil {
		s.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(raw, &uploaded)
	}
	c.blob = uploaded.Blob.Ref.Link
	if err == nil {
		var blob struct{ Blob json.RawMessage }
		err = json.Unmarshal(raw, &blob)
		if err == nil {
			err = l.call("POST", "/xrpc/com.atproto.repo.createRecord", c.library.access, map[string]any{
				"repo": c.library.did, "collection": "com.example.cover", "record": map[string]any{"$type": "com.example.cover", "blob": blob.Blob},
			}, nil)
		}
	}
	if err != nil {
		s.Fatal(err)
	}
	resp, err = l.ask("GET", "/xrpc/com.atproto.sync.getRepo?did="+c.library.did, "", "", nil, 0)
	if err != nil {
		s.Fatal(err)
	}
	h := sha256.New()
	if n, err := io.Copy(h, resp.Body); err != nil || n < 5<<20 {
		s.Fatalf("archive of %d bytes, %v", n, err)
	}
	c.archive = [sha256.Size]byte(h.Sum(nil))
	return c
}

// each starts n clients that do f until the crowd is over. An error of f is one of the
// service.
func (c *crowd) each(kind, n int, f func(i int, l *line) error) {
	for i := range n {
		c.running.Go(func() {
			l := &line{address: c.address}
			defer l.hangUp()
			for !c.over.Load() {
				if err := f(i, l); err != nil {
					c.Errorf("client %d of kind %d: %v", i, kind, err)
					return
				}
				c.counts[kind].Add(1)
				c.mu.Lock()
				longest := &c.longest[c.phase.Load()][kind]
				*longest = max(*longest, l.took)
				c.mu.Unlock()
			}
		})
	}
}

// pause is for as long as a person takes.
func pause(most time.Duration) { time.Sleep(time.Duration(mathrand.Int64N(int64(most)))) }

func (c *crowd) begin() {
	c.each(0, steadyWriters, func(i int, l *line) error {
		p := c.people[i%len(c.people)]
		var out struct{ URI string }
		err := l.call("POST", "/xrpc/com.atproto.repo.createRecord", p.access, map[string]any{
			"repo": p.did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": "a note"},
		}, &out)
		if err == nil {
			c.mu.Lock()
			c.written[out.URI] = true
			c.mu.Unlock()
		}
		pause(300 * time.Millisecond)
		return err
	})
	c.each(1, askers, func(i int, l *line) error {
		pause(2 * time.Second)
		p := c.people[i%len(c.people)]
		if i%2 == 0 {
			return l.call("GET", "/xrpc/com.atproto.server.getSession", p.access, nil, nil)
		}
		return l.call("GET", "/xrpc/com.atproto.repo.describeRepo?repo="+p.did, "", nil, nil)
	})
	c.each(2, newcomers, func(i int, l *line) error {
		pause(1500 * time.Millisecond)
		defer l.hangUp()
		return l.call("GET", "/xrpc/com.atproto.sync.getLatestCommit?did="+c.people[i%len(c.people)].did, "", nil, nil)
	})
	c.each(3, uploaders, func(i int, l *line) error {
		text := make([]byte, 200_000)
		rand.Read(text)
		resp, err := l.ask("POST", "/xrpc/com.atproto.repo.uploadBlob", c.people[i%len(c.people)].access, "image/png", &slow{bytes.NewReader(text), 20_000, 30 * time.Millisecond}, int64(len(text)))
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		pause(500 * time.Millisecond)
		return err
	})
	c.each(4, downloaders, func(i int, l *line) error {
		path := "/xrpc/com.atproto.sync.getRepo?did=" + c.library.did
		if i%2 == 0 {
			path = "/xrpc/com.atproto.sync.getBlob?did=" + c.library.did + "&cid=" + c.blob
		}
		if l.conn == nil { // with little room, so that it is the server that waits
			conn, err := net.Dial("tcp", c.address)
			if err != nil {
				return err
			}
			_ = conn.(*net.TCPConn).SetReadBuffer(128 << 10)
			l.conn, l.read = conn, bufio.NewReaderSize(conn, 64<<10)
		}
		resp, err := l.ask("GET", path, "", "", nil, 0)
		if err != nil {
			return err
		}
		h := sha256.New()
		n, err := io.Copy(h, &slow{resp.Body, 64 << 10, 20 * time.Millisecond})
		if err == nil && i%2 == 1 && [sha256.Size]byte(h.Sum(nil)) != c.archive {
			err = fmt.Errorf("another archive, of %d bytes", n)
		}
		return err
	})
}

// slow reads a piece at a time.
type slow struct {
	io.Reader
	size  int
	pause time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.Reader.Read(p[:min(len(p), s.size)])
}

// follow reads the firehose until every acknowledged write has come, or a time is over.
func (c *crowd) follow(ctx context.Context) error {
	last := int64(0)
	creates := map[string]int{}
	complete := func() bool {
		if !c.over.Load() {
			return false
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for uri := range c.written {
			if creates[uri] == 0 {
				return false
			}
		}
		return true
	}
	for {
		conn, resp, err := websocket.Dial(ctx, fmt.Sprint("ws://", c.address, "/xrpc/com.atproto.sync.subscribeRepos?cursor=", last), nil)
		if err != nil {
			return fmt.Errorf("subscribe from %d: %v, %w", last, resp, err)
		}
		conn.SetReadLimit(8 << 20)
		for {
			if complete() {
				conn.CloseNow()
				c.mu.Lock()
				defer c.mu.Unlock()
				for uri, n := range creates {
					if n != 1 {
						return fmt.Errorf("%s was created %d times", uri, n)
					}
				}
				return nil
			}
			short, cancel := context.WithTimeout(ctx, launch.Patience)
			_, b, err := conn.Read(short)
			cancel()
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
					return fmt.Errorf("behind event %d: %w", last, err)
				}
				c.ends.Add(1)
				break
			}
			commit, seq, err := repotest.Decode(b)
			if err != nil {
				return err
			}
			if seq != last+1 {
				return fmt.Errorf("event %d follows event %d", seq, last)
			}
			last = seq
			c.counts[5].Add(1)
			if commit != nil {
				for _, op := range commit.Ops {
					if op.Action == "create" && strings.HasPrefix(op.Path, "com.example.note/") {
						creates["at://"+commit.Repo+"/"+op.Path]++
					}
				}
			}
		}
		conn.CloseNow()
	}
}

// A thousand connections write, read, upload, download and follow while the server is
// replaced again and again: nobody is refused or cut off, and nothing is lost.
func TestHandover(t *testing.T) {
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			var env []string
			if engine == "postgres" {
				env = []string{"PORTICO_DATABASE_URL=" + dbtest.EmptyPostgresURL(t), "PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}
			}
			s := newService(t, env...)
			c := newCrowd(s)
			ctx, cancel := context.WithTimeout(t.Context(), launch.Patience)
			defer cancel()
			var follow sync.WaitGroup
			for range followers {
				follow.Go(func() {
					if err := c.follow(ctx); err != nil {
						t.Errorf("follower: %v", err)
					}
				})
			}
			c.begin()
			var before []int
			var pauses []time.Duration
			for _, phase := range []int32{quiet, changing} {
				time.Sleep(1500 * time.Millisecond) // the crowd goes about its business
				c.phase.Store(phase)
			}
			for range 3 {
				time.Sleep(time.Second)
				before = append(before, s.pid)
				o, _ := s.handOver(0)
				pauses = append(pauses, o.Pause.Round(time.Millisecond))
			}
			time.Sleep(time.Second)
			c.over.Store(true)
			// Something more to come for those who follow, who look whether they have all.
			c.running.Wait()
			l := &line{address: s.address}
			defer l.hangUp()
			var last struct{ URI string }
			if err := l.call("POST", "/xrpc/com.atproto.repo.createRecord", c.people[0].access, map[string]any{
				"repo": c.people[0].did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": "the last"},
			}, &last); err != nil {
				t.Error(err)
			}
			follow.Wait()
			for _, pid := range before {
				if status := s.ended(pid); status != 0 {
					t.Errorf("process %d ends with %d", pid, status)
				}
			}
			found := c.stored()
			for uri := range c.written {
				if !found[uri] {
					t.Errorf("%s was acknowledged, and is not there", uri)
				}
			}
			for i, kind := range []string{"records written", "requests over connections that last", "requests over new connections", "uploads", "downloads"} {
				t.Logf("%6d %s; the longest wait was %v before the first handover, %v from then on", c.counts[i].Load(), kind,
					c.longest[quiet][i].Round(time.Millisecond), c.longest[changing][i].Round(time.Millisecond))
				if c.counts[i].Load() == 0 {
					t.Errorf("no %s: the crowd shows nothing", kind)
				}
			}
			t.Logf("%6d events read by %d who follow, after %d ends", c.counts[5].Load(), followers, c.ends.Load())
			t.Logf("pauses of %d handovers, in which nobody was accepted: %v", len(pauses), pauses)
			if c.ends.Load() < int64(len(pauses)*followers/2) {
				t.Errorf("those who follow were told to come again %d times", c.ends.Load())
			}
			s.stop()
		})
	}
}

// stored are the notes that the service has.
func (c *crowd) stored() map[string]bool {
	c.Helper()
	found := map[string]bool{}
	l := &line{address: c.address}
	defer l.hangUp()
	for _, p := range c.people {
		for cursor := ""; ; {
			var out struct {
				Cursor  string
				Records []struct{ URI string }
			}
			if err := l.call("GET", "/xrpc/com.atproto.repo.listRecords?limit=100&collection=com.example.note&repo="+p.did+"&cursor="+cursor, "", nil, &out); err != nil {
				c.Fatal(err)
			}
			for _, r := range out.Records {
				found[r.URI] = true
			}
			if cursor = out.Cursor; cursor == "" {
				break
			}
		}
	}
	return found
}
