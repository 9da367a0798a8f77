package outbox

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/mail"
)

// announce posts a letter without a code that actor causes, and returns the error of that.
func announce(t *testing.T, o *Outbox, actor, to string) error {
	t.Helper()
	ctx := audit.With(t.Context(), audit.Who{Actor: actor, Address: "192.0.2.1"})
	return o.DB.Write(ctx, func(tx *db.Tx) error {
		return o.Post(ctx, tx, alice, mail.KindEmailChanged, brand.EmailChanged(to, "alice.test", o.Now(), false), o.Now().Add(time.Hour))
	})
}

// Letters with codes leave before announcements, and of these no cause's and no
// recipient's pile is before another's letter.
func TestCodesLeaveFirstAndPilesLast(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB, c *clock) {
		s := &sender{}
		o := newOutbox(t, d, s, c.Now)
		for i := range 200 {
			if err := announce(t, o, "did:plc:spammer", fmt.Sprintf("v%d@example.com", i%2)); err != nil && i < 200 {
				t.Fatal(i, err)
			}
		}
		if err := announce(t, o, "did:plc:spammer", "other@example.com"); !errors.Is(err, ErrFull) {
			t.Errorf("letter 201 of one cause: %v", err)
		}
		if err := announce(t, o, audit.Admin, "v0@example.com"); !errors.Is(err, ErrFull) {
			t.Errorf("letter 101 to one recipient: %v", err)
		}
		if err := announce(t, o, "did:plc:bob", "bob@example.com"); err != nil {
			t.Fatal(err)
		}
		post(t, o, "carol@example.com", c.Now().Add(15*time.Minute))
		for range 3 {
			claimed, err := o.claim(t.Context(), 1, 1)
			if err != nil || len(claimed) != 1 {
				t.Fatal(claimed, err)
			}
			o.deliver(t.Context(), claimed[0])
		}
		want := []string{"carol@example.com", "v0@example.com", "bob@example.com"}
		for i, l := range s.sent {
			if l.To != want[i] {
				t.Errorf("letter %d went to %s, want %s", i, l.To, want[i])
			}
		}
	})
}

// However long mail servers take over announcements, a code is sent at once; and who takes
// long over one letter is not given another meanwhile.
func TestSlowMailServersHoldUpNoCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), Synchronous: "OFF", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		talking, most := map[string]int{}, map[string]int{}
		s := &sender{}
		s.reply = func(_ int, l mail.Letter) error {
			s.mu.Lock()
			talking[l.To]++
			most[l.To] = max(most[l.To], talking[l.To])
			s.mu.Unlock()
			if l.To != "carol@example.com" {
				time.Sleep(3 * time.Minute)
			}
			s.mu.Lock()
			talking[l.To]--
			s.mu.Unlock()
			return nil
		}
		o := newOutbox(t, d, s, time.Now)
		for i := range 60 {
			if err := announce(t, o, fmt.Sprintf("did:plc:spammer%d", i%6), fmt.Sprintf("v%d@example.com", i%20)); err != nil {
				t.Fatal(err)
			}
		}
		stop := run(t, o)
		time.Sleep(time.Minute)
		for range 3 {
			began := time.Now()
			id := post(t, o, "carol@example.com", time.Now().Add(15*time.Minute))
			for read(t, o, id).State != "sent" {
				time.Sleep(50 * time.Millisecond)
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the code was sent after %v", took)
			}
		}
		time.Sleep(10 * time.Minute)
		stop()
		for to, n := range most {
			if n > 1 {
				t.Errorf("%d conversations at a time with %s", n, to)
			}
		}
		if s.count() < 3+3*3 {
			t.Errorf("%d letters in ten minutes: announcements have to go on", s.count())
		}
	})
}

// The operator's letters have no bound but that of their recipients.
func TestTheOperatorWritesToAll(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB, c *clock) {
		o := newOutbox(t, d, &sender{}, c.Now)
		for i := range 300 {
			if err := announce(t, o, audit.Admin, fmt.Sprintf("v%d@example.com", i)); err != nil {
				t.Fatal(i, err)
			}
		}
	})
}

// What is kept of an address is the account's: a letter that is over and is about none
// keeps none, nor does its cause.
func TestALetterAboutNoAccountForgetsItsRecipient(t *testing.T) {
	engines(t, func(t *testing.T, d *db.DB, c *clock) {
		fail := &mail.Error{Permanent: true, Code: 550, Said: "no"}
		for state, reply := range map[string]func(int, mail.Letter) error{
			"sent": nil, "failed": func(int, mail.Letter) error { return fail },
			"expired": func(int, mail.Letter) error { return errors.New("down") },
		} {
			o := newOutbox(t, d, &sender{reply: reply}, c.Now)
			ctx := audit.With(t.Context(), audit.Who{Actor: audit.Stranger, Address: "192.0.2.1"})
			err := d.Write(ctx, func(tx *db.Tx) error {
				return o.Post(ctx, tx, "", mail.KindAccountDeleted, brand.AccountDeleted("alice@example.com", "alice.test", c.Now()), c.Now().Add(time.Second))
			})
			if err != nil {
				t.Fatal(err)
			}
			mails, err := o.List(t.Context(), 0, 1)
			if err != nil || mails[0].To != "alice@example.com" || mails[0].Cause == "" || len(mails[0].Cause) != 32 {
				t.Fatalf("queued: %+v, %v", mails, err)
			}
			round(t, o)
			c.Add(time.Minute)
			round(t, o)
			if m := read(t, o, mails[0].ID); m.State != state || m.To != "" {
				t.Errorf("got %+v, want %s", m, state)
			}
		}
	})
}
