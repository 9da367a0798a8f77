package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type fixture struct {
	testing.TB
	server *Server
	store  Store
	clock  time.Time
	keys   []*atcrypto.PrivateKeyK256 // the strongest first
	public []string
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{TB: t, clock: start}
	f.store = NewMemory()
	f.server = New(f.store, func() time.Time { return f.clock }, "1.2.3", slog.New(slog.DiscardHandler))
	for i := range 3 {
		b := make([]byte, 32)
		b[31] = byte(i + 1)
		key, err := atcrypto.ParsePrivateBytesK256(b)
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		f.keys, f.public = append(f.keys, key), append(f.public, public.DIDKey())
	}
	return f
}

func (f *fixture) do(method, path, body string) (int, string, http.Header) {
	f.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

func (f *fixture) signed(op plc.Operation, key int) plc.Operation {
	f.Helper()
	if err := op.Sign(f.keys[key]); err != nil {
		f.Fatal(err)
	}
	return op
}

func (f *fixture) data() plc.Data {
	return plc.Data{
		RotationKeys:        f.public,
		VerificationMethods: map[string]string{"atproto": f.public[2]},
		AlsoKnownAs:         []string{"at://alice.test"},
		Services:            map[string]plc.Service{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://pds.example.com"}},
	}
}

func (f *fixture) did(genesis plc.Operation) syntax.DID {
	f.Helper()
	did, err := plc.DID(genesis)
	if err != nil {
		f.Fatal(err)
	}
	return did
}

func (f *fixture) post(did syntax.DID, op plc.Operation) (int, string) {
	f.Helper()
	b, err := json.Marshal(op)
	if err != nil {
		f.Fatal(err)
	}
	status, body, _ := f.do("POST", "/"+did.String(), string(b))
	return status, body
}

func (f *fixture) accept(did syntax.DID, op plc.Operation) plc.Operation {
	f.Helper()
	if status, body := f.post(did, op); status != 200 || body != "OK" {
		f.Fatalf("got %d %s, want 200 OK", status, body)
	}
	return op
}

// refuse wants a 400 whose message starts with message.
func (f *fixture) refuse(did syntax.DID, op plc.Operation, message string) {
	f.Helper()
	status, body := f.post(did, op)
	var said struct{ Message string }
	if err := json.Unmarshal([]byte(body), &said); err != nil {
		f.Fatal(err)
	}
	if status != 400 || !strings.HasPrefix(said.Message, message) {
		f.Errorf("got %d %q, want 400 %q", status, said.Message, message)
	}
}

func (f *fixture) genesis() (syntax.DID, plc.Operation) {
	f.Helper()
	op := f.signed(plc.New(f.data(), ""), 2)
	did := f.did(op)
	return did, f.accept(did, op)
}

func (f *fixture) rename(last plc.Operation, key int, handle string) plc.Operation {
	f.Helper()
	op, err := plc.Update(last, func(d *plc.Data) { d.SetHandle(syntax.Handle(handle)) })
	if err != nil {
		f.Fatal(err)
	}
	return f.signed(op, key)
}

func (f *fixture) tombstone(last plc.Operation, key int) plc.Operation {
	f.Helper()
	op, err := plc.NewTombstone(last)
	if err != nil {
		f.Fatal(err)
	}
	return f.signed(op, key)
}

func (f *fixture) handle(did syntax.DID) string {
	f.Helper()
	status, body, _ := f.do("GET", "/"+did.String()+"/data", "")
	if status != 200 {
		return fmt.Sprint(status, " ", body)
	}
	var d plc.Data
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		f.Fatal(err)
	}
	return d.Handle()
}

func TestIncoming(t *testing.T) {
	long := strings.Repeat("x", 600)
	p256 := "did:key:zDnaembgSGUhZULN2Caob4HLJPaxBh92N7rtH21TErzqf8HQo"
	for _, tt := range []struct {
		name   string
		change func(*plc.Data)
		want   string // empty: accepted
	}{
		{"as it is", func(*plc.Data) {}, ""},
		{"nothing but keys", func(d *plc.Data) { *d = plc.Data{RotationKeys: d.RotationKeys} }, ""},
		{"another curve to sign with", func(d *plc.Data) { d.RotationKeys = append(d.RotationKeys, p256) }, ""},
		{"a curve nobody knows to verify with", func(d *plc.Data) {
			d.VerificationMethods["x"] = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
		}, ""},
		{"11 names", func(d *plc.Data) { d.AlsoKnownAs = numbered("at://n", 11) }, "Too many alsoKnownAs entries (max 10)"},
		{"name of 258", func(d *plc.Data) { d.AlsoKnownAs[0] = long[:258] }, ""},
		{"name of 259", func(d *plc.Data) { d.AlsoKnownAs[0] = long[:259] }, "Entry of alsoKnownAs too long (max 258): xxx"},
		{"name of 130 UTF-16 pairs", func(d *plc.Data) { d.AlsoKnownAs[0] = strings.Repeat("😀", 130) }, "Entry of alsoKnownAs too long (max 258): "},
		{"name twice", func(d *plc.Data) { d.AlsoKnownAs = []string{"at://a", "at://a"} }, "Repeated entry in alsoKnownAs: at://a"},
		{"11 rotation keys", func(d *plc.Data) { d.RotationKeys = numbered(p256, 11) }, "Too many rotationKeys (max 10)"},
		{"6 rotation keys", func(d *plc.Data) { d.RotationKeys = append(d.RotationKeys, p256, p256, p256) }, "Improperly formatted operation, too many rotation keys: {"},
		{"no rotation key", func(d *plc.Data) { d.RotationKeys = nil }, "Improperly formatted operation, need at least one rotation key: {"},
		{"rotation key of another curve", func(d *plc.Data) {
			d.RotationKeys[0] = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"
		}, "Invalid rotationKey: did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"},
		{"11 services", func(d *plc.Data) {
			for _, id := range numbered("s", 11) {
				d.Services[id] = plc.Service{}
			}
		}, "Too many services (max 10)"},
		{"service id", func(d *plc.Data) { d.Services[long[:33]] = plc.Service{} }, "Id of service too long (max 32): xxx"},
		{"service type", func(d *plc.Data) { d.Services["x"] = plc.Service{Type: long[:257]} }, "Type of service too long (max 256): x"},
		{"service endpoint", func(d *plc.Data) { d.Services["x"] = plc.Service{Endpoint: long[:513]} }, "Endpoint of service too long (max 512): x"},
		{"11 methods", func(d *plc.Data) {
			for _, id := range numbered("s", 11) {
				d.VerificationMethods[id] = p256
			}
		}, "Too many verificationMethods (max 10)"},
		{"method id", func(d *plc.Data) { d.VerificationMethods[long[:33]] = p256 }, "Id of verificationMethod too long (max 32): xxx"},
		{"method key", func(d *plc.Data) { d.VerificationMethods["x"] = "did:key:z" + long[:248] }, "Key of verificationMethod too long (max 256): x"},
		{"method key that is none", func(d *plc.Data) { d.VerificationMethods["x"] = "did:web:x" }, "Invalid verificationMethod key: did:web:x"},
		{"4 kB", func(d *plc.Data) {
			for _, id := range numbered("s", 10) {
				d.Services[id] = plc.Service{Endpoint: long[:500]}
			}
		}, "Operation too large (4000 bytes maximum in cbor encoding)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			d := f.data()
			tt.change(&d)
			op := f.signed(plc.New(d, ""), 2)
			if tt.want == "" {
				f.accept(f.did(op), op)
				return
			}
			f.refuse(f.did(op), op, tt.want)
		})
	}
}

