package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"portico/cmd/portico/launch"
	"portico/db/dbtest"
)

// listenAsManager is a service manager's socket at address, and each message that comes.
func listenAsManager(t *testing.T, address string) <-chan string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	messages := make(chan string, 10_000)
	go func() {
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	return messages
}

// next is the first message that has line, for which it waits, and all that came before.
func next(t *testing.T, messages <-chan string, line string) (found string, before []string) {
	t.Helper()
	patience := time.After(launch.Patience)
	for {
		select {
		case m := <-messages:
			if slices.Contains(strings.Split(m, "\n"), line) {
				return m, before
			}
			before = append(before, m)
		case <-patience:
			t.Fatalf("no message has %q; there were %q", line, before)
		}
	}
}

// A manager hears of a start, while the server serves, and of its end. What the server
// starts does not find it.
func TestManager(t *testing.T) {
	for _, tt := range []struct{ name, address string }{
		{"path", filepath.Join(t.TempDir(), "notify")},
		{"abstract name", fmt.Sprintf("@portico-test-%d", os.Getpid())},
	} {
		t.Run(tt.name, func(t *testing.T) {
			messages := listenAsManager(t, tt.address)
			given := []string{notifySocket + "=" + tt.address, watchdogTime + "=200000", watchdogPID + fmt.Sprintf("=%d", os.Getpid())}
			for _, v := range given { // as a process has them
				name, value, _ := strings.Cut(v, "=")
				t.Setenv(name, value)
			}
			s, stop := startFor(t, append(given, "PDS_DATA_DIRECTORY="+t.TempDir())...)
			first, _ := next(t, messages, "EXTEND_TIMEOUT_USEC=60000000")
			if want := "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=opens the database, and brings it up to date"; first != want {
				t.Errorf("while it starts: %q, want %q", first, want)
			}
			ready, _ := next(t, messages, "READY=1")
			if want := "READY=1\nSTATUS=serves " + s.PublicURL.String(); ready != want {
				t.Errorf("the start: %q, want %q", ready, want)
			}
			for range 5 {
				next(t, messages, "WATCHDOG=1")
			}
			for _, name := range []string{notifySocket, watchdogTime, watchdogPID} {
				if v, ok := os.LookupEnv(name); ok {
					t.Errorf("programs that the server starts find %s=%s", name, v)
				}
			}
			stop()
			end, _ := next(t, messages, "STOPPING=1")
			if want := "STOPPING=1\nSTATUS=waits for requests that are under way"; end != want {
				t.Errorf("the end: %q, want %q", end, want)
			}
		})
	}
}

// Where nobody watches this process, nobody is told that it is alive.
func TestManagerThatDoesNotWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, more := range [][]string{nil, {watchdogTime + "=1000000", watchdogPID + "=1"}} {
			m, err := newManager(append([]string{notifySocket + "=/nowhere"}, more...), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			m.watch(ctx, func() string { return "" }, func() error { t.Error("asked whether it is stuck"); return nil })
		}
	})
}

// What speaks for no manager is nobody's, and what is no socket ends the start.
func TestManagerOfTheEnvironment(t *testing.T) {
	for _, tt := range []struct {
		environ []string
		want    manager
		err     string
	}{
		{nil, manager{}, ""},
		{[]string{"WATCHDOG_USEC=5"}, manager{}, ""},
		{[]string{"NOTIFY_SOCKET="}, manager{}, ""},
		{[]string{"NOTIFY_SOCKET=/run/x"}, manager{socket: "/run/x"}, ""},
		{[]string{"NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=3000000"}, manager{socket: "/run/x", watchdog: 3 * time.Second}, ""},
		{[]string{"NOTIFY_SOCKET=vsock:2:1234"}, manager{}, `NOTIFY_SOCKET is "vsock:2:1234", not the path of a socket`},
		{[]string{"NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=0"}, manager{}, `WATCHDOG_USEC is "0", not a number of microseconds`},
		{[]string{"NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=99999999999999"}, manager{}, `WATCHDOG_USEC is "99999999999999", not a number of microseconds`},
	} {
		m, err := newManager(tt.environ, nil)
		if err != nil {
			if err.Error() != tt.err || exitStatus(err) != statusSettings {
				t.Errorf("%q: %v (status %d), want %s", tt.environ, err, exitStatus(err), tt.err)
			}
			continue
		}
		if *m != tt.want || tt.err != "" {
			t.Errorf("%q: %+v, want %+v, %s", tt.environ, *m, tt.want, tt.err)
		}
		var successor []string
		if tt.want.socket != "" {
			successor = tt.environ
		}
		if got := m.environ(); !slices.Equal(got, successor) {
			t.Errorf("%q: who takes its place gets %q", tt.environ, got)
		}
	}
}

// A manager that is gone costs a server nothing.
func TestManagerThatIsGone(t *testing.T) {
	s, _ := startFor(t, notifySocket+"="+filepath.Join(t.TempDir(), "gone"), "PDS_DATA_DIRECTORY="+t.TempDir())
	res, err := http.Get(s.PublicURL.String() + "/xrpc/_health")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
}

