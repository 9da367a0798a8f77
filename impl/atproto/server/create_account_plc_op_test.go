package server_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/account/password"
	"portico/impl/budget"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// A client is one that signs the first operation of its DID by itself.
type client struct {
	*fixture
	key *atcrypto.PrivateKeyK256 // its rotation key
}

func (f *fixture) newClient() *client {
	return &client{f, servertest.Must(atcrypto.GeneratePrivateKeyK256())}
}

func (f *fixture) reserveKey(body string) string {
	f.Helper()
	return f.Accepted(f.Post("reserveSigningKey", body)).Text(f, "signingKey")
}

// genesis is an operation for NAME.test that is as it should be, changed, then signed.
func (c *client) genesis(name, signingKey string, change ...func(plc.Operation)) plc.Operation {
	c.Helper()
	rotation := []string{servertest.DIDKey(c.key), servertest.DIDKey(c.Rotation)}
	op := plc.NewGenesis(rotation, signingKey, syntax.Handle(name+".test"), servertest.Endpoint)
	for _, f := range change {
		f(op)
	}
	c.Check(op.Sign(c.key))
	return op
}

// form is what somebody signs up with as NAME.test.
func (c *client) form(name string, op any, change ...func(map[string]any)) string {
	c.Helper()
	in := map[string]any{"handle": name + ".test", "email": name + "@example.com", "password": goodPassword, "plcOp": op}
	for _, f := range change {
		f(in)
	}
	return string(servertest.Must(json.Marshal(in)))
}

// with sets a field of the form.
func with(field string, v any) func(map[string]any) {
	return func(in map[string]any) { in[field] = v }
}

// reserved says whether a key still waits for its account.
func (c *client) reserved(key string) bool {
	c.Helper()
	all, err := c.DB.ReservedKeys(c.Context(), "", 1000)
	c.Check(err)
	return slices.ContainsFunc(all, func(k db.ReservedKey) bool { return k.Public == key })
}

func didOf(op plc.Operation) syntax.DID { return servertest.Must(plc.DID(op)) }

// A client brings the operation that makes its DID: the DID is what that hashes to, the
// directory has the operation as it was signed, and the account signs with the key that
// was reserved for it. All else is as with a DID that is made here.
func TestDesignPLCOpMakesTheAccount(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		key := c.reserveKey(`{}`)
		op := c.genesis("alice", key)
		f.PLC.Asked()
		a := f.Accepted(f.Post("createAccount", c.form("Alice", op)))
		did := didOf(op)
		if a.Text(t, "did") != did.String() || a.Text(t, "handle") != "alice.test" {
			t.Errorf("answer %s, want %s", a.Body, did)
		}
		if got, want := f.PLC.Asked(), []string{"GET log/audit", "POST"}; !slices.Equal(got, want) {
			t.Errorf("requests to the directory %q, want %q", got, want)
		}
		entries, err := f.PLC.Audit(t.Context(), did)
		f.Check(err)
		if len(entries) != 1 || entries[0].Operation.Sig() != op.Sig() || entries[0].CID != servertest.Must(op.CID()).String() {
			t.Errorf("the directory has %+v", entries)
		}
		document, err := f.PLC.Document(t.Context(), did)
		f.Check(err)
		if got := servertest.Must(json.Marshal(a.Fields(t)["didDoc"])); !equalJSON(t, got, document) {
			t.Errorf("document %s, want the directory's %s", got, document)
		}
		session := f.Accepted(f.Get("getSession", servertest.Bearer(a.Text(t, "accessJwt")))).Fields(t)
		if session["active"] != true || session["did"] != did.String() || session["email"] != "alice@example.com" {
			t.Errorf("session %v", session)
		}
		if got := f.SigningKey(did); got != key || c.reserved(key) {
			t.Errorf("signs with %s, want %s; still reserved: %v", got, key, c.reserved(key))
		}
		private, err := f.service.Accounts.SigningKey(t.Context(), did)
		f.Check(err)
		if got := servertest.DIDKey(private); got != key {
			t.Errorf("the private half is that of %s, want %s", got, key)
		}
		events, err := f.DB.Events(t.Context(), 0, 10)
		f.Check(err)
		var kinds []string
		for _, e := range events {
			kinds = append(kinds, e.Kind)
		}
		if got := strings.Join(kinds, " "); got != "#identity #account #commit #sync" {
			t.Errorf("events %s", got)
		}
		status := f.Accepted(f.Get("checkAccountStatus", servertest.Bearer(a.Text(t, "accessJwt")))).Fields(t)
		if status["validDid"] != true || status["activated"] != true {
			t.Errorf("status %v", status)
		}

		// With the DID beside it, which it is; the server's key first; a key of the other
		// curve; an invite; no password; and somebody's service token, which is not asked for.
		other := f.NewIdentity("did:web:somebody.example")
		f.Invite("welcome", 1, "admin")
		p256 := servertest.Must(atcrypto.GeneratePrivateKeyP256())
		for i, change := range []func(plc.Operation, map[string]any){
			func(op plc.Operation, in map[string]any) { in["did"] = didOf(op) },
			func(op plc.Operation, _ map[string]any) {
				op["rotationKeys"] = []any{servertest.DIDKey(f.Rotation), servertest.DIDKey(c.key)}
				f.Check(op.Sign(c.key))
			},
			func(op plc.Operation, _ map[string]any) {
				op["rotationKeys"] = []any{servertest.DIDKey(f.Rotation), servertest.DIDKey(p256)}
				f.Check(op.Sign(p256))
			},
			func(_ plc.Operation, in map[string]any) { in["inviteCode"] = "welcome" },
			func(_ plc.Operation, in map[string]any) { delete(in, "password") },
			func(_ plc.Operation, in map[string]any) { in["recoveryKey"] = "" },
		} {
			name := fmt.Sprintf("person%d", i)
			op := c.genesis(name, c.reserveKey(`{}`))
			body := c.form(name, op, func(in map[string]any) { change(op, in) })
			a := f.Accepted(f.Post("createAccount", body, f.ServiceToken("did:web:somebody.example", other, move, time.Minute)))
			if a.Text(t, "did") != didOf(op).String() {
				t.Errorf("%s: %s, want %s", name, a.Text(t, "did"), didOf(op))
			}
		}
	})
}

func equalJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// What is no operation for an account here is refused with its reason, before anything
// is asked of the directory, and takes nothing: neither the handle nor the key.
func TestDesignPLCOpRefusesOtherOperations(t *testing.T) {
	set := func(field string, v any) func(plc.Operation) { return func(op plc.Operation) { op[field] = v } }
	pds := func(kind, endpoint string) map[string]any { return map[string]any{"type": kind, "endpoint": endpoint} }
	const (
		incompatible = "IncompatibleDidDoc"
		notOne       = "invalid plc operation: not a signed operation of type plc_operation"
		signature    = "invalid plc operation: signature is not a canonical one of a rotation key"
		notReserved  = "reserved signing key does not exist"
		prev         = "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm"
	)
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		taken := f.SignUp("taken")
		key, used, forDID := c.reserveKey(`{}`), c.reserveKey(`{}`), c.reserveKey(`{"did":"did:web:alice.example"}`)
		f.Accepted(f.Post("createAccount", c.form("used", c.genesis("used", used))))
		given := c.reserveKey(`{}`)
		f.Empty(f.Post("com.atproto.admin.updateAccountSigningKey", fmt.Sprintf(`{"did":%q,"signingKey":%q}`, taken.DID, given), servertest.Admin))
		own, servers := servertest.DIDKey(c.key), servertest.DIDKey(f.Rotation)
		someKey := func() string { return servertest.DIDKey(servertest.Must(atcrypto.GeneratePrivateKeyK256())) }
		sign := func(change ...func(plc.Operation)) plc.Operation { return c.genesis("alice", key, change...) }
		stranger := sign()
		f.Check(stranger.Sign(servertest.Must(atcrypto.GeneratePrivateKeyK256())))
		altered := sign()
		altered["rotationKeys"] = []any{own, servers, someKey()}
		high, padded, twoLines := sign(), sign(), sign()
		high["sig"], padded["sig"], twoLines["sig"] = highS(t, high.Sig()), padded.Sig()+"==", "\n"+twoLines.Sig()
		theirs := exported(f)[0].Operation
		f.PLC.Asked()
		for _, tt := range []struct {
			name           string
			op             any
			change         func(map[string]any)
			error, message string
		}{
			{"empty", map[string]any{}, nil, incompatible, notOne},
			{"tombstone", map[string]any{"type": "plc_tombstone", "prev": prev, "sig": "x"}, nil, incompatible, notOne},
			{"unsigned", func() plc.Operation { op := sign(); delete(op, "sig"); return op }(), nil, incompatible, notOne},
			{"text as rotation keys", sign(set("rotationKeys", own)), nil, incompatible, notOne},
			{"number as signature", func() plc.Operation { op := sign(); op["sig"] = 1; return op }(), nil, incompatible, notOne},
			{"huge", sign(set("alsoKnownAs", []any{"at://alice.test", strings.Repeat("x", 60_000)})), nil, incompatible, "invalid plc operation: more than 8192 bytes"},
			{"unknown field", sign(set("nonce", "x")), nil, incompatible, "invalid plc operation: unknown field"},
			{"prev", sign(set("prev", prev)), nil, incompatible, "invalid plc operation: prev is not null"},
			{"other handle", sign(set("alsoKnownAs", []any{"at://bob.test"})), nil, incompatible, "provided handle does not match DID document handle"},
			{"other handle asked for", sign(), with("handle", "bob.test"), incompatible, "provided handle does not match DID document handle"},
			{"further name", sign(set("alsoKnownAs", []any{"at://alice.test", "at://alice.example.com"})), nil, incompatible, "invalid plc operation: alsoKnownAs has more than the handle"},
			{"other server", sign(set("services", map[string]any{"atproto_pds": pds("AtprotoPersonalDataServer", "https://elsewhere.example.com")})), nil, incompatible, "DID document pds endpoint does not match service endpoint"},
			{"further service", sign(func(op plc.Operation) {
				op["services"].(map[string]any)["atproto_labeler"] = pds("AtprotoLabeler", "https://label.example.com")
			}), nil, incompatible, "invalid plc operation: services has more than atproto_pds"},
			{"further key", sign(set("verificationMethods", map[string]any{"atproto": key, "atproto_label": someKey()})), nil, incompatible, "invalid plc operation: verificationMethods has more than atproto"},
			{"no key", sign(set("verificationMethods", map[string]any{})), nil, incompatible, "invalid plc operation: verificationMethods has no did:key for atproto"},
			{"key with NUL", sign(set("verificationMethods", map[string]any{"atproto": "did:key:z\x00"})), nil, incompatible, "invalid plc operation: verificationMethods has no did:key for atproto"},
			{"five keys", sign(set("rotationKeys", []any{own, servers, someKey(), someKey(), someKey()})), nil, incompatible, "invalid plc operation: 5 rotation keys, which must be 1 to 4"},
			{"the same key twice", sign(set("rotationKeys", []any{own, servers, own})), nil, incompatible, "invalid plc operation: repeated rotation key"},
			{"no rotation key of ours", sign(set("rotationKeys", []any{own, someKey()})), nil, incompatible, "PLC DID does not include service rotation key"},
			{"signed by a stranger", stranger, nil, incompatible, signature},
			{"altered after it was signed", altered, nil, incompatible, signature},
			{"high S", high, nil, incompatible, signature},
			{"padded signature", padded, nil, incompatible, signature},
			{"line break in the signature", twoLines, nil, incompatible, signature},
			{"key not reserved", c.genesis("alice", someKey()), nil, "InvalidRequest", notReserved},
			{"key reserved for a DID", c.genesis("alice", forDID), nil, "InvalidRequest", notReserved},
			{"key used by a sign-up", c.genesis("alice", used), nil, "InvalidRequest", notReserved},
			{"key given to an account", c.genesis("alice", given), nil, "InvalidRequest", notReserved},
			{"somebody's genesis", theirs, nil, incompatible, "provided handle does not match DID document handle"},
			{"somebody's genesis with its handle", theirs, with("handle", "taken.test"), "AlreadyExists", "Repo already exists"},
			{"DID mismatch", sign(), with("did", taken.DID), incompatible, "DID does not match that of plcOp: DID"},
			{"did:web beside it", sign(), with("did", "did:web:alice.example"), incompatible, "DID does not match that of plcOp: DID"},
			{"recovery key beside it", sign(), with("recoveryKey", someKey()), "InvalidRequest", `Unsupported input: "recoveryKey" beside "plcOp"`},
			// What holds for a DID that is made here.
			{"no email", sign(), with("email", ""), "InvalidRequest", "Email is required"},
			{"taken email", sign(), with("email", "taken@example.com"), "InvalidRequest", "Email already taken: taken@example.com"},
			{"taken handle", c.genesis("taken", key), with("handle", "taken.test"), "HandleNotAvailable", "Handle already taken: taken.test"},
			{"reserved handle", c.genesis("admin", key), with("handle", "admin.test"), "HandleNotAvailable", "Reserved handle"},
			{"foreign handle", sign(set("alsoKnownAs", []any{"at://alice.example.com"})), with("handle", "alice.example.com"), "UnsupportedDomain", "Not a supported handle domain"},
			{"short password", sign(), with("password", "1234567"), "InvalidPassword", "Password too short. Minimum length is 8 characters."},
			{"wrong invite", sign(), with("inviteCode", "nope"), "InvalidInviteCode", "Provided invite code not available"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				defer func(outer testing.TB) { f.TB = outer }(f.TB)
				f.TB = t
				change := func(in map[string]any) {
					if tt.change != nil {
						tt.change(in)
					}
				}
				if op, ok := tt.op.(plc.Operation); ok && strings.HasSuffix(tt.message, ": DID") {
					tt.message = strings.TrimSuffix(tt.message, "DID") + didOf(op).String()
				}
				f.Refused(f.Post("createAccount", c.form("alice", tt.op, change)), 400, tt.error, tt.message)
			})
		}
		if asked := f.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked %q", asked)
		}
		for _, v := range []string{`"text"`, `[]`, `null`, `1.5`, `{"sig":1.5}`, strings.Repeat(`{"type":`, 200) + `1` + strings.Repeat(`}`, 200)} {
			if a := f.Post("createAccount", `{"handle":"alice.test","email":"alice@example.com","plcOp":`+v+`}`); a.Status != 400 {
				t.Errorf("plcOp %.20s: answer %d %s, want 400", v, a.Status, a.Body)
			}
		}
		f.Accepted(f.Post("createAccount", c.form("alice", sign())))
	})
}

