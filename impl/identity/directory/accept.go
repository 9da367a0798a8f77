package directory

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
	"portico/impl/repo/dagcbor"
)

// What one operation may hold.
const (
	maxNames          = 10
	maxName           = 258
	maxRotationKeys   = 10 // before the rule of five is looked at
	rotationKeys      = 5
	maxServices       = 10
	maxServiceType    = 256
	maxEndpoint       = 512
	maxMethods        = 10
	maxID             = 32
	maxKey            = 256
	recoveryWindow    = 72 * time.Hour
	misordered        = "Operations not correctly ordered"
	improperOperation = "Improperly formatted operation, %s: %s"
)

// limits are how many operations of one DID are taken in a time. Recovery is not
// counted: whoever has stolen a key could otherwise use up its owner's share.
var limits = []struct {
	window time.Duration
	name   string
	max    int
}{
	{time.Hour, "hour", 10},
	{24 * time.Hour, "day", 30},
	{7 * 24 * time.Hour, "week", 100},
}

// didKey is all that is asked of a verification method: any curve may be named.
var didKey = regexp.MustCompile(`^did:key:z[1-9A-HJ-NP-Za-km-z]+$`)

func didOf(r *http.Request) syntax.DID { return syntax.DID(r.PathValue("did")) }

func liveEntries(entries []Entry) []Entry {
	return slices.DeleteFunc(slices.Clone(entries), func(e Entry) bool { return e.Nullified })
}

// length counts as JavaScript does, in UTF-16 units.
func length(s string) int {
	n := utf8.RuneCountInString(s)
	for _, r := range s {
		if r > 0xffff {
			n++
		}
	}
	return n
}

// checkIncoming checks what can be checked without the log. The answers are
// refusals; body is op as it came.
func checkIncoming(op plc.Operation, body []byte) error {
	encoded, err := op.Encode()
	if err != nil {
		return refuse("Not a valid operation: %s", body)
	}
	if len(encoded) > plc.MaxBytes {
		return refuse(plc.TooLarge)
	}
	if op.Type() == plc.TypeTombstone {
		return nil
	}
	// Legacy operations are history: none is accepted any more.
	if op.Type() != plc.TypeOperation || !op.PlainServices() {
		return refuse("Not a valid operation: %s", body)
	}
	d, _ := op.Data()
	if len(d.AlsoKnownAs) > maxNames {
		return refuse("Too many alsoKnownAs entries (max %d)", maxNames)
	}
	for i, name := range d.AlsoKnownAs {
		if length(name) > maxName {
			return refuse("Entry of alsoKnownAs too long (max %d): %s", maxName, name)
		}
		if slices.Contains(d.AlsoKnownAs[:i], name) {
			return refuse("Repeated entry in alsoKnownAs: %s", name)
		}
	}
	if len(d.RotationKeys) > maxRotationKeys {
		return refuse("Too many rotationKeys (max %d)", maxRotationKeys)
	}
	for _, key := range d.RotationKeys {
		if plc.CheckRotationKey(key) != nil {
			return refuse("Invalid rotationKey: %s", key)
		}
	}
	if len(d.Services) > maxServices {
		return refuse("Too many services (max %d)", maxServices)
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.Services), dagcbor.CompareKeys) {
		switch s := d.Services[id]; {
		case length(id) > maxID:
			return refuse("Id of service too long (max %d): %s", maxID, id)
		case length(s.Type) > maxServiceType:
			return refuse("Type of service too long (max %d): %s", maxServiceType, id)
		case length(s.Endpoint) > maxEndpoint:
			return refuse("Endpoint of service too long (max %d): %s", maxEndpoint, id)
		}
	}
	if len(d.VerificationMethods) > maxMethods {
		return refuse("Too many verificationMethods (max %d)", maxMethods)
	}
	for _, id := range slices.SortedFunc(maps.Keys(d.VerificationMethods), dagcbor.CompareKeys) {
		switch key := d.VerificationMethods[id]; {
		case length(id) > maxID:
			return refuse("Id of verificationMethod too long (max %d): %s", maxID, id)
		case length(key) > maxKey:
			return refuse("Key of verificationMethod too long (max %d): %s", maxKey, id)
		case !didKey.MatchString(key):
			return refuse("Invalid verificationMethod key: %s", key)
		}
	}
	switch n := len(d.RotationKeys); {
	case n > rotationKeys:
		return refuse(improperOperation, "too many rotation keys", body)
	case n == 0:
		return refuse(improperOperation, "need at least one rotation key", body)
	}
	return nil
}

