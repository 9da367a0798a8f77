//go:build interop

package interop

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	identityapi "portico/api/atproto/identity"
	serverapi "portico/api/atproto/server"
	"portico/api/xrpc"
	"portico/cmd/portico/launch"
	"portico/impl/identity/plc"
	"portico/impl/mail/mailtest"
)

// A house is a server of the world, which has a name, and may get another.
type house struct {
	*testing.T
	place  *place
	front  *launch.Front
	client *http.Client // by names
	env    []string     // settings that stay
	name   string       // PDS_HOSTNAME
	server *launch.Server
	told   *names // by the server, to its relay
}

type names struct {
	mu  sync.Mutex
	all []string
}

// ServeHTTP is a relay's.
func (n *names) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var in struct{ Hostname string }
	if json.NewDecoder(r.Body).Decode(&in) == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.all = append(n.all, in.Hostname)
	}
}

func (n *names) has(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.all, name)
}

// The names of the house: as it is, and as it is to be.
const oldName, newName = "pds.old.test", "pds.new.test"

func newHouse(t *testing.T) *house {
	t.Helper()
	directory := startDirectory(t)
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{T: t, name: oldName, told: &names{}, server: &launch.Server{Data: t.TempDir()}, place: &place{
		directory: &plc.Client{URL: directory}, url: fmt.Sprintf("http://localhost:%d", port), mails: mailtest.Start(t, mailtest.Config{}),
	}}
	if h.front, err = launch.NewFront(t.TempDir(), oldName, "*."+oldName, newName, "*."+newName); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.front.Close)
	if h.client, err = h.front.Client(); err != nil {
		t.Fatal(err)
	}
	relay := httptest.NewServer(h.told)
	t.Cleanup(relay.Close)
	h.env = append(h.front.Environ(),
		fmt.Sprintf("PDS_PORT=%d", port), "PORTICO_BIND=127.0.0.1", "PDS_DID_PLC_URL="+directory, "PDS_ADMIN_PASSWORD=operator of the house",
		"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX="+rotationKey, "PDS_INVITE_REQUIRED=false",
		"PDS_EMAIL_SMTP_URL="+h.place.mails.URL().String(), "PDS_EMAIL_FROM_ADDRESS=server@example.com", "PDS_ENABLE_DID_DOC_WITH_SESSION=true",
		"PDS_CRAWLERS="+relay.URL, "PORTICO_SIGNUP_RETRY=1s", "PORTICO_PLC_RATE=2")
	h.lead(oldName, h.place.url)
	h.serve()
	return h
}

func (h *house) lead(name, to string) {
	h.Helper()
	if err := h.front.Lead(name, to); err != nil {
		h.Fatal(err)
	}
}

// serve starts the server by its name of now.
func (h *house) serve() {
	h.Helper()
	s, err := launch.StartServer(context.WithoutCancel(h.Context()), binary, h.server.Data, append(h.env, "PDS_HOSTNAME="+h.name)...)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(s.Kill)
	h.server = s
}

// again stops the server, does something to its data, and starts it by a name.
func (h *house) again(name string, meanwhile func()) {
	h.Helper()
	if err := h.server.Stop(); err != nil {
		h.Fatal(err)
	}
	if meanwhile != nil {
		meanwhile()
	}
	h.name = name
	h.serve()
}

// rested is as if a move had been in its phase for a while.
func (h *house) rested() {
	h.Helper()
	h.exec(`UPDATE meta SET value = CAST(json_set(CAST(value AS TEXT), '$.phaseAt', ?) AS BLOB) WHERE name = 'move'`, time.Now().Add(-time.Hour).Format(time.RFC3339))
	h.exec(`UPDATE did_move SET next_at = 0 WHERE state = 'waiting'`)
}

