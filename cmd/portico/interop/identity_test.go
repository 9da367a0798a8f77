//go:build interop

package interop

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	adminapi "portico/api/atproto/admin"
	identityapi "portico/api/atproto/identity"
	serverapi "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/cmd/portico/launch"
	"portico/impl/identity/plc"
	"portico/impl/mail/mailtest"
)

// A place is a server with the PLC directory that it uses.
type place struct {
	url       string
	directory *plc.Client // the straight way to it
	mails     *mailtest.Server
	admin     *adminapi.Client
}

// startPlace starts a server that uses the directory at that URL, "" for its own.
// Operations are read and posted at straight, where that is another way there.
func startPlace(t *testing.T, directory, straight string, env ...string) *place {
	t.Helper()
	const password = "operator of the place"
	p := &place{mails: mailtest.Start(t, mailtest.Config{}), directory: &plc.Client{URL: straight}}
	env = append(env,
		"PDS_ADMIN_PASSWORD="+password, "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+rotationKey,
		"PDS_EMAIL_SMTP_URL="+p.mails.URL().String(), "PDS_EMAIL_FROM_ADDRESS=server@example.com")
	if directory != "" {
		env = append(env, "PDS_DID_PLC_URL="+directory)
	}
	server, err := launch.StartServer(t.Context(), binary, t.TempDir(), env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(server.Log())
		}
	})
	if directory == "" {
		p.directory.URL = server.Directory
	}
	p.url = server.URL
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))
	p.admin = &adminapi.Client{Client: xrpc.Client{
		Host: p.url, Authorization: func(context.Context, *xrpc.Method) (string, error) { return basic, nil },
	}}
	return p
}

// anybody is a client without a session.
func (p *place) anybody() *serverapi.Client {
	return &serverapi.Client{Client: xrpc.Client{Host: p.url}}
}

// An owner is the owner of an account on a server with its PLC directory.
type owner struct {
	*testing.T
	*place
	did      syntax.DID
	server   *serverapi.Client
	identity *identityapi.Client
}

const ownersPassword = "correct horse battery"

func (p *place) signUp(t *testing.T, name string) *owner {
	t.Helper()
	created, err := p.anybody().CreateAccount(t.Context(), sheet(name))
	if err != nil {
		t.Fatal(err)
	}
	client := xrpc.Client{Host: p.url, Authorization: xrpc.Bearer(created.AccessJWT)}
	return &owner{T: t, place: p, did: created.DID, server: &serverapi.Client{Client: client}, identity: &identityapi.Client{Client: client}}
}

// sheet is what somebody signs up with.
func sheet(name string) *serverapi.CreateAccountInput {
	return &serverapi.CreateAccountInput{
		Handle: syntax.Handle(name + ".test"), Email: new(name + "@example.com"), Password: new(ownersPassword),
	}
}

// operation has the server sign an operation.
func (o *owner) operation(in identityapi.SignPLCOperationInput) json.RawMessage {
	o.Helper()
	in.Token = new(o.code())
	out, err := o.identity.SignPLCOperation(o.Context(), &in)
	o.check(err)
	return out.Operation
}

// code is a code for one operation.
func (o *owner) code() string {
	o.Helper()
	o.check(o.identity.RequestPLCOperationSignature(o.Context()))
	return mailedCode.FindString(o.mails.Next(o).Text)
}

// signed is the operation that comes next and changes that, with a signature by key.
func (o *owner) signed(key atcrypto.PrivateKey, change func(*plc.Data)) plc.Operation {
	o.Helper()
	last, err := o.directory.Last(o.Context(), o.did)
	o.check(err)
	op, err := plc.Update(last, change)
	o.check(err)
	o.check(op.Sign(key))
	return op
}

func (o *owner) submit(op any) error {
	o.Helper()
	text, err := json.Marshal(op)
	o.check(err)
	return o.identity.SubmitPLCOperation(o.Context(), &identityapi.SubmitPLCOperationInput{Operation: text})
}

// post hands an operation to the directory, past the server.
func (o *owner) post(op plc.Operation) {
	o.Helper()
	o.check(o.directory.Submit(o.Context(), o.did, op))
}

func (o *owner) rename(h syntax.Handle) error {
	return o.identity.UpdateHandle(o.Context(), &identityapi.UpdateHandleInput{Handle: h})
}

