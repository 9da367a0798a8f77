package identity_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/keyring"
	"portico/impl/plc"
	"portico/impl/token"

	"crypto/rand"
)

func TestGetRecommendedDIDCredentials(t *testing.T) {
	const recovery = "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"
	f := newFixture(t, func(o *options) { o.recovery = recovery })
	u := f.signUp("alice")
	want := map[string]any{
		"rotationKeys":        []any{recovery, f.didKey(f.rotation)},
		"alsoKnownAs":         []any{"at://alice.test"},
		"verificationMethods": map[string]any{"atproto": u.key},
		"services":            map[string]any{"atproto_pds": map[string]any{"type": "AtprotoPersonalDataServer", "endpoint": "https://pds.test"}},
	}
	get := func() map[string]any {
		return f.accepted(f.get("getRecommendedDidCredentials", f.scoped(u, token.AppPass))).fields(t)
	}
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.deactivate(u.did)
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.takeDown(u.did)
	delete(want, "alsoKnownAs")
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.setAccount(u.did, func(a *db.Account) { a.TakedownRef, a.Handle = nil, "" })
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.remove(u.did)
	f.refused(f.get("getRecommendedDidCredentials", u.bearer), 403, "AccountNotFound", "Account not found")
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("asked the directory %q", asked)
	}
}

func TestRequestPLCOperationSignature(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.empty(f.post("requestPlcOperationSignature", "", u.bearer))
	mails, err := f.outbox.List(t.Context(), 10)
	f.check(err)
	_, letter, err := f.outbox.Read(t.Context(), mails[0].ID)
	f.check(err)
	if letter.To != u.email || letter.Subject != "PLC Update Operation Requested" || !codePattern.MatchString(letter.Text) {
		t.Errorf("letter to %s, %q", letter.To, letter.Subject)
	}
	f.takeDown(u.did)
	f.empty(f.post("requestPlcOperationSignature", "", f.scoped(u, token.Takendown)))
	for _, scope := range []token.Scope{token.AppPass, token.AppPassPrivileged, token.SignupQueued} {
		f.refused(f.post("requestPlcOperationSignature", "", f.scoped(u, scope)), 400, "InvalidToken", "Bad token scope")
	}
	f.setAccount(u.did, func(a *db.Account) { a.Email = "" })
	f.refused(f.post("requestPlcOperationSignature", "", u.bearer), 400, "InvalidRequest", "account does not have an email address")
	f.remove(u.did)
	f.refused(f.post("requestPlcOperationSignature", "", u.bearer), 400, "InvalidRequest", "account not found")
}