func numbered(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(s, i)
	}
	return out
}

func TestNotAnOperation(t *testing.T) {
	f := newFixture(t)
	const did = "did:plc:bsrfrnhnso2qhg4g7k3j7ivu"
	good, err := json.Marshal(f.signed(plc.New(f.data(), ""), 2))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, body string
		status     int
		want       string
	}{
		{"nothing", "", 400, `{"message":"Body is not valid JSON"}`},
		{"not JSON", "{", 400, `{"message":"Body is not valid JSON"}`},
		{"array", "[ ]", 400, `{"message":"Not a valid operation: []"}`},
		{"empty", "{}", 400, `{"message":"Not a valid operation: {}"}`},
		{"legacy", `{"type":"create","signingKey":"","recoveryKey":"","handle":"","service":"","prev":null,"sig":"x"}`, 400,
			`{"message":"Not a valid operation: {\"type\":\"create\",\"signingKey\":\"\",\"recoveryKey\":\"\",\"handle\":\"\",\"service\":\"\",\"prev\":null,\"sig\":\"x\"}"}`},
		{"100 kB", strings.Repeat(" ", 102401), 413, `{"message":"request entity too large"}`},
	} {
		status, body, _ := f.do("POST", "/"+did, tt.body)
		if status != tt.status || body != tt.want {
			t.Errorf("%s: got %d %s, want %d %s", tt.name, status, body, tt.status, tt.want)
		}
	}
	extra := strings.Replace(string(good), `"endpoint"`, `"more":"x","endpoint"`, 1)
	if status, body, _ := f.do("POST", "/"+did, extra); status != 400 || !strings.HasPrefix(body, `{"message":"Not a valid operation: {`) {
		t.Errorf("extra field in a service: got %d %s", status, body)
	}
}

