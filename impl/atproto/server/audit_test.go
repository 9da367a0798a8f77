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
	f := newFixture(t, func(o *options) { o.TrustedProxies = 1 })
	alice := f.SignUp("alice")
	session := []string{alice.Access, "X-Forwarded-For: 192.0.2.1"}
	const from = "X-Forwarded-For: 192.0.2.2"
	signIn := func(password, more string) answer {
		return f.Post("createSession", `{"identifier":"alice.test","password":"`+password+`"`+more+`}`, from)
	}
	signIn("a wrong password", "")
	f.Post("createSession", `{"identifier":"nobody.test","password":"a wrong password"}`, from)
	f.Accepted(signIn(goodPassword, ""))
	app := f.Accepted(f.Post("createAppPassword", `{"name":"phone"}`, session...)).Text(t, "password")
	f.Accepted(signIn(app, ""))
	f.Accepted(f.Post("revokeAppPassword", `{"name":"phone"}`, session...))
	// What did not happen fills no record.
	f.Accepted(f.Post("revokeAppPassword", `{"name":"phone"}`, session...))
	f.Accepted(f.Post("revokeAppPassword", `{"name":"`+strings.Repeat("x", 100_000)+`"}`, session...))
	f.Accepted(f.Post("requestEmailConfirmation", "", session...))
	f.Accepted(f.Post("confirmEmail", `{"email":"alice@example.com","token":"`+f.Code("confirm_email")+`"}`, session...))
	f.Accepted(f.Post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":true}`, session...))
	signIn(goodPassword, "")
	signIn(goodPassword, `,"authFactorToken":"AAAAA-AAAAA"`)
	f.Accepted(signIn(goodPassword, `,"authFactorToken":"`+f.Code("sign_in")+`"`))
	f.Accepted(f.Post("requestEmailUpdate", "", session...))
	f.Accepted(f.Post("updateEmail", `{"email":"alice@example.com","emailAuthFactor":false,"token":"`+f.Code("update_email")+`"}`, session...))
	f.Accepted(f.Post("requestEmailUpdate", "", session...))
	f.Accepted(f.Post("updateEmail", `{"email":"alice@example.org","token":"`+f.Code("update_email")+`"}`, session...))
	f.Advance(time.Second)
	f.Accepted(f.Post("deactivateAccount", `{}`, session...))
	f.Accepted(f.Post("activateAccount", "", session...))
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.org"}`))
	f.Accepted(f.Post("resetPassword", `{"token":"`+f.Code("reset_password")+`","password":"another good password"}`, from))
	f.TakeDown(alice.DID)
	f.Accepted(signIn("another good password", `,"allowTakendown":true`))

	const want = `12:00:00 account_created by stranger from 127.0.0.1: alice.test
12:00:00 sign_in_failed by stranger from 192.0.2.2: wrong password
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
	entries, err := f.DB.Audit(t.Context(), alice.DID, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, e := range entries {
		line := fmt.Sprintf("%s %s by %s from %s: %s\n", e.At.Format("15:04:05"), e.Event, e.Actor, e.Address, e.Detail)
		got = strings.ReplaceAll(line, alice.DID.String(), "DID") + got
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
	alice := f.SignUp("alice")
	for range 100 {
		f.from("203.0.113.9", "alice.test", "a wrong password")
	}
	entries, err := f.DB.Audit(t.Context(), alice.DID, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(entries); n != 51 { // and the sign-up
		t.Errorf("%d entries", n)
	}
	// Of an account that is gone nothing is recorded.
	if err := f.DB.Write(t.Context(), func(tx *db.Tx) error { return tx.DeleteAccount(t.Context(), alice.DID) }); err != nil {
		t.Fatal(err)
	}
	f.Post("createSession", `{"identifier":"`+alice.DID.String()+`","password":"a wrong password"}`)
	if entries, err = f.DB.Audit(t.Context(), alice.DID, 10); err != nil || len(entries) != 0 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}
