package servertest_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/servertest"
)

// faulty is a server whose connections to Postgres break.
func faulty(t *testing.T, change ...func(*servertest.Options)) (*servertest.Server, *dbtest.Faults) {
	t.Helper()
	faults := dbtest.BreakConnections(t, dbtest.SoundURL(t))
	clock := servertest.NewClock()
	d := dbtest.Postgres(t, func(c *db.Config) { c.URL, c.Now, c.MaxConns = faults.URL, clock.Now, 2 })
	here := func(o *servertest.Options) { o.DB, o.Clock, o.Nodes = d, clock, 1 }
	return servertest.New(t, append([]func(*servertest.Options){here}, change...)...), faults
}

// atEachCommit asks with the connection broken at each COMMIT of that once, before Postgres learns
// of it and after it took place, and then with none that breaks. Each time next makes what is to
// be asked, and what is to be true then.
func atEachCommit(t *testing.T, faults *dbtest.Faults, next func(when string) (ask, check func())) {
	t.Helper()
	for _, done := range []bool{false, true} {
		for at := 1; ; at++ {
			ask, check := next(fmt.Sprintf("COMMIT %d, done %t", at, done))
			faults.Arm(dbtest.Fault{Text: "COMMIT", At: at, Done: done})
			ask()
			broke := faults.Broke()
			faults.Arm()
			check()
			if !broke {
				if at == 1 {
					t.Error("nothing broke")
				}
				break
			}
		}
	}
}

// TestLostCommits: whatever a client asks for is done once, and it is told so, although the
// server lost the database's answer.
func TestLostCommits(t *testing.T) {
	t.Run("sign-up with an invite code", func(t *testing.T) {
		s, faults := faulty(t, func(o *servertest.Options) { o.InviteRequired = true })
		n := 0
		atEachCommit(t, faults, func(when string) (ask, check func()) {
			n++
			var u servertest.User
			name := fmt.Sprint("user", n)
			s.Invite(name, 1, "admin")
			return func() { u = s.SignUpWith(name, name) }, func() {
				if sessions := servertest.Must(s.DB.Sessions(t.Context(), u.DID)); len(sessions) != 1 {
					t.Errorf("%s: %d sessions", when, len(sessions))
				}
				code := servertest.Must(s.DB.InvitesFor(t.Context(), "admin"))
				for _, c := range code {
					if c.Code == name && (len(c.Used) != 1 || c.Used[0].By != u.DID) {
						t.Errorf("%s: the code was used by %v", when, c.Used)
					}
				}
				s.Accepted(s.Get("getSession", u.Access))
				s.Refused(s.Post("createAccount", fmt.Sprintf(`{"handle":"other%d.test","email":"other%d@example.com","password":"a password","inviteCode":%q}`, n, n, name)),
					400, "InvalidInviteCode", "Provided invite code not available")
			}
		})
		if accounts := servertest.Must(s.DB.Accounts(t.Context(), "", 1000)); len(accounts) != n {
			t.Errorf("%d accounts of %d", len(accounts), n)
		}
		inOrder(t, s)
	})
	t.Run("refreshSession", func(t *testing.T) {
		s, faults := faulty(t)
		u := s.SignUp("alice")
		atEachCommit(t, faults, func(when string) (ask, check func()) {
			var a servertest.Answer
			return func() { a = s.Accepted(s.Post("refreshSession", "", u.Refresh)) }, func() {
				u.Access, u.Refresh = servertest.Bearer(a.Text(t, "accessJwt")), servertest.Bearer(a.Text(t, "refreshJwt"))
				if open := servertest.Must(s.DB.OpenSessions(t.Context(), u.DID, s.Now())); len(open) != 1 {
					t.Errorf("%s: %d sessions", when, len(open))
				}
				s.Accepted(s.Get("getSession", u.Access))
			}
		})
	})
	t.Run("the code of an app", func(t *testing.T) {
		s, faults := faulty(t)
		u := s.SignUp("alice")
		n := 0
		atEachCommit(t, faults, func(when string) (ask, check func()) {
			app := s.NewApp("atproto transition:generic")
			code := app.Approve(u, app.Pushed())
			return func() { s.Accepted(app.Redeem(code)) }, func() {
				n++
				if apps := servertest.Must(s.DB.OAuthSessions(t.Context(), u.DID, s.Now())); len(apps) != n {
					t.Errorf("%s: %d apps are let in of %d", when, len(apps), n)
				}
				s.Accepted(app.Get("getSession"))
			}
		})
	})
	t.Run("the refresh token of an app", func(t *testing.T) {
		s, faults := faulty(t)
		u := s.SignUp("alice")
		app := s.NewApp("atproto transition:generic").SignIn(u)
		atEachCommit(t, faults, func(when string) (ask, check func()) {
			return func() { s.Accepted(app.Renew()) }, func() { s.Accepted(app.Get("getSession")) }
		})
	})
	t.Run("a budget", func(t *testing.T) {
		s, faults := faulty(t)
		u := s.SignUp("alice")
		guess := func() servertest.Answer {
			return s.Post("confirmEmail", `{"email":"alice@example.com","token":"AAAAA-AAAAA"}`, u.Access)
		}
		n := 0
		atEachCommit(t, faults, func(string) (ask, check func()) {
			n++
			return func() { s.Refused(guess(), 400, "InvalidToken", "Token is invalid") }, func() {}
		})
		for ; n < 20; n++ {
			faults.Arm(dbtest.Fault{Text: "COMMIT", At: 1, Done: n%2 == 0})
			s.Refused(guess(), 400, "InvalidToken", "Token is invalid")
			if !faults.Broke() {
				t.Error("nothing broke")
			}
		}
		faults.Arm()
		s.Refused(guess(), 429, "RateLimitExceeded", "Rate Limit Exceeded")
	})
	t.Run("createRecord", func(t *testing.T) {
		s, faults := faulty(t, servertest.In("com.atproto.repo"))
		u := s.SignUp("alice")
		before := len(inOrder(t, s))
		var uris []string
		atEachCommit(t, faults, func(when string) (ask, check func()) {
			return func() {
				a := s.Accepted(s.Post("createRecord", fmt.Sprintf(
					`{"repo":%q,"collection":"app.bsky.feed.post","record":{"$type":"app.bsky.feed.post","text":%q,"createdAt":"2026-03-01T12:00:00Z"}}`, u.DID, when), u.Access))
				uris = append(uris, a.Text(t, "uri"))
			}, func() {}
		})
		var list struct{ Records []struct{ URI string } }
		s.Accepted(s.Get("listRecords?reverse=true&collection=app.bsky.feed.post&repo="+u.DID.String())).Decode(t, &list)
		if len(list.Records) != len(uris) {
			t.Errorf("%d records of %d", len(list.Records), len(uris))
		}
		for i, r := range list.Records {
			if i < len(uris) && r.URI != uris[i] {
				t.Errorf("record %d is %s, want %s", i, r.URI, uris[i])
			}
		}
		if events := inOrder(t, s); len(events) != before+len(uris) {
			t.Errorf("%d events of %d", len(events)-before, len(uris))
		}
	})
}

