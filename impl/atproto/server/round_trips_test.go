package server_test

import (
	"fmt"
	"math"
	"testing"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/servertest"
)

// TestRoundTripsOfRequests on the wire between the server and Postgres, the check of the
// caller's account, BEGIN and COMMIT included, on connections that know their statements.
func TestRoundTripsOfRequests(t *testing.T) {
	count := dbtest.CountRoundTrips(t, dbtest.SoundURL(t))
	f := servertest.New(t, func(o *servertest.Options) {
		o.Clock, o.TrustedProxies = servertest.NewClock(), 1
		o.DB = dbtest.Postgres(t, func(c *db.Config) {
			c.URL, c.Now, c.MaxConns = count.URL, o.Clock.Now, 1
		})
	})
	u := f.SignUp("alice")
	refresh := func(address string) {
		a := f.Accepted(f.Post("refreshSession", "", u.Refresh, "X-Forwarded-For: "+address))
		u.Refresh = servertest.Bearer(a.Text(t, "refreshJwt"))
	}
	places := 0
	post := func(collection, record string) {
		f.Accepted(f.Post("com.atproto.repo.createRecord", fmt.Sprintf(
			`{"repo":%q,"collection":%q,"record":%s}`, u.DID, collection, record), u.Access))
	}
	for _, tt := range []struct {
		name string
		do   func()
		want int
	}{
		{"getSession", func() { f.Accepted(f.Get("getSession", u.Access)) }, 1},
		{"refreshSession", func() { refresh("192.0.2.1") }, 2},
		{"refreshSession from a new address", func() {
			places++
			refresh(fmt.Sprint("198.51.100.", places))
		}, 2},
		{"createRecord", func() {
			post("app.bsky.feed.post", `{"$type":"app.bsky.feed.post","text":"x","createdAt":"2026-03-01T12:00:00Z"}`)
		}, 3},
		{"createRecord of a like", func() {
			post("app.bsky.feed.like", `{"$type":"app.bsky.feed.like","createdAt":"2026-03-01T12:00:00Z","subject":{`+
				`"uri":"at://did:plc:z72i7hdynmk6r22z27h6tvur/app.bsky.feed.post/3k4duaz5vfs2b",`+
				`"cid":"bafyreibjifzpqj6o6wcq3hejh7y4z4z2vmiklkvykc57tw3pcbx3kxifpm"}}`)
		}, 5},
	} {
		// The driver asks a connection that was idle for a second whether it is there, so on a
		// slow machine there may be more once in a while.
		least := math.MaxInt
		for range 8 {
			count.Take()
			tt.do()
			least = min(least, count.Take())
		}
		if least != tt.want {
			t.Errorf("%s: %d round trips, want %d", tt.name, least, tt.want)
		}
	}
}
