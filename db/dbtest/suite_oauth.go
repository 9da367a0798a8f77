package dbtest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func oauthRequest(id, payer string, at time.Time) db.OAuthRequest {
	return db.OAuthRequest{
		ID: []byte(id), Payer: []byte(payer), ClientID: "https://app.test/client.json", ClientKey: "kid ES256 key", DPoPKey: "thumbprint",
		Parameters: `{"scope":"atproto"}`, CreatedAt: at, ExpiresAt: at.Add(5 * time.Minute),
	}
}

func oauthSession(id string, did syntax.DID, at time.Time) db.OAuthSession {
	return db.OAuthSession{
		ID: []byte(id), DID: did, ClientID: "https://app.test/client.json", ClientKey: "kid ES256 key", ClientName: "App", DPoPKey: "thumbprint",
		Scope: "atproto include:com.example.auth", Consented: "repo:com.example.a atproto", Granted: "atproto",
		Token: []byte("token of " + id), TokenExpiresAt: at.Add(30 * time.Minute), Refresh: []byte("refresh of " + id), RefreshExpiresAt: at.Add(time.Hour),
		Code: []byte("code of " + id), CreatedAt: at, UsedAt: at, ExpiresAt: at.Add(life), Address: "192.0.2.1", Agent: "Browser",
	}
}

func (s *suite) oauthRequests() {
	ctx := s.Context()
	s.create(1)
	count := func(payer string, at time.Time) (live, all int) {
		s.Helper()
		s.must(func(tx *db.Tx) (err error) {
			live, all, err = tx.CountOAuthRequests(ctx, []byte(payer), at)
			return err
		})
		return live, all
	}
	insert := func(r db.OAuthRequest) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.InsertOAuthRequest(ctx, r) })
	}
	for i, id := range []string{"a", "b", "c"} {
		insert(oauthRequest(id, "payer of many", start0.Add(time.Duration(i)*time.Second)))
	}
	insert(oauthRequest("d", "", start0))
	bare := oauthRequest("e", "another", start0)
	bare.ClientKey = ""
	insert(bare)
	for _, c := range []struct {
		payer     string
		at        time.Time
		live, all int
	}{
		{"payer of many", start0, 3, 5},
		{"payer of many", start0.Add(5*time.Minute + time.Second), 1, 5},
		{"", start0, 1, 5},
		{"nobody", start0, 0, 5},
	} {
		live, all := count(c.payer, c.at)
		s.equal("requests of "+c.payer, []int{live, all}, []int{c.live, c.all})
	}
	got, err := s.db.OAuthRequest(ctx, []byte("e"))
	s.ok(err)
	s.equal("request", *got, bare)
	_, err = s.db.OAuthRequest(ctx, []byte("x"))
	s.is(err, db.ErrNotFound)

	// One browser has it.
	s.must(func(tx *db.Tx) error { return tx.OpenOAuthRequest(ctx, []byte("a"), []byte("firefox")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.OpenOAuthRequest(ctx, []byte("a"), []byte("firefox")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.OpenOAuthRequest(ctx, []byte("x"), []byte("firefox")) })
	// Who has most loses the oldest that nobody opened.
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.DropOAuthRequest(ctx, 2) })
	s.must(func(tx *db.Tx) error { return tx.DropOAuthRequest(ctx, 1) })
	_, err = s.db.OAuthRequest(ctx, []byte("b"))
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.DropOAuthRequest(ctx, 1) })
	insert(oauthRequest("f", "payer of many", start0.Add(-time.Minute)))
	dropOf := func(payer string, pushed time.Time) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.DropOAuthRequestOf(ctx, []byte(payer), pushed) }
	}
	s.fails(db.ErrNotFound, dropOf("payer of many", start0.Add(-time.Minute-time.Microsecond)))
	s.must(dropOf("payer of many", start0.Add(-time.Minute)))
	_, err = s.db.OAuthRequest(ctx, []byte("f"))
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, dropOf("nobody", start0))

	answered := oauthRequest("a", "payer of many", start0)
	answered.Browser, answered.AnsweredAt, answered.ExpiresAt = []byte("firefox"), new(start0.Add(time.Second)), start0.Add(time.Hour)
	answered.OAuthAnswer = db.OAuthAnswer{
		DID: did(1), ProvedAt: start0, Scope: "atproto", Consented: "atproto", Code: []byte("code"), CodeExpiresAt: start0.Add(time.Minute),
		ClientName: "App", Address: "192.0.2.1", Agent: "Browser",
	}
	other := answered
	other.Browser = []byte("chrome")
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.AnswerOAuthRequest(ctx, &other) })
	gone := answered
	gone.DID = did(9)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.AnswerOAuthRequest(ctx, &gone) })
	s.must(func(tx *db.Tx) error { return tx.AnswerOAuthRequest(ctx, &answered) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.AnswerOAuthRequest(ctx, &answered) })
	got, err = s.db.OAuthRequestByCode(ctx, []byte("code"))
	s.ok(err)
	s.equal("answered request", *got, answered)
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(time.Hour-time.Second)) })
	if _, all := count("", start0); all != 1 {
		s.Errorf("%d requests after the purge, want the answered one", all)
	}
	s.must(func(tx *db.Tx) error { return tx.EndOAuthCodes(ctx, did(1), "https://other.test/client.json") })
	s.must(func(tx *db.Tx) error { return tx.TakeOAuthCode(ctx, []byte("code")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.TakeOAuthCode(ctx, []byte("code")) })
	_, err = s.db.OAuthRequestByCode(ctx, []byte("code"))
	s.is(err, db.ErrNotFound)
	insert(answered)
	s.must(func(tx *db.Tx) error { return tx.EndOAuthCodes(ctx, did(1), "https://app.test/client.json") })
	_, err = s.db.OAuthRequestByCode(ctx, []byte("code"))
	s.is(err, db.ErrNotFound)
}

