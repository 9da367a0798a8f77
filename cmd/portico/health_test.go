package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// tried is a database that works unless it is told otherwise, and counts what it is asked.
type tried struct {
	ping, write   error
	pings, writes int
}

func (d *tried) Ping(context.Context) error     { d.pings++; return d.ping }
func (d *tried) TryWrite(context.Context) error { d.writes++; return d.write }

// Who asks a thousand times causes no write and no more than one look a second; a write
// that failed shows until one went well, and one that does not end shows too.
func TestHealth(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // somebody who hangs up at once is answered for all
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := &tried{}
	h := &health{store: d, now: func() time.Time { return now }}
	h.last.Store(&outcome{ended: now})
	for range 1000 {
		if err := h.check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if d.writes != 0 || d.pings != 1 {
		t.Errorf("a thousand who asked caused %d writes and %d looks", d.writes, d.pings)
	}

	full := errors.New("database or disk is full")
	d.write = full
	h.beat(t.Context())
	if err := h.check(ctx); !errors.Is(err, full) {
		t.Errorf("after a write that failed: %v", err)
	}
	before := d.pings
	if err := h.known(); !errors.Is(err, full) || d.pings != before {
		t.Errorf("known after a write that failed: %v, after %d looks", err, d.pings-before)
	}
	now = now.Add(3 * time.Second)
	if err := h.check(ctx); !errors.Is(err, full) {
		t.Errorf("three seconds later: %v", err)
	}
	d.write = nil
	h.beat(t.Context())
	if err := h.check(ctx); err != nil {
		t.Errorf("after a write that went well: %v", err)
	}

	gone := errors.New("no such file")
	d.ping = gone
	if err := h.check(ctx); err != nil {
		t.Errorf("within a second of the last look: %v", err)
	}
	now = now.Add(time.Second)
	if err := h.check(ctx); !errors.Is(err, gone) {
		t.Errorf("a second later: %v", err)
	}

	d.ping = nil
	now = now.Add(time.Minute)
	if err := h.check(ctx); err == nil || err.Error() != "the database has been writing for 1m1s" {
		t.Errorf("after a minute in which no write ended: %v", err)
	}
}

// A server whose database was taken away, or put in another's place, says that it is not
// well, and nothing of where it was.
func TestHealthWithoutTheFile(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(path string) error
	}{
		{"removed", os.Remove},
		{"replaced", func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, nil, 0o600))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s, stop, err := start("PDS_DATA_DIRECTORY="+dir, "PDS_VERSION=1.2.3")
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			if err := tt.do(filepath.Join(dir, databaseName)); err != nil {
				t.Fatal(err)
			}
			res, err := http.Get(s.PublicURL.String() + "/xrpc/_health")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 503 || string(body) != `{"version":"1.2.3","error":"Service Unavailable"}` {
				t.Errorf("health: %d %s, %v", res.StatusCode, body, err)
			}
		})
	}
}
