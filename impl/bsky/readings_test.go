package bsky

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// One account holds few answers at a time, all together some more, and what reading costs
// one account is counted by the minute.
func TestReadings(t *testing.T) {
	var r readings
	now := time.Unix(1, 0)
	var leave []func()
	enter := func(did string, want bool) {
		t.Helper()
		l, ok := r.enter(syntax.DID(did), now)
		if ok != want {
			t.Fatalf("%s: %v", did, ok)
		}
		if ok {
			leave = append(leave, l)
		}
	}
	for range maxReadingsAccount {
		enter("a", true)
	}
	enter("a", false)
	enter("b", true)
	leave[0]()
	enter("a", true)
	for i := range maxReadings - maxReadingsAccount - 1 {
		enter("other "+string(rune(i)), true)
	}
	enter("c", false)
	for _, l := range leave[1:] {
		l()
	}

	enter("a", true)
	if !r.spend("a", maxWork) || r.spend("a", 1) {
		t.Error("work is not counted")
	}
	enter("a", false)
	enter("b", true)
	now = now.Add(workEvery)
	enter("c", true)
	if len(r.accounts) != 3 { // those that have an answer
		t.Errorf("%d accounts are kept", len(r.accounts))
	}
	enter("a", true)
	if !r.spend("a", 1) {
		t.Error("work is not forgotten")
	}
}

func TestReadingsAreSafe(t *testing.T) {
	var r readings
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if leave, ok := r.enter("a", time.Unix(int64(i)*100, 0)); ok {
				r.spend("a", 1)
				leave()
			}
		})
	}
	all.Wait()
	if r.under != 0 {
		t.Errorf("%d under way", r.under)
	}
}

// The work of a text is each byte as often as it is deep, whatever the text is.
func TestWork(t *testing.T) {
	for text, want := range map[string]int{
		"": 0, "1": 1, `[]`: 3, `[[]]`: 2 + 3 + 2 + 1, `"[["`: 4, `["\"["]`: 2 + 5*2 + 1, `]]}{`: 3 + 2, `"`: 2, `"\`: 4,
	} {
		if got := work([]byte(text)); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
	}
	if got := work([]byte(strings.Repeat("[", 10<<20))); got < maxWork {
		t.Errorf("ten million arrays in each other: %d", got)
	}
}