func TestGenesis(t *testing.T) {
	f := newFixture(t)
	op := f.signed(plc.New(f.data(), ""), 2)
	did := f.did(op)

	f.refuse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", op, "Hash of genesis operation does not match DID identifier: "+did.String())
	f.refuse(did[:31], op, "Hash of genesis operation does not match DID identifier: "+did.String())
	f.refuse(did+"a", op, "Hash of genesis operation does not match DID identifier: "+did.String())
	f.refuse(did, f.tombstone(op, 2), "Operations not correctly ordered")

	other := f.data()
	other.RotationKeys = f.public[:2]
	f.refuse(did, f.signed(plc.New(other, ""), 2), "Invalid signature on op: {")
	unsigned := plc.New(f.data(), "")
	unsigned["sig"] = ""
	f.refuse(did, unsigned, "Invalid signature on op: {")

	late := f.signed(plc.New(f.data(), "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm"), 2)
	cid, err := late.CID()
	if err != nil {
		t.Fatal(err)
	}
	f.refuse(plc.DIDOf(cid), late, "Improperly formatted operation, expected null prev on create: {")

	f.accept(did, op)
	f.refuse(did, op, "Operations not correctly ordered")
}

func TestUpdate(t *testing.T) {
	f := newFixture(t)
	did, genesis := f.genesis()
	bob := f.accept(did, f.rename(genesis, 2, "bob.test"))
	carol := f.accept(did, f.rename(bob, 0, "carol.test"))
	if got := f.handle(did); got != "carol.test" {
		t.Errorf("handle: got %s", got)
	}
	f.refuse(did, f.rename(bob, 2, "dan.test"), "Invalid signature on op: {") // no right to dispute
	unknown := plc.New(f.data(), "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm")
	f.refuse(did, f.signed(unknown, 0), "Operations not correctly ordered")
	f.refuse(did, f.signed(plc.New(f.data(), ""), 0), "Operations not correctly ordered")
	f.refuse(did, f.signed(plc.New(f.data(), "nonsense"), 0), "Operations not correctly ordered")

	// Keys count from the operation that names them: only those before decide.
	d, _ := carol.Data()
	d.RotationKeys = f.public[:1]
	cid, err := carol.CID()
	if err != nil {
		t.Fatal(err)
	}
	fewer := f.accept(did, f.signed(plc.New(d, cid.String()), 1))
	f.refuse(did, f.rename(fewer, 1, "dan.test"), "Invalid signature on op: {")
	f.accept(did, f.rename(fewer, 0, "dan.test"))

	// The clock stood still; the times do not.
	entries, err := f.store.Log(t.Context(), did.String())
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if want := start.Add(time.Duration(i) * time.Millisecond); !e.CreatedAt.Equal(want) || e.Seq != int64(i+1) {
			t.Errorf("entry %d: number %d at %v, want %v", i, e.Seq, e.CreatedAt, want)
		}
	}
}