// highS is the other signature of the same numbers.
func highS(t *testing.T, sig string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		t.Fatal(err)
	}
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	order.Sub(order, new(big.Int).SetBytes(b[32:])).FillBytes(b[32:])
	return base64.RawURLEncoding.EncodeToString(b)
}

// An operation that the directory has is everybody's to copy from there: it makes no
// account, whoever sends it, and however its account ended. The key that it names is
// for one account only.
func TestDesignPLCOpIsGoodForOneAccount(t *testing.T) {
	const registered, notReserved = "DID is registered already", "reserved signing key does not exist"
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		// thief is what a stranger sends with the operation of another's.
		thief := func(name string, op plc.Operation) answer {
			return f.Post("createAccount", c.form(name, op, with("email", "thief@example.com")))
		}

		// The client itself handed it to the directory first; then it ended the DID.
		key := c.reserveKey(`{}`)
		early := c.genesis("early", key)
		f.Check(f.PLC.Submit(t.Context(), didOf(early), early))
		exported, err := f.PLC.Audit(t.Context(), didOf(early))
		f.Check(err)
		f.Refused(thief("early", exported[0].Operation), 400, "IncompatibleDidDoc", registered)
		tombstone, err := plc.NewTombstone(early)
		f.Check(err)
		f.Check(tombstone.Sign(c.key))
		f.Check(f.PLC.Submit(t.Context(), didOf(early), tombstone))
		f.Refused(thief("early", early), 400, "IncompatibleDidDoc", registered)
		if _, err := f.DB.StandingByDID(t.Context(), didOf(early)); err == nil || !c.reserved(key) {
			t.Errorf("account of the copied operation: %v; its key is reserved: %v", err, c.reserved(key))
		}

		// It has made an account, which is then renamed, and deleted.
		op := c.genesis("alice", c.reserveKey(`{}`))
		did := didOf(op)
		f.Accepted(f.Post("createAccount", c.form("alice", op)))
		f.Refused(f.Post("createAccount", c.form("alice", op)), 400, "AlreadyExists", "Repo already exists")
		f.Refused(thief("alice", op), 400, "AlreadyExists", "Repo already exists")
		f.SetAccount(did, func(a *db.Account) { a.Handle = "alicia.test" })
		f.Refused(thief("alice", op), 400, "AlreadyExists", "Repo already exists")
		f.Remove(did)
		f.Refused(thief("alice", op), 400, "InvalidRequest", notReserved)

		// The genesis that this server signed for somebody is no other.
		bob := f.SignUp("bob")
		theirs, err := f.PLC.Last(t.Context(), bob.DID)
		f.Check(err)
		f.Refused(thief("bob", theirs), 400, "AlreadyExists", "Repo already exists")
		f.Remove(bob.DID)
		f.Refused(thief("bob", theirs), 400, "InvalidRequest", notReserved)

		// A backup of before the sign-up has the key as a reserved one again.
		op = c.genesis("carol", c.reserveKey(`{}`))
		kept, err := f.DB.ReservedKeys(t.Context(), "", 1000)
		f.Check(err)
		f.Accepted(f.Post("createAccount", c.form("carol", op)))
		f.Remove(didOf(op))
		f.Write(func(tx *db.Tx) error {
			for _, k := range kept {
				if _, err := tx.ReserveKey(t.Context(), k); err != nil {
					return err
				}
			}
			return nil
		})
		f.Refused(thief("carol", op), 400, "IncompatibleDidDoc", registered)

		// The key of one operation in another: also not as that of an account by the operator.
		key = c.reserveKey(`{}`)
		f.Accepted(f.Post("createAccount", c.form("dora", c.genesis("dora", key))))
		f.Refused(f.Post("createAccount", c.form("dave", c.genesis("dave", key))), 400, "InvalidRequest", notReserved)
		f.Refused(f.Post("com.atproto.admin.updateAccountSigningKey",
			fmt.Sprintf(`{"did":%q,"signingKey":%q}`, f.SignUp("erin").DID, key), servertest.Admin), 400, "InvalidRequest",
			"Signing key is not known here: reserve one with com.atproto.server.reserveSigningKey")
	})
}

