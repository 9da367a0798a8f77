package referencetest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
)

// A World is what surrounds the server of a directory, and what its clients saw there.
type World struct {
	MadeAt  time.Time
	Host    string
	Secrets map[string]string // PDS_JWT_SECRET, PDS_ADMIN_PASSWORD, …
	Plc     struct {
		Operations []struct {
			DID       string
			Nullified bool
			Operation json.RawMessage
		}
	}
	DIDWebDocuments map[string]json.RawMessage // by DID, of localhost
	DNS             map[string]string          // TXT records
	Accounts        []Account
	Repositories    map[string]struct {
		SigningKeyHex string
		Records       []struct{ URI, CID, TakedownRef string }
		Blobs         []struct{ CID, TempKey, TakedownRef string }
	}
	Invites   []any
	ListRepos []any
	Firehose  struct{ Frames []Frame }
	Sequence  []struct {
		Seq int64
		DID string
	}
	LastSequence int64
}

// An Account has what its owner knew, and what the server answered about it.
type Account struct {
	Name, DID, Handle, Email, Password string
	Deleted                            bool
	SignUp                             struct{ RefreshJWT string }
	AppPasswords                       []struct {
		Name, Password string
		Privileged     bool
	}
	Sessions []Session
	Grace    *struct{ A, B, JTIOfB, JTIOfC string }
	Dead     []struct{ Why, RefreshJWT string }

	AdminInfo, SubjectStatus, RepoStatus, Session, Status    any
	LatestCommit, Preferences, ListAppPasswords, InviteCodes any
	Blobs                                                    []any
}

type Session struct{ Kind, RefreshJWT string }

// A Frame of the firehose: its hash, and the type of its event in the reference's table.
type Frame struct {
	Seq          int64
	Type, SHA256 string
}

// Read is the world of a directory.
func Read(t testing.TB, name string) *World {
	t.Helper()
	var w World
	if err := json.Unmarshal(Expected(t, Stopped), &w); err != nil {
		t.Fatal(err)
	}
	if name == Crashed {
		w.crash(t)
	}
	return &w
}

// crash changes what is otherwise after the crash: alice's last words and bob's, and carol,
// who is gone.
func (w *World) crash(t testing.TB) {
	t.Helper()
	type commit struct{ CID, Rev string }
	var c struct {
		Alice struct {
			LatestCommit commit
			Session      struct{ RefreshJWT string }
		}
		Bob struct{ LatestCommit commit }
	}
	if err := json.Unmarshal(Expected(t, Crashed), &c); err != nil {
		t.Fatal(err)
	}
	w.moved("alice", c.Alice.LatestCommit.CID, c.Alice.LatestCommit.Rev, 2)
	w.moved("bob", c.Bob.LatestCommit.CID, c.Bob.LatestCommit.Rev, 1)
	alice, carol, gone := w.Account("alice"), w.Account("carol"), w.Account("judy")
	alice.Sessions = append(alice.Sessions, Session{"before the crash", c.Alice.Session.RefreshJWT})
	carol.Deleted, carol.AdminInfo, carol.SubjectStatus = true, gone.AdminInfo, gone.SubjectStatus
	carol.RepoStatus = map[string]any{"error": "RepoNotFound", "message": "Could not find repo for DID: " + carol.DID, "status": 400.0}
	w.ListRepos = slices.DeleteFunc(w.ListRepos, func(r any) bool { return field(r, "did") == carol.DID })
	erased := map[int64]bool{}
	for _, e := range w.Sequence {
		erased[e.Seq] = e.DID == carol.DID
	}
	w.Firehose.Frames = slices.DeleteFunc(w.Firehose.Frames, func(f Frame) bool { return erased[f.Seq] })
}

// Wrote makes a record that an account has created since part of what is expected.
func (w *World) Wrote(name, commit, rev, uri, cid string) {
	w.moved(name, commit, rev, 1)
	did := w.Account(name).DID
	r := w.Repositories[did]
	r.Records = append(r.Records, struct{ URI, CID, TakedownRef string }{uri, cid, ""})
	w.Repositories[did] = r
}