func TestRecovery(t *testing.T) {
	f := newFixture(t)
	did, genesis := f.genesis()
	thief := f.accept(did, f.rename(genesis, 2, "thief.test"))
	f.clock = start.Add(time.Hour)
	f.accept(did, f.rename(thief, 2, "thief2.test"))
	f.clock = start.Add(72*time.Hour + time.Millisecond) // the first of them was made 1 ms after the start

	f.refuse(did, f.rename(genesis, 2, "owner.test"), "Invalid signature on op: {") // the same key
	owner := f.accept(did, f.rename(genesis, 1, "owner.test"))
	if got := f.handle(did); got != "owner.test" {
		t.Errorf("handle: got %s", got)
	}
	f.refuse(did, f.rename(thief, 0, "late.test"), "Operations not correctly ordered") // nullified operations are no ground
	f.refuse(did, f.rename(genesis, 1, "again.test"), "Invalid signature on op: {")
	f.refuse(did, thief, "Invalid signature on op: {") // as it was posted before

	_, body, _ := f.do("GET", "/"+did.String()+"/log/audit", "")
	var audit []plc.LogEntry
	if err := json.Unmarshal([]byte(body), &audit); err != nil {
		t.Fatal(err)
	}
	var nullified []bool
	for _, e := range audit {
		nullified = append(nullified, e.Nullified)
	}
	if fmt.Sprint(nullified) != "[false true true false]" {
		t.Errorf("nullified: got %v", nullified)
	}
	_, body, _ = f.do("GET", "/"+did.String()+"/log", "")
	var log []plc.Operation
	if err := json.Unmarshal([]byte(body), &log); err != nil || len(log) != 2 {
		t.Errorf("log: %d operations, %v", len(log), err)
	}

	f.clock = f.clock.Add(72*time.Hour + 5*time.Millisecond)
	f.refuse(did, f.rename(genesis, 0, "late.test"), "Recovery operation occurred outside of the allowed 72 hr recovery window. Time lapsed: 259200005")
	f.accept(did, f.rename(owner, 2, "later.test"))
}

func TestTombstone(t *testing.T) {
	f := newFixture(t)
	did, genesis := f.genesis()
	tombstone := f.accept(did, f.tombstone(genesis, 2))
	cid, err := tombstone.CID()
	if err != nil {
		t.Fatal(err)
	}
	f.refuse(did, f.signed(plc.New(f.data(), cid.String()), 0), "Operations not correctly ordered")
	for _, path := range []string{"", "/data"} {
		status, body, _ := f.do("GET", "/"+did.String()+path, "")
		if want := `{"message":"DID not available: ` + did.String() + `"}`; status != 404 || body != want {
			t.Errorf("GET %s: got %d %s, want 404 %s", path, status, body, want)
		}
	}
	if status, body, _ := f.do("GET", "/"+did.String()+"/log/last", ""); status != 200 || !strings.Contains(body, `"type":"plc_tombstone"`) {
		t.Errorf("last: got %d %s", status, body)
	}
	f.accept(did, f.rename(genesis, 0, "back.test"))
	if got := f.handle(did); got != "back.test" {
		t.Errorf("handle after the tombstone was nullified: %s", got)
	}
}

func TestLimits(t *testing.T) {
	f := newFixture(t)
	did, genesis := f.genesis()
	last, n := genesis, 1
	// fill renames until the directory says want.
	fill := func(most int, want string) {
		t.Helper()
		for n < most {
			last = f.accept(did, f.rename(last, 1, fmt.Sprintf("n%d.test", n)))
			n++
		}
		f.refuse(did, f.rename(last, 1, "more.test"), want)
	}
	fill(10, "To many operations within last hour (max 10)")
	f.accept(did, f.rename(genesis, 0, "recovered.test")) // never limited
	f = newFixture(t)
	did, last = f.genesis()
	n = 1
	for hour := range 3 {
		f.clock = start.Add(time.Duration(hour) * time.Hour).Add(time.Duration(hour) * time.Second)
		fill(10*(hour+1), "To many operations within last ")
	}
	f.clock = start.Add(4 * time.Hour)
	f.refuse(did, f.rename(last, 1, "more.test"), "To many operations within last day (max 30)")
	for day := 1; day <= 3; day++ {
		for hour := range 3 {
			f.clock = start.Add(time.Duration(day)*25*time.Hour + time.Duration(hour)*(time.Hour+time.Second))
			fill(min(100, 30*day+10*(hour+1)), "To many operations within last ")
		}
	}
	f.clock = f.clock.Add(23 * time.Hour)
	f.refuse(did, f.rename(last, 1, "more.test"), "To many operations within last week (max 100)")
	f.clock = start.Add(8 * 24 * time.Hour)
	f.accept(did, f.rename(last, 1, "more.test"))
}

