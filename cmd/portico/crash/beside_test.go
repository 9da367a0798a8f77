//go:build crash

package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portico/cmd/portico/launch"
	"portico/cmd/portico/repotest"
	"portico/db/dbtest"
)

// The steps of later releases: this one works with the schema of the first, and with that of
// the second it does not.
const (
	addingStep = "0098_adding"
	adding     = `-- A later release, with which this one works.
-- Works with: 0024_more_nodes
ALTER TABLE account ADD COLUMN later TEXT NOT NULL DEFAULT 'later';
ALTER TABLE record ADD COLUMN later INTEGER;
CREATE TABLE later (id TEXT PRIMARY KEY);
INSERT INTO later (id) SELECT did FROM account;
`
	breakingStep = "0099_breaking"
	breaking     = `-- A release after that.
-- Works with: 0098_adding
DROP TABLE later;
`
)

// release builds the server as a later release has it, which makes the given steps, names and
// texts, of the schema.
func release(t *testing.T, steps map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "portico/db/migrations").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for name, text := range steps {
		file := filepath.Join(dir, name+".sql")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files[filepath.Join(strings.TrimSpace(string(root)), name+".sql")] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": files})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "portico")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "portico/cmd/portico")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a later release: %v\n%s", err, out)
	}
	return path
}

// releases are servers of several releases on one database.
type releases struct {
	*testing.T
	env    []string
	people int
}

func (r *releases) start(binary, data string) *launch.Server {
	r.Helper()
	s, err := launch.StartServer(r.Context(), binary, data, r.env...)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(s.Kill)
	return s
}