// moved expects a repository at a commit, with so many records more.
func (w *World) moved(name, cid, rev string, records float64) {
	a := w.Account(name)
	a.LatestCommit = map[string]any{"cid": cid, "rev": rev}
	a.RepoStatus.(map[string]any)["rev"] = rev
	status := a.Status.(map[string]any)
	status["repoCommit"], status["repoRev"] = cid, rev
	status["indexedRecords"] = status["indexedRecords"].(float64) + records
	delete(status, "repoBlocks") // nobody knows
	for _, r := range w.ListRepos {
		if field(r, "did") == a.DID {
			r.(map[string]any)["head"], r.(map[string]any)["rev"] = cid, rev
		}
	}
}

// Account is the account of that name.
func (w *World) Account(name string) *Account {
	i := slices.IndexFunc(w.Accounts, func(a Account) bool { return a.Name == name })
	return &w.Accounts[i]
}

// Shift makes the world and its sessions so much younger, and so does [ShiftDirectory] with the
// directory: the sessions whose grace runs are in it still.
func (w *World) Shift(by time.Duration) {
	w.MadeAt = w.MadeAt.Add(by)
	for i := range w.Accounts {
		a := &w.Accounts[i]
		tokens := []*string{&a.SignUp.RefreshJWT}
		for i := range a.Sessions {
			tokens = append(tokens, &a.Sessions[i].RefreshJWT)
		}
		for i := range a.Dead {
			tokens = append(tokens, &a.Dead[i].RefreshJWT)
		}
		if a.Grace != nil {
			tokens = append(tokens, &a.Grace.A, &a.Grace.B)
		}
		for _, token := range tokens {
			*token = w.shiftToken(*token, by)
		}
	}
}

func (w *World) shiftToken(token string, by time.Duration) string {
	head, _, _ := strings.Cut(token, ".")
	c := claims(token)
	for _, name := range []string{"iat", "exp"} {
		if at, ok := c[name].(float64); ok {
			c[name] = at + by.Seconds()
		}
	}
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // it was read just now
	}
	text := head + "." + base64.RawURLEncoding.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte(w.Secrets["PDS_JWT_SECRET"]))
	mac.Write([]byte(text))
	return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// claims are those of a token; none are in what is no token.
func claims(token any) map[string]any {
	text, _ := token.(string)
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return map[string]any{}
	}
	var c map[string]any
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(b, &c) != nil {
		return map[string]any{}
	}
	return c
}

// Check compares what a server answers with what the reference did. It refreshes sessions, so
// that for a second look the server has to have its database as it was.
type Check struct {
	*World
	URL string
	Now time.Time // of the server's clock: sessions that are over are not tried

	// Roots says that listRepos tells where the repositories are. The directory has lines that
	// lag, which the reference tells it by.
	Roots bool
	// Portico says that repoBlocks counts a value once for each of its records, and that blobs
	// are listed in an order of their own.
	Portico bool

	t    testing.TB
	same int
}

// Run reports every difference as an error and returns how many comparisons had none.
func (c *Check) Run(t testing.TB) int {
	t.Helper()
	c.t = t
	for i := range c.Accounts {
		c.account(&c.Accounts[i])
	}
	invites := list(c.get("com.atproto.admin.getInviteCodes", "admin", "limit", "500"), "codes")
	c.equal("admin.getInviteCodes", sortBy(invites, "code"), sortBy(c.Invites, "code"))
	repos := list(c.get("com.atproto.sync.listRepos", "", "limit", "1000"), "repos")
	c.equal("listRepos", sortBy(repos, "did"), sortBy(c.listRepos(), "did"))
	c.firehose()
	return c.same
}

func (c *Check) equal(what string, got, want any) {
	if got, want = plain(got), plain(want); reflect.DeepEqual(got, want) {
		c.same++
		return
	}
	c.t.Errorf("%s differs (-want +got):\n%s", what, cmp.Diff(want, got))
}