// A reservation is over after a week, for an operation too.
func TestDesignPLCOpNeedsALiveReservation(t *testing.T) {
	f := newFixture(t)
	c := f.newClient()
	first, second := c.genesis("alice", c.reserveKey(`{}`)), c.genesis("bob", c.reserveKey(`{}`))
	f.Advance(7*24*time.Hour - time.Second)
	f.Accepted(f.Post("createAccount", c.form("alice", first)))
	f.Advance(time.Second)
	f.Refused(f.Post("createAccount", c.form("bob", second)), 400, "InvalidRequest", "reserved signing key does not exist")
}

// Of requests with one operation, or with one key, exactly one makes an account.
func TestPLCOpRaces(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		key := c.reserveKey(`{}`)
		same := c.genesis("alice", c.reserveKey(`{}`))
		for what, body := range map[string]func(i int) string{
			"operation": func(int) string { return c.form("alice", same) },
			"key": func(i int) string {
				name := fmt.Sprintf("person%d", i)
				return c.form(name, c.genesis(name, key))
			},
		} {
			answers := make([]answer, 8)
			var all sync.WaitGroup
			for i := range answers {
				form := body(i)
				all.Go(func() {
					var err error
					if answers[i], err = f.Try(http.MethodPost, "createAccount", form); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			won := 0
			for _, a := range answers {
				switch {
				case a.Status == 200:
					won++
				case a.Status != 400:
					t.Errorf("%s: a loser got %d %s", what, a.Status, a.Body)
				}
			}
			if won != 1 {
				t.Errorf("%s: %d of 8 won", what, won)
			}
		}
	})
}

// acceptsAnd500 is a directory that takes operations, and then answers nothing but 500.
func (c *client) acceptsAnd500(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet && c.PLC.Client != nil {
		if _, err := c.PLC.Last(r.Context(), syntax.DID(strings.Split(r.URL.Path[1:], "/")[0])); err != nil {
			return false // it is not there yet
		}
	} else {
		body, _ := io.ReadAll(r.Body)
		if op, err := plc.Parse(body); err == nil {
			_ = c.PLC.Submit(r.Context(), syntax.DID(r.URL.Path[1:]), op) // the second time it refuses
		}
	}
	return servertest.Says("", 500, `{"message":"Internal Server Error"}`)(w, r)
}

// The directory takes the operation and says nothing but 500: the account is given up,
// its handle is free and its key is spent. The DID is the client's, and no look of the
// day that follows ends it.
func TestDesignPLCOpIsNeverTombstoned(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		key := c.reserveKey(`{}`)
		op := c.genesis("alice", key)
		did := didOf(op)
		f.PLC.Spoil(c.acceptsAnd500)
		f.Refused(f.Post("createAccount", c.form("alice", op)), 502, "UpstreamFailure", "Unable to perform PLC operation")
		// What this server signed itself waits to be ended beside it.
		ours := f.Post("createAccount", `{"handle":"bob.test","email":"bob@example.com","password":"12345678"}`)
		f.Refused(ours, 502, "UpstreamFailure", "Unable to perform PLC operation")
		f.PLC.Spoil(nil)
		if c.reserved(key) {
			t.Error("the key of the operation is reserved still")
		}
		f.Refused(f.Post("createAccount", c.form("alice", op)), 400, "InvalidRequest", "reserved signing key does not exist")
		again := c.genesis("alice", c.reserveKey(`{}`))
		f.Accepted(f.Post("createAccount", c.form("alice", again)))

		for _, pass := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, 24 * time.Hour} {
			f.Advance(pass)
			f.Check(f.service.Accounts.Resume(t.Context(), false))
			f.Check(f.service.Accounts.CleanUp(t.Context()))
			for _, d := range []syntax.DID{did, didOf(again)} {
				last, err := f.PLC.Last(t.Context(), d)
				f.Check(err)
				if last.Type() != plc.TypeOperation {
					t.Fatalf("after %v %s was ended", pass, d)
				}
			}
		}
		ended := 0
		for _, e := range exported(f) {
			if e.Operation.Type() == plc.TypeTombstone {
				ended++
			}
		}
		if ended != 1 {
			t.Errorf("%d tombstones, want that of the DID that this server had made", ended)
		}
	})
}

