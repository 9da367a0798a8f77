package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/db"
)

// What happens to the security of an account is recorded with time, actor and
// address, the oldest entry first here, and without a secret.
func TestAudit(t *testing.T) {
	f := newFixture(t, func(o *options) { o.trusted = 1 })
	alice := f.signUp("alice")
	session := append(bearer(alice.access), "X-Forwarded-For", "192.0.2.1")
	from := []string{"X-Forwarded-For", "192.0.2.2"}
	signIn := func(password, more string) answer {
		return f.post("createSession", `{"identifier":"alice.test","password":"`+password+`"`+more+`}`, from...)
	}
	signIn("a wrong password", "")
	f.post("createSession", `{"identifier":"nobody.test","password":"a wrong password"}`, from...)
	f.accepted(signIn(goodPassword, ""))
	app := f.accepted(f.post("createAppPassword", `{"name":"phone"}`, session...)).text(t, "password")
	f.accepted(signIn(app, ""))
	f.accepted(f.post("revokeAppPassword", `{"name":"phone"}`, session...))
	f.accepted(f.post("requestEmailConfirmation", "", session...))
	f.accepted(f.post("confirmEmail", `{"email":"alice@example.com","token":"`+f.code("confirm_email")+`"}`, session...))
	f.accepted(f.post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":true}`, session...))
	signIn(goodPassword, "")
	signIn(goodPassword, `,"authFactorToken":"AAAAA-AAAAA"`)
	f.accepted(signIn(goodPassword, `,"authFactorToken":"`+f.code("sign_in")+`"`))
	f.accepted(f.post("requestEmailUpdate", "", session...))
	f.accepted(f.post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":false,"token":"`+f.code("update_email")+`"}`, session...))
	f.accepted(f.post("requestEmailUpdate", "", session...))
	f.accepted(f.post("updateEmail", `{"email":"alice@example.org","token":"`+f.code("update_email")+`"}`, session...))
	f.clock.advance(time.Second)
	f.accepted(f.post("deactivateAccount", `{}`, session...))
	f.accepted(f.post("activateAccount", "", session...))
	f.accepted(f.post("requestPasswordReset", `{"email":"alice@example.org"}`))
	f.accepted(f.post("resetPassword", `{"token":"`+f.code("reset_password")+`","password":"another good password"}`, from...))
	f.takeDown(alice.did)
	f.accepted(signIn("another good password", `,"allowTakendown":true`))

	const want = `12:00:00 sign_in_failed by stranger from 192.0.2.2: wrong password
12:00:00 signed_in by DID from 192.0.2.2: 
12:00:00 app_password_created by DID from 192.0.2.1: phone
12:00:00 signed_in by DID from 192.0.2.2: app password phone
12:00:00 app_password_revoked by DID from 192.0.2.1: phone
12:00:00 email_confirmed by DID from 192.0.2.1: 
12:00:00 sign_in_code_on by DID from 192.0.2.1: 
12:00:00 sign_in_failed by stranger from 192.0.2.2: wrong sign-in code
12:00:00 signed_in by DID from 192.0.2.2: 
12:00:00 sign_in_code_off by DID from 192.0.2.1: 
12:00:00 email_changed by DID from 192.0.2.1: 
12:00:01 deactivated by DID from 192.0.2.1: 
12:00:01 activated by DID from 192.0.2.1: 
12:00:01 password_changed by stranger from 192.0.2.2: 
12:00:01 signed_in by DID from 192.0.2.2: while taken down
`
	entries, err := f.db.Audit(t.Context(), alice.did, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, e := range entries {
		line := fmt.Sprintf("%s %s by %s from %s: %s\n", e.At.Format("15:04:05"), e.Event, e.Actor, e.Address, e.Detail)
		got = strings.ReplaceAll(line, alice.did.String(), "DID") + got
	}
	if got != want {
		t.Errorf("record\n%swant\n%s", got, want)
	}
	for _, secret := range []string{"password phone " + app, goodPassword, "another good password", app} {
		if strings.Contains(got, secret) {
			t.Errorf("the record has %q", secret)
		}
	}
}

// Wrong passwords are recorded as long as they are counted: nobody fills the disk.
func TestAuditOfWrongPasswordsIsBounded(t *testing.T) {
	f := newFixture(t)
	alice := f.signUp("alice")
	for range 100 {
		f.post("createSession", `{"identifier":"alice.test","password":"a wrong password"}`)
	}
	entries, err := f.db.Audit(t.Context(), alice.did, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(entries); n == 0 || n > 50 {
		t.Errorf("%d entries", n)
	}
	// Of an account that is gone nothing is recorded.
	if err := f.db.Write(t.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(t.Context(), alice.did) }); err != nil {
		t.Fatal(err)
	}
	f.post("createSession", `{"identifier":"`+alice.did.String()+`","password":"a wrong password"}`)
	if entries, err = f.db.Audit(t.Context(), alice.did, 10); err != nil || len(entries) != 0 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}