// plain is a value as JSON has it.
func plain(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		return err.Error()
	}
	return out
}

// call answers with what the server does: JSON, bytes, or a map with the status of an error.
func (c *Check) call(method, nsid, token string, query url.Values, input any) any {
	c.t.Helper()
	var body io.Reader
	if input != nil {
		b, err := json.Marshal(input)
		if err != nil {
			c.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+"/xrpc/"+nsid+"?"+query.Encode(), body)
	if err != nil {
		c.t.Fatal(err)
	}
	switch {
	case token == "admin":
		req.SetBasicAuth("admin", c.Secrets["PDS_ADMIN_PASSWORD"])
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if input != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(resp.Header.Get("Content-Type"), "json") && resp.StatusCode == http.StatusOK {
		return answer
	}
	var out any
	if err := json.Unmarshal(answer, &out); err != nil {
		out = map[string]any{"error": string(answer)}
	}
	if resp.StatusCode == http.StatusOK {
		return out
	}
	failure := map[string]any{"status": float64(resp.StatusCode)}
	for _, name := range []string{"error", "message"} {
		if v := field(out, name); v != nil {
			failure[name] = v
		}
	}
	return failure
}

// get calls a query with parameters, names and values.
func (c *Check) get(nsid, token string, parameters ...string) any {
	c.t.Helper()
	query := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		query.Add(parameters[i], parameters[i+1])
	}
	return c.call(http.MethodGet, nsid, token, query, nil)
}

func (c *Check) post(nsid, token string, input any) any {
	c.t.Helper()
	return c.call(http.MethodPost, nsid, token, nil, input)
}

func (c *Check) login(identifier, password string) any {
	return c.post("com.atproto.server.createSession", "", map[string]any{"identifier": identifier, "password": password, "allowTakendown": true})
}

func field(v any, name string) any {
	m, _ := v.(map[string]any)
	return m[name]
}

// either is a field, or else all of the answer, so that a difference shows it.
func either(v any, name string) any {
	if f := field(v, name); f != nil {
		return f
	}
	return v
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func list(v any, name string) []any {
	l, _ := field(v, name).([]any)
	return l
}

func sortBy(l []any, name string) []any {
	return slices.SortedFunc(slices.Values(l), func(a, b any) int {
		return strings.Compare(text(field(a, name)), text(field(b, name)))
	})
}

// without is an object without some of its fields.
func without(v any, names ...string) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	m = maps.Clone(m)
	for _, name := range names {
		delete(m, name)
	}
	return m
}

const (
	scopeFull       = "com.atproto.access"
	scopePlain      = "com.atproto.appPass"
	scopePrivileged = "com.atproto.appPassPrivileged"
	scopeTakenDown  = "com.atproto.takendown"
)

func (c *Check) account(a *Account) {
	is := func(what string) string { return a.Name + ": " + what }
	c.equal(is("admin.getAccountInfo"), c.get("com.atproto.admin.getAccountInfo", "admin", "did", a.DID), a.AdminInfo)
	c.equal(is("admin.getSubjectStatus"), c.get("com.atproto.admin.getSubjectStatus", "admin", "did", a.DID), a.SubjectStatus)
	c.equal(is("getRepoStatus"), c.get("com.atproto.sync.getRepoStatus", "", "did", a.DID), a.RepoStatus)
	if a.Deleted {
		return
	}
	takenDown := field(field(a.SubjectStatus, "takedown"), "applied") == true
	access := c.passwords(a, takenDown)
	if refreshed := c.sessions(a, takenDown); access == "" {
		access = refreshed
	}
	if access != "" {
		c.equal(is("getSession"), without(c.get("com.atproto.server.getSession", access), "didDoc", "accessJwt"), without(a.Session, "didDoc", "accessJwt"))
		c.equal(is("listAppPasswords"), c.get("com.atproto.server.listAppPasswords", access), a.ListAppPasswords)
		c.equal(is("getAccountInviteCodes"), c.get("com.atproto.server.getAccountInviteCodes", access, "createAvailable", "false"), a.InviteCodes)
		c.status(a, access)
		c.equal(is("getPreferences"), stored(c.get("app.bsky.actor.getPreferences", access)), stored(a.Preferences))
	}
	c.repository(a, takenDown)
}

// listRepos is what is wanted of it.
func (c *Check) listRepos() (repos []any) {
	if !c.Roots {
		return c.ListRepos
	}
	for _, r := range c.ListRepos {
		i := slices.IndexFunc(c.Accounts, func(a Account) bool { return a.DID == field(r, "did") })
		line := maps.Clone(r.(map[string]any))
		line["head"], line["rev"] = field(c.Accounts[i].LatestCommit, "cid"), field(c.Accounts[i].LatestCommit, "rev")
		repos = append(repos, line)
	}
	return repos
}

func (c *Check) status(a *Account, access string) {
	status, want := c.get("com.atproto.server.checkAccountStatus", access), a.Status
	blocks, known := field(want, "repoBlocks").(float64)
	if !known {
		status = without(status, "repoBlocks")
	} else if c.Portico {
		values := map[string]bool{}
		records := c.Repositories[a.DID].Records
		for _, r := range records {
			values[r.CID] = true
		}
		want = maps.Clone(want.(map[string]any))
		want.(map[string]any)["repoBlocks"] = blocks + float64(len(records)-len(values))
	}
	c.equal(a.Name+": checkAccountStatus", status, want)
}

// passwords signs in with all of them, and returns the access token of a full session.
func (c *Check) passwords(a *Account, takenDown bool) (access string) {
	is := func(what string) string { return a.Name + ": " + what }
	if a.Password != "" {
		s := c.login(a.Handle, a.Password)
		c.equal(is("login with the password"), either(s, "did"), a.DID)
		scope := scopeFull
		if takenDown {
			scope = scopeTakenDown
		} else {
			access = text(field(s, "accessJwt"))
		}
		c.equal(is("scope"), claims(field(s, "accessJwt"))["scope"], scope)
		c.equal(is("login with the email"), either(c.login(a.Email, a.Password), "did"), a.DID)
		c.equal(is("wrong password"), field(c.login(a.Handle, a.Password+"x"), "status"), 401)
	}
	for _, p := range a.AppPasswords {
		s := c.post("com.atproto.server.createSession", "", map[string]any{"identifier": a.DID, "password": p.Password})
		if takenDown {
			c.equal(is("app password "+p.Name+" while taken down"), field(s, "status"), 401)
			continue
		}
		scope := scopePlain
		if p.Privileged {
			scope = scopePrivileged
		}
		c.equal(is("app password "+p.Name), []any{either(s, "did"), claims(field(s, "accessJwt"))["scope"]}, []any{a.DID, scope})
	}
	return access
}

// sessions goes on with all of them, and returns an access token of one.
func (c *Check) sessions(a *Account, takenDown bool) (access string) {
	is := func(what string) string { return a.Name + ": " + what }
	refresh := func(token string) any { return c.post("com.atproto.server.refreshSession", token, nil) }
	jti := func(session any) any { return either(claims(field(session, "refreshJwt")), "jti") }
	sessions := slices.Clone(a.Sessions)
	if !takenDown {
		sessions = append(sessions, Session{"sign-up", a.SignUp.RefreshJWT})
	}
	for _, s := range sessions {
		if end, _ := claims(s.RefreshJWT)["exp"].(float64); time.Unix(int64(end), 0).Before(c.Now) {
			continue
		}
		r := refresh(s.RefreshJWT)
		c.equal(is("refresh of: "+s.Kind), either(r, "did"), a.DID)
		if access == "" {
			access = text(field(r, "accessJwt"))
		}
		c.equal(is("refresh again within the grace: "+s.Kind), jti(refresh(s.RefreshJWT)), jti(r))
		if strings.Contains(s.Kind, "app password") {
			scope := scopePlain
			if strings.Contains(s.Kind, "privileged") {
				scope = scopePrivileged
			}
			c.equal(is("scope after refresh: "+s.Kind), claims(field(r, "accessJwt"))["scope"], scope)
		}
	}
	if g := a.Grace; g != nil && c.Now.Before(c.MadeAt.Add(110*time.Minute)) {
		c.equal(is("A of the grace again gives B"), jti(refresh(g.A)), g.JTIOfB)
		c.equal(is("B of the grace again gives C"), jti(refresh(g.B)), g.JTIOfC)
	}
	for _, d := range a.Dead {
		c.equal(is("dead session: "+d.Why), field(refresh(d.RefreshJWT), "status") != nil, true)
	}
	return access
}

// stored leaves out what is made from the birth date when it is asked for.
func stored(v any) any {
	preferences, ok := field(v, "preferences").([]any)
	if !ok {
		return v
	}
	return slices.DeleteFunc(slices.Clone(preferences), func(p any) bool {
		return strings.HasSuffix(text(field(p, "$type")), "#declaredAgePref")
	})
}

func (c *Check) repository(a *Account, takenDown bool) {
	is := func(what string) string { return a.Name + ": " + what }
	c.equal(is("getLatestCommit"), c.get("com.atproto.sync.getLatestCommit", "admin", "did", a.DID), a.LatestCommit)
	blobs := list(c.get("com.atproto.sync.listBlobs", "admin", "did", a.DID), "cids")
	if c.Portico {
		slices.SortFunc(blobs, func(a, b any) int { return strings.Compare(text(a), text(b)) })
	}
	c.equal(is("listBlobs"), blobs, a.Blobs)
	active := field(a.RepoStatus, "active") == true
	for _, r := range c.Repositories[a.DID].Records {
		parts := strings.SplitN(strings.TrimPrefix(r.URI, "at://"), "/", 3)
		got := c.get("com.atproto.repo.getRecord", "", "repo", parts[0], "collection", parts[1], "rkey", parts[2])
		switch {
		case takenDown || r.TakedownRef != "":
			c.equal(is("hidden record"), field(got, "status") != nil, true)
		case active:
			c.equal(is("record "+r.URI), either(got, "cid"), r.CID)
		}
	}
	for _, b := range c.Repositories[a.DID].Blobs {
		if takenDown {
			continue
		}
		got := c.get("com.atproto.sync.getBlob", "admin", "did", a.DID, "cid", b.CID)
		if b.TempKey != "" || b.TakedownRef != "" {
			c.equal(is("blob that is not served "+b.CID), field(got, "status"), 400)
			continue
		}
		content, ok := got.([]byte)
		if !ok {
			c.equal(is("blob "+b.CID), got, b.CID)
			continue
		}
		sum, err := cid.V1Builder{Codec: cid.Raw, MhType: 0x12}.Sum(content)
		if err != nil {
			c.t.Fatal(err)
		}
		c.equal(is("blob "+b.CID), sum.String(), b.CID)
	}
}

// firehose finds the frames of all events in their order; others may be among them.
func (c *Check) firehose() {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.URL, "http")+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(8 << 20)
	gone := []string{"handle", "tombstone", "rebase", "migrate"} // from the protocol, and so from newer editions
	for _, f := range c.Firehose.Frames {
		if slices.Contains(gone, f.Type) {
			continue
		}
		found := false
		for !found {
			_, frame, err := conn.Read(ctx)
			if err != nil {
				c.t.Errorf("firehose: no frame is that of event %d (%s): %v", f.Seq, f.Type, err)
				return
			}
			sum := sha256.Sum256(frame)
			found = hex.EncodeToString(sum[:]) == f.SHA256
		}
		c.equal(fmt.Sprintf("firehose frame of event %d (%s)", f.Seq, f.Type), found, true)
	}
}