func (s *suite) oauthSessions() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	insert := func(row db.OAuthSession) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.InsertOAuthSession(ctx, row, 3) })
	}
	ids := func(did syntax.DID, at time.Time) string {
		s.Helper()
		rows, err := s.db.OAuthSessions(ctx, did, at)
		s.ok(err)
		var b strings.Builder
		for _, r := range rows {
			b.Write(r.ID)
		}
		return b.String()
	}
	for i, id := range []string{"a", "b", "c"} {
		insert(oauthSession(id, did(1), start0.Add(time.Duration(i)*time.Second)))
	}
	insert(oauthSession("o", did(2), start0))
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.InsertOAuthSession(ctx, oauthSession("x", did(9), start0), 3) })
	a := oauthSession("a", did(1), start0)
	for _, read := range []func() (*db.OAuthSession, error){
		func() (*db.OAuthSession, error) { return s.db.OAuthSessionByToken(ctx, []byte("token of a")) },
		func() (*db.OAuthSession, error) { return s.db.OAuthSessionByRefresh(ctx, []byte("refresh of a")) },
		func() (*db.OAuthSession, error) { return s.db.OAuthSessionByCode(ctx, []byte("code of a")) },
		func() (*db.OAuthSession, error) { return s.db.OAuthSession(ctx, did(1), []byte("a")) },
	} {
		got, err := read()
		s.ok(err)
		s.equal("session", *got, a)
	}
	for _, read := range []func() error{
		func() error { _, err := s.db.OAuthSessionByToken(ctx, []byte("refresh of a")); return err },
		func() error { _, err := s.db.OAuthSessionByRefresh(ctx, []byte("token of a")); return err },
		func() error { _, err := s.db.OAuthSessionByCode(ctx, []byte("token of a")); return err },
		func() error { _, err := s.db.OAuthSession(ctx, did(2), []byte("a")); return err },
		func() error { _, _, err := s.db.OAuthSessionBySpent(ctx, []byte("refresh of a")); return err },
	} {
		s.is(read(), db.ErrNotFound)
	}

	// Refreshed, 66 times.
	next := a
	for i := range 66 {
		old := next.Refresh
		next.ClientKey, next.Granted, next.Token, next.Refresh = "", "repo:com.example.a atproto", fmt.Append(nil, "token ", i), fmt.Append(nil, "refresh ", i)
		next.Refreshes++
		next.UsedAt = start0.Add(time.Duration(i) * time.Minute)
		next.TokenExpiresAt, next.RefreshExpiresAt, next.ExpiresAt = next.UsedAt.Add(time.Minute), next.UsedAt.Add(2*time.Hour), next.UsedAt.Add(3*time.Hour)
		s.must(func(tx *db.Tx) error { return tx.RefreshOAuthSession(ctx, &next, old) })
		s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.RefreshOAuthSession(ctx, &next, old) })
	}
	got, err := s.db.OAuthSessionByRefresh(ctx, []byte("refresh 65"))
	s.ok(err)
	s.equal("refreshed session", *got, next)
	_, err = s.db.OAuthSessionByToken(ctx, []byte("token 64"))
	s.is(err, db.ErrNotFound)
	for name, known := range map[string]bool{"refresh of a": false, "refresh 0": false, "refresh 1": true, "refresh 64": true, "refresh 65": false} {
		got, at, err := s.db.OAuthSessionBySpent(ctx, []byte(name))
		if !known {
			s.is(err, db.ErrNotFound)
			continue
		}
		s.ok(err)
		s.equal("session of "+name, *got, next)
		if name == "refresh 64" {
			s.equal("when it was exchanged", at, next.UsedAt)
		}
	}

	// The one that was not used for longest goes, and never the new one.
	insert(oauthSession("d", did(1), start0.Add(-time.Hour)))
	s.equal("the latest three", ids(did(1), start0.Add(-2*time.Hour)), "cad")
	s.equal("those that are not over", ids(did(1), start0), "ca")
	s.equal("those of another", ids(did(2), start0), "o")

	// What the account says of its tokens counts.
	update := func(change func(a *db.Account)) {
		s.Helper()
		s.must(func(tx *db.Tx) error {
			a, err := tx.LockAccount(ctx, did(1))
			s.ok(err)
			change(a)
			return tx.UpdateAccount(ctx, a)
		})
	}
	update(func(a *db.Account) { a.TokensValidFrom = start0 })
	s.equal("valid from then", ids(did(1), start0), "ca")
	update(func(a *db.Account) { a.TokensValidFrom = start0.Add(time.Second) })
	s.equal("valid from later", ids(did(1), start0), "c")
	for _, err := range []error{
		func() error { _, err := s.db.OAuthSessionByRefresh(ctx, []byte("refresh 65")); return err }(),
		func() error { _, _, err := s.db.OAuthSessionBySpent(ctx, []byte("refresh 64")); return err }(),
	} {
		s.is(err, db.ErrNotFound)
	}
	update(func(a *db.Account) { a.TakedownRef = new("ref") })
	s.equal("taken down", ids(did(1), start0), "")
	update(func(a *db.Account) { a.TakedownRef = nil })

	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.EndOAuthSession(ctx, did(2), []byte("c")) })
	s.must(func(tx *db.Tx) error { return tx.EndOAuthSession(ctx, did(1), []byte("c")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.EndOAuthSession(ctx, did(1), []byte("c")) })
	none := oauthSession("n", did(2), start0)
	none.ClientKey, none.ClientName, none.Refresh = "", "", nil
	insert(none)
	got, err = s.db.OAuthSessionByToken(ctx, []byte("token of n"))
	s.ok(err)
	s.equal("session without refresh token", *got, none)
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(time.Hour-time.Microsecond)) })
	s.equal("not over", ids(did(2), start0), "no")
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(time.Hour)) })
	s.equal("over", ids(did(2), start0), "")
}

