//go:build interop

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	identityapi "portico/api/atproto/identity"
	serverapi "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/cmd/portico/launch"
	"portico/impl/mail/mailtest"
	"portico/impl/plc"
)

// An owner is the owner of an account on a server with its PLC directory.
type owner struct {
	*testing.T
	did       syntax.DID
	server    *serverapi.Client
	identity  *identityapi.Client
	directory *plc.Client
	mails     *mailtest.Server
}

// operation has the server sign an operation.
func (o *owner) operation(in identityapi.SignPLCOperationInput) json.RawMessage {
	o.Helper()
	if err := o.identity.RequestPLCOperationSignature(o.Context()); err != nil {
		o.Fatal(err)
	}
	code := mailedCode.FindString(o.mails.Next(o).Text)
	in.Token = &code
	out, err := o.identity.SignPLCOperation(o.Context(), &in)
	if err != nil {
		o.Fatal(err)
	}
	return out.Operation
}

func (o *owner) submit(op json.RawMessage) error {
	return o.identity.SubmitPLCOperation(o.Context(), &identityapi.SubmitPLCOperationInput{Operation: op})
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
	if err != nil {
		o.Fatal(err)
	}
	return d
}

// valid checks what checkAccountStatus says of the DID.
func (o *owner) valid(want bool) {
	o.Helper()
	status, err := o.server.CheckAccountStatus(o.Context())
	if err != nil {
		o.Fatal(err)
	}
	if status.ValidDID != want {
		o.Errorf("valid DID: %v, want %v", status.ValidDID, want)
	}
}

// TestPLCOperations changes what a DID says in all the ways that there are.
func TestPLCOperations(t *testing.T) {
	for _, directory := range []string{"embedded directory", "real directory"} {
		t.Run(directory, func(t *testing.T) { testPLCOperations(t, directory == "real directory") })
	}
}

