// Package invite makes invite codes and counts those that an account has earned. Who may redeem one is the database's to say.
package invite

import (
	"encoding/base32"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxOpen is how many earned codes an account may have unused.
const maxOpen = 5

// New returns the text of a new invite code: the host name with dashes for dots, then xxxxx-xxxxx of a-z and 2-7 with 50 random
// bits. It fails only if random does.
func New(hostname string, random io.Reader) (string, error) {
	var b [8]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make invite code: %w", err)
	}
	t := strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
	return strings.ReplaceAll(hostname, ".", "-") + "-" + t[:5] + "-" + t[5:10], nil
}

// Code is what counting needs to know about one of an account's codes.
type Code struct {
	CreatedAt time.Time
	ByAdmin   bool // given by an administrator, not earned
	Disabled  bool
	Uses      int
	Available int // uses that it was made for
}

// Earning is how accounts earn codes: one for each Interval of their life, of which the part before Epoch does not count.
// No Interval means that none are earned. Everything counts in whole milliseconds.
type Earning struct {
	Interval time.Duration
	Epoch    time.Time
}

// Due returns how many codes to create now for an account that was created at the given time and has these codes, and how many
// earned ones it must have afterwards. If it has more then, somebody else created some at the same time.
func (e Earning) Due(now, created time.Time, codes []Code) (create, total int) {
	epoch := e.epoch()
	open, since := 0, 0
	for _, c := range codes {
		if c.ByAdmin {
			continue
		}
		total++
		if !c.Disabled && c.Uses < c.Available {
			open++
		}
		if c.CreatedAt.UnixMilli() > epoch {
			since++
		}
	}
	create = max(0, min(maxOpen-open, e.earned(now, created)-since))
	return create, total + create
}

// earned counts the intervals of the account's life that ended after the epoch.
func (e Earning) earned(now, created time.Time) int {
	interval := e.Interval.Milliseconds()
	if interval <= 0 {
		return 0
	}
	n := floorDiv(now.UnixMilli()-created.UnixMilli(), interval)
	if before := e.epoch() - created.UnixMilli(); before > 0 {
		n -= floorDiv(before, interval)
	}
	return int(n)
}

func (e Earning) epoch() int64 {
	if e.Epoch.IsZero() {
		return 0
	}
	return e.Epoch.UnixMilli()
}

// floorDiv rounds down also below zero, where clocks that went backwards lead. b is positive.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
