package operator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/servertest"
)

// Health tells what is wrong now, and what was warned of, each warning once.
func TestGetHealth(t *testing.T) {
	s := newOperator(t)
	const well = `{"version":"test","startedAt":"2026-03-01T12:00:00.000Z","working":true,"warnings":[]}`
	if got := s.Accepted(s.ask("getHealth")).Body; got != well {
		t.Errorf("well: %s", got)
	}
	s.Unwell = errors.New("disk full")
	log := s.Server.Server.Log
	log.Info("nothing to see")
	log.With("did", "did:web:a").Warn("a warning", "n", 1)
	log.Error("an error", "error", errors.New("two\nlines"))
	log.With("did", "did:web:b").WithGroup("g").Warn("a warning", "n", 2)
	var out struct {
		Working  bool
		Problem  string
		Warnings []struct {
			At, Level, Message, Detail string
			Count                      int
		}
	}
	s.Accepted(s.ask("getHealth")).Decode(t, &out)
	if out.Working || out.Problem != "disk full" || len(out.Warnings) != 2 {
		t.Fatalf("unwell: %+v", out)
	}
	for i, want := range []string{"warning a warning (did=did:web:b n=2) 2", `error an error (error="two\nlines") 1`} {
		w := out.Warnings[i]
		if got := fmt.Sprintf("%s %s (%s) %d", w.Level, w.Message, w.Detail, w.Count); got != want || w.At == "" {
			t.Errorf("warning %q at %q, want %q", got, w.At, want)
		}
	}

	// However much is warned of, so much is kept.
	for i := range 300 {
		log.Warn(fmt.Sprintf("warning %d %s", i, strings.Repeat("x", 5000)), "detail", strings.Repeat("é", 5000))
	}
	answer := s.Accepted(s.ask("getHealth"))
	answer.Decode(t, &out)
	if len(out.Warnings) != 100 || !strings.HasPrefix(out.Warnings[0].Message, "warning 299 ") || len(answer.Body) > 200_000 {
		t.Errorf("%d warnings, %d bytes, the first %.20q", len(out.Warnings), len(answer.Body), out.Warnings[0].Message)
	}
}

// The firehose tells who follows it, from where, and how far behind they are and were.
func TestGetFirehose(t *testing.T) {
	s := newOperator(t, func(o *servertest.Options) { o.Firehose, o.TrustedProxies = true, 1 })
	if got := s.Accepted(s.ask("getFirehose")).Body; !strings.HasSuffix(got, `"consumers":[],"history":[]}`) {
		t.Errorf("nobody follows: %s", got)
	}
	s.Sync.Firehose.Look(s.Now())
	s.SignUp("alice")
	last := servertest.Must(s.DB.LastEvent(t.Context()))
	c, _, err := websocket.Dial(t.Context(), strings.Replace(s.URL, "http:", "ws:", 1)+"/xrpc/com.atproto.sync.subscribeRepos?cursor=0",
		&websocket.DialOptions{HTTPHeader: map[string][]string{"X-Forwarded-For": {"192.0.2.9"}}})
	s.Check(err)
	defer c.CloseNow()
	for range last {
		_, _, err := c.Read(t.Context())
		s.Check(err)
	}
	var out struct {
		Last      int64
		Consumers []struct {
			Address, Since string
			Seq, Lag       int64
		}
		History []struct {
			At              string
			Consumers, Most int64
		}
	}
	// What was sent is noted a moment after it was received.
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Millisecond) {
		s.Accepted(s.ask("getFirehose")).Decode(t, &out)
		if len(out.Consumers) == 1 && out.Consumers[0].Lag == 0 {
			break
		}
	}
	if len(out.Consumers) != 1 || out.Last != last || out.Consumers[0].Seq != last || out.Consumers[0].Address != "192.0.2.9" || out.Consumers[0].Since == "" {
		t.Errorf("one follows up to %d: %+v", last, out)
	}
	s.Sync.Firehose.Look(s.Now().Add(time.Minute))
	s.Accepted(s.ask("getFirehose")).Decode(t, &out)
	if h := out.History; len(h) != 2 || h[0].At != "2026-03-01T12:00:00.000Z" || h[0].Consumers != 0 ||
		h[1].At != "2026-03-01T12:01:00.000Z" || h[1].Consumers != 1 || h[1].Most != 0 {
		t.Errorf("history %+v", h)
	}
	for n := range 2000 {
		s.Sync.Firehose.Look(s.Now().Add(time.Duration(n) * time.Minute))
	}
	s.Accepted(s.ask("getFirehose")).Decode(t, &out)
	if len(out.History) != 1440 {
		t.Errorf("%d minutes are remembered, want a day", len(out.History))
	}
}

// Each day is told, with those who signed up on it and are still held.
func TestGetSignUps(t *testing.T) {
	engines(t, func(t *testing.T, s operator) {
		s.SignUp("alice")
		bob := s.SignUp("bob")
		s.Advance(24 * time.Hour)
		carol := s.SignUp("carol")
		dave := s.SignUp("dave")
		s.Write(func(tx *db.Tx) error {
			return tx.Quarantine(t.Context(), db.Quarantined{DID: carol.DID, Rule: db.HeldUntilApproved, State: db.Held, Since: s.Now(), NextAt: s.Now()})
		})
		s.Empty(s.do("com.atproto.admin.deleteAccount", `{"did":"`+bob.DID.String()+`"}`))
		s.Write(func(tx *db.Tx) error {
			return audit.Record(t.Context(), tx, s.Now(), dave.DID, audit.AccountDeleted, "") // one without an address
		})
		s.Advance(24 * time.Hour)
		const want = `{"days":[{"day":"2026-02-28","made":0,"held":0,"deleted":0},{"day":"2026-03-01","made":1,"held":0,"deleted":0},` +
			`{"day":"2026-03-02","made":2,"held":1,"deleted":2},{"day":"2026-03-03","made":0,"held":0,"deleted":0}]}`
		if got := s.Accepted(s.ask("getSignUps?days=4")).Body; got != want {
			t.Errorf("got %s", got)
		}
		var out struct{ Days []struct{ Day string } }
		s.Accepted(s.ask("getSignUps")).Decode(t, &out)
		if len(out.Days) != 30 || out.Days[0].Day != "2026-02-02" {
			t.Errorf("%d days from %v", len(out.Days), out.Days[0])
		}
	})
}
