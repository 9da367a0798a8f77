package admin_test

import (
	"strings"
	"testing"
	"time"

	"portico/db"
)

// subject is a request about an account.
func (f *fixture) subject(u user, more string) answer {
	f.Helper()
	return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"`+u.did.String()+`"}`+more+`}`)
}

func TestTakedown(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	app := f.accepted(f.serverDo("createAppPassword", `{"name":"phone"}`, alice.access)).text(t, "password")
	f.invite("hers", 1, alice.did.String())
	f.hears("#account active=false status=takendown\n", func() {
		got := f.accepted(f.subject(alice, `,"takedown":{"applied":true,"ref":"case 7"}`)).body
		want := `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + alice.did.String() + `"},"takedown":{"applied":true,"ref":"case 7"}}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	if a := f.account(alice.did); a.TakedownRef == nil || *a.TakedownRef != "case 7" {
		t.Errorf("ref %v", a.TakedownRef)
	}
	// It cannot sign in or go on, its codes are worth nothing, and its name stays its own.
	f.refused(f.signIn("alice.test", goodPassword), 401, "AccountTakedown", "Account has been taken down")
	f.refused(f.signIn("alice.test", app), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.refused(f.post("com.atproto.server.refreshSession", alice.refresh), 401, "AccountTakedown", "Account has been taken down")
	f.refused(f.serverDo("createAppPassword", `{"name":"x"}`, alice.access), 401, "AccountTakedown", "Account has been taken down")
	f.refused(f.send("com.atproto.server.getSession", "", alice.access), 400, "InvalidRequest",
		"Could not find user info for account: "+alice.did.String())
	if err := f.db.InviteAvailable(t.Context(), "hers"); err != db.ErrInviteUnavailable {
		t.Errorf("code of a taken-down account: %v", err)
	}
	f.refused(f.serverDo("createAccount", `{"handle":"alice.test","email":"new@example.com","password":"`+goodPassword+`"}`, ""), 400,
		"HandleNotAvailable", "Handle already taken: alice.test")
	narrow := f.accepted(f.serverDo("createSession", `{"identifier":"alice.test","password":"`+goodPassword+`","allowTakendown":true}`, ""))
	if m := narrow.fields(t); m["active"] != false || m["status"] != "takendown" {
		t.Errorf("session %v", m)
	}

	// Once more, without a reason: the time stands for it.
	f.advance(time.Second)
	f.accepted(f.subject(alice, `,"takedown":{"applied":true}`))
	if a := f.account(alice.did); a.TakedownRef == nil || *a.TakedownRef != "2026-03-01T12:00:01.000Z" {
		t.Errorf("ref %v", *a.TakedownRef)
	}

	f.hears("#account active=true\n", func() { f.accepted(f.subject(alice, `,"takedown":{"applied":false}`)) })
	if a := f.account(alice.did); a.TakedownRef != nil {
		t.Errorf("ref %v", *a.TakedownRef)
	}
	// What the takedown ended stays ended; what lives on by itself works again.
	f.refused(f.post("com.atproto.server.refreshSession", alice.refresh), 400, "ExpiredToken", "Token has been revoked")
	f.accepted(f.send("com.atproto.server.getSession", "", alice.access))
	f.accepted(f.signIn("alice.test", app))
	if err := f.db.InviteAvailable(t.Context(), "hers"); err != nil {
		t.Errorf("code of a restored account: %v", err)
	}
	f.refused(f.post("com.atproto.server.refreshSession", "Bearer "+narrow.text(t, "refreshJwt")), 400, "ExpiredToken", "Token has been revoked")
	const want = "12:00:01 takedown_lifted by admin from 127.0.0.1: \n" +
		"12:00:01 taken_down by admin from 127.0.0.1: 2026-03-01T12:00:01.000Z\n" +
		"12:00:00 signed_in by DID from 127.0.0.1: while taken down\n" +
		"12:00:00 sign_in_failed by stranger from 127.0.0.1: wrong password\n" +
		"12:00:00 taken_down by admin from 127.0.0.1: case 7\n"
	if got := strings.ReplaceAll(f.recorded(alice.did), alice.did.String(), "DID"); !strings.Contains(got, want) {
		t.Errorf("record\n%swant\n%s", got, want)
	}
}

// Row 36 of the differences: lifting a takedown, or one that is not there, revokes
// nothing.
func TestDesign36LiftingATakedownRevokesNothing(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	f.hears("#account active=true\n", func() { f.accepted(f.subject(alice, `,"takedown":{"applied":false}`)) })
	f.accepted(f.post("com.atproto.server.refreshSession", alice.refresh))
}

func TestDeactivation(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	f.advance(time.Second)
	f.hears("#account active=false status=deactivated\n", func() { f.accepted(f.subject(alice, `,"deactivated":{"applied":true}`)) })
	if a := f.account(alice.did); a.DeactivatedAt == nil || a.DeleteAfter != nil {
		t.Errorf("account %+v", a)
	}
	f.accepted(f.send("com.atproto.server.getSession", "", alice.access)) // tokens stay
	f.hears("#account active=true\n#identity handle=alice.test\n#sync\n", func() {
		f.accepted(f.subject(alice, `,"deactivated":{"applied":false}`))
	})
	if a := f.account(alice.did); a.DeactivatedAt != nil {
		t.Errorf("account %+v", a)
	}
	f.refused(f.subject(alice, `,"takedown":{"applied":true},"deactivated":{"applied":false}`), 400, "InvalidRequest",
		"Cannot activate and takedown an account at the same time")
	// Both at once: taken down counts for more.
	f.hears("#account active=false status=takendown\n#account active=false status=takendown\n", func() {
		f.accepted(f.subject(alice, `,"takedown":{"applied":true},"deactivated":{"applied":true}`))
	})
	f.refused(f.subject(alice, `,"deactivated":{"applied":false}`), 400, "AccountNotFound", "user not found")
	f.hears("#account active=false status=deactivated\n#account active=true\n#identity handle=alice.test\n#sync\n", func() {
		f.accepted(f.subject(alice, `,"takedown":{"applied":false},"deactivated":{"applied":false}`))
	})
	// An account whose DID names another server is not switched on here.
	if err := f.db.Write(t.Context(), func(tx *db.Tx) error {
		key, err := tx.SigningKey(t.Context(), alice.did, "atproto")
		if err != nil {
			return err
		}
		key.Public = "did:key:another"
		return tx.PutSigningKey(t.Context(), *key)
	}); err != nil {
		t.Fatal(err)
	}
	f.refused(f.subject(alice, `,"deactivated":{"applied":false}`), 400, "InvalidRequest",
		"DID document verification method does not match expected signing key")
}

func TestSubjects(t *testing.T) {
	f := newFixture(t)
	alice, nobody := f.signUp("alice"), user{did: unknown}
	// Asked for nothing, it says again how the account is.
	f.hears("#account active=true\n", func() { f.accepted(f.subject(alice, "")) })
	const deleted = "#account active=false status=deleted\n"
	f.hears(deleted, func() { f.accepted(f.subject(nobody, "")) })
	f.hears(deleted, func() { f.accepted(f.subject(nobody, `,"takedown":{"applied":true}`)) })
	f.hears(deleted, func() { f.accepted(f.subject(nobody, `,"takedown":{"applied":false}`)) })
	f.refused(f.subject(nobody, `,"deactivated":{"applied":true}`), 400, "InvalidRequest", "Account not found")
	f.refused(f.subject(nobody, `,"deactivated":{"applied":false}`), 400, "AccountNotFound", "user not found")

	record := func(did, more string) answer {
		return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"at://`+did+`/app.bsky.feed.post/abc","cid":"`+cid+`"}`+more+`}`)
	}
	blob := func(did, more string) answer {
		return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":"`+did+`","cid":"`+cid+`"}`+more+`}`)
	}
	f.hears("", func() {
		for _, more := range []string{"", `,"takedown":{"applied":true}`, `,"takedown":{"applied":false}`, `,"deactivated":{"applied":true}`} {
			f.accepted(record(alice.did.String(), more))
			f.accepted(blob(alice.did.String(), more))
		}
		f.refused(record(unknown, `,"takedown":{"applied":true}`), 400, "NotFound", "Repo not found")
		f.refused(record("alice.test", `,"takedown":{"applied":true}`), 400, "NotFound", "Repo not found")
		f.refused(blob(unknown, `,"takedown":{"applied":true}`), 400, "NotFound", "Repo not found")
		f.refused(f.do("updateSubjectStatus", `{"subject":{"$type":"com.example.thing"},"takedown":{"applied":true}}`), 400,
			"InvalidRequest", "Invalid subject (com.example.thing)")
		f.refused(f.do("updateSubjectStatus", `{"subject":{"did":"`+unknown+`"}}`), 400, "InvalidRequest",
			`Expected an object which includes the "$type" property value type (got {"did": ...}) at $.subject`)
	})
	if a := f.account(alice.did); !a.Active() {
		t.Errorf("account %+v", a)
	}
}