// inOrder returns all events, and checks that their numbers follow each other.
func inOrder(t *testing.T, s *servertest.Server) []db.Event {
	t.Helper()
	events := servertest.Must(s.DB.Events(t.Context(), 0, 1000))
	for i, e := range events {
		if e.Seq != events[0].Seq+int64(i) {
			t.Errorf("event %d has number %d", i, e.Seq)
		}
	}
	return events
}

// TestUnavailable: while the database does not answer, each kind of client is told in its own way to
// come again.
func TestUnavailable(t *testing.T) {
	cable := dbtest.LayCable(t, dbtest.DirectURL(t))
	clock := servertest.NewClock()
	s := servertest.New(t, func(o *servertest.Options) {
		o.Clock, o.Nodes = clock, 1
		o.DB = dbtest.Postgres(t, func(c *db.Config) {
			c.URL, c.Pooled, c.Now, c.Away = cable.URL, false, clock.Now, time.Second
		})
	})
	u := s.SignUp("alice")
	app := s.NewApp("atproto")
	pushed := app.Pushed()
	cable.Cut()
	for late := time.Now().Add(time.Minute); !errors.Is(s.DB.Ping(t.Context()), db.ErrUnavailable); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("the database does not seem to be away")
		}
	}
	const xrpcError = `{"error":"NotEnoughResources","message":`
	for _, tt := range []struct {
		name   string
		ask    func() servertest.Answer
		answer string
	}{
		{"a query", func() servertest.Answer { return s.Get("getSession", u.Access) }, xrpcError},
		{"a procedure", func() servertest.Answer { return s.Post("refreshSession", "", u.Refresh) }, xrpcError},
		{"an endpoint of OAuth", func() servertest.Answer { return app.Push(nil) }, `{"error":"temporarily_unavailable","error_description":"The server is not available just now"}`},
		{"a page", func() servertest.Answer {
			r := httptest.NewRequest("GET", servertest.Endpoint+"/oauth/authorize?client_id="+url.QueryEscape(app.ID)+"&request_uri="+url.QueryEscape(pushed), nil)
			r.Header.Set("Sec-Fetch-Dest", "document")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
			w := httptest.NewRecorder()
			s.Handler.ServeHTTP(w, r)
			return servertest.Answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
		}, "The server can&#39;t do that just now. Try again later."},
	} {
		a := tt.ask()
		if a.Status != 503 || !strings.Contains(a.Body, tt.answer) || a.Header.Get("Retry-After") != "5" {
			t.Errorf("%s: %d, Retry-After %q, %s", tt.name, a.Status, a.Header.Get("Retry-After"), a.Body)
		}
		if strings.Contains(a.Body, "127.0.0.1") {
			t.Errorf("%s tells what is inside: %s", tt.name, a.Body)
		}
	}
	cable.Mend()
}