// exported is all that the directory has.
func exported(f *fixture) (all []plc.LogEntry) {
	f.Helper()
	resp, err := http.Get(f.PLC.URL + "/export")
	f.Check(err)
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); d.More(); {
		var e plc.LogEntry
		f.Check(d.Decode(&e))
		all = append(all, e)
	}
	return all
}

// A directory that cannot be asked whether it has the operation costs the client
// nothing: it sends the same again.
func TestDesignPLCOpWaitsForTheDirectory(t *testing.T) {
	for name, fault := range map[string]servertest.Fault{
		"500":                  servertest.Says("", 500, `{"message":"Internal Server Error"}`),
		"404 of a stranger":    servertest.Says("", 404, "not found"),
		"no answer":            servertest.HangsUp,
		"garbage":              servertest.Says("", 200, "<html>"),
		"429":                  servertest.Says("", 429, `{"message":"Too many"}`),
		"gone, without a word": servertest.Says("", 410, ""),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			c := f.newClient()
			op := c.genesis("alice", c.reserveKey(`{}`))
			f.PLC.Spoil(fault)
			f.PLC.Asked()
			f.Refused(f.Post("createAccount", c.form("alice", op)), 502, "UpstreamFailure", "Unable to perform PLC operation")
			if asked := f.PLC.Asked(); slices.Contains(asked, "POST") {
				t.Errorf("the directory was asked %q", asked)
			}
			f.PLC.Spoil(nil)
			f.Accepted(f.Post("createAccount", c.form("alice", op)))
		})
	}
}

