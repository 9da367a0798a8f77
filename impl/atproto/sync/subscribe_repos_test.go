package sync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/coder/websocket"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/account"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/firehose"
	"portico/impl/servertest"
)

func streaming(o *servertest.Options) { o.Firehose, o.Namespace = true, "com.atproto.sync" }

// A consumer is a relay that reads the firehose with indigo's decoder.
type consumer struct {
	testing.TB
	conn *websocket.Conn
	last int64
}

// subscribe opens a websocket. query is "" or "?cursor=…".
func subscribe(t testing.TB, s *servertest.Server, query string) *consumer {
	t.Helper()
	url := strings.Replace(s.URL, "http:", "ws:", 1) + "/xrpc/com.atproto.sync.subscribeRepos" + query
	conn, _, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(5 << 20)
	t.Cleanup(func() { conn.CloseNow() })
	return &consumer{TB: t, conn: conn}
}

// A message is an event with what tests look at.
type message struct {
	kind string // "#commit" …
	seq  int64
	did  string
	text string // what it says, without what differs from run to run

	commit *comatproto.SyncSubscribeRepos_Commit
}

// frame reads the next frame. A closed connection is an error with its code and reason.
func (c *consumer) frame() ([]byte, error) {
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	defer cancel()
	kind, b, err := c.conn.Read(ctx)
	if err == nil && kind != websocket.MessageBinary {
		err = fmt.Errorf("message of type %v", kind)
	}
	return b, err
}

// next is the next event.
func (c *consumer) next() message {
	c.Helper()
	b, err := c.frame()
	if err != nil {
		c.Fatal(err)
	}
	e, err := decode(b)
	if err != nil {
		c.Fatalf("%v: %x", err, b)
	}
	if e.kind != "#info" && e.seq <= c.last {
		c.Errorf("event %d after %d", e.seq, c.last)
	}
	c.last = max(c.last, e.seq)
	return e
}

// texts are the next n events of a DID.
func (c *consumer) texts(n int, did syntax.DID) (texts []string) {
	c.Helper()
	for range n {
		e := c.next()
		if e.did != did.String() {
			c.Errorf("%s of %s, want one of %s", e.text, e.did, did)
		}
		texts = append(texts, e.text)
	}
	return texts
}

// refused reads an error frame and the end of the connection.
func (c *consumer) refused(body map[string]any, code websocket.StatusCode, reason string) {
	c.Helper()
	b, err := c.frame()
	if err != nil {
		c.Fatal(err)
	}
	want := append([]byte("\xa1bop\x20"), servertest.Must(dagcbor.Marshal(body))...)
	if !bytes.Equal(b, want) {
		c.Errorf("%q, want %q", b, want)
	}
	c.ended(code, reason)
}

func (c *consumer) ended(code websocket.StatusCode, reason string) {
	c.Helper()
	b, err := c.frame()
	var end websocket.CloseError
	if !errors.As(err, &end) || end.Code != code || end.Reason != reason {
		c.Errorf("%q, %v; want the end with %d %q", b, err, code, reason)
	}
}

func decode(b []byte) (e message, err error) {
	r := bytes.NewReader(nil)
	for _, kind := range []string{"#commit", "#sync", "#identity", "#account", "#info"} {
		header := servertest.Must(dagcbor.Marshal(map[string]any{"op": 1, "t": kind}))
		if body, ok := bytes.CutPrefix(b, header); ok {
			e.kind, r = kind, bytes.NewReader(body)
		}
	}
	var at string
	switch e.kind {
	case "#commit":
		m := new(comatproto.SyncSubscribeRepos_Commit)
		err = m.UnmarshalCBOR(r)
		if err == nil && m.PrevData != nil {
			_, err = repo.VerifyCommitMessage(context.Background(), m)
		}
		var ops []string
		for _, op := range m.Ops {
			ops = append(ops, op.Action+" "+op.Path)
		}
		e.seq, e.did, e.text, e.commit, at = m.Seq, m.Repo, fmt.Sprint("#commit ", ops), m, m.Time
	case "#sync":
		var m comatproto.SyncSubscribeRepos_Sync
		err = m.UnmarshalCBOR(r)
		e.seq, e.did, e.text, at = m.Seq, m.Did, "#sync", m.Time
	case "#identity":
		var m comatproto.SyncSubscribeRepos_Identity
		err = m.UnmarshalCBOR(r)
		handle := "none"
		if m.Handle != nil {
			handle = *m.Handle
		}
		e.seq, e.did, e.text, at = m.Seq, m.Did, "#identity "+handle, m.Time
	case "#account":
		var m comatproto.SyncSubscribeRepos_Account
		err = m.UnmarshalCBOR(r)
		status := ""
		if m.Status != nil {
			status = " " + *m.Status
		}
		e.seq, e.did, e.text, at = m.Seq, m.Did, fmt.Sprint("#account ", m.Active, status), m.Time
	case "#info":
		var m comatproto.SyncSubscribeRepos_Info
		err = m.UnmarshalCBOR(r)
		return message{kind: "#info", text: "#info " + m.Name + ": " + *m.Message}, err
	default:
		return e, errors.New("a frame of no known kind")
	}
	if _, bad := syntax.ParseDatetime(at); err == nil {
		err = bad
	}
	if err == nil && r.Len() > 0 {
		err = fmt.Errorf("%d bytes behind the body", r.Len())
	}
	return e, err
}