func (s *suite) oauthBrowsers() {
	ctx := s.Context()
	for n := range 4 {
		s.create(n)
	}
	row := func(browser string, n int, at time.Time) db.OAuthRemembered {
		return db.OAuthRemembered{
			Browser: []byte(browser), DID: did(n), CreatedAt: at, ProvedAt: at, ExpiresAt: at.Add(time.Hour), Address: "192.0.2.1", Agent: "Browser",
		}
	}
	remember := func(r db.OAuthRemembered) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.RememberOAuth(ctx, r, 2, 3) })
	}
	list := func(browser string, at time.Time) []db.OAuthRemembered {
		s.Helper()
		all, err := s.db.OAuthRemembered(ctx, []byte(browser), at)
		s.ok(err)
		return all
	}
	at := func(seconds int) time.Time { return start0.Add(time.Duration(seconds) * time.Second) }
	remember(row("firefox", 1, at(0)))
	remember(row("firefox", 2, at(1)))
	again := row("firefox", 1, at(2))
	again.Address, again.Agent = "192.0.2.2", "Other"
	remember(again)
	again.CreatedAt = at(0)
	s.equal("accounts", list("firefox", start0), []db.OAuthRemembered{again, row("firefox", 2, at(1))})
	remember(row("firefox", 3, at(-9)))
	s.equal("the latest two, one of them just now", list("firefox", start0), []db.OAuthRemembered{again, row("firefox", 3, at(-9))})
	s.equal("those that are not over", list("firefox", at(3591)), []db.OAuthRemembered{again})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.RememberOAuth(ctx, row("firefox", 9, at(0)), 2, 3) })
	for i, browser := range []string{"a", "b", "c"} {
		remember(row(browser, 1, at(i-20)))
	}
	s.equal("the browser that was used least lately", len(list("a", start0.Add(-time.Minute))), 0)
	s.equal("one of the latest", len(list("b", start0.Add(-time.Minute))), 1)

	request := oauthRequest("request", "", start0)
	request.Browser = []byte("firefox")
	s.must(func(tx *db.Tx) error { return tx.InsertOAuthRequest(ctx, request) })
	remember(row("new", 2, at(0)))
	s.must(func(tx *db.Tx) error { return tx.MoveOAuthBrowser(ctx, []byte("firefox"), []byte("new")) })
	s.equal("moved from", len(list("firefox", start0)), 0)
	again.Browser = []byte("new")
	s.equal("moved to", list("new", start0), []db.OAuthRemembered{again, row("new", 3, at(-9))})
	moved, err := s.db.OAuthRequest(ctx, []byte("request"))
	s.ok(err)
	s.equal("browser of the request", string(moved.Browser), "new")
	s.must(func(tx *db.Tx) error { return tx.ForgetOAuth(ctx, []byte("new"), did(1)) })
	s.must(func(tx *db.Tx) error { return tx.ForgetOAuth(ctx, []byte("new"), did(1)) })
	s.equal("forgotten", list("new", start0), []db.OAuthRemembered{row("new", 3, at(-9))})
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(2*time.Hour)) })
	s.equal("purged", len(list("new", start0)), 0)
}