// The question whether the directory has an operation is paid by the caller's address,
// with an invite or without: somebody with one operation of their own, which they sent
// there themselves, could ask for ever. What is wrong by itself asks nobody.
func TestDesignRule1PLCOpPaysForTheDirectory(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		const stranger = "X-Forwarded-For: 192.0.2.1"
		c := f.newClient()
		key := c.reserveKey(`{}`)
		op := c.genesis("early", key)
		f.Check(f.PLC.Submit(t.Context(), didOf(op), op))
		f.Invite("welcome", 10, "admin")
		for range 198 {
			f.Check(f.Budgets.Spend(t.Context(), budget.SignUps, f.Budgets.Caller(netip.MustParseAddr("192.0.2.1"))))
		}
		f.PLC.Asked()
		body := c.form("early", op, with("inviteCode", "welcome"))
		for range 2 {
			f.Refused(f.Post("createAccount", c.form("early", c.genesis("early", key, func(op plc.Operation) { op["prev"] = "x" })), stranger),
				400, "IncompatibleDidDoc", "invalid plc operation: prev is not null")
			f.Refused(f.Post("createAccount", body, stranger), 400, "IncompatibleDidDoc", "DID is registered already")
		}
		f.Refused(f.Post("createAccount", body, stranger), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		if asked := f.PLC.Asked(); len(asked) != 2 {
			t.Errorf("the directory was asked %q, want two questions", asked)
		}
		f.Refused(f.Post("createAccount", body, "X-Forwarded-For: 192.0.2.2"), 400, "IncompatibleDidDoc", "DID is registered already")
	}, func(o *options) { o.TrustedProxies = 1 })
}