// What each action tells the network, in the order in which it does.
func TestEventsOfActions(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		c := subscribe(t, s, "?cursor=0")
		var u servertest.User
		expect := func(action string, want ...string) {
			t.Helper()
			if got := c.texts(len(want), u.DID); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", action, got, want)
			}
		}
		u = s.SignUp("alice")
		expect("sign-up", "#identity alice.test", "#account true", "#commit []", "#sync")

		write := func(method, more string) {
			t.Helper()
			s.Accepted(s.Post("com.atproto.repo."+method, `{"repo":"`+u.DID.String()+`",`+more+`}`, u.Access))
		}
		const at, record = `"collection":"com.example.entry","rkey":"a"`, `"record":{"$type":"com.example.entry","n":1}`
		write("createRecord", at+","+record)
		expect("createRecord", "#commit [create com.example.entry/a]")
		write("putRecord", at+`,"record":{"$type":"com.example.entry","n":2}`)
		expect("putRecord", "#commit [update com.example.entry/a]")
		write("putRecord", at+`,"record":{"$type":"com.example.entry","n":2}`) // nothing changes
		op := func(kind, key, more string) string {
			return `{"$type":"com.atproto.repo.applyWrites#` + kind + `","collection":"com.example.entry","rkey":"` + key + `"` + more + `}`
		}
		const value = `,"value":{"$type":"com.example.entry","n":3}`
		write("applyWrites", `"writes":[`+op("create", "b", value)+","+op("delete", "a", "")+","+op("create", "c", value)+`]`)
		// It replaces all records, and of those what is created comes first.
		expect("applyWrites", "#commit [create com.example.entry/c create com.example.entry/b delete com.example.entry/a]")
		write("applyWrites", `"writes":[`+op("delete", "b", "")+","+op("create", "b", value)+`]`) // R1: nothing changes
		write("applyWrites", `"writes":[`+op("create", "d", value)+","+op("delete", "d", "")+`]`) // R2: the same
		write("applyWrites", `"writes":[]`)                                                       // R3: the same
		write("applyWrites", `"writes":[`+op("update", "b", value)+`]`)                           // R4: the same
		write("deleteRecord", at)                                                                 // is not there
		write("deleteRecord", `"collection":"com.example.entry","rkey":"b"`)
		expect("deleteRecord", "#commit [delete com.example.entry/b]")
		s.Accepted(s.Post("com.atproto.repo.uploadBlob", "a blob", u.Access, "Content-Type: text/plain"))

		s.Empty(s.Post("com.atproto.identity.updateHandle", `{"handle":"alicia.test"}`, u.Access))
		expect("change of the handle", "#identity alicia.test")
		u.Handle = "alicia.test"

		s.Empty(s.Post("com.atproto.server.deactivateAccount", `{}`, u.Access))
		expect("deactivation", "#account false deactivated")
		s.Empty(s.Post("com.atproto.server.activateAccount", ``, u.Access))
		expect("activation", "#account true", "#identity alicia.test", "#sync")

		subject := func(more string) string {
			return `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + u.DID.String() + `"}` + more + `}`
		}
		admin := func(more string) {
			s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus", subject(more), servertest.Admin))
		}
		admin(`,"takedown":{"applied":true,"ref":"x"}`)
		expect("takedown", "#account false takendown")
		admin(`,"deactivated":{"applied":true}`)
		expect("deactivation of one that is taken down", "#account false takendown")
		admin(`,"takedown":{"applied":false}`)
		expect("end of the takedown", "#account false deactivated")
		admin(`,"deactivated":{"applied":false}`)
		expect("activation by the operator", "#account true", "#identity alicia.test", "#sync")
		s.Accepted(s.Post("com.atproto.admin.updateSubjectStatus", `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"at://`+u.DID.String()+
			`/com.example.entry/c","cid":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"takedown":{"applied":true}}`, servertest.Admin))
		admin(``)
		expect("a status of which nothing is said", "#account true")

		// What tells nothing: the next event is that of bob's sign-up.
		alice := u
		s.Accepted(s.Get("com.atproto.server.getSession", u.Access))
		u = s.SignUp("bob")
		expect("sign-up", "#identity bob.test", "#account true", "#commit []", "#sync")

		s.Accepted(s.Post("com.atproto.admin.deleteAccount", `{"did":"`+u.DID.String()+`"}`, servertest.Admin))
		expect("deletion", "#account false deleted")

		// Whoever comes later learns no more of bob than that, wherever that is known.
		log, err := s.DB.Events(t.Context(), 0, 1000)
		s.Check(err)
		for _, e := range log {
			if e.DID == u.DID && e.Seq != c.last {
				t.Errorf("in the log of bob: %d %s", e.Seq, e.Kind)
			}
		}
		heard := errors.New("heard")
		for _, n := range s.Nodes() {
			before := c.last - 1
			err := n.Sync.Firehose.Follow(t.Context(), &before, func(context.Context, []byte) error { return heard })
			if err != heard {
				t.Errorf("of the deletion: %v", err)
			}
		}
		late, found := subscribe(t, s, "?cursor=0"), []string{}
		for e := late.next(); ; e = late.next() {
			if e.did != alice.DID.String() {
				found = append(found, e.text)
			}
			if e.seq == c.last {
				break
			}
		}
		if !slices.Equal(found, []string{"#account false deleted"}) {
			t.Errorf("left of bob: %q", found)
		}
	}, streaming)
}