// again starts one that has ended, and says whether it tells of steps that it does not know.
func (r *releases) again(s *launch.Server) (_ *launch.Server, told bool) {
	r.Helper()
	again, err := s.Again(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(again.Kill)
	return again, strings.Count(again.Log(), "a newer version has migrated the database") == 1 && strings.Contains(again.Log(), addingStep)
}

// refused starts one that has ended, which the schema has left behind.
func (r *releases) refused(s *launch.Server, says string) {
	r.Helper()
	again, err := s.Again(r.Context())
	if err == nil {
		again.Kill()
		r.Fatal("a release that the schema excludes was started")
	}
	if !strings.Contains(err.Error(), "exit status 78") || !strings.Contains(err.Error(), says) {
		r.Errorf("it ends with %v, want %s", err, says)
	}
}

// noBody is what a procedure without a body is called with.
var noBody any = struct{}{}

// call makes a request, which must be answered with 200.
func (r *releases) call(s *launch.Server, method, token string, in, out any) {
	r.Helper()
	verb, body := http.MethodGet, []byte(nil)
	if in != nil {
		verb = http.MethodPost
	}
	if in != nil && in != noBody {
		var err error
		if body, err = json.Marshal(in); err != nil {
			r.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(r.Context(), verb, s.URL+"/xrpc/"+method, bytes.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		r.Fatalf("%s: %v", method, err)
	}
}

// use has somebody sign up at one server, and sign in, write and refresh at another; both know
// what was written.
func (r *releases) use(one, other *launch.Server) {
	r.Helper()
	r.people++
	handle := fmt.Sprintf("somebody-%d.test", r.people)
	var session struct{ DID, AccessJwt, RefreshJwt string }
	r.call(one, "com.atproto.server.createAccount", "", map[string]any{"handle": handle, "email": handle + "@example.com", "password": "password"}, &session)
	r.call(other, "com.atproto.server.createSession", "", map[string]any{"identifier": handle, "password": "password"}, &session)
	for _, s := range []*launch.Server{other, one} {
		var wrote struct{ URI, CID string }
		r.call(s, "com.atproto.repo.createRecord", session.AccessJwt, map[string]any{
			"repo": session.DID, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": "note"},
		}, &wrote)
		rkey := wrote.URI[strings.LastIndexByte(wrote.URI, '/')+1:]
		for _, reader := range []*launch.Server{one, other} {
			var read struct{ CID string }
			if r.call(reader, "com.atproto.repo.getRecord?collection=com.example.note&repo="+session.DID+"&rkey="+rkey, "", nil, &read); read.CID != wrote.CID {
				r.Errorf("a server has the record %s, not %s", read.CID, wrote.CID)
			}
		}
		r.call(s, "com.atproto.server.refreshSession", session.RefreshJwt, noBody, &session)
	}
}

// sameEvents checks that servers have the same events.
func (r *releases) sameEvents(servers ...*launch.Server) {
	r.Helper()
	h := &repotest.Host{TB: r.T, URL: func(i int) string { return servers[i].URL }}
	var first []byte
	for i := range servers {
		conn, err := h.Subscribe(r.Context(), i, "?cursor=0")
		if err != nil {
			r.Fatal(err)
		}
		var all []byte
		for seq := range int64(r.people * 6) { // four of the sign-up, and two commits
			f, err := repotest.Read(r.Context(), conn)
			if err != nil || f.Seq != seq+1 {
				r.Fatalf("after event %d: %d, %v", seq, f.Seq, err)
			}
			all = append(all, f.Bytes...)
		}
		_ = conn.CloseNow()
		if i == 0 {
			first = all
		} else if !bytes.Equal(all, first) {
			r.Errorf("server %d has other events than the first", i)
		}
	}
}

// Servers of this release go on, and start again, beside one of a later release whose steps
// work with it, and are refused once a step has excluded them.
func TestReleasesBesideEachOther(t *testing.T) {
	next := release(t, map[string]string{addingStep: adding})
	last := release(t, map[string]string{addingStep: adding, breakingStep: breaking})
	const excluded = "it has seen 0099_breaking, with which only a version works that knows 0098_adding"

	t.Run("postgres", func(t *testing.T) {
		r := &releases{T: t, env: []string{
			"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_ADMIN_PASSWORD=9b1a2c63e7d84f50",
			"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("5d", 32), "PDS_DPOP_SECRET=" + strings.Repeat("5e", 32),
			"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			"PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1", "PORTICO_DATABASE_URL=" + dbtest.EmptyPostgresURL(t),
		}}
		one, two := r.start(binary, t.TempDir()), r.start(binary, t.TempDir())
		r.use(one, two)
		three := r.start(next, t.TempDir())
		r.use(one, three)
		r.use(three, two)
		r.sameEvents(one, two, three)

		one.Kill()
		one, told := r.again(one)
		if !told {
			t.Errorf("it does not tell of what it does not know:\n%s", one.Log())
		}
		r.use(one, three)
		r.use(three, one)
		three.Kill()
		r.use(one, two)
		three, told = r.again(three)
		if told {
			t.Error("the later release tells of steps that it knows")
		}
		r.use(two, three)
		r.sameEvents(one, two, three)

		four := r.start(last, t.TempDir())
		r.use(three, four) // with which it works
		for _, s := range []*launch.Server{one, two} {
			s.Kill()
			r.refused(s, excluded)
		}
		three.Kill()
		three, _ = r.again(three)
		r.use(three, four)
		r.sameEvents(three, four)
	})

	t.Run("sqlite", func(t *testing.T) {
		data := t.TempDir()
		r := &releases{T: t, env: []string{"PDS_INVITE_REQUIRED=false", "PDS_RATE_LIMIT_BYPASS_IPS=127.0.0.1,::1"}}
		one := r.start(binary, data)
		r.use(one, one)
		one.Kill()
		two := r.start(next, data)
		r.use(two, two)
		two.Kill()
		one, told := r.again(one)
		if !told {
			t.Errorf("it does not tell of what it does not know:\n%s", one.Log())
		}
		r.use(one, one)
		r.sameEvents(one)
		one.Kill()
		three := r.start(last, data)
		r.use(three, three)
		three.Kill()
		r.refused(one, excluded)
		two, _ = r.again(two)
		r.use(two, two)
		r.sameEvents(two)
	})

	// A handover to a release leads back to this one where that works with what it made.
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run("handover/"+engine, func(t *testing.T) {
			var env []string
			if engine == "postgres" {
				env = []string{"PORTICO_DATABASE_URL=" + dbtest.EmptyPostgresURL(t), "PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}
			}
			s := newService(t, env...)
			l := &line{address: s.address}
			defer l.hangUp()
			for _, to := range []string{next, binary, last} {
				s.install(to)
				s.handOver(0)
				s.answers(l)
			}
			s.install(binary)
			if _, said := s.handOver(1); !strings.Contains(said, excluded) {
				t.Errorf("it says %s", said)
			}
			s.answers(l) // the one that serves goes on
			s.stop()
		})
	}
}