func (o *owner) check(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *owner) refused(err error, status int, name, message string) {
	o.Helper()
	refusal, ok := errors.AsType[*xrpc.Error](err)
	if !ok || refusal.Status != status || refusal.Name != name || !strings.HasPrefix(refusal.Message, message) {
		o.Errorf("got %v, want %d %s %q", err, status, name, message)
	}
}

func (o *owner) data() plc.Data {
	o.Helper()
	d, err := o.directory.Data(o.Context(), o.did)
	o.check(err)
	return d
}

// operations is how many the directory has.
func (o *owner) operations() int {
	o.Helper()
	all, err := o.directory.Audit(o.Context(), o.did)
	o.check(err)
	return len(all)
}

// named checks the handle that the account has.
func (o *owner) named(want syntax.Handle) {
	o.Helper()
	session, err := o.server.GetSession(o.Context())
	o.check(err)
	if session.Handle != want {
		o.Errorf("the account has the handle %s, want %s", session.Handle, want)
	}
}

// resolved checks the handle that the network would find for the DID.
func (o *owner) resolved(want syntax.Handle) {
	o.Helper()
	info, err := o.identity.ResolveIdentity(o.Context(), &identityapi.ResolveIdentityParams{Identifier: syntax.AtIdentifier(o.did)})
	o.check(err)
	if info.Handle != want {
		o.Errorf("resolved to the handle %s, want %s", info.Handle, want)
	}
}

// valid checks what checkAccountStatus says of the DID.
func (o *owner) valid(want bool) {
	o.Helper()
	status, err := o.server.CheckAccountStatus(o.Context())
	o.check(err)
	if status.ValidDID != want {
		o.Errorf("valid DID: %v, want %v", status.ValidDID, want)
	}
}

func newKey(t *testing.T) (atcrypto.PrivateKey, string) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public.DIDKey()
}

// TestPLCOperations changes what a DID says in all the ways that there are.
func TestPLCOperations(t *testing.T) {
	for _, directory := range []struct {
		name  string
		start func(*testing.T) (url string) // "" for the server's own
	}{
		{"embedded directory", func(*testing.T) string { return "" }},
		{"real directory", startDirectory},
	} {
		t.Run(directory.name, func(t *testing.T) {
			url := directory.start(t)
			p := startPlace(t, url, url)
			t.Run("by their owners", func(t *testing.T) { changeDID(t, p) })
			t.Run("signing key", func(t *testing.T) { changeSigningKey(t, p) })
			t.Run("refused", func(t *testing.T) { refuseOperations(t, p) })
			t.Run("without the server's key", func(t *testing.T) { disown(t, p) })
			t.Run("tombstone", func(t *testing.T) { endDID(t, p) })
		})
	}
}

// changeDID gives a DID other handles and rotation keys, and moves it away and back.
func changeDID(t *testing.T, p *place) {
	o := p.signUp(t, "alice")
	servers := rotationDIDKey(t)

	// Another handle, and another by the operator.
	o.check(o.rename("Alicia.test"))
	if got := o.data().AlsoKnownAs; !slices.Equal(got, []string{"at://alicia.test"}) {
		t.Errorf("known as %v", got)
	}
	o.resolved("alicia.test")
	o.check(p.admin.UpdateAccountHandle(t.Context(), &adminapi.UpdateAccountHandleInput{DID: o.did, Handle: "admin.test"}))
	if got := o.data().AlsoKnownAs; !slices.Equal(got, []string{"at://admin.test"}) {
		t.Errorf("known as %v", got)
	}
	o.named("admin.test")
	o.resolved("admin.test")

	// A rotation key of the owner's own, before the server's. An operation of before
	// comes too late.
	own, ownKey := newKey(t)
	keys := []string{ownKey, servers}
	stale := o.operation(identityapi.SignPLCOperationInput{AlsoKnownAs: []string{"at://admin.test", "https://alice.example.com"}})
	o.check(o.submit(o.operation(identityapi.SignPLCOperationInput{RotationKeys: keys})))
	if got := o.data().RotationKeys; !slices.Equal(got, keys) {
		t.Errorf("rotation keys %v, want %v", got, keys)
	}
	o.valid(true)
	before := o.operations()
	o.refused(o.submit(stale), 400, "InvalidRequest", "Invalid signature on op: ")
	if after := o.operations(); after != before {
		t.Errorf("%d operations after a stale one, want %d", after, before)
	}
	// With a key of his own the owner does without the server.
	o.check(o.submit(o.signed(own, func(d *plc.Data) { d.AlsoKnownAs = append(d.AlsoKnownAs, "https://alice.example.com") })))
	if got := o.data().AlsoKnownAs; !slices.Equal(got, []string{"at://admin.test", "https://alice.example.com"}) {
		t.Errorf("known as %v", got)
	}

	// Another signing key is for another server, so it goes to the directory without
	// this one, and comes back by what this one recommends.
	_, strange := newKey(t)
	moved := o.operation(identityapi.SignPLCOperationInput{
		VerificationMethods: json.RawMessage(fmt.Sprintf(`{"atproto":%q}`, strange)),
		Services:            json.RawMessage(`{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"https://elsewhere.example.com"}}`),
	})
	o.refused(o.submit(moved), 400, "InvalidRequest", "Incorrect endpoint on atproto_pds service")
	op, err := plc.Parse(moved)
	o.check(err)
	o.post(op)
	if got := o.data().VerificationMethods["atproto"]; got != strange {
		t.Errorf("signing key %s, want %s", got, strange)
	}
	o.valid(false)
	best, err := o.identity.GetRecommendedDIDCredentials(t.Context())
	o.check(err)
	o.check(o.submit(o.operation(identityapi.SignPLCOperationInput{
		RotationKeys: best.RotationKeys, AlsoKnownAs: best.AlsoKnownAs, VerificationMethods: best.VerificationMethods, Services: best.Services,
	})))
	o.valid(true)
	if got := o.data().RotationKeys; !slices.Equal(got, []string{servers}) {
		t.Errorf("rotation keys %v, want those recommended", got)
	}
}