// A cursor is where a consumer goes on.
func TestCursors(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		s.SignUp("alice") // 1 to 4
		for _, tt := range []struct {
			query string
			want  int64 // the first event
		}{
			{"?cursor=0", 1}, {"?cursor=-5", 1}, {"?cursor=2", 3},
		} {
			c := subscribe(t, s, tt.query)
			for want := tt.want; want <= 4; want++ {
				if e := c.next(); e.seq != want {
					t.Errorf("%q: event %d, want %d", tt.query, e.seq, want)
				}
			}
		}
		subscribe(t, s, "?cursor=5").refused(map[string]any{"error": "FutureCursor", "message": "Cursor in the future."},
			websocket.StatusPolicyViolation, "FutureCursor")
		subscribe(t, s, "?cursor=x").refused(map[string]any{"error": "InvalidRequest", "message": `Invalid com.atproto.sync.subscribeRepos params: Expected integer value type (got "x")`},
			websocket.StatusPolicyViolation, "InvalidRequest")
		at, now := subscribe(t, s, "?cursor=4"), subscribe(t, s, "")
		s.SignUp("bob") // 5 to 8
		if e := at.next(); e.seq != 5 {
			t.Errorf("from the last on: event %d", e.seq)
		}
		// Without a cursor what comes from now on, which is some time after the upgrade.
		heard := make(chan int64, 1)
		go func() {
			b, _ := now.frame()
			e, _ := decode(b)
			heard <- e.seq
		}()
		for n := 0; ; n++ {
			s.SignUp(fmt.Sprint("other", n))
			select {
			case seq := <-heard:
				if seq <= 4 {
					t.Errorf("without a cursor: event %d", seq)
				}
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}, streaming)
}