// A refusal of the directory is told in its words, and the key is spent.
func TestPLCOpThatTheDirectoryRefuses(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		key := c.reserveKey(`{}`)
		op := c.genesis("alice", key)
		f.PLC.Spoil(servertest.Says("POST", 400, `{"message":"Not today"}`))
		f.Refused(f.Post("createAccount", c.form("alice", op)), 400, "InvalidRequest", "Not today")
		f.PLC.Spoil(nil)
		f.Refused(f.Post("createAccount", c.form("alice", op)), 400, "InvalidRequest", "reserved signing key does not exist")
		f.Accepted(f.Post("createAccount", c.form("alice", c.genesis("alice", c.reserveKey(`{}`)))))
	})
}

// A sign-up that a crash left half-way is settled by what the directory says, also when
// the operator has it repaired: it is completed or given up, and its DID stays.
func TestDesignPLCOpAfterACrash(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		for i, arrived := range []bool{true, false, true, false} {
			repair := i >= 2
			c := f.newClient()
			name := fmt.Sprintf("alice%d", i)
			key := c.reserveKey(`{}`)
			op := c.genesis(name, key)
			did := didOf(op)
			f.halfWay(name, op)
			if arrived {
				f.Check(f.PLC.Submit(t.Context(), did, op))
			}
			f.Refused(f.Post("createAccount", c.form(name, op)), 400, "AlreadyExists", "Repo already exists")
			f.Advance(2 * time.Minute)
			if repair {
				f.Accepted(f.Post("alt.portico.operator.repairAccount", fmt.Sprintf(`{"did":%q}`, did), servertest.Admin))
			} else {
				f.Check(f.service.Accounts.Resume(t.Context(), false))
			}
			in := f.TrySignIn(name+".test", goodPassword)
			if arrived {
				if f.Accepted(in).Text(t, "did") != did.String() || f.SigningKey(did) != key {
					t.Errorf("signed in to %s with the key %s, want %s and %s", in.Text(t, "did"), f.SigningKey(did), did, key)
				}
			} else {
				f.Refused(in, 401, "AuthenticationRequired", "Invalid identifier or password")
				f.Refused(f.Post("createAccount", c.form(name, op)), 400, "InvalidRequest", "reserved signing key does not exist")
				f.Check(f.PLC.Submit(t.Context(), did, op)) // it comes late
			}
			for range account.DefaultCleanupDelays {
				f.Advance(24 * time.Hour)
				f.Check(f.service.Accounts.CleanUp(t.Context()))
			}
			last, err := f.PLC.Last(t.Context(), did)
			f.Check(err)
			if last.Type() != plc.TypeOperation {
				t.Errorf("%s was ended", did)
			}
		}
	})
}

// A DID whose account was deleted comes back as one that is brought: with a token of its
// own key, deactivated, and with a key that is new here. The key that was reserved for
// its operation is not used again.
func TestPLCOpAndTheSameDIDBrought(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		key := c.reserveKey(`{}`)
		op := c.genesis("alice", key)
		did := didOf(op)
		f.Accepted(f.Post("createAccount", c.form("alice", op)))
		f.Remove(did)
		brought := fmt.Sprintf(`{"handle":"alice.test","email":"alice@example.com","password":%q,"did":%q}`, goodPassword, did)
		f.Refused(f.Post("createAccount", brought), 401, "AuthenticationRequired", "Missing auth to create account with did: "+did.String())

		// Its owner gives it a signing key that they have, and so can sign for it.
		own := servertest.Must(atcrypto.GeneratePrivateKeyK256())
		c.update(op, func(d *plc.Data) { d.VerificationMethods["atproto"] = servertest.DIDKey(own) })
		f.Accepted(f.Post("createAccount", brought, f.ServiceToken(did, own, move, time.Minute)))
		if a := f.Account(did); !a.Deactivated() || f.SigningKey(did) == key {
			t.Errorf("deactivated %v, signs with %s; want a new key", a.DeactivatedAt, f.SigningKey(did))
		}
		f.Refused(f.Post("createAccount", c.form("alicia", c.genesis("alicia", key))), 400, "InvalidRequest", "reserved signing key does not exist")
	})
}

// update posts the operation that its owner puts behind a genesis.
func (c *client) update(genesis plc.Operation, change func(*plc.Data)) {
	c.Helper()
	next, err := plc.Update(genesis, change)
	c.Check(err)
	c.Check(next.Sign(c.key))
	c.Check(c.PLC.Submit(c.Context(), didOf(genesis), next))
}

