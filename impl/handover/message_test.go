package handover

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A process that takes no message holds up nobody for longer than it may, and once alone.
func TestSendToWhoReadsNothing(t *testing.T) {
	w, other, err := wirePair()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	defer unix.Close(other)
	w.patience = 50 * time.Millisecond
	v := failure{strings.Repeat("x", 10_000)}
	sent := 0
	for ; err == nil; sent++ {
		if sent > 10_000 {
			t.Fatal("there is room for everything")
		}
		err = w.send(saidFailed, v, -1)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) || sent < 2 {
		t.Errorf("message %d: %v", sent, err)
	}
	w.patience = time.Hour
	if err := w.send(saidFailed, v, -1); err == nil {
		t.Error("a message behind half a message")
	}
}
