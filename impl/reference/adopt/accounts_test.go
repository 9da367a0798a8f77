package adopt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account"
	adoptedsecret "portico/impl/account/adopted"
	"portico/impl/account/token"
	"portico/impl/keyring"
	"portico/impl/mail/emailcode"
	"portico/impl/reference/referencetest"
	"portico/impl/repo/event"
)

// made is when the directory of the tests was made.
var made = time.Date(2026, 11, 28, 14, 53, 22, 73_000_000, time.UTC)

const (
	alice = syntax.DID("did:plc:n7flptxnnur5t4ulmjv3oz37")
	carol = syntax.DID("did:plc:pdjqvg4tyf7ffkhnswvn3t5z")
	dave  = syntax.DID("did:plc:fzwc3uqmrivcpsnmzvhytnxa")
	erin  = syntax.DID("did:plc:xkqxvogam4a76wlqaaemisdn")
	judy  = syntax.DID("did:plc:alt2nolwpvfysopxelbrakx2")
	kim   = syntax.DID("did:plc:u7tyafx2wzkq6ap736h6f2t3")
	heidi = syntax.DID("did:plc:qnet3k2r7qzee4647rwk3jwj")
)

const month = 30 * 24 * time.Hour

// begin makes an adoption of a directory at a time, into a draft.
func begin(t *testing.T, name string, now time.Time) *Adoption {
	t.Helper()
	pds := referencetest.Unpack(t, name)
	blocks := filepath.Join(pds, "blocks")
	l := reference.Layout{
		AccountDB: filepath.Join(pds, "account.sqlite"), SequencerDB: filepath.Join(pds, "sequencer.sqlite"), Actors: filepath.Join(pds, "actors"),
		Blobs: blocks, Temporary: filepath.Join(blocks, "tempt"), Quarantine: filepath.Join(blocks, "quarantine"), Settings: filepath.Join(pds, "pds.env"),
	}
	source, err := reference.Open(t.Context(), l, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	folder := t.TempDir()
	target, err := db.Open(t.Context(), db.Config{
		Dir: folder, Draft: true, Synchronous: "OFF", Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	keys, err := keyring.New(rand.Reader, make([]byte, keyring.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	canary, err := keys.NewCanary()
	if err == nil {
		err = keys.Unlock(canary)
	}
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Time { return now }
	return &Adoption{
		Source: source, Layout: l, Target: target, Folder: folder, Keys: keys, Now: clock, Rand: rand.Reader, DeleteAfterMin: month,
		Tokens: &token.Issuer{Secret: []byte("8b8c5db6e13a84a33641018730c8cccd"), ServiceDID: "did:web:pds.adopt.test", Now: clock, Rand: rand.Reader},
		Log:    slog.New(slog.DiscardHandler), report: new(Report),
	}
}

// expected reads a part of what the reference answered.
func expected[T any](t *testing.T) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(referencetest.Expected(t, referencetest.Stopped), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (a *Adoption) owner(t *testing.T, did syntax.DID) *db.Account {
	t.Helper()
	got, err := a.Target.AccountByDID(t.Context(), did)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Also when it is done twice, as after an interruption, everything is there once.
func TestAccounts(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	for range 2 {
		if err := a.accounts(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []Count{
		{Of: "accounts", Source: 12, Adopted: 12},
		{Of: "app passwords", Source: 6, Dropped: 1, Why: "their accounts are gone", Adopted: 5},
		{Of: "sessions", Source: 24, Adopted: 24},
		{Of: "emailed codes", Source: 5, Adopted: 5},
		{Of: "uses of invite codes", Source: 13, Adopted: 13},
		{Of: "invite codes", Source: 6, Adopted: 6},
		{Of: "reserved keys", Source: 2, Adopted: 2},
	}
	if diff := cmp.Diff(want, a.report.Counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}

	for _, tt := range []struct {
		did           syntax.DID
		handle, email string
		status        string
	}{
		{alice, "alice.pds.adopt.test", "alice@adopt.test", ""},
		{kim, "kim.pds.adopt.test", "", ""}, // signed up without a password, which lost the address
		{dave, "dave.pds.adopt.test", "dave@adopt.test", "deactivated"},
		{erin, "erin.pds.adopt.test", "erin@adopt.test", "takendown"},
		{"did:web:localhost%3A3633", "ivan.pds.adopt.test", "ivan@adopt.test", ""},
	} {
		got := a.owner(t, tt.did)
		if got.Handle.String() != tt.handle || got.Email != tt.email || got.Status() != tt.status {
			t.Errorf("%s: %s, %s, %s", tt.did, got.Handle, got.Email, got.Status())
		}
	}
	if _, err := a.Target.AccountByDID(t.Context(), judy); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("deleted account: %v", err)
	}
	// The time to delete begins anew, since the reference has never done it.
	if got := a.owner(t, dave); got.DeleteAfter == nil || !got.DeleteAfter.Equal(time.Date(2027, 1, 7, 14, 53, 12, 929_000_000, time.UTC)) {
		t.Errorf("dave wished to be deleted later than in 30 days: %v", got.DeleteAfter)
	}
	got := a.owner(t, heidi)
	if got.DeactivatedAt == nil || !got.DeactivatedAt.Equal(got.CreatedAt) || got.DeleteAfter == nil || !got.DeleteAfter.Equal(made.Add(month)) {
		t.Errorf("brought here and never activated: %+v", got)
	}
}

// Every account has its own key, sealed for it.
func TestSigningKeys(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	k, err := a.Target.SigningKey(t.Context(), alice, account.KeyPurpose)
	if err != nil {
		t.Fatal(err)
	}
	private, err := a.Keys.SigningKey(k.Purpose, alice.String(), k.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	public, err := private.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	const want = "did:key:zQ3shugbb6y7gGGJQ3aHU3DX2J5tkTsWNLQVTUHa5bUKvVK2P"
	if k.Public != want || public.DIDKey() != want {
		t.Errorf("key of alice: %s, %s", k.Public, public.DIDKey())
	}
	for id, want := range map[string]string{
		"did:key:zQ3shUGP1Tq4UWpCpeBbHDrpVE3ofessGBYByYyj4sqyLjLrD": "did:key:zQ3shUGP1Tq4UWpCpeBbHDrpVE3ofessGBYByYyj4sqyLjLrD",
		"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa":                          "did:key:zQ3shnohXLbWey3mszksvH3TQB9T67MvdTNjhN79bvL1sAUWL",
	} {
		k, err := a.Target.ReservedKey(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := a.Keys.Open(account.ReservedPurpose, k.ID, k.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := publicKey(raw); err != nil || got != want || k.Public != want || !k.ExpiresAt.Equal(made.Add(7*24*time.Hour)) {
			t.Errorf("reserved for %s: %s, until %s, %v", id, got, k.ExpiresAt, err)
		}
	}
}

// Tokens that came from each other are one session, which ends as a whole, and each
// leads to the one that it has led to.
func TestSessionFamilies(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := expected[struct {
		Accounts []struct {
			Grace *struct{ A, B, C string }
		}
	}](t)
	var jtis []string
	for _, jwt := range []string{e.Accounts[0].Grace.A, e.Accounts[0].Grace.B, e.Accounts[0].Grace.C} {
		c, err := a.Tokens.VerifyRefresh(jwt)
		if err != nil {
			t.Fatal(err)
		}
		jtis = append(jtis, c.ID)
	}
	var rows []*db.Session
	for _, jti := range jtis {
		s, err := a.Target.Session(t.Context(), a.Tokens.HashID(jti))
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, s)
		kept, err := a.Target.AdoptedSecret(t.Context(), alice, db.AdoptedSession, s.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := adoptedsecret.Open(a.Keys, *kept); err != nil || got != jti {
			t.Errorf("kept of %s: %s, %v", jti, got, err)
		}
	}
	for i, next := range rows[1:] {
		if !slices.Equal(rows[i].NextID, next.ID) || rows[i].ExpiresAt.After(made.Add(2*time.Hour)) || rows[i].CreatedAt.After(made) {
			t.Errorf("token %d: %+v, want it to lead to %x", i, rows[i], next.ID)
		}
	}
	if last := rows[2]; last.NextID != nil || !last.CreatedAt.Equal(last.ExpiresAt.Add(-90*24*time.Hour)) {
		t.Errorf("latest token: %+v", last)
	}
	if err := a.Target.Write(t.Context(), func(tx *db.Tx) error { return tx.EndSession(t.Context(), rows[2].ID) }); err != nil {
		t.Fatal(err)
	}
	for i, s := range rows {
		if _, err := a.Target.Session(t.Context(), s.ID); !errors.Is(err, db.ErrNotFound) {
			t.Errorf("token %d goes on after the sign-out: %v", i, err)
		}
	}
}

// What was over before the adoption is not taken along.
func TestExpired(t *testing.T) {
	a := begin(t, referencetest.Stopped, made.Add(16*time.Minute))
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := begin(t, referencetest.Stopped, made.Add(91*24*time.Hour))
	if err := late.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Count{{Of: "emailed codes", Source: 5, Dropped: 5, Why: "they have expired"}} {
		if !slices.Contains(a.report.Counts, want) {
			t.Errorf("a quarter of an hour later: %+v", a.report.Counts)
		}
	}
	if want := (Count{Of: "sessions", Source: 24, Dropped: 24, Why: "they have expired"}); !slices.Contains(late.report.Counts, want) {
		t.Errorf("91 days later: %+v", late.report.Counts)
	}
	n, err := late.Target.CountAdopted(t.Context())
	if err != nil || n.Sessions != 0 || n.Accounts != 12 {
		t.Errorf("rows: %+v, %v", n, err)
	}
}

// A code that was mailed before is as good here as there.
func TestEmailCodes(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	codes := &emailcode.Codes{DB: a.Target, Keys: a.Keys, Now: a.Now}
	acct := a.owner(t, alice)
	row, ok := emailcode.Adopted(a.Keys, emailcode.DeleteAccount, acct, " qcnqi6gn4l ", made, made)
	if !ok {
		t.Fatal("alice's code is none")
	}
	kept, err := codes.DB.EmailCode(t.Context(), "delete_account", alice, row.MAC)
	if err != nil || kept.Email != "alice@adopt.test" || !kept.ExpiresAt.Equal(kept.CreatedAt.Add(15*time.Minute)) {
		t.Errorf("code: %+v, %v", kept, err)
	}
}

// An account whose store is gone is nobody's to lose silently.
func TestBrokenAccounts(t *testing.T) {
	a := begin(t, referencetest.Crashed, made)
	if err := a.accounts(t.Context()); !errors.Is(err, reference.ErrNoStore) || !strings.Contains(err.Error(), carol.String()) {
		t.Fatalf("adopted: %v", err)
	}
	n, err := a.Target.CountAdopted(t.Context())
	if err != nil || n != (db.AdoptedRows{}) {
		t.Errorf("left behind: %+v, %v", n, err)
	}
	a.SkipBroken = true
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Target.AccountByDID(t.Context(), carol); !errors.Is(err, db.ErrNotFound) {
		t.Errorf("carol: %v", err)
	}
	if err := standIn(t.Context(), a, ""); err != nil {
		t.Fatal(err)
	}
	if err := a.events(t.Context()); err != nil {
		t.Fatal(err)
	}
	last, err := a.Target.Events(t.Context(), a.report.LastEvent, 10)
	if err != nil || len(last) != 1 {
		t.Fatalf("appended: %d events, %v", len(last), err)
	}
	if want := event.Account(carol, "deleted"); last[0].Kind != want.Kind || string(last[0].Body) != string(want.Body) {
		t.Errorf("appended: %s %x", last[0].Kind, last[0].Body)
	}
}

// The day of a deletion is as its owner wrote it, and the old server takes days that are in
// no calendar: whoever wrote one keeps nobody from being adopted.
func TestDayOfNoCalendar(t *testing.T) {
	w := &accountWriter{Adoption: &Adoption{DeleteAfterMin: month}, now: made}
	for day, want := range map[string]time.Time{
		"2030-02-30T00:00:00Z": made.Add(month), "0010-01-01T00:00:00Z": made.Add(month),
		"2030-02-28T23:30:00.12345678901234567890+23:30": time.Date(2030, 2, 28, 0, 0, 0, 123456789, time.UTC),
	} {
		got, err := w.account(reference.Actor{DID: string(carol), CreatedAt: "2026-11-28T12:00:00.000Z", DeleteAfter: &day})
		if err != nil || !got.DeleteAfter.Equal(want) {
			t.Errorf("%s: %+v, %v", day, got, err)
		}
	}
}

// standIn stores repositories that stand where relays were told of, but for that of ahead,
// which is one commit further.
func standIn(ctx context.Context, a *Adoption, ahead syntax.DID) error {
	known, err := a.Source.LastRevs(ctx)
	if err != nil {
		return err
	}
	return a.Target.Write(ctx, func(tx *db.Tx) error {
		page, err := tx.Accounts(ctx, "", 100)
		if err != nil {
			return err
		}
		for _, acct := range page {
			r := db.Repo{Rev: known[acct.DID.String()], CommitCID: []byte{1}, CommitBlock: []byte{1}, DataCID: []byte{1}}
			if acct.DID == ahead {
				r.Rev = "3zzzzzzzzzzzz"
				r.CommitCID = slices.Concat([]byte{1, 0x71, 0x12, 32}, digest(r.CommitBlock))
			}
			if err := tx.InsertRepo(ctx, acct.DID, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func digest(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:]
}

// Every frame is the same, byte for byte, under the same number; numbers that were given
// are not given again; and who stands further than its last event is announced.
func TestEvents(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := standIn(t.Context(), a, alice); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.events(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	e := expected[struct {
		Firehose struct {
			Frames []struct {
				Seq    int64
				SHA256 string
			}
		}
	}](t)
	got, err := a.Target.Events(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(e.Firehose.Frames)+1 {
		t.Fatalf("%d events, want %d and one more", len(got), len(e.Firehose.Frames))
	}
	for i, want := range e.Firehose.Frames {
		frame, err := event.Frame(event.Event{Kind: got[i].Kind, Body: got[i].Body, Cut1: got[i].Cut1, Cut2: got[i].Cut2}, got[i].Seq, got[i].Time)
		if err != nil {
			t.Fatal(err)
		}
		if got[i].Seq != want.Seq || hex.EncodeToString(digest(frame)) != want.SHA256 {
			t.Errorf("event %d: got %d %x", want.Seq, got[i].Seq, digest(frame))
		}
	}
	if last := got[len(got)-1]; last.Seq != 89 || last.Kind != "#sync" || last.DID != alice {
		t.Errorf("appended: %+v", last)
	}
	if a.report.LastEvent != 88 {
		t.Errorf("last event of the source: %d", a.report.LastEvent)
	}
}

// Events from before the window stay behind, and who asks for them is told so.
func TestEventWindow(t *testing.T) {
	a := begin(t, referencetest.Stopped, made)
	if err := a.accounts(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := standIn(t.Context(), a, ""); err != nil {
		t.Fatal(err)
	}
	rows := expected[struct {
		Sequence []struct {
			Seq         int64
			SequencedAt time.Time
		}
	}](t).Sequence
	middle := rows[len(rows)/2]
	a.Window = made.Sub(middle.SequencedAt)
	a.report.Counts = []Count{{Of: "events", Source: int64(len(rows))}}
	if err := a.events(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := slices.IndexFunc(rows, func(r struct {
		Seq         int64
		SequencedAt time.Time
	}) bool {
		return !r.SequencedAt.Before(middle.SequencedAt)
	})
	got, err := a.Target.Events(t.Context(), 0, 1000)
	if err != nil || len(got) == 0 || got[0].Seq != rows[kept].Seq {
		t.Fatalf("first event: %v, want %d, %v", got[:min(1, len(got))], rows[kept].Seq, err)
	}
	outdated, err := a.Target.LastOutdated(t.Context())
	if err != nil || outdated != rows[kept-1].Seq {
		t.Errorf("outdated through %d, want %d, %v", outdated, rows[kept-1].Seq, err)
	}
	want := Count{Of: "events", Source: int64(len(rows)), Dropped: int64(kept), Why: "they are older than what is kept", Adopted: int64(len(rows) - kept)}
	if diff := cmp.Diff([]Count{want}, a.report.Counts[:1]); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
}