// Events that are older than the window are gone, and whoever would need them is told.
func TestOutdatedCursor(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		s.SignUp("alice") // 1 to 4
		s.Advance(time.Hour)
		s.SignUp("bob") // 5 to 8
		s.Check(firehose.DropBefore(t.Context(), s.DB, s.Now()))
		const info = "#info OutdatedCursor: Requested cursor exceeded limit. Possibly missing events"
		for _, query := range []string{"?cursor=0", "?cursor=3"} {
			c := subscribe(t, s, query)
			if e := c.next(); e.text != info {
				t.Errorf("%s: %s", query, e.text)
			}
			if e := c.next(); e.seq != 5 {
				t.Errorf("%s: event %d", query, e.seq)
			}
		}
		if e := subscribe(t, s, "?cursor=4").next(); e.seq != 5 {
			t.Errorf("at the edge: event %d, %s", e.seq, e.text)
		}
		// With nothing left a cursor is no less outdated, and live events come.
		s.Advance(time.Hour)
		s.Check(firehose.DropBefore(t.Context(), s.DB, s.Now()))
		c := subscribe(t, s, "?cursor=7")
		if e := c.next(); e.text != info {
			t.Error(e.text)
		}
		live := subscribe(t, s, "?cursor=8")
		s.SignUp("carol")
		for _, c := range []*consumer{c, live} {
			if e := c.next(); e.seq != 9 {
				t.Errorf("event %d, %s", e.seq, e.text)
			}
		}
	}, streaming)
}

// Whoever reads what was while more is written gets all of it once, in order.
func TestBackfillBecomesLive(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		s.TB = t
		const writers, each, consumers = 4, 150, 6
		alice := s.SignUp("alice")
		add := func(ctx context.Context) error {
			return s.DB.Write(ctx, func(tx *db.Tx) error {
				return tx.AppendEvents(ctx, identity(alice.DID), identity(alice.DID))
			})
		}
		for range 600 {
			s.Check(add(t.Context()))
		}
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				for range each {
					if err := add(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		const last = 4 + 2*(600+writers*each)
		for i := range consumers {
			c := subscribe(t, s, fmt.Sprintf("?cursor=%d", i*200))
			all.Go(func() {
				for want := int64(i*200 + 1); want <= last; want++ {
					b, err := c.frame()
					if err != nil {
						t.Error(err)
						return
					}
					if e, err := decode(b); err != nil || e.seq != want {
						t.Errorf("consumer %d: event %d, %v; want %d", i, e.seq, err, want)
						return
					}
				}
			})
		}
		all.Wait()
	}, streaming)
}

// The status of this host is told, and of no other.
func TestGetHostStatus(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.sync"))
	for _, tt := range []struct{ host, want string }{
		{"pds.test", `{"hostname":"pds.test","seq":0,"accountCount":0,"status":"active"}`},
		{"PDS.test", `{"hostname":"pds.test","seq":0,"accountCount":0,"status":"active"}`},
	} {
		if a := s.Accepted(s.Get("getHostStatus?hostname="+tt.host, "")); a.Body != tt.want {
			t.Errorf("%s: %s", tt.host, a.Body)
		}
	}
	s.SignUp("alice")
	s.Advance(time.Minute)
	if a := s.Accepted(s.Get("getHostStatus?hostname=pds.test", "")); a.Body != `{"hostname":"pds.test","seq":4,"accountCount":1,"status":"active"}` {
		t.Error(a.Body)
	}
	// To count costs, so that it is not done for each who asks.
	s.SignUp("bob")
	if a := s.Accepted(s.Get("getHostStatus?hostname=pds.test", "")); a.Body != `{"hostname":"pds.test","seq":8,"accountCount":1,"status":"active"}` {
		t.Error(a.Body)
	}
	s.Refused(s.Get("getHostStatus?hostname=elsewhere.test", ""), 400, "HostNotFound", "Host not found")
	s.Refused(s.Get("getHostStatus", ""), 400, "InvalidRequest", `Invalid com.atproto.sync.getHostStatus params: Missing required key "hostname"`)
}

func identity(did syntax.DID) db.Event { return account.Events(did, event.Identity(did, ""))[0] }

// What lies between the commit of an event and its frame at a consumer.
func BenchmarkCommitToFrame(b *testing.B) {
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			s := servertest.New(b, streaming, func(o *servertest.Options) {
				if engine == "postgres" {
					o.DB = dbtest.Postgres(b)
				}
			})
			c := subscribe(b, s, "?cursor=0")
			did := syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
			var delays []time.Duration
			for b.Loop() {
				s.Write(func(tx *db.Tx) error { return tx.AppendEvents(b.Context(), identity(did)) })
				committed := time.Now()
				c.next()
				delays = append(delays, time.Since(committed))
			}
			slices.Sort(delays)
			b.ReportMetric(float64(delays[len(delays)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(delays[len(delays)*99/100].Microseconds()), "p99-µs")
		})
	}
}
