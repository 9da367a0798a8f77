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
	"portico/impl/account/token"
	"portico/impl/identity/plc"
	"portico/impl/keyring"
	"portico/impl/servertest"

	"crypto/rand"
)

func TestGetRecommendedDIDCredentials(t *testing.T) {
	const recovery = "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9"
	f := newFixture(t, func(o *servertest.Options) { o.RecoveryKey = recovery })
	u := f.signUp("alice")
	want := map[string]any{
		"rotationKeys":        []any{recovery, servertest.DIDKey(f.Rotation)},
		"alsoKnownAs":         []any{"at://alice.test"},
		"verificationMethods": map[string]any{"atproto": f.SigningKey(u.DID)},
		"services":            map[string]any{"atproto_pds": map[string]any{"type": "AtprotoPersonalDataServer", "endpoint": "https://pds.test"}},
	}
	get := func() map[string]any {
		return f.Accepted(f.Get("getRecommendedDidCredentials", f.Scoped(u, token.AppPass))).Fields(t)
	}
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.Deactivate(u.DID)
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.TakeDown(u.DID)
	delete(want, "alsoKnownAs")
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef, a.Handle = nil, "" })
	if diff := cmp.Diff(want, get()); diff != "" {
		t.Error(diff)
	}
	f.Remove(u.DID)
	f.Refused(f.Get("getRecommendedDidCredentials", u.Access), 403, "AccountNotFound", "Account not found")
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("asked the directory %q", asked)
	}
}

func TestRequestPLCOperationSignature(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.Empty(f.Post("requestPlcOperationSignature", "", u.Access))
	mails, err := f.Outbox.List(t.Context(), 0, 10)
	f.Check(err)
	_, letter, err := f.Outbox.Read(t.Context(), mails[0].ID)
	f.Check(err)
	if letter.To != u.Email || letter.Subject != "PLC Update Operation Requested" || !servertest.CodePattern.MatchString(letter.Text) {
		t.Errorf("letter to %s, %q", letter.To, letter.Subject)
	}
	f.TakeDown(u.DID)
	f.Empty(f.Post("requestPlcOperationSignature", "", f.Scoped(u, token.Takendown)))
	for _, scope := range []token.Scope{token.AppPass, token.AppPassPrivileged, token.SignupQueued} {
		f.Refused(f.Post("requestPlcOperationSignature", "", f.Scoped(u, scope)), 400, "InvalidToken", "Bad token scope")
	}
	f.SetAccount(u.DID, func(a *db.Account) { a.Email = "" })
	f.Refused(f.Post("requestPlcOperationSignature", "", u.Access), 400, "InvalidRequest", "account does not have an email address")
	f.Remove(u.DID)
	f.Refused(f.Post("requestPlcOperationSignature", "", u.Access), 400, "InvalidRequest", "account not found")
}