// While a reload goes on, and when another process takes over, the messages are those that
// systemd knows.
func TestManagerMessages(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	messages := listenAsManager(t, address)
	m := &manager{socket: address, log: slog.New(slog.DiscardHandler)}
	m.reloading()
	m.ready("serves\nREADY=0")
	m.follow(17)
	reloading, _ := next(t, messages, "RELOADING=1")
	var since time.Duration
	if n, err := fmt.Sscanf(reloading, "RELOADING=1\nMONOTONIC_USEC=%d", &since); n != 1 || since <= 0 {
		t.Errorf("%q: %v", reloading, err)
	}
	if ready, _ := next(t, messages, "READY=1"); ready != "READY=1\nSTATUS=serves READY=0" {
		t.Errorf("a status of two lines is sent as %q", ready)
	}
	if follow, _ := next(t, messages, "MAINPID=17"); follow != "MAINPID=17" {
		t.Errorf("%q", follow)
	}
}

// A try to write that is answered late, or by an error, is no reason to start again; one that
// is not answered is, long after its time, and nobody is told that the server is alive.
func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan error)
		h := &health{store: heldUp{answer}, now: time.Now}
		if err := h.stuck(); err != nil {
			t.Fatalf("before the first try: %v", err)
		}
		time.Sleep(time.Hour)
		for _, tt := range []struct {
			after time.Duration
			want  string
		}{
			{0, ""},
			{beatPatience + stuckAfter, ""},
			{beatPatience + stuckAfter + time.Second, "a try to write that may take 10s has been under way for 2m11s"},
		} {
			go h.beat(t.Context())
			time.Sleep(tt.after)
			synctest.Wait()
			if err := h.stuck(); tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != tt.want) {
				t.Errorf("after %v: %v, want %q", tt.after, err, tt.want)
			}
			answer <- errors.New("database or disk is full")
			synctest.Wait()
			if err := h.stuck(); err != nil || !h.failing() {
				t.Errorf("a try that came to an end: %v, failing %v", err, h.failing())
			}
		}
	})
}

// heldUp is a database that ends a try to write when it is told to, whatever its context says.
type heldUp struct{ answer chan error }

func (heldUp) Ping(context.Context) error       { return nil }
func (d heldUp) TryWrite(context.Context) error { return <-d.answer }

// A server that is stuck is silent, says so once in its log, and speaks again when it is not.
func TestManagerOfWhoIsStuck(t *testing.T) {
	address := filepath.Join(t.TempDir(), "notify")
	messages := listenAsManager(t, address)
	var log strings.Builder
	m := &manager{socket: address, watchdog: 2 * time.Millisecond, log: slog.New(slog.NewTextHandler(&log, nil))}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	m.watch(ctx, func() string { return "serves" }, func() error {
		switch asked++; {
		case asked > 10:
			cancel()
			return nil
		case asked > 1:
			return errors.New("no end")
		}
		return nil
	})
	m.tell("END=1")
	if _, before := next(t, messages, "END=1"); !slices.Equal(before, []string{"STATUS=serves", "WATCHDOG=1", "WATCHDOG=1"}) {
		t.Errorf("told %q", before)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "no end") {
		t.Errorf("%d lines in the log:\n%s", n, &log)
	}
}

// A server whose Postgres does not answer any more is not started again: the manager
// hears what is wrong, and goes on hearing that the server is alive.
func TestManagerWhileTheDatabaseIsAway(t *testing.T) {
	database, freeze := freezable(t, dbtest.PostgresURL(t))
	address := filepath.Join(t.TempDir(), "notify")
	messages := listenAsManager(t, address)
	s, _ := startFor(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_DATABASE_URL="+database,
		"PORTICO_KEY_ENCRYPTION_KEY="+strings.Repeat("17", 32), notifySocket+"="+address, watchdogTime+"=2000000")
	next(t, messages, "READY=1")
	next(t, messages, "WATCHDOG=1")
	thaw := freeze()
	begin := time.Now()
	_, before := next(t, messages, "STATUS=serves "+s.PublicURL.String()+", but the database takes no writes: see the log")
	alive := 0
	for _, m := range before {
		if m == "WATCHDOG=1" {
			alive++
		}
	}
	if least := int(time.Since(begin)/time.Second) / 2; alive < least {
		t.Errorf("%d signs of life in %v", alive, time.Since(begin))
	}
	for range 3 {
		next(t, messages, "WATCHDOG=1")
	}
	thaw()
	next(t, messages, "STATUS=serves "+s.PublicURL.String())
}

// freezable is the URL of the database at url, and how it stops to answer until it is thawed,
// at the latest by the end of the test.
func freezable(t *testing.T, url string) (at string, freeze func() (thaw func())) {
	t.Helper()
	before, host, ok := strings.Cut(url, "?host=")
	if !ok {
		t.Fatalf("%s names no socket", url)
	}
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var gate sync.RWMutex // what passes holds it
	pass := func(to io.WriteCloser, from io.Reader) {
		defer to.Close()
		for b := make([]byte, 32<<10); ; {
			n, err := from.Read(b)
			if err != nil {
				return
			}
			gate.RLock()
			_, err = to.Write(b[:n])
			gate.RUnlock()
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", filepath.Join(host, ".s.PGSQL.5432"))
			if err != nil {
				in.Close()
				continue
			}
			go pass(out, in)
			go pass(in, out)
		}
	}()
	return before + "?host=" + dir, func() func() {
		gate.Lock()
		thaw := sync.OnceFunc(gate.Unlock)
		t.Cleanup(thaw)
		return thaw
	}
}