// exec changes one row of the database or more.
func (h *house) exec(statement string, args ...any) {
	h.Helper()
	d, err := sql.Open("sqlite", filepath.Join(h.server.Data, "portico.sqlite"))
	if err != nil {
		h.Fatal(err)
	}
	defer d.Close()
	result, err := d.ExecContext(h.Context(), statement, args...)
	if err != nil {
		h.Fatal(err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		h.Fatalf("%d rows, %v: %s", n, err, statement)
	}
}

// moveHost runs portico move-host.
func (h *house) moveHost(args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(h.Context(), binary, append([]string{"move-host"}, args...)...)
	cmd.Env = append(append(launch.Environ(), h.env...), "PDS_HOSTNAME="+h.name, "PDS_DATA_DIRECTORY="+h.server.Data)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w\n%s%s", err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (h *house) moves(args ...string) {
	h.Helper()
	if _, err := h.moveHost(append(args, "--yes")...); err != nil {
		h.Fatalf("move-host %s: %v", strings.Join(args, " "), err)
	}
}

func (h *house) refuses(want string, args ...string) {
	h.Helper()
	if _, err := h.moveHost(append(args, "--yes")...); err == nil || !strings.Contains(err.Error(), want) {
		h.Errorf("move-host %s: %v, want %q", strings.Join(args, " "), err, want)
	}
}

type hostMove struct {
	Move *struct {
		Phase               string
		Waiting, Done, Left int64
	}
	DIDs []struct {
		DID    syntax.DID
		Reason string
	}
	Standstill string
}

func (h *house) status() (s hostMove) {
	h.Helper()
	out, err := h.moveHost("--status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		h.Fatal(err)
	}
	return s
}

// until waits until the move is so far.
func (h *house) until(far func(s hostMove) bool) hostMove {
	h.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		s := h.status()
		if far(s) {
			return s
		}
		if time.Now().After(deadline) {
			h.Fatalf("it stands at %+v\n%s", s, h.server.Log())
		}
	}
}

func (h *house) phase(want string) hostMove {
	h.Helper()
	return h.until(func(s hostMove) bool { return s.Move != nil && s.Move.Phase == want })
}