// A DID that this server had made and given up turns up in the directory, and its owner
// takes it over with the recovery key and brings it back at once: what was left to be
// cleaned up is over.
func TestReservingADIDEndsItsCleanUp(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		f.PLC.Spoil(c.acceptsAnd500)
		f.Refused(f.Post("createAccount", fmt.Sprintf(`{"handle":"alice.test","email":"alice@example.com","password":%q,"recoveryKey":%q}`,
			goodPassword, servertest.DIDKey(c.key))), 502, "UpstreamFailure", "Unable to perform PLC operation")
		f.PLC.Spoil(nil)
		made := exported(f)[0]
		own := servertest.Must(atcrypto.GeneratePrivateKeyK256())
		c.update(made.Operation, func(d *plc.Data) { d.VerificationMethods["atproto"] = servertest.DIDKey(own) })

		brought := fmt.Sprintf(`{"handle":"alice.test","email":"alice@example.com","password":%q,"did":%q}`, goodPassword, made.DID)
		f.Accepted(f.Post("createAccount", brought, f.ServiceToken(made.DID, own, move, time.Minute)))
		f.PLC.Asked()
		for range account.DefaultCleanupDelays {
			f.Advance(24 * time.Hour)
			f.Check(f.service.Accounts.CleanUp(t.Context()))
		}
		if asked := f.PLC.Asked(); len(asked) > 0 || f.Account(made.DID).Handle != "alice.test" {
			t.Errorf("the directory was asked %q", asked)
		}
	})
}

// An operator who gives one reserved key to several accounts at once gives it to one.
func TestReservedKeyIsGivenOnce(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		c := f.newClient()
		key := c.reserveKey(`{}`)
		var bodies []string
		for i := range 4 {
			did := f.SignUp(fmt.Sprintf("person%d", i)).DID
			bodies = append(bodies, fmt.Sprintf(`{"did":%q,"signingKey":%q}`, did, key))
		}
		answers := make([]answer, 1+len(bodies))
		var all sync.WaitGroup
		for i := range answers {
			method, body, who := "createAccount", c.form("alice", c.genesis("alice", key)), ""
			if i < len(bodies) {
				method, body, who = "com.atproto.admin.updateAccountSigningKey", bodies[i], servertest.Admin
			}
			all.Go(func() {
				var err error
				if answers[i], err = f.Try(http.MethodPost, method, body, who); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		won := 0
		for _, a := range answers {
			switch {
			case a.Status == 200:
				won++
			case a.Status != 400:
				t.Errorf("a loser got %d %s", a.Status, a.Body)
			}
		}
		keys, err := f.DB.SigningKeys(t.Context(), "", "", 100)
		f.Check(err)
		keys = slices.DeleteFunc(keys, func(k db.SigningKey) bool { return k.Public != key })
		if won != 1 || len(keys) != 1 {
			t.Errorf("%d of %d requests won, %d accounts have the key", won, len(answers), len(keys))
		}
	})
}

// errCrash is what a process dies of in a test: it unwinds the stack without a word.
var errCrash = errors.New("crash")

// deadly is the directory of a process that dies before it sends an operation.
type deadly struct{ account.Directory }

func (deadly) Register(context.Context, syntax.DID, plc.Operation) error { panic(errCrash) }

// halfWay is a sign-up of which a crash left what it had reserved.
func (f *fixture) halfWay(name string, op plc.Operation) {
	f.Helper()
	a := f.service.Accounts
	dead := &account.Accounts{
		DB: a.DB, Blobs: a.Blobs, Directory: deadly{a.Directory}, Sessions: a.Sessions, Keys: a.Keys, Budgets: a.Budgets, Rotation: a.Rotation,
		Recovery: a.Recovery, Endpoint: a.Endpoint, Holder: "dead", Lease: a.Lease, CleanupDelays: a.CleanupDelays, Now: a.Now, Rand: a.Rand, Log: a.Log,
	}
	h := syntax.Handle(name + ".test")
	g, err := dead.AcceptGenesis(f.Context(), servertest.Must(json.Marshal(op)), h)
	f.Check(err)
	hash, err := f.service.Passwords.Hash(f.Context(), password.Caller{}, goodPassword)
	f.Check(err)
	defer func() {
		if recover() != errCrash {
			f.Fatal("no crash")
		}
	}()
	_, err = dead.Create(f.Context(), account.Request{Handle: h, Email: name + "@example.com", PasswordHash: hash, Genesis: g})
	f.Fatalf("no crash: %v", err)
}
