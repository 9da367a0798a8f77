package account

import (
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// An answer that was under way while the DID changed is not remembered, whichever came
// first, and no more are remembered than there is room for.
func TestValidity(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var v validity
	v.forget("did:plc:one")
	if v.has("did:plc:one", "key", now) {
		t.Error("something is known from the start")
	}
	before := v.state()
	v.keep("did:plc:one", "key", now, before)
	if !v.has("did:plc:one", "key", now) || v.has("did:plc:one", "other", now) || v.has("did:plc:two", "key", now) {
		t.Error("not what was kept")
	}
	if v.has("did:plc:one", "key", now.Add(-time.Microsecond)) {
		t.Error("known from the future")
	}
	v.forget("did:plc:one")
	v.keep("did:plc:one", "key", now, before)
	if v.has("did:plc:one", "key", now) {
		t.Error("an old answer was kept")
	}
	for n := range 10_000 {
		v.keep(syntax.DID(fmt.Sprint("did:plc:", n)), "key", now, v.state())
	}
	if v.valid.Len() != 4096 || !v.has("did:plc:9999", "key", now) || v.has("did:plc:5903", "key", now) {
		t.Errorf("%d are known", v.valid.Len())
	}
}