// changeSigningKey has the operator give an account another signing key.
func changeSigningKey(t *testing.T, p *place) {
	o := p.signUp(t, "bob")
	change := func(key string) error {
		return p.admin.UpdateAccountSigningKey(t.Context(), &adminapi.UpdateAccountSigningKeyInput{DID: o.did, SigningKey: syntax.DID(key)})
	}
	before := o.data()
	// signsWith checks what the directory says, and that the account's signatures are
	// by that key.
	signsWith := func(key string) {
		t.Helper()
		want := before
		want.VerificationMethods = map[string]string{"atproto": key}
		if got := o.data(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the directory says\n%+v, want\n%+v", got, want)
		}
		o.valid(true)
		public, err := atcrypto.ParsePublicDIDKey(key)
		o.check(err)
		out, err := o.server.GetServiceAuth(t.Context(), &serverapi.GetServiceAuthParams{Aud: "did:web:elsewhere.example.com"})
		o.check(err)
		i := strings.LastIndexByte(out.Token, '.')
		sig, err := base64.RawURLEncoding.DecodeString(out.Token[i+1:])
		o.check(err)
		if err := public.HashAndVerify([]byte(out.Token[:i]), sig); err != nil {
			t.Errorf("service token: %v", err)
		}
	}
	first := before.VerificationMethods["atproto"]
	signsWith(first)

	_, unknown := newKey(t)
	o.refused(change(unknown), 400, "InvalidRequest", "Signing key is not known here")
	if n := o.operations(); n != 1 {
		t.Errorf("%d operations after a refusal, want 1", n)
	}
	reserved, err := p.anybody().ReserveSigningKey(t.Context(), &serverapi.ReserveSigningKeyInput{DID: &o.did})
	o.check(err)
	second := reserved.SigningKey
	o.check(change(second))
	signsWith(second)
	// The former key is gone, and a reserved one is for one use.
	o.refused(change(first), 400, "InvalidRequest", "Signing key is not known here")
	other := p.signUp(t, "robert")
	err = p.admin.UpdateAccountSigningKey(t.Context(), &adminapi.UpdateAccountSigningKeyInput{DID: other.did, SigningKey: syntax.DID(second)})
	o.refused(err, 400, "InvalidRequest", "Signing key is not known here")

	// A DID that names another key gets that of the account back.
	o.post(o.signed(rotation(t), func(d *plc.Data) { d.VerificationMethods["atproto"] = unknown }))
	o.refused(o.server.ActivateAccount(t.Context()), 400, "InvalidRequest", "DID document verification method does not match expected signing key")
	o.valid(false)
	o.check(change(second))
	signsWith(second)
}