func TestSignPLCOperation(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	last, err := f.PLC.Last(t.Context(), u.DID)
	f.Check(err)
	cid, err := last.CID()
	f.Check(err)
	before, _ := last.Data()
	same := map[string]any{
		"type": "plc_operation", "prev": cid.String(), "rotationKeys": []any{servertest.DIDKey(f.Rotation)},
		"alsoKnownAs": []any{"at://alice.test"}, "verificationMethods": map[string]any{"atproto": f.SigningKey(u.DID)},
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
			a := f.Accepted(f.Post("signPlcOperation",
				strings.Replace(`{"token":"`+strings.ToLower(f.signature(u))+`",`+tt.fields+`}`, ",}", "}", 1), u.Access))
			op, _ := a.Fields(t)["operation"].(map[string]any)
			raw, err := json.Marshal(op)
			f.Check(err)
			signed, err := plc.ParseObject(raw)
			f.Check(err)
			if _, err := plc.Operation(signed).Verify(before.RotationKeys); err != nil {
				t.Error(err)
			}
			delete(op, "sig")
			if diff := cmp.Diff(tt.want, op); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, n := f.last(u.DID); n != 1 {
		t.Error("something was posted")
	}
	f.told(u.DID, "alice.test")
	// A taken-down account may, in order to move.
	code := f.signature(u)
	f.TakeDown(u.DID)
	f.Accepted(f.Post("signPlcOperation", `{"token":"`+code+`"}`, f.Scoped(u, token.Takendown)))
}

func TestSignPLCOperationRefuses(t *testing.T) {
	f := newFixture(t)
	u, other := f.signUp("alice"), f.signUp("bob")
	sign := func(code string) answer { return f.Post("signPlcOperation", `{"token":"`+code+`"}`, u.Access) }
	const required = "email confirmation token required to sign PLC operations"
	f.Refused(f.Post("signPlcOperation", `{}`, u.Access), 400, "InvalidRequest", required)
	f.Refused(sign(""), 400, "InvalidRequest", required)
	f.Refused(sign("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	f.Refused(sign(f.signature(other)), 400, "InvalidToken", "Token is invalid")
	f.Refused(f.Post("signPlcOperation", `{"token":"x"}`, f.Scoped(u, token.AppPassPrivileged)), 400, "InvalidToken", "Bad token scope")
	f.Refused(f.Post("signPlcOperation", `{"rotationKeys":[1]}`, u.Access), 400, "InvalidRequest",
		"Expected string value type (got 1) at $.rotationKeys[0]")

	code := f.signature(u)
	f.Advance(15 * time.Minute)
	f.Refused(sign(code), 400, "ExpiredToken", "Token is expired")

	// A code is spent whatever comes of it.
	code = f.signature(u)
	f.PLC.Spoil(servertest.HangsUp)
	f.Refused(sign(code), 502, "UpstreamFailure", "Unable to perform PLC operation")
	f.PLC.Spoil(nil)
	f.Refused(sign(code), 400, "InvalidToken", "Token is invalid")
	f.Refused(f.Post("signPlcOperation", `{"token":"`+f.signature(u)+`","services":{"a":1.5}}`, u.Access), 400, "InvalidRequest",
		"Expected one of null, boolean, integer, string, cid, bytes, array or object value type (got 1.5) at $.services.a")

	code = f.signature(u)
	f.Tombstone(u.DID)
	f.Refused(sign(code), 400, "InvalidRequest", "Did is tombstoned")
	f.Remove(u.DID)
	f.Refused(sign(code), 403, "AccountNotFound", "Account not found")
}

func TestSubmitPLCOperation(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	f.Accepted(f.Get("resolveDid?did=" + u.DID.String()))
	own, err := keyring.NewKey(rand.Reader)
	f.Check(err)
	keys := []string{servertest.DIDKey(own), servertest.DIDKey(f.Rotation)}
	op := f.sign(u, `"rotationKeys":["`+keys[0]+`","`+keys[1]+`"],"alsoKnownAs":["at://alice.test","https://alice.example.com"]`)
	f.PLC.Asked()
	f.Empty(f.Post("submitPlcOperation", f.submission(op), f.Scoped(u, token.AppPass)))
	if asked := f.PLC.Asked(); !slices.Equal(asked, []string{"POST", "GET"}) {
		t.Errorf("asked the directory %q", asked)
	}
	if d, n := f.last(u.DID); n != 2 || !slices.Equal(d.RotationKeys, keys) {
		t.Errorf("%d operations, rotation keys %v", n, d.RotationKeys)
	}
	f.told(u.DID, "alice.test", "-")
	if a := f.Get("resolveDid?did=" + u.DID.String()); !strings.Contains(a.Body, "https://alice.example.com") {
		t.Errorf("the document in the cache is an old one: %s", a.Body)
	}

	// What its owner signs with a key of their own will do too.
	last, err := f.PLC.Last(t.Context(), u.DID)
	f.Check(err)
	next, err := plc.Update(last, func(d *plc.Data) { d.AlsoKnownAs = d.AlsoKnownAs[:1] })
	f.Check(err)
	f.Check(next.Sign(own))
	f.Empty(f.Post("submitPlcOperation", f.submission(next), u.Access))

	// What came before is refused by the directory, and not told.
	a := f.Post("submitPlcOperation", f.submission(op), u.Access)
	if a.Status != 400 || a.Text(t, "error") != "InvalidRequest" || a.Text(t, "message") == "" {
		t.Errorf("stale operation: %d %s", a.Status, a.Body)
	}
	f.told(u.DID, "alice.test", "-", "-")
}

// What the directory has already is public: sent once more it changes nothing, and
// nothing is told of it. Another account's is refused before the directory hears of it.
func TestSubmittedPLCOperationIsSentAgain(t *testing.T) {
	f := newFixture(t)
	u, other := f.signUp("alice"), f.signUp("bob")
	genesis, err := f.PLC.Last(t.Context(), u.DID)
	f.Check(err)
	theirs, err := f.PLC.Last(t.Context(), other.DID)
	f.Check(err)
	f.PLC.Asked()
	f.Refused(f.Post("submitPlcOperation", f.submission(theirs), u.Access), 400, "InvalidRequest", "Incorrect signing key")
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("asked the directory %q", asked)
	}
	f.Refused(f.Post("submitPlcOperation", f.submission(genesis), u.Access), 400, "InvalidRequest", "Operations not correctly ordered")
	f.told(u.DID, "alice.test")
	if got := f.Recorded(u.DID); got != "" {
		t.Errorf("recorded:\n%s", got)
	}
}

func TestSubmitPLCOperationRefuses(t *testing.T) {
	f := newFixture(t)
	u := f.signUp("alice")
	last, err := f.PLC.Last(t.Context(), u.DID)
	f.Check(err)
	stranger, err := keyring.NewKey(rand.Reader)
	f.Check(err)
	strange := servertest.DIDKey(stranger)
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
			f.Check(err)
			f.Check(op.Sign(f.Rotation))
			f.Refused(f.Post("submitPlcOperation", f.submission(op), u.Access), 400, "InvalidRequest", tt.message)
		})
	}
	tombstone, err := plc.NewTombstone(last)
	f.Check(err)
	f.Check(tombstone.Sign(f.Rotation))
	f.Refused(f.Post("submitPlcOperation", f.submission(tombstone), u.Access), 400, "InvalidRequest", "Invalid operation")
	f.Refused(f.Post("submitPlcOperation", `{"operation":{}}`, u.Access), 400, "InvalidRequest", "Invalid operation")
	f.Refused(f.Post("submitPlcOperation", `{"operation":1}`, u.Access), 400, "InvalidRequest", "Expected object value type (got 1) at $.operation")
	f.Refused(f.Post("submitPlcOperation", `{}`, u.Access), 400, "InvalidRequest", `Missing required key "operation" at $`)
	if asked := f.PLC.Asked(); len(asked) > 0 {
		t.Errorf("asked the directory %q for what is refused here", asked)
	}

	// The directory looks at the signature, and says so itself.
	op, err := plc.Update(last, func(*plc.Data) {})
	f.Check(err)
	f.Check(op.Sign(stranger))
	a := f.Post("submitPlcOperation", f.submission(op), u.Access)
	if a.Status != 400 || a.Text(t, "error") != "InvalidRequest" || !strings.HasPrefix(a.Text(t, "message"), "Invalid signature on op: ") {
		t.Errorf("wrong key: %d %s", a.Status, a.Body)
	}
	f.Check(op.Sign(f.Rotation))
	f.PLC.Spoil(servertest.HangsUp)
	f.Refused(f.Post("submitPlcOperation", f.submission(op), u.Access), 502, "UpstreamFailure", "Unable to perform PLC operation")
	f.told(u.DID, "alice.test")

	// An answer that was lost is no refusal.
	f.PLC.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		f.Check(f.PLC.Submit(t.Context(), u.DID, op))
		return servertest.Says("", http.StatusBadGateway, "")(httptest.NewRecorder(), r) && servertest.HangsUp(w, r)
	})
	f.Empty(f.Post("submitPlcOperation", f.submission(op), u.Access))
	f.told(u.DID, "alice.test", "-")
	f.Remove(u.DID)
	f.Refused(f.Post("submitPlcOperation", f.submission(op), u.Access), 403, "AccountNotFound", "Account not found")
}

// DESIGN 26: the token of an account that is gone is answered 403, for a 500.
func TestDesign26OperationsOfDeletedAccounts(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		f := &fixture{s}
		u := f.signUp("alice")
		op, code := f.sign(u, ""), f.signature(u)
		f.Remove(u.DID)
		f.PLC.Asked()
		for name, a := range map[string]answer{
			"getRecommendedDidCredentials": f.Get("getRecommendedDidCredentials", u.Access),
			"signPlcOperation":             f.Post("signPlcOperation", `{"token":"`+code+`"}`, u.Access),
			"submitPlcOperation":           f.Post("submitPlcOperation", f.submission(op), u.Access),
		} {
			if got, want := a.Outcome(), `403 AccountNotFound "Account not found"`; got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if asked := f.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked %q", asked)
		}
	}, servertest.In("com.atproto.identity"))
}
