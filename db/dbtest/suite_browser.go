package dbtest

import (
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

func browserSession(id string, did syntax.DID, at time.Time) db.BrowserSession {
	kind := db.BrowserOfAccount
	if did == "" {
		kind = db.BrowserOfConsole
	}
	return db.BrowserSession{
		ID: []byte(id), Kind: kind, DID: did, CreatedAt: at, SeenAt: at, ProvedAt: at, ExpiresAt: at.Add(time.Hour), Address: "192.0.2.1", Agent: "Browser", Bound: []byte("bond"),
	}
}

func (s *suite) browserSessions() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	insert := func(row db.BrowserSession) {
		s.Helper()
		s.must(func(tx *db.Tx) error { return tx.InsertBrowserSession(ctx, row, 3) })
	}
	ids := func(did syntax.DID) string {
		s.Helper()
		kind := db.BrowserOfAccount
		if did == "" {
			kind = db.BrowserOfConsole
		}
		rows, err := s.db.BrowserSessions(ctx, kind, did)
		s.ok(err)
		var b strings.Builder
		for _, r := range rows {
			b.Write(r.ID)
		}
		return b.String()
	}
	for i, id := range []string{"a", "b", "c", "d"} {
		at := start0.Add(time.Duration(i) * time.Second)
		insert(browserSession(id, did(1), at))
		insert(browserSession("x"+id, "", at))
	}
	insert(browserSession("o", did(2), start0))
	s.equal("the latest three", ids(did(1)), "dcb")
	s.equal("the latest three of the console", ids(""), "xdxcxb")
	for _, id := range []string{"m", "n"} {
		insert(browserSession(id, did(1), start0.Add(-time.Hour)))
		s.equal("the one just opened, when the clock was set back", ids(did(1)), "dcb"+id)
	}
	s.must(func(tx *db.Tx) error { return tx.EndBrowserSession(ctx, []byte("n")) })
	one, err := s.db.BrowserSession(ctx, []byte("d"))
	s.ok(err)
	s.equal("session", *one, browserSession("d", did(1), start0.Add(3*time.Second)))
	_, err = s.db.BrowserSession(ctx, []byte("a"))
	s.is(err, db.ErrNotFound)
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.InsertBrowserSession(ctx, browserSession("e", did(9), start0), 3) })

	later := start0.Add(time.Minute)
	s.must(func(tx *db.Tx) error { return tx.SeeBrowserSession(ctx, []byte("d"), later, later.Add(time.Hour)) })
	one, err = s.db.BrowserSession(ctx, []byte("d"))
	s.ok(err)
	s.equal("seen", []time.Time{one.SeenAt, one.ExpiresAt}, []time.Time{later, later.Add(time.Hour)})
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.SeeBrowserSession(ctx, []byte("a"), later, later) })
	s.must(func(tx *db.Tx) error { return tx.EndBrowserSession(ctx, []byte("b")) })
	s.fails(db.ErrNotFound, func(tx *db.Tx) error { return tx.EndBrowserSession(ctx, []byte("b")) })
	s.must(func(tx *db.Tx) error { return tx.EndBrowserSessionOf(ctx, did(1), []byte("o")) })
	s.equal("that of another", ids(did(2)), "o")
	s.must(func(tx *db.Tx) error { return tx.EndBrowserSessionOf(ctx, did(2), []byte("o")) })
	s.equal("its own", ids(did(2)), "")
	s.must(func(tx *db.Tx) error { return tx.EndOtherBrowserSessions(ctx, db.BrowserOfConsole, "", []byte("xc")) })
	s.equal("the others of the console", ids(""), "xc")
	s.must(func(tx *db.Tx) error {
		return tx.EndOtherBrowserSessions(ctx, db.BrowserOfAccount, did(1), []byte("d"))
	})
	s.equal("the others of an account", ids(did(1)), "d")
	insert(browserSession("o", did(2), start0))
	s.must(func(tx *db.Tx) error { return tx.EndSessions(ctx, did(1)) })
	s.equal("all sessions", ids(did(1)), "")
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(time.Hour)) })
	s.equal("over", ids(did(2)), "")
	s.equal("not over", ids(""), "xc")
	s.must(func(tx *db.Tx) error { return tx.EndOtherBrowserSessions(ctx, db.BrowserOfConsole, "", nil) })
	s.equal("all of the console", ids(""), "")
}

func (s *suite) openSessions() {
	ctx := s.Context()
	s.create(1)
	s.create(2)
	origin := db.SessionOrigin{DID: did(1), Family: []byte("a"), OpenedAt: start0, Address: "192.0.2.1", Agent: "App"}
	s.must(func(tx *db.Tx) error {
		row := db.Session{ID: []byte("a"), DID: did(1), AppPassword: new("app"), CreatedAt: start0, ExpiresAt: start0.Add(life)}
		if err := tx.InsertSession(ctx, row); err != nil {
			return err
		}
		return tx.InsertSessionOrigin(ctx, origin)
	})
	s.insertSession("old", did(1)) // from before origins were kept
	at := start0.Add(time.Minute)
	_, err := s.rotate("a", "b", at)
	s.ok(err)
	list := func(now time.Time) []db.OpenSession {
		s.Helper()
		all, err := s.db.OpenSessions(ctx, did(1), now)
		s.ok(err)
		return all
	}
	app := db.OpenSession{Family: []byte("a"), AppPassword: new("app"), OpenedAt: start0, UsedAt: at, Address: "192.0.2.1", Agent: "App"}
	old := db.OpenSession{Family: []byte("old"), OpenedAt: start0, UsedAt: start0}
	s.equal("open sessions", list(at), []db.OpenSession{app, old})
	// Of the first of the family nothing is left, and its origin stays.
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, at.Add(grace)) })
	s.equal("after the grace", list(at.Add(grace))[0], app)
	long := db.Session{ID: []byte("long"), DID: did(1), CreatedAt: start0, ExpiresAt: start0.Add(200 * 24 * time.Hour)}
	s.must(func(tx *db.Tx) error {
		if err := tx.InsertSession(ctx, long); err != nil {
			return err
		}
		return tx.InsertSessionOrigin(ctx, db.SessionOrigin{DID: did(1), Family: long.ID, OpenedAt: start0, Address: "192.0.2.2", Agent: "App"})
	})
	s.must(func(tx *db.Tx) error { return tx.Purge(ctx, start0.Add(90*24*time.Hour)) })
	s.equal("after 90 days", list(start0.Add(100*24*time.Hour)), []db.OpenSession{
		{Family: long.ID, OpenedAt: start0, UsedAt: start0, Agent: "App"},
	})
	s.must(func(tx *db.Tx) error { return tx.EndFamily(ctx, did(2), []byte("a")) })
	s.must(func(tx *db.Tx) error { return tx.EndFamily(ctx, did(1), []byte("a")) })
	s.must(func(tx *db.Tx) error { return tx.EndAppSessions(ctx, did(1)) })
	s.equal("none are left", len(list(start0)), 0)
	for _, f := range []func(tx *db.Tx) error{
		func(tx *db.Tx) error { return tx.EndFamily(ctx, did(9), []byte("a")) },
		func(tx *db.Tx) error { return tx.EndAppSessions(ctx, did(9)) },
	} {
		s.fails(db.ErrNotFound, f)
	}
}