// refuseOperations submits what the directory must not accept.
func refuseOperations(t *testing.T, p *place) {
	o := p.signUp(t, "carol")
	stranger, strangerKey := newKey(t)
	genesis, err := o.directory.Last(t.Context(), o.did)
	o.check(err)
	o.check(o.rename("caroline.test"))
	before := o.operations()
	known := func(d *plc.Data) { d.AlsoKnownAs = append(d.AlsoKnownAs, "https://carol.example.com") }
	good := func() plc.Operation { return o.signed(rotation(t), known) }
	again := func(op plc.Operation) plc.Operation {
		o.check(op.Sign(rotation(t)))
		return op
	}
	const signature, order = "Invalid signature on op: ", "Operations not correctly ordered"
	for _, tt := range []struct {
		name    string
		op      func() plc.Operation
		message string
	}{
		{"key of a stranger", func() plc.Operation { return o.signed(stranger, known) }, signature},
		{"key that the operation itself brings", func() plc.Operation {
			return o.signed(stranger, func(d *plc.Data) { d.RotationKeys = []string{strangerKey, d.RotationKeys[0]} })
		}, signature},
		{"changed after it was signed", func() plc.Operation {
			op := good()
			op["alsoKnownAs"] = []any{"at://caroline.test", "https://mallory.example.com"}
			return op
		}, signature},
		{"signature of another operation", func() plc.Operation {
			op := good()
			op["sig"] = genesis.Sig()
			return op
		}, signature},
		{"the other signature of the same numbers", func() plc.Operation {
			op := good()
			op["sig"] = highS(t, op.Sig())
			return op
		}, signature},
		{"no signature", func() plc.Operation {
			op := good()
			delete(op, "sig")
			return op
		}, "Invalid operation"},
		{"after an operation that was overtaken", func() plc.Operation {
			// The key must be a stronger one than that of the operation in between.
			op, err := plc.Update(genesis, func(d *plc.Data) { d.AlsoKnownAs = []string{"at://caroline.test"} })
			o.check(err)
			return again(op)
		}, signature},
		{"after an operation that nobody knows", func() plc.Operation {
			op := good()
			op["prev"] = "bafyreiamujmlj3mtwubzxbx2w2p2fnh6svfvjqvohv7kgsmxhlakapkvkm"
			return again(op)
		}, order},
		{"after none", func() plc.Operation {
			op := good()
			op["prev"] = nil
			return again(op)
		}, order},
		{"tombstone", func() plc.Operation {
			last, err := o.directory.Last(t.Context(), o.did)
			o.check(err)
			op, err := plc.NewTombstone(last)
			o.check(err)
			return again(op)
		}, "Invalid operation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := *o
			o.T = t
			o.refused(o.submit(tt.op()), 400, "InvalidRequest", tt.message)
		})
	}
	if n := o.operations(); n != before {
		t.Errorf("%d operations after refusals, want %d", n, before)
	}
	o.named("caroline.test")
	o.resolved("caroline.test")
	o.check(o.submit(good()))
}

// disown takes the server's key out of a DID. Nothing that the server signs counts
// any more, and nothing here gets ahead of the directory.
func disown(t *testing.T, p *place) {
	o := p.signUp(t, "dave")
	servers := rotationDIDKey(t)
	own, ownKey := newKey(t)
	o.check(o.submit(o.operation(identityapi.SignPLCOperationInput{RotationKeys: []string{ownKey, servers}})))
	alone := o.signed(own, func(d *plc.Data) { d.RotationKeys = []string{ownKey} })
	o.refused(o.submit(alone), 400, "InvalidRequest", "Rotation keys do not include server's rotation key")
	o.post(alone)
	o.valid(false)

	const message = "Invalid signature on op: "
	o.refused(o.rename("david.test"), 400, "InvalidRequest", message)
	err := p.admin.UpdateAccountHandle(t.Context(), &adminapi.UpdateAccountHandleInput{DID: o.did, Handle: "david.test"})
	o.refused(err, 400, "InvalidRequest", message)
	key := o.data().VerificationMethods["atproto"]
	reserved, err := p.anybody().ReserveSigningKey(t.Context(), &serverapi.ReserveSigningKeyInput{DID: &o.did})
	o.check(err)
	err = p.admin.UpdateAccountSigningKey(t.Context(), &adminapi.UpdateAccountSigningKeyInput{DID: o.did, SigningKey: syntax.DID(reserved.SigningKey)})
	o.refused(err, 400, "InvalidRequest", message)
	o.named("dave.test")
	o.resolved("dave.test")
	if n := o.operations(); n != 3 {
		t.Errorf("%d operations, want 3", n)
	}
	// The handle that was refused is free, and the account signs with the key it had.
	p.signUp(t, "david")
	best, err := o.identity.GetRecommendedDIDCredentials(t.Context())
	o.check(err)
	if want := fmt.Sprintf(`{"atproto":%q}`, key); string(best.VerificationMethods) != want {
		t.Errorf("recommends %s, want %s", best.VerificationMethods, want)
	}

	o.check(o.submit(o.signed(own, func(d *plc.Data) { d.RotationKeys = []string{ownKey, servers} })))
	o.valid(true)
	o.check(o.rename("davy.test"))
	o.resolved("davy.test")
}

