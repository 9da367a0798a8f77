package account_test

import (
	"bytes"
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/dbtest"
)

// The connection to Postgres breaks at the COMMIT that completes an account. Whether it came
// through or not, its owner gets what they asked for, once.
func TestLostCommit(t *testing.T) {
	for _, tt := range []struct {
		name      string
		committed bool
	}{
		{"before it arrives", false},
		{"before the answer", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line := &line{committed: tt.committed}
			c := &clock{now: noon}
			w := newWorld(t, c, dbtest.Postgres(t, onClock(c), line.between(t)))
			s, r := w.server("one"), request("alice")
			r.InviteCode = "welcome"
			w.invite("welcome")
			var did syntax.DID
			s.hooks.after = func(d syntax.DID) { did = d; line.arm() }
			created, err := s.Create(t.Context(), r)
			if !line.broken() {
				t.Fatal("the line did not break")
			}
			w.check(err)
			w.exists(did, r)
			claims, err := s.sessions.Tokens.VerifyRefresh(created.Tokens.Refresh)
			w.check(err)
			if _, _, err := s.sessions.Refresh(t.Context(), did, claims.ID); err != nil {
				t.Error(err)
			}
			w.settled()
		})
	}
}

// A line is the way to Postgres. Once armed, it breaks at the next COMMIT that goes with
// events.
type line struct {
	committed bool // it breaks after the answer, which nobody gets
	mu        sync.Mutex
	armed     bool
	broke     bool
}

func (l *line) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = true
}

func (l *line) broken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broke
}

// preparedCommit is a message that gives COMMIT a name.
var preparedCommit = regexp.MustCompile(`(stmtcache_[0-9a-f]+)\x00COMMIT\x00`)

// breaks says whether the line breaks at what the client has sent: a message with a COMMIT
// to run, which goes by the name that it got on this connection.
func (l *line) breaks(sent []byte, name *[]byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if named := preparedCommit.FindSubmatch(sent); named != nil {
		*name = bytes.Clone(named[1])
		return false
	}
	if !l.armed || *name == nil || !bytes.Contains(sent, *name) {
		return false
	}
	l.armed, l.broke = false, true
	return true
}

// between is the option to go to Postgres by this line.
func (l *line) between(t *testing.T) dbtest.Option {
	return func(c *db.Config) {
		u, err := url.Parse(c.URL)
		if err != nil {
			t.Fatal(err)
		}
		const socket = ".s.PGSQL.5432"
		q := u.Query()
		server := filepath.Join(q.Get("host"), socket)
		dir := t.TempDir()
		listener, err := net.Listen("unix", filepath.Join(dir, socket))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		q.Set("host", dir)
		u.RawQuery = q.Encode()
		c.URL = u.String()
		go func() {
			for {
				client, err := listener.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				go l.carry(client, server)
			}
		}()
	}
}

func (l *line) carry(client net.Conn, server string) {
	defer client.Close()
	postgres, err := net.Dial("unix", server)
	if err != nil {
		return
	}
	defer postgres.Close()
	// What Postgres says goes nowhere once deaf is closed.
	deaf := make(chan struct{})
	answered := make(chan struct{}, 1)
	go func() {
		defer client.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := postgres.Read(b)
			if err != nil {
				return
			}
			select {
			case <-deaf:
				answered <- struct{}{}
				return
			default:
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	b := make([]byte, 64<<10)
	var commit []byte
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		breaks := l.breaks(b[:n], &commit)
		if breaks && !l.committed {
			return
		}
		if breaks {
			close(deaf)
		}
		if _, err := postgres.Write(b[:n]); err != nil {
			return
		}
		if breaks {
			<-answered
			return
		}
	}
}
