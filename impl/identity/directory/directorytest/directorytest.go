// Package directorytest has the suite that every store of a PLC directory must pass.
package directorytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"portico/impl/identity/directory"
)

const (
	alice = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	bob   = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 7_000_000, time.UTC)

// Run tests a store; open gives an empty one.
func Run(t *testing.T, open func(testing.TB) directory.Store) {
	t.Run("Append", func(t *testing.T) { testAppend(t, open(t)) })
	t.Run("Conflict", func(t *testing.T) { testConflict(t, open(t)) })
	t.Run("Race", func(t *testing.T) { testRace(t, open(t)) })
	t.Run("Export", func(t *testing.T) { testExport(t, open(t)) })
}

func entry(did, cid string, after time.Duration) directory.Entry {
	return directory.Entry{DID: did, CID: cid, Operation: json.RawMessage(`{"type":"x","n":"` + cid + `"}`), CreatedAt: start.Add(after)}
}

func mustAppend(t *testing.T, s directory.Store, e directory.Entry, head string, nullified ...string) {
	t.Helper()
	if err := s.Append(t.Context(), e, nullified, head); err != nil {
		t.Fatalf("append %s: %v", e.CID, err)
	}
}

// want compares entries by CID, with * after those that are nullified.
func want(t *testing.T, what string, got []directory.Entry, err error, want string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	text := ""
	for _, e := range got {
		text += e.CID
		if e.Nullified {
			text += "*"
		}
		text += " "
	}
	if text != want {
		t.Errorf("%s: got %q, want %q", what, text, want)
	}
}

func testAppend(t *testing.T, s directory.Store) {
	ctx := t.Context()
	log, err := s.Log(ctx, alice)
	want(t, "unknown DID", log, err, "")
	mustAppend(t, s, entry(alice, "a1", 0), "")
	mustAppend(t, s, entry(bob, "b1", 0), "")
	mustAppend(t, s, entry(alice, "a2", time.Millisecond), "a1")
	mustAppend(t, s, entry(alice, "a3", 2*time.Millisecond), "a2")
	mustAppend(t, s, entry(alice, "a4", 3*time.Millisecond), "a3", "a2", "a3")
	mustAppend(t, s, entry(alice, "a5", 4*time.Millisecond), "a4")
	log, err = s.Log(ctx, alice)
	want(t, "log", log, err, "a1 a2* a3* a4 a5 ")
	last := int64(0)
	for i, e := range log {
		if e.DID != alice || e.Seq <= last || string(e.Operation) != `{"type":"x","n":"`+e.CID+`"}` ||
			!e.CreatedAt.Equal(start.Add(time.Duration(i)*time.Millisecond)) {
			t.Errorf("entry: %+v", e)
		}
		last = e.Seq
	}
	log, err = s.Log(ctx, bob)
	want(t, "log of another", log, err, "b1 ")
}

func testConflict(t *testing.T, s directory.Store) {
	ctx := t.Context()
	mustAppend(t, s, entry(alice, "a1", 0), "")
	mustAppend(t, s, entry(alice, "a2", time.Millisecond), "a1")
	mustAppend(t, s, entry(alice, "a3", 2*time.Millisecond), "a2", "a2")
	for name, try := range map[string]func() error{
		"no head":          func() error { return s.Append(ctx, entry(alice, "x", time.Second), nil, "") },
		"older head":       func() error { return s.Append(ctx, entry(alice, "x", time.Second), []string{"a3"}, "a1") },
		"nullified head":   func() error { return s.Append(ctx, entry(alice, "x", time.Second), []string{"a3"}, "a2") },
		"head of nothing":  func() error { return s.Append(ctx, entry(bob, "x", time.Second), nil, "a3") },
		"there already":    func() error { return s.Append(ctx, entry(alice, "a3", time.Second), []string{"a3"}, "a3") },
		"there, nullified": func() error { return s.Append(ctx, entry(alice, "a2", time.Second), nil, "a3") },
	} {
		if err := try(); !errors.Is(err, directory.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", name, err)
		}
	}
	log, err := s.Log(ctx, alice)
	want(t, "log", log, err, "a1 a2* a3 ")
	log, err = s.Log(ctx, bob)
	want(t, "log of another", log, err, "")
}

func testRace(t *testing.T, s directory.Store) {
	mustAppend(t, s, entry(alice, "a1", 0), "")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			errs[i] = s.Append(t.Context(), entry(alice, fmt.Sprint("r", i), time.Second), nil, "a1")
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, directory.ErrConflict) {
			t.Errorf("got %v, want ErrConflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 were first", won)
	}
}

func testExport(t *testing.T, s directory.Store) {
	ctx := t.Context()
	mustAppend(t, s, entry(alice, "a1", 0), "")
	mustAppend(t, s, entry(bob, "b1", 5*time.Millisecond), "")
	mustAppend(t, s, entry(alice, "a2", 3*time.Millisecond), "a1") // of another process, whose clock is behind
	mustAppend(t, s, entry(alice, "a3", 6*time.Millisecond), "a2", "a2")
	for _, tt := range []struct {
		after time.Time
		count int
		want  string
	}{
		{time.Time{}, 10, "a1 a2* b1 a3 "},
		{time.Time{}, 2, "a1 a2* "},
		{start, 10, "a2* b1 a3 "},
		{start.Add(3 * time.Millisecond), 1, "b1 "},
		{start.Add(6 * time.Millisecond), 10, ""},
	} {
		got, err := s.ExportAfterTime(ctx, tt.after, tt.count)
		want(t, fmt.Sprint("export after ", tt.after), got, err, tt.want)
	}
	all, err := s.ExportAfterSeq(ctx, 0, 10)
	want(t, "export from the start", all, err, "a1 b1 a2* a3 ")
	got, err := s.ExportAfterSeq(ctx, all[1].Seq, 1)
	want(t, "export one", got, err, "a2* ")
	got, err = s.ExportAfterSeq(ctx, all[3].Seq, 10)
	want(t, "export from the end", got, err, "")
}