func TestReading(t *testing.T) {
	f := newFixture(t)
	const nobody = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	for _, path := range []string{"", "/data", "/log", "/log/audit", "/log/last"} {
		status, body, header := f.do("GET", "/"+nobody+path, "")
		if status != 404 || body != `{"message":"DID not registered: `+nobody+`"}` || header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("GET %s: got %d %s, %v", path, status, body, header)
		}
	}
	did, genesis := f.genesis()
	j, err := json.Marshal(genesis)
	if err != nil {
		t.Fatal(err)
	}
	cid, err := genesis.CID()
	if err != nil {
		t.Fatal(err)
	}
	data := `{"did":"` + did.String() + `","rotationKeys":["did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9","did:key:zQ3shajmTb29MxR6htjD79Hdo6vneJLvyKCzZSRcawNWks9JC","` + f.public[2] + `"],` +
		`"verificationMethods":{"atproto":"` + f.public[2] + `"},"alsoKnownAs":["at://alice.test"],` +
		`"services":{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"https://pds.example.com"}}}`
	entry := `{"did":"` + did.String() + `","operation":` + string(j) + `,"cid":"` + cid.String() + `","nullified":false,"createdAt":"2026-03-01T12:00:00.000Z"}`
	for _, tt := range []struct{ path, contentType, want string }{
		{"/" + did.String(), "application/did+ld+json; charset=utf-8", string(plc.Document(did, genesis))},
		{"/" + strings.ReplaceAll(did.String(), ":", "%3A"), "application/did+ld+json; charset=utf-8", string(plc.Document(did, genesis))},
		{"/" + did.String() + "/data", "application/json; charset=utf-8", data},
		{"/" + did.String() + "/log", "application/json; charset=utf-8", "[" + string(j) + "]"},
		{"/" + did.String() + "/log/audit", "application/json; charset=utf-8", "[" + entry + "]"},
		{"/" + strings.ReplaceAll(did.String(), ":", "%3A") + "/log/last", "application/json; charset=utf-8", string(j)},
		{"/export", "application/jsonlines", entry},
		{"/export?after=2026-03-01T12:00:00.000Z", "application/jsonlines", ""},
		{"/export?after=2026-03-01T11:59:59.999Z", "application/jsonlines", entry},
		{"/export?after=0", "application/jsonlines", `{"type":"sequenced_op","did":"` + did.String() + `","operation":` + string(j) + `,"cid":"` + cid.String() + `","createdAt":"2026-03-01T12:00:00.000Z","seq":1}`},
		{"/export?after=1", "application/jsonlines", ""},
		{"/_health", "application/json; charset=utf-8", `{"version":"1.2.3"}`},
	} {
		status, body, header := f.do("GET", tt.path, "")
		if status != 200 || body != tt.want || header.Get("Content-Type") != tt.contentType || header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("GET %s: got %d %v\n%s\nwant\n%s", tt.path, status, header, body, tt.want)
		}
	}
	f.accept(did, f.rename(genesis, 1, "bob.test"))
	if _, body, _ := f.do("GET", "/export?count=2000", ""); strings.Count(body, "\n") != 1 {
		t.Errorf("export of two: %s", body)
	}
	if _, body, _ := f.do("GET", "/export?count=1", ""); body != entry {
		t.Errorf("export of one: %s", body)
	}
	for path, want := range map[string]string{
		"/export?count=x":                    `{"message":"Invalid count parameter"}`,
		"/export?count=0":                    `{"message":"Invalid count parameter"}`,
		"/export?after=x":                    `{"message":"Invalid after parameter"}`,
		"/export?after=99999999999999999999": `{"message":"Invalid after parameter"}`,
	} {
		if status, body, _ := f.do("GET", path, ""); status != 400 || body != want {
			t.Errorf("GET %s: got %d %s", path, status, body)
		}
	}
	if status, body, _ := f.do("GET", "/a/b/c/d", ""); status != 404 || body != `{"message":"Not Found"}` {
		t.Errorf("unknown path: got %d %s", status, body)
	}
	if status, _, _ := f.do("OPTIONS", "/"+did.String(), ""); status != 204 {
		t.Errorf("OPTIONS: got %d", status)
	}
}