// A placement is where an operation goes.
type placement struct {
	entry     Entry
	nullified []string // CIDs that it puts out of force
	head      string   // CID of the last operation before, or empty
	repeated  bool     // it was there, and was nullified
}

// place decides by the rules of did:plc whether op may be added to the entries of
// did, all of them, at the time now. What may not is a refusal.
func place(did string, entries []Entry, op plc.Operation, body []byte, now time.Time) (*placement, error) {
	cid, err := op.CID()
	if err != nil {
		// An empty signature.
		return nil, refuse("Invalid signature on op: %s", body)
	}
	p := &placement{entry: Entry{
		DID: did, Operation: slices.Clone(body), CID: cid.String(), CreatedAt: now.UTC().Truncate(time.Millisecond),
	}}
	for _, e := range entries {
		p.repeated = p.repeated || e.CID == p.entry.CID
		if !p.entry.CreatedAt.After(e.CreatedAt) {
			p.entry.CreatedAt = e.CreatedAt.Add(time.Millisecond)
		}
	}
	live := liveEntries(entries)
	if len(live) == 0 {
		return p, first(did, op, cid, body)
	}
	p.head = live[len(live)-1].CID
	at := slices.IndexFunc(live, func(e Entry) bool { return e.CID == op.Prev() })
	if at < 0 {
		return nil, refuse(misordered)
	}
	previous, err := plc.Parse(live[at].Operation)
	if err != nil {
		return nil, fmt.Errorf("stored operation of %s: %w", did, err)
	}
	state, ok := previous.Data()
	if !ok {
		return nil, refuse(misordered)
	}
	keys := state.RotationKeys
	disputed := live[at+1:]
	if len(disputed) > 0 {
		// Whoever signed what followed gives way to the keys above theirs.
		following, err := plc.Parse(disputed[0].Operation)
		if err != nil {
			return nil, fmt.Errorf("stored operation of %s: %w", did, err)
		}
		signer, err := following.Verify(keys)
		if err != nil {
			return nil, fmt.Errorf("stored operation of %s: %w", did, err)
		}
		keys = keys[:signer]
	}
	if _, err := op.Verify(keys); err != nil {
		return nil, refuse("Invalid signature on op: %s", body)
	}
	if len(disputed) > 0 {
		if lapsed := now.Sub(disputed[0].CreatedAt); lapsed > recoveryWindow {
			return nil, refuse("Recovery operation occurred outside of the allowed 72 hr recovery window. Time lapsed: %d", lapsed.Milliseconds())
		}
		for _, e := range disputed {
			p.nullified = append(p.nullified, e.CID)
		}
		return p, nil
	}
	for _, limit := range limits {
		n := 0
		for _, e := range live {
			if now.Sub(e.CreatedAt) < limit.window {
				n++
			}
		}
		if n >= limit.max {
			return nil, refuse("To many operations within last %s (max %d)", limit.name, limit.max)
		}
	}
	return p, nil
}

func first(did string, op plc.Operation, cid dagcbor.CID, body []byte) error {
	d, ok := op.Data()
	if !ok {
		return refuse(misordered)
	}
	if _, err := op.Verify(d.RotationKeys); err != nil {
		return refuse("Invalid signature on op: %s", body)
	}
	if want := plc.DIDOf(cid).String(); want != did {
		return refuse("Hash of genesis operation does not match DID identifier: %s", want)
	}
	if _, there := op["prev"].(string); there {
		return refuse(improperOperation, "expected null prev on create", body)
	}
	return nil
}