// get asks a host as anybody does, and returns the status, the headers and the body.
func (h *house) get(url, token string) (int, http.Header, string) {
	h.Helper()
	req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, url, nil)
	if err != nil {
		h.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// answers expects an answer of a host.
func (h *house) answers(url, token string, status int, part string) {
	h.Helper()
	if got, _, body := h.get(url, token); got != status || !strings.Contains(body, part) {
		h.Errorf("%s: %d %.200s, want %d %s", url, got, body, status, part)
	}
}

// An app is the official client of somebody.
type app struct {
	*house
	session string // the file
}

// A visit is what the app says in the end.
type visit struct {
	DID         syntax.DID
	Aud, Access string
}

func (h *house) app() *app { return &app{h, filepath.Join(h.TempDir(), "session.json")} }

func (a *app) does(step, name, handle string, rest ...string) (v visit) {
	a.Helper()
	var out, errs bytes.Buffer
	args := append([]string{"move_host.mjs", a.front.Address, a.session, step, "https://" + name, handle}, rest...)
	cmd := exec.CommandContext(a.Context(), node, args...)
	cmd.Env = append(launch.Environ(), a.front.Environ()...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err == nil {
		err = json.Unmarshal(out.Bytes(), &v)
	}
	if err != nil {
		a.Fatalf("%s: %v\n%s\n%s", strings.Join(args, " "), err, errs.String(), a.server.Log())
	}
	return v
}

// said expects what the directory says of a DID.
func (h *house) said(did syntax.DID, name, handle string) {
	h.Helper()
	d, err := h.place.directory.Data(h.Context(), did)
	if err != nil {
		h.Fatal(err)
	}
	if at := d.Services["atproto_pds"].Endpoint; at != "https://"+name || d.Handle() != handle {
		h.Errorf("%s names %s and %s, want https://%s and %s", did, at, d.Handle(), name, handle)
	}
}

// A server gets another name: begun once that leads to it, turned back half-way, begun
// again and finished. Who was signed in goes on, in the official client, at every step;
// the one whose DID only she can change is told so.
func TestHostMoves(t *testing.T) {
	h := newHouse(t)
	alice := h.app()
	first := alice.does("sign-up", oldName, "alice."+oldName)
	var others []*owner
	for _, name := range []string{"bob", "dan", "eve", "fay"} {
		others = append(others, h.place.signUp(t, name+"."+strings.TrimSuffix(oldName, ".test")))
	}
	carol := h.place.signUp(t, "carol."+strings.TrimSuffix(oldName, ".test"))
	own, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := own.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	carol.post(carol.signed(rotation(t), func(d *plc.Data) { d.RotationKeys = []string{public.DIDKey()} }))

	// The new name is nowhere, then that of another server, then this one's.
	h.refuses("https://"+newName+" does not lead to this server", newName)
	h.front.LeadTo(newName, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"did":"did:web:%s","availableUserDomains":[]}`, oldName)
	}))
	h.refuses("what answers there is not this server", newName)
	if s := h.status(); s.Move != nil {
		t.Fatalf("begun: %+v", s)
	}
	h.said(first.DID, oldName, "alice."+oldName)
	h.lead(newName, h.place.url)
	h.answers("https://"+newName+"/xrpc/com.atproto.server.describeServer", "", 200, `"did:web:`+oldName+`"`)

	h.moves(newName)
	h.until(func(s hostMove) bool { return s.Move.Done >= 2 })
	h.moves("--undo")
	h.env = append(h.env, "PORTICO_PLC_RATE=50")
	h.again(oldName, h.rested)
	h.phase("undone")
	h.said(first.DID, oldName, "alice."+oldName)
	for _, o := range others {
		if h := o.data().Handle(); !strings.HasSuffix(h, oldName) {
			t.Errorf("%s has the handle %s after it was undone", o.did, h)
		}
	}
	alice.does("go-on", oldName, "alice."+oldName, "https://"+oldName)

	h.moves(newName)
	s := h.phase("moved")
	if len(s.DIDs) != 1 || s.DIDs[0].DID != carol.did || s.DIDs[0].Reason != "no_key" || s.Standstill == "" {
		t.Errorf("listed are %+v", s)
	}
	h.said(first.DID, newName, "alice."+newName)
	h.said(carol.did, oldName, "carol."+oldName)
	before := alice.does("go-on", oldName, "alice."+newName, "https://"+newName)
	h.refuses("the server does not go by "+newName+" yet", "--finish", "--accept-left")
	if h.told.has(newName) {
		t.Error("the relay was told of the new name before the switch")
	}

	h.moves("--switch")
	switched := alice.does("go-on", oldName, "alice."+newName, "https://"+newName)
	for deadline := time.Now().Add(time.Minute); !h.told.has(newName); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the relay was not told of the new name at the switch")
		}
	}
	h.refuses("the server was started with PDS_HOSTNAME="+oldName, "--finish", "--accept-left")
	h.again(newName, nil)
	after := h.app().does("sign-in", newName, "alice."+newName)
	alice.does("go-on", oldName, "alice."+newName, "https://"+newName)
	for _, v := range []visit{before, switched, after} {
		for _, name := range []string{oldName, newName} {
			h.answers("https://"+name+"/xrpc/com.atproto.server.getSession", v.Access, 200, v.DID.String())
		}
	}
	if before.Aud != "did:web:"+oldName || after.Aud != "did:web:"+newName {
		t.Errorf("tokens are for %s before and %s after", before.Aud, after.Aud)
	}
	h.app().does("sign-up", newName, "gina."+newName)

	for url, to := range map[string]string{
		"https://alice." + oldName + "/profile?x=1": "https://alice." + newName + "/profile?x=1",
		"https://bob." + oldName + "/":              "https://bob." + newName + "/",
	} {
		if status, header, _ := h.get(url, ""); status != 307 || header.Get("Location") != to {
			t.Errorf("%s: %d, to %q", url, status, header.Get("Location"))
		}
	}
	for _, name := range []string{oldName, newName} {
		h.answers("https://alice."+name+"/.well-known/atproto-did", "", 200, first.DID.String())
		h.answers("https://"+name+"/xrpc/com.atproto.identity.resolveHandle?handle=alice."+name, "", 200, first.DID.String())
		h.answers("https://"+name+"/.well-known/did.json", "", 200, `"did:web:`+name+`"`)
	}

	h.refuses("1 DIDs were left as they are", "--finish")
	h.moves("--finish", "--accept-left")
	h.again(newName, h.rested)
	s = h.phase("finished")
	if s.Standstill != "" {
		t.Errorf("deletions stand still: %s", s.Standstill)
	}
	letter := h.place.mails.Next(t)
	if letter.To != "carol."+strings.TrimSuffix(oldName, ".test")+"@example.com" || letter.Subject != "Your Server Has a New Address" || !strings.Contains(letter.Text, "https://"+newName) {
		t.Errorf("%s to %s: %s", letter.Subject, letter.To, letter.Text)
	}
	if n := len(h.place.mails.Mails()); n != 1 {
		t.Errorf("%d letters, want 1", n)
	}
	h.app().does("sign-in", oldName, "carol."+oldName)
	h.answers("https://carol."+oldName+"/.well-known/atproto-did", "", 200, carol.did.String())
	alice.does("go-on", newName, "alice."+newName, "https://"+newName)
	h.app().does("sign-in", newName, "bob."+newName)
	if err := h.server.Stop(); err != nil {
		t.Error(err)
	}
}

// logged waits until the server has written a line with a part.
func (h *house) logged(part string) {
	h.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(h.server.Log(), part); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.Fatalf("%q is not in\n%s", part, h.server.Log())
		}
	}
}

// there says whether the server has the repository of an account.
func (h *house) there(did syntax.DID) bool {
	h.Helper()
	resp, err := http.Get(h.place.url + "/xrpc/com.atproto.sync.getRepoStatus?did=" + did.String())
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// The setting of the name is changed by mistake, when the time of an account has come that
// is to be deleted. The server says so, deletes, writes and tells nobody anything; and with
// the setting as it was all goes on.
func TestHostNameByMistake(t *testing.T) {
	h := newHouse(t)
	suffix := "." + strings.TrimSuffix(oldName, ".test")
	alice, gone := h.place.signUp(t, "alice"+suffix), h.place.signUp(t, "gone"+suffix)
	operations := alice.operations()
	day := int64(24 * time.Hour / time.Microsecond)
	h.again("pds.mistake.test", func() {
		now := time.Now().UnixMicro()
		h.exec(`UPDATE account SET created_at = ?, deactivated_at = ?, delete_after = ?, delete_announced_at = ? WHERE did = ?`,
			now-90*day, now-60*day, now-20*day, now-20*day, gone.did.String())
	})
	h.logged("PDS_HOSTNAME is not the name that this server goes by")
	h.logged("deletions and clean-ups stand still")
	if !h.there(gone.did) || !h.there(alice.did) {
		t.Fatal("an account is gone")
	}
	if _, err := h.place.anybody().CreateAccount(t.Context(), sheet("fresh"+suffix)); err == nil {
		t.Error("signed up")
	}
	session, err := h.place.anybody().CreateSession(t.Context(), &serverapi.CreateSessionInput{Identifier: alice.did.String(), Password: ownersPassword})
	if err != nil {
		t.Fatal(err)
	}
	client := xrpc.Client{Host: h.place.url, Authorization: xrpc.Bearer(session.AccessJWT)}
	meanwhile := &owner{T: t, place: h.place, did: alice.did, server: &serverapi.Client{Client: client}, identity: &identityapi.Client{Client: client}}
	if err := meanwhile.rename(syntax.Handle("alicia." + oldName)); err == nil {
		t.Error("changed a handle")
	}
	h.lead(newName, h.place.url)
	h.refuses("PDS_HOSTNAME=pds.mistake.test", newName)
	h.said(alice.did, oldName, "alice."+oldName)
	if n := alice.operations(); n != operations {
		t.Errorf("%s has %d operations, had %d", alice.did, n, operations)
	}

	h.again(oldName, nil)
	h.logged("the DIDs of all accounts agree with the public URL now")
	h.again(oldName, nil) // or an hour later
	for deadline := time.Now().Add(time.Minute); h.there(gone.did); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not deleted\n%s", h.server.Log())
		}
	}
	if !h.there(alice.did) {
		t.Error("another account is gone")
	}
	alice.check(alice.rename(syntax.Handle("alicia." + oldName)))
	h.said(alice.did, oldName, "alicia."+oldName)
	h.place.signUp(t, "fresh"+suffix)
	if h.told.has("pds.mistake.test") {
		t.Error("the relay was told of a name that is none")
	}
}