func (s *suite) oauthConsents() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	consent := func(n int, client string, at time.Time) db.OAuthConsent {
		return db.OAuthConsent{DID: did(n), ClientID: client, Scope: "atproto", Granted: "atproto", UpdatedAt: at}
	}
	set := func(c db.OAuthConsent) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.SetOAuthConsent(ctx, c, 2) })
	}
	known := func(n int, client string) bool {
		s.Helper()
		_, err := s.db.OAuthConsent(ctx, did(n), client)
		if err != nil {
			s.is(err, db.ErrNotFound)
		}
		return err == nil
	}
	set(consent(1, "a", start0))
	set(consent(1, "b", start0.Add(time.Second)))
	set(consent(2, "a", start0))
	more := consent(1, "a", start0.Add(time.Minute))
	more.Scope, more.Granted = "atproto include:com.example.auth", "repo:com.example.a atproto"
	set(more)
	got, err := s.db.OAuthConsent(ctx, did(1), "a")
	s.ok(err)
	s.equal("consent", *got, more)
	set(consent(1, "c", start0))
	s.equal("the latest two, one of them just now", []bool{known(1, "a"), known(1, "b"), known(1, "c"), known(2, "a")}, []bool{true, false, true, true})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SetOAuthConsent(ctx, consent(9, "a", start0), 2) })
	s.must(func(tx *db.Tx) error { return tx.EndOAuthConsent(ctx, did(1), "a") })
	s.must(func(tx *db.Tx) error { return tx.EndOAuthConsent(ctx, did(1), "a") })
	s.equal("ended", []bool{known(1, "a"), known(1, "c"), known(2, "a")}, []bool{false, true, true})
}

func (s *suite) oauthUsed() {
	ctx := s.Context()
	use := func(id string, at time.Time) func(tx *db.Tx) error {
		return func(tx *db.Tx) error { return tx.UseOAuthOnce(ctx, []byte(id), at, at.Add(time.Minute)) }
	}
	s.must(use("a", start0))
	s.fails(db.ErrStale, use("a", start0))
	s.must(use("b", start0))
	s.fails(db.ErrStale, use("a", start0.Add(time.Minute-time.Microsecond)))
	s.must(use("a", start0.Add(time.Minute))) // over, and not purged
	s.fails(db.ErrStale, use("a", start0.Add(time.Minute)))
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(time.Minute)) })
	s.must(use("b", start0))
	s.fails(db.ErrStale, use("a", start0.Add(time.Minute)))
}