// endDID tombstones a DID whose account lives on.
func endDID(t *testing.T, p *place) {
	o := p.signUp(t, "erin")
	late := o.operation(identityapi.SignPLCOperationInput{AlsoKnownAs: []string{"at://erin.test", "https://erin.example.com"}})
	code := o.code()
	last, err := o.directory.Last(t.Context(), o.did)
	o.check(err)
	end, err := plc.NewTombstone(last)
	o.check(err)
	o.check(end.Sign(rotation(t)))
	o.post(end)

	const ended = "Did is tombstoned"
	o.refused(o.rename("erica.test"), 400, "InvalidRequest", ended)
	err = p.admin.UpdateAccountHandle(t.Context(), &adminapi.UpdateAccountHandleInput{DID: o.did, Handle: "erica.test"})
	o.refused(err, 400, "InvalidRequest", ended)
	reserved, err := p.anybody().ReserveSigningKey(t.Context(), &serverapi.ReserveSigningKeyInput{DID: &o.did})
	o.check(err)
	err = p.admin.UpdateAccountSigningKey(t.Context(), &adminapi.UpdateAccountSigningKeyInput{DID: o.did, SigningKey: syntax.DID(reserved.SigningKey)})
	o.refused(err, 400, "InvalidRequest", ended)
	_, err = o.identity.SignPLCOperation(t.Context(), &identityapi.SignPLCOperationInput{Token: &code})
	o.refused(err, 400, "InvalidRequest", ended)
	o.refused(o.submit(late), 400, "InvalidRequest", "Invalid signature on op: ")
	o.named("erin.test")
	o.valid(false)
	_, err = o.identity.RefreshIdentity(t.Context(), &identityapi.RefreshIdentityInput{Identifier: syntax.AtIdentifier(o.did)})
	o.refused(err, 400, "DidDeactivated", "DID is deactivated")
}

// highS is a signature by secp256k1 with the other of the two numbers that verify.
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

