package invite

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	b, _ := hex.DecodeString("00443214c74254b6")
	for hostname, want := range map[string]string{
		"pds.example.com": "pds-example-com-abcde-fghij",
		"localhost":       "localhost-abcde-fghij",
	} {
		if got, err := New(hostname, bytes.NewReader(b)); err != nil || got != want {
			t.Errorf("%s: got %s, %v", hostname, got, err)
		}
	}
	if _, err := New("localhost", strings.NewReader("short")); err == nil {
		t.Error("made one from too little randomness")
	}
}

func TestDue(t *testing.T) {
	const day = 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	codes := func(n int, c Code) []Code { return slices.Repeat([]Code{c}, n) }
	fresh := Code{CreatedAt: ago(day), Available: 1}
	used := Code{CreatedAt: ago(day), Available: 1, Uses: 1}
	disabled := Code{CreatedAt: ago(day), Available: 1, Disabled: true}
	admin := Code{CreatedAt: ago(day), Available: 1, ByAdmin: true}

	for _, tt := range []struct {
		name          string
		e             Earning
		created       time.Time
		codes         []Code
		create, total int
	}{
		{"no interval", Earning{}, ago(100 * day), nil, 0, 0},
		{"negative interval", Earning{Interval: -day}, ago(100 * day), nil, 0, 0},
		{"under a millisecond", Earning{Interval: 1}, ago(100 * day), nil, 0, 0},
		{"new account", Earning{Interval: day}, now, nil, 0, 0},
		{"a millisecond before the first", Earning{Interval: day}, ago(day - time.Millisecond), nil, 0, 0},
		{"the first", Earning{Interval: day}, ago(day), nil, 1, 1},
		{"three", Earning{Interval: day}, ago(3*day + time.Hour), nil, 3, 3},
		{"never more than five open", Earning{Interval: day}, ago(100 * day), nil, 5, 5},
		{"some open", Earning{Interval: day}, ago(100 * day), codes(3, fresh), 2, 5},
		{"five open", Earning{Interval: day}, ago(100 * day), codes(5, fresh), 0, 5},
		{"more than five open", Earning{Interval: day}, ago(100 * day), codes(7, fresh), 0, 7},
		{"used ones are earned no more", Earning{Interval: day}, ago(4 * day), codes(3, used), 1, 4},
		{"all earned were made", Earning{Interval: day}, ago(3 * day), codes(3, used), 0, 3},
		{"disabled ones use up what was earned", Earning{Interval: day}, ago(4 * day), codes(2, disabled), 2, 4},
		{"disabled ones are not open", Earning{Interval: day}, ago(100 * day), codes(6, disabled), 5, 11},
		{"the administrator's do not count", Earning{Interval: day}, ago(2 * day), codes(9, admin), 2, 2},
		{"partly used counts as open", Earning{Interval: day}, ago(100 * day), codes(4, Code{CreatedAt: ago(day), Available: 3, Uses: 2}), 1, 5},

		{"account from before the epoch", Earning{day, ago(2 * day)}, ago(10 * day), nil, 2, 2},
		{"the epoch within an interval", Earning{day, ago(2*day + time.Hour)}, ago(10 * day), nil, 3, 3},
		{"account from the epoch", Earning{day, ago(2 * day)}, ago(2 * day), nil, 2, 2},
		{"account from after the epoch", Earning{day, ago(9 * day)}, ago(2 * day), nil, 2, 2},
		{"codes from before the epoch are forgotten", Earning{day, ago(2 * day)}, ago(10 * day), codes(8, Code{CreatedAt: ago(3 * day), Available: 1, Uses: 1}), 2, 10},
		{"a code from the epoch itself too", Earning{day, ago(2 * day)}, ago(10 * day), []Code{{CreatedAt: ago(2 * day), Available: 1, Uses: 1}}, 2, 3},
		{"a code from a millisecond later not", Earning{day, ago(2 * day)}, ago(10 * day), []Code{{CreatedAt: ago(2*day - time.Millisecond), Available: 1, Uses: 1}}, 1, 2},
		{"epoch in the future", Earning{day, now.Add(3 * day)}, ago(10 * day), nil, 0, 0},
		{"created in the future", Earning{Interval: day}, now.Add(day), nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			create, total := tt.e.Due(now, tt.created, tt.codes)
			if create != tt.create || total != tt.total {
				t.Errorf("create %d, total %d; want %d, %d", create, total, tt.create, tt.total)
			}
		})
	}
}