// late is a Store in which another operation always comes first.
type late struct{ Store }

func (late) Append(context.Context, Entry, []string, string) error { return ErrConflict }

// broken is a Store whose disk has gone.
type broken struct{ Store }

func (broken) Log(context.Context, string) ([]Entry, error) { return nil, io.ErrUnexpectedEOF }

func (broken) ExportAfterSeq(context.Context, int64, int) ([]Entry, error) {
	return nil, io.ErrUnexpectedEOF
}

func TestStoreFailures(t *testing.T) {
	f := newFixture(t)
	did, genesis := f.genesis()
	cid, err := genesis.CID()
	if err != nil {
		t.Fatal(err)
	}
	f.server.store = late{f.store}
	if status, body := f.post(did, f.rename(genesis, 1, "bob.test")); status != 409 || body != `{"message":"Proposed prev does not match the most recent operation: `+cid.String()+`"}` {
		t.Errorf("conflict: got %d %s", status, body)
	}
	f.server.store = broken{f.store}
	if status, body := f.post(did, f.rename(genesis, 1, "bob.test")); status != 500 || body != `{"message":"Internal Server Error"}` {
		t.Errorf("broken: got %d %s", status, body)
	}
	if status, body, _ := f.do("GET", "/_health", ""); status != 503 || body != `{"error":"Service Unavailable","version":"1.2.3"}` {
		t.Errorf("health: got %d %s", status, body)
	}
}

func TestConcurrentUpdates(t *testing.T) {
	f := newFixture(t)
	did, genesis := f.genesis()
	var wg sync.WaitGroup
	statuses := make(chan int, 8)
	for i := range 8 {
		body, err := json.Marshal(f.rename(genesis, 1, fmt.Sprintf("n%d.test", i)))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			w := httptest.NewRecorder()
			f.server.ServeHTTP(w, httptest.NewRequest("POST", "/"+did.String(), bytes.NewReader(body)))
			statuses <- w.Code
		})
	}
	wg.Wait()
	close(statuses)
	accepted := 0
	for s := range statuses {
		switch s {
		case 200:
			accepted++
		case 400, 409:
		default:
			t.Errorf("status %d", s)
		}
	}
	if accepted != 1 {
		t.Errorf("%d of 8 operations on the same predecessor were accepted, want 1", accepted)
	}
}

func FuzzPost(f *testing.F) {
	seed := newFixture(f)
	did, genesis := seed.genesis()
	for _, op := range []plc.Operation{genesis, seed.rename(genesis, 0, "bob.test"), seed.tombstone(genesis, 2)} {
		b, err := json.Marshal(op)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(did.String(), b)
	}
	f.Add("x", []byte(`{"type":"create"}`))
	j, err := json.Marshal(genesis)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		f := newFixture(t)
		f.do("POST", "/"+did.String(), string(j))
		for range 2 {
			r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
			r.URL.Path = "/" + path
			w := httptest.NewRecorder()
			f.server.ServeHTTP(w, r)
			if w.Code >= 500 {
				t.Fatalf("POST %q %q: %d %s", path, body, w.Code, w.Body)
			}
			if w.Code != 200 || w.Body.String() != "OK" {
				continue
			}
			for _, suffix := range []string{"", "/data", "/log", "/log/audit", "/log/last"} {
				r := httptest.NewRequest("GET", "/", nil)
				r.URL.Path = "/" + path + suffix
				w := httptest.NewRecorder()
				f.server.ServeHTTP(w, r)
				if w.Code >= 500 {
					t.Fatalf("GET %q after %q: %d %s", r.URL.Path, body, w.Code, w.Body)
				}
			}
		}
	})
}

func BenchmarkSubmit(b *testing.B) {
	f := newFixture(b)
	op := f.signed(plc.New(f.data(), ""), 2)
	did := f.did(op)
	j, err := json.Marshal(op)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f.server.store = NewMemory()
		if status, body, _ := f.do("POST", "/"+did.String(), string(j)); status != 200 {
			b.Fatal(status, body)
		}
	}
}