// TestDirectoryAway lets the directory go in the middle of what the server does, and
// come back.
func TestDirectoryAway(t *testing.T) {
	url := startDirectory(t)
	gate := startGate(t, url)
	p := startPlace(t, gate.URL, url, "PORTICO_SIGNUP_LEASE=4s", "PORTICO_SIGNUP_RETRY=250ms", "PORTICO_SIGNUP_CLEANUP_AFTER=500ms,24h")
	o := p.signUp(t, "alice")
	o.resolved("alice.test")
	const unable = "Unable to perform PLC operation"

	// It is away before anything is asked of it: nothing changes.
	waiting, code := o.operation(identityapi.SignPLCOperationInput{AlsoKnownAs: []string{"at://alice.test", "https://alice.example.com"}}), o.code()
	reserved, err := p.anybody().ReserveSigningKey(t.Context(), &serverapi.ReserveSigningKeyInput{DID: &o.did})
	o.check(err)
	newKey := &adminapi.UpdateAccountSigningKeyInput{DID: o.did, SigningKey: syntax.DID(reserved.SigningKey)}
	gate.shut()
	o.refused(o.rename("alicia.test"), 502, "UpstreamFailure", unable)
	err = p.admin.UpdateAccountHandle(t.Context(), &adminapi.UpdateAccountHandleInput{DID: o.did, Handle: "alicia.test"})
	o.refused(err, 502, "UpstreamFailure", unable)
	o.refused(p.admin.UpdateAccountSigningKey(t.Context(), newKey), 502, "UpstreamFailure", unable)
	o.refused(o.submit(waiting), 502, "UpstreamFailure", unable)
	sign := &identityapi.SignPLCOperationInput{Token: &code}
	_, err = o.identity.SignPLCOperation(t.Context(), sign)
	o.refused(err, 502, "UpstreamFailure", unable)
	_, err = o.identity.SignPLCOperation(t.Context(), sign) // a code is for one try
	o.refused(err, 400, "InvalidToken", "Token is invalid")
	_, err = p.anybody().CreateAccount(t.Context(), sheet("bob"))
	o.refused(err, 502, "UpstreamFailure", unable)
	o.check(o.server.DeactivateAccount(t.Context(), &serverapi.DeactivateAccountInput{}))
	o.refused(o.server.ActivateAccount(t.Context()), 502, "UpstreamFailure", unable)
	o.valid(false)
	// What needs no directory goes on.
	o.named("alice.test")
	_, err = p.anybody().CreateSession(t.Context(), &serverapi.CreateSessionInput{Identifier: "alice.test", Password: ownersPassword})
	o.check(err)

	// It is back, and what was refused is done now.
	gate.open()
	if n := o.operations(); n != 1 {
		t.Errorf("%d operations, want 1", n)
	}
	o.check(o.server.ActivateAccount(t.Context()))
	o.valid(true)
	o.resolved("alice.test")
	o.check(o.submit(waiting))
	o.check(p.admin.UpdateAccountSigningKey(t.Context(), newKey))
	o.valid(true)
	p.signUp(t, "bob")

	// It takes the operation, and is gone before it says so. Neither the handle nor
	// the one before can be anybody's until it is known whose they are.
	gate.shutAfterOperation()
	o.refused(o.rename("alicia.test"), 502, "UpstreamFailure", unable)
	for _, name := range []string{"alice", "alicia"} {
		_, err = p.anybody().CreateAccount(t.Context(), &serverapi.CreateAccountInput{Handle: syntax.Handle(name + ".test"), Email: new("thief@example.com"), Password: new(ownersPassword)})
		o.refused(err, 400, "HandleNotAvailable", "Handle already taken: "+name+".test")
	}
	if got := o.data().Handle(); got != "alicia.test" {
		t.Errorf("the directory has the handle %s", got)
	}
	gate.open()
	o.await("the handle of before is free", func() bool {
		_, err := p.anybody().CreateAccount(t.Context(), &serverapi.CreateAccountInput{Handle: "alice.test", Email: new("heir@example.com"), Password: new(ownersPassword)})
		return err == nil
	})
	o.named("alicia.test")
	o.resolved("alicia.test")
	if n := o.operations(); n != 4 {
		t.Errorf("%d operations, want 4", n)
	}

	// It is gone before it takes the operation, which is then sent again.
	gate.shutBeforeOperation()
	o.refused(o.rename("alison.test"), 502, "UpstreamFailure", unable)
	gate.open()
	o.await("the directory has the handle", func() bool { return o.data().Handle() == "alison.test" })
	o.await("the network finds it", func() bool {
		info, err := o.identity.ResolveIdentity(t.Context(), &identityapi.ResolveIdentityParams{Identifier: "alison.test"})
		return err == nil && info.Handle == "alison.test"
	})
	o.named("alison.test")
	o.valid(true)
	if n := o.operations(); n != 5 {
		t.Errorf("%d operations, want 5", n)
	}

	// It takes a sign-up, and is gone before it says so: nobody has the account, the
	// handle is free at once, and the DID ends.
	gate.shutAfterOperation()
	_, err = p.anybody().CreateAccount(t.Context(), sheet("carol"))
	o.refused(err, 502, "UpstreamFailure", unable)
	gate.open()
	p.signUp(t, "carol")
	orphan := gate.lost(t)
	o.await("the orphan ends", func() bool {
		last, err := p.directory.Last(t.Context(), orphan)
		o.check(err)
		return last.Type() == plc.TypeTombstone
	})

	// It goes for good, and nobody listens there.
	gate.Close()
	o.refused(o.rename("alice2.test"), 502, "UpstreamFailure", unable)
	o.named("alison.test")
	o.resolved("alison.test")
}

// await waits for what the server does by itself.
func (o *owner) await(what string, done func() bool) {
	o.Helper()
	for deadline := time.Now().Add(launch.Patience); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			o.Fatalf("waited in vain: %s", what)
		}
	}
}