func TestSignPLCOperation(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	last, err := f.directory.Last(t.Context(), u.did)
	f.check(err)
	cid, err := last.CID()
	f.check(err)
	before, _ := last.Data()
	same := map[string]any{
		"type": "plc_operation", "prev": cid.String(), "rotationKeys": []any{f.didKey(f.rotation)},
		"alsoKnownAs": []any{"at://alice.test"}, "verificationMethods": map[string]any{"atproto": u.key},
		"services": map[string]any{"atproto_pds": map[string]any{"type": "AtprotoPersonalDataServer", "endpoint": "https://pds.test"}},
	}
	with := func(field string, v any) map[string]any {
		m := map[string]any{}
		for k, v := range same {
			m[k] = v
		}
		m[field] = v
		return m
	}
	for _, tt := range []struct {
		name, fields string
		want         map[string]any
	}{
		{"nothing", "", same},
		{"rotation keys", `"rotationKeys":["a","b"]`, with("rotationKeys", []any{"a", "b"})},
		{"no rotation keys", `"rotationKeys":[]`, with("rotationKeys", []any{})},
		{"names", `"alsoKnownAs":["at://bob.test"]`, with("alsoKnownAs", []any{"at://bob.test"})},
		{"methods", `"verificationMethods":{"a":"b"}`, with("verificationMethods", map[string]any{"a": "b"})},
		{"services, unchecked", `"services":{"x":{"type":1,"more":null}}`, with("services", map[string]any{"x": map[string]any{"type": 1.0, "more": nil}})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := f.accepted(f.post("signPlcOperation",
				strings.Replace(`{"token":"`+strings.ToLower(f.signature(u))+`",`+tt.fields+`}`, ",}", "}", 1), u.bearer))
			op, _ := a.fields(t)["operation"].(map[string]any)
			raw, err := json.Marshal(op)
			f.check(err)
			signed, err := plc.ParseObject(raw)
			f.check(err)
			if _, err := plc.Operation(signed).Verify(before.RotationKeys); err != nil {
				t.Error(err)
			}
			delete(op, "sig")
			if diff := cmp.Diff(tt.want, op); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, n := f.last(u.did); n != 1 {
		t.Error("something was posted")
	}
	f.told(u.did, "alice.test")
	// A taken-down account may, in order to move.
	code := f.signature(u)
	f.takeDown(u.did)
	f.accepted(f.post("signPlcOperation", `{"token":"`+code+`"}`, f.scoped(u, token.Takendown)))
}

func TestSignPLCOperationRefuses(t *testing.T) {
	f := newFixture(t)
	u, other := f.signUp("alice"), f.signUp("bob")
	sign := func(code string) answer { return f.post("signPlcOperation", `{"token":"`+code+`"}`, u.bearer) }
	const required = "email confirmation token required to sign PLC operations"
	f.refused(f.post("signPlcOperation", `{}`, u.bearer), 400, "InvalidRequest", required)
	f.refused(sign(""), 400, "InvalidRequest", required)
	f.refused(sign("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	f.refused(sign(f.signature(other)), 400, "InvalidToken", "Token is invalid")
	f.refused(f.post("signPlcOperation", `{"token":"x"}`, f.scoped(u, token.AppPassPrivileged)), 400, "InvalidToken", "Bad token scope")
	f.refused(f.post("signPlcOperation", `{"rotationKeys":[1]}`, u.bearer), 400, "InvalidRequest",
		"Expected string value type (got 1) at $.rotationKeys[0]")

	code := f.signature(u)
	f.clock.advance(15 * time.Minute)
	f.refused(sign(code), 400, "ExpiredToken", "Token is expired")

	// A code is spent whatever comes of it.
	code = f.signature(u)
	f.spoil(hangsUp)
	f.refused(sign(code), 502, "UpstreamFailure", "Unable to perform PLC operation")
	f.spoil(nil)
	f.refused(sign(code), 400, "InvalidToken", "Token is invalid")
	f.refused(f.post("signPlcOperation", `{"token":"`+f.signature(u)+`","services":{"a":1.5}}`, u.bearer), 400, "InvalidRequest", "Invalid operation")

	code = f.signature(u)
	f.tombstone(u.did)
	f.refused(sign(code), 400, "InvalidRequest", "Did is tombstoned")
	f.remove(u.did)
	f.refused(sign(code), 403, "AccountNotFound", "Account not found")
}

func TestSubmitPLCOperation(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.accepted(f.get("resolveDid?did="+u.did.String(), ""))
	own, err := keyring.NewKey(rand.Reader)
	f.check(err)
	keys := []string{f.didKey(own), f.didKey(f.rotation)}
	op := f.sign(u, `"rotationKeys":["`+keys[0]+`","`+keys[1]+`"],"alsoKnownAs":["at://alice.test","https://alice.example.com"]`)
	f.requests()
	f.empty(f.post("submitPlcOperation", f.submission(op), f.scoped(u, token.AppPass)))
	if asked := f.requests(); !slices.Equal(asked, []string{"POST", "GET"}) {
		t.Errorf("asked the directory %q", asked)
	}
	if d, n := f.last(u.did); n != 2 || !slices.Equal(d.RotationKeys, keys) {
		t.Errorf("%d operations, rotation keys %v", n, d.RotationKeys)
	}
	f.told(u.did, "alice.test", "-")
	if a := f.get("resolveDid?did="+u.did.String(), ""); !strings.Contains(a.body, "https://alice.example.com") {
		t.Errorf("the document in the cache is an old one: %s", a.body)
	}

	// What its owner signs with a key of their own will do too.
	last, err := f.directory.Last(t.Context(), u.did)
	f.check(err)
	next, err := plc.Update(last, func(d *plc.Data) { d.AlsoKnownAs = d.AlsoKnownAs[:1] })
	f.check(err)
	f.check(next.Sign(own))
	f.empty(f.post("submitPlcOperation", f.submission(next), u.bearer))

	// What came before is refused by the directory, and not told.
	a := f.post("submitPlcOperation", f.submission(op), u.bearer)
	if a.status != 400 || a.text(t, "error") != "InvalidRequest" || a.text(t, "message") == "" {
		t.Errorf("stale operation: %d %s", a.status, a.body)
	}
	f.told(u.did, "alice.test", "-", "-")
}

func TestSubmitPLCOperationRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	last, err := f.directory.Last(t.Context(), u.did)
	f.check(err)
	stranger, err := keyring.NewKey(rand.Reader)
	f.check(err)
	strange := f.didKey(stranger)
	for _, tt := range []struct {
		name    string
		change  func(*plc.Data)
		message string
	}{
		{"rotation key", func(d *plc.Data) { d.RotationKeys = []string{strange} }, "Rotation keys do not include server's rotation key"},
		{"type", func(d *plc.Data) { d.Services["atproto_pds"] = plc.Service{Type: "X", Endpoint: "https://pds.test"} },
			"Incorrect type on atproto_pds service"},
		{"no service", func(d *plc.Data) { d.Services = nil }, "Incorrect type on atproto_pds service"},
		{"endpoint", func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: "AtprotoPersonalDataServer", Endpoint: "https://elsewhere.test"}
			d.VerificationMethods = nil
		}, "Incorrect endpoint on atproto_pds service"},
		{"signing key", func(d *plc.Data) { d.VerificationMethods["atproto"] = strange; d.AlsoKnownAs = nil }, "Incorrect signing key"},
		{"handle", func(d *plc.Data) { d.AlsoKnownAs = []string{"at://bob.test", "at://alice.test"} }, "Incorrect handle in alsoKnownAs"},
		{"no handle", func(d *plc.Data) { d.AlsoKnownAs = nil }, "Incorrect handle in alsoKnownAs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			op, err := plc.Update(last, tt.change)
			f.check(err)
			f.check(op.Sign(f.rotation))
			f.refused(f.post("submitPlcOperation", f.submission(op), u.bearer), 400, "InvalidRequest", tt.message)
		})
	}
	tombstone, err := plc.NewTombstone(last)
	f.check(err)
	f.check(tombstone.Sign(f.rotation))
	f.refused(f.post("submitPlcOperation", f.submission(tombstone), u.bearer), 400, "InvalidRequest", "Invalid operation")
	f.refused(f.post("submitPlcOperation", `{"operation":{}}`, u.bearer), 400, "InvalidRequest", "Invalid operation")
	f.refused(f.post("submitPlcOperation", `{"operation":1}`, u.bearer), 400, "InvalidRequest", "Expected object value type (got 1) at $.operation")
	f.refused(f.post("submitPlcOperation", `{}`, u.bearer), 400, "InvalidRequest", `Missing required key "operation" at $`)
	if asked := f.requests(); len(asked) > 0 {
		t.Errorf("asked the directory %q for what is refused here", asked)
	}

	// The directory looks at the signature, and says so itself.
	op, err := plc.Update(last, func(*plc.Data) {})
	f.check(err)
	f.check(op.Sign(stranger))
	a := f.post("submitPlcOperation", f.submission(op), u.bearer)
	if a.status != 400 || a.text(t, "error") != "InvalidRequest" || !strings.HasPrefix(a.text(t, "message"), "Invalid signature on op: ") {
		t.Errorf("wrong key: %d %s", a.status, a.body)
	}
	f.check(op.Sign(f.rotation))
	f.spoil(hangsUp)
	f.refused(f.post("submitPlcOperation", f.submission(op), u.bearer), 502, "UpstreamFailure", "Unable to perform PLC operation")
	f.told(u.did, "alice.test")

	// An answer that was lost is no refusal.
	real := *f.directory
	f.spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		f.check(real.Submit(t.Context(), u.did, op))
		return says("", http.StatusBadGateway, "")(httptest.NewRecorder(), r) && hangsUp(w, r)
	})
	f.empty(f.post("submitPlcOperation", f.submission(op), u.bearer))
	f.told(u.did, "alice.test", "-")
	f.remove(u.did)
	f.refused(f.post("submitPlcOperation", f.submission(op), u.bearer), 403, "AccountNotFound", "Account not found")
}