func testPLCOperations(t *testing.T, real bool) {
	mails := mailtest.Start(t, mailtest.Config{})
	env := []string{
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotationKey,
		"PDS_EMAIL_SMTP_URL=" + mails.URL().String(), "PDS_EMAIL_FROM_ADDRESS=server@example.com",
	}
	var directory *launch.Process
	url := ""
	if real {
		directory, url = runDirectory(t)
		env = append(env, "PDS_DID_PLC_URL="+url)
	}
	server, err := launch.StartServer(t.Context(), binary, t.TempDir(), env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	if url == "" {
		url = server.Directory
	}
	o := &owner{T: t, mails: mails, directory: &plc.Client{URL: url}}
	created, err := (&serverapi.Client{Client: xrpc.Client{Host: server.URL}}).CreateAccount(t.Context(), &serverapi.CreateAccountInput{
		Handle: "alice.test", Email: new("alice@example.com"), Password: new("correct horse battery"),
	})
	if err != nil {
		t.Fatal(err)
	}
	client := xrpc.Client{Host: server.URL, Authorization: xrpc.Bearer(created.AccessJWT)}
	o.did, o.server, o.identity = created.DID, &serverapi.Client{Client: client}, &identityapi.Client{Client: client}
	rotation := rotationDIDKey(t)

	// Another handle.
	if err := o.identity.UpdateHandle(t.Context(), &identityapi.UpdateHandleInput{Handle: "Alicia.test"}); err != nil {
		t.Fatal(err)
	}
	if got := o.data().AlsoKnownAs; !slices.Equal(got, []string{"at://alicia.test"}) {
		t.Errorf("known as %v", got)
	}
	info, err := o.identity.ResolveIdentity(t.Context(), &identityapi.ResolveIdentityParams{Identifier: "alicia.test"})
	if err != nil || info.DID != o.did || info.Handle != "alicia.test" {
		t.Errorf("resolved to %+v, %v", info, err)
	}

	// A rotation key of the owner's own, before the server's.
	own, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := own.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{public.DIDKey(), rotation}
	stale := o.operation(identityapi.SignPLCOperationInput{AlsoKnownAs: []string{"at://alicia.test", "https://alice.example.com"}})
	if err := o.submit(o.operation(identityapi.SignPLCOperationInput{RotationKeys: keys})); err != nil {
		t.Fatal(err)
	}
	if got := o.data().RotationKeys; !slices.Equal(got, keys) {
		t.Errorf("rotation keys %v, want %v", got, keys)
	}
	o.valid(true)

	// What the directory refuses: an operation that another has overtaken, and one of
	// a key that is not the DID's.
	before := o.data()
	err = o.submit(stale)
	if refusal, ok := errors.AsType[*xrpc.Error](err); !ok || refusal.Status != 400 || refusal.Name != "InvalidRequest" || refusal.Message == "" {
		t.Errorf("stale operation: %v", err)
	}
	stranger, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	last, err := o.directory.Last(t.Context(), o.did)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := plc.Update(last, func(d *plc.Data) { d.AlsoKnownAs = append(d.AlsoKnownAs, "https://mallory.example.com") })
	if err != nil {
		t.Fatal(err)
	}
	if err := forged.Sign(stranger); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(forged)
	if err != nil {
		t.Fatal(err)
	}
	o.refused(o.submit(text), 400, "InvalidRequest", "Invalid signature on op: ")
	if after := o.data(); !slices.Equal(after.AlsoKnownAs, before.AlsoKnownAs) {
		t.Errorf("known as %v after refusals", after.AlsoKnownAs)
	}

	// Another signing key is for another server, so it goes to the directory without
	// this one, and comes back by what this one recommends.
	strange, err := stranger.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	moved := o.operation(identityapi.SignPLCOperationInput{
		VerificationMethods: json.RawMessage(fmt.Sprintf(`{"atproto":%q}`, strange.DIDKey())),
		Services:            json.RawMessage(`{"atproto_pds":{"type":"AtprotoPersonalDataServer","endpoint":"https://elsewhere.example.com"}}`),
	})
	o.refused(o.submit(moved), 400, "InvalidRequest", "Incorrect endpoint on atproto_pds service")
	op, err := plc.Parse(moved)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.directory.Submit(t.Context(), o.did, op); err != nil {
		t.Fatal(err)
	}
	if got := o.data().VerificationMethods["atproto"]; got != strange.DIDKey() {
		t.Errorf("signing key %s, want %s", got, strange.DIDKey())
	}
	o.valid(false)
	best, err := o.identity.GetRecommendedDIDCredentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	back := o.operation(identityapi.SignPLCOperationInput{
		RotationKeys: best.RotationKeys, AlsoKnownAs: best.AlsoKnownAs, VerificationMethods: best.VerificationMethods, Services: best.Services,
	})
	if err := o.submit(back); err != nil {
		t.Fatal(err)
	}
	o.valid(true)
	if got := o.data().RotationKeys; !slices.Equal(got, []string{rotation}) {
		t.Errorf("rotation keys %v, want those recommended", got)
	}

	// A directory that is away leaves everything as it was.
	if directory == nil {
		return
	}
	waiting := o.operation(identityapi.SignPLCOperationInput{})
	directory.Kill()
	const unable = "Unable to perform PLC operation"
	err = o.identity.UpdateHandle(t.Context(), &identityapi.UpdateHandleInput{Handle: "alice.test"})
	o.refused(err, 502, "UpstreamFailure", unable)
	o.refused(o.submit(waiting), 502, "UpstreamFailure", unable)
	session, err := o.server.GetSession(t.Context())
	if err != nil || session.Handle != "alicia.test" {
		t.Errorf("session %+v, %v", session, err)
	}
	info, err = o.identity.ResolveIdentity(t.Context(), &identityapi.ResolveIdentityParams{Identifier: "alicia.test"})
	if err != nil || info.Handle != "alicia.test" {
		t.Errorf("resolved to %+v, %v", info, err)
	}
}