// oauthEnd: whatever ends all sessions of an account ends what OAuth knows of it.
func (s *suite) oauthEnd() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	for name, end := range map[string]func(tx *db.Tx) error{
		"EndSessions":    func(tx *db.Tx) error { return tx.EndSessions(ctx, did(1)) },
		"EndAppSessions": func(tx *db.Tx) error { return tx.EndAppSessions(ctx, did(1)) },
		"EndOAuth":       func(tx *db.Tx) error { return tx.EndOAuth(ctx, did(1)) },
		"DeleteAccount":  func(tx *db.Tx) error { return tx.DeleteAccount(ctx, did(1)) },
	} {
		if _, err := s.db.AccountByDID(ctx, did(1)); err != nil {
			s.create(1)
		}
		for n := 1; n <= 2; n++ {
			id := fmt.Sprint(name, n)
			r := oauthRequest(id, "", start0)
			r.Browser = []byte("browser")
			s.must(func(tx *db.Tx) error {
				if err := tx.InsertOAuthRequest(ctx, r); err != nil {
					return err
				}
				answered := r
				answered.AnsweredAt, answered.DID, answered.Code = new(start0), did(n), []byte(id)
				if err := tx.AnswerOAuthRequest(ctx, &answered); err != nil {
					return err
				}
				if err := tx.InsertOAuthSession(ctx, oauthSession(id, did(n), start0), 9); err != nil {
					return err
				}
				if err := tx.SetOAuthConsent(ctx, db.OAuthConsent{DID: did(n), ClientID: "app", UpdatedAt: start0}, 9); err != nil {
					return err
				}
				return tx.RememberOAuth(ctx, db.OAuthRemembered{Browser: []byte("browser"), DID: did(n), CreatedAt: start0, ProvedAt: start0, ExpiresAt: start0.Add(time.Hour)}, 9, 9)
			})
		}
		s.must(end)
		there := func(n int) []bool {
			_, code := s.db.OAuthRequestByCode(ctx, fmt.Append(nil, name, n))
			_, session := s.db.OAuthSessionByRefresh(ctx, fmt.Append(nil, "refresh of ", name, n))
			_, consent := s.db.OAuthConsent(ctx, did(n), "app")
			remembered := false
			all, err := s.db.OAuthRemembered(ctx, []byte("browser"), start0)
			s.ok(err)
			for _, r := range all {
				remembered = remembered || r.DID == did(n)
			}
			return []bool{code == nil, session == nil, consent == nil, remembered}
		}
		s.equal(name+" of the account", there(1), []bool{false, false, false, false})
		s.equal(name+" of another", there(2), []bool{true, true, true, true})
	}
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.EndOAuth(ctx, did(9)) })
}

func (s *suite) raceOAuth() {
	ctx := s.Context()
	s.create(1)
	for round := range 5 {
		id := fmt.Sprint(round)
		s.must(func(tx *db.Tx) error {
			if err := tx.InsertOAuthRequest(ctx, oauthRequest(id, "", start0)); err != nil {
				return err
			}
			return tx.InsertOAuthSession(ctx, oauthSession(id, did(1), start0), 9)
		})
		for what, c := range map[string]struct {
			lost error
			f    func(tx *db.Tx, i int) error
		}{
			"open": {db.ErrNotFound, func(tx *db.Tx, i int) error { return tx.OpenOAuthRequest(ctx, []byte(id), fmt.Append(nil, i)) }},
			"use":  {db.ErrStale, func(tx *db.Tx, _ int) error { return tx.UseOAuthOnce(ctx, []byte(id), start0, start0.Add(time.Minute)) }},
			"refresh": {db.ErrNotFound, func(tx *db.Tx, i int) error {
				next := oauthSession(id, did(1), start0)
				next.Token, next.Refresh, next.Refreshes = fmt.Append(nil, "token ", id, i), fmt.Append(nil, "refresh ", id, i), 1
				return tx.RefreshOAuthSession(ctx, &next, fmt.Append(nil, "refresh of ", id))
			}},
		} {
			got := s.race(racers, func(ctx context.Context, i int) error {
				return s.db.Write(ctx, func(tx *db.Tx) error { return c.f(tx, i) })
			})
			s.equal(what, got, map[error]int{nil: 1, c.lost: racers - 1})
		}
	}
}
