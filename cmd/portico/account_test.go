package main

import (
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	operatorapi "portico/api/portico/operator"
)

func TestRecordWords(t *testing.T) {
	const made, later = syntax.Datetime("2026-03-01T12:00:00.000Z"), syntax.Datetime("2026-03-01T12:00:01.000Z")
	for _, tt := range []struct {
		name        string
		deactivated *syntax.Datetime
		records     int64
		want        string
	}{
		{"active", nil, 0, "0"},
		{"brought", new(made), 0, "0 (moved here without its repository)"},
		{"brought with its records", new(made), 7, "7"},
		{"deactivated by its owner", new(later), 0, "0"},
	} {
		a := &operatorapi.Account{CreatedAt: made, DeactivatedAt: tt.deactivated, Records: new(tt.records)}
		if got := recordWords(a); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
