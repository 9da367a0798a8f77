package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"portico/db"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// reset sets a new password as the reader of the address's mail can, and as the operator
// does for one.
func (f *fixture) reset(u user, password string) answer {
	f.Helper()
	f.Accepted(f.Post("requestPasswordReset", fmt.Sprintf(`{"email":%q}`, u.Email)))
	return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, f.Code("reset_password"), password))
}

func (f *fixture) resetByOperator(u user, password string) answer {
	f.Helper()
	return f.Post("alt.portico.operator.resetPassword", fmt.Sprintf(`{"did":%q,"password":%q}`, u.DID, password), servertest.Admin)
}

// DESIGN §10, resetPassword by mailed code: whoever signed up with a victim's address
// keeps nothing of the account, and the victim hears of what no server can take away.
func TestDesignResetLeavesNoWayIn(t *testing.T) {
	recovery := servertest.DIDKey(servertest.Must(atcrypto.GeneratePrivateKeyK256()))
	for name, reset := range map[string]func(f *fixture, u user, password string) answer{
		"by mailed code": (*fixture).reset, "by the operator": (*fixture).resetByOperator,
	} {
		t.Run(name, func(t *testing.T) {
			engines(t, func(t *testing.T, f *fixture) {
				// A stranger signs up with the victim's address and prepares to come back.
				u := user{Handle: "alice.test", Email: "alice@example.com"}
				created := f.Accepted(f.Post("createAccount", fmt.Sprintf(`{"handle":"alice.test","email":"alice@example.com","password":%q,"recoveryKey":%q}`, goodPassword, recovery)))
				u.Access, u.Refresh = servertest.Bearer(created.Text(t, "accessJwt")), servertest.Bearer(created.Text(t, "refreshJwt"))
				_, err := fmt.Sscan(created.Text(t, "did"), &u.DID)
				f.Check(err)
				plain, privileged := f.appPassword(u, "plain", false), f.appPassword(u, "privileged", true)
				viaApp := f.SignIn(u, privileged)
				f.Accepted(f.Post("requestEmailConfirmation", "", u.Access))
				f.Accepted(f.Post("requestAccountDelete", "", u.Access))
				f.SetAccount(u.DID, func(a *db.Account) { a.EmailAuthFactor = true }) // as it could be before

				f.Accepted(reset(f, u, "the victim's password"))

				for _, text := range []string{goodPassword, plain, privileged} {
					f.Refused(f.Post("createSession", login("alice.test", text)), 401, "AuthenticationRequired", "Invalid identifier or password")
				}
				for _, old := range []user{u, viaApp} {
					f.Refused(f.Get("getSession", old.Access), 400, "ExpiredToken", "Token has expired")
					f.Refused(f.Post("refreshSession", "", old.Refresh), 400, "ExpiredToken", "Token has been revoked")
				}
				f.Refused(f.Post("deleteAccount", fmt.Sprintf(`{"did":%q,"password":"the victim's password","token":%q}`, u.DID, f.Code("delete_account"))),
					400, "InvalidToken", "Token is invalid")
				in := f.SignIn(u, "the victim's password")
				f.Refused(f.Post("confirmEmail", fmt.Sprintf(`{"email":%q,"token":%q}`, u.Email, f.Code("confirm_email")), in.Access),
					400, "InvalidToken", "Token is invalid")
				if got := strings.TrimSpace(f.Accepted(f.Get("listAppPasswords", in.Access)).Body); got != `{"passwords":[]}` {
					t.Errorf("app passwords %s", got)
				}
				letters := f.Letters("password_changed")
				if len(letters) != 1 || letters[0].To != u.Email || !strings.Contains(letters[0].Text, recovery) ||
					!strings.Contains(letters[0].Text, "Signing in asked for a code") || strings.Contains(letters[0].Text, servertest.DIDKey(f.Rotation)) {
					t.Errorf("letters %v\n%s", letters, letters[0].Text)
				}
				want := "password_changed by %s from 127.0.0.1: app passwords revoked: 2; sign-in codes off; rotation keys that are not the server's: " + recovery + "\n"
				who := map[string]string{"by mailed code": "stranger", "by the operator": "admin"}[name]
				if got := f.Recorded(u.DID); !strings.Contains(got, fmt.Sprintf(want, who)) {
					t.Errorf("record\n%s", got)
				}
			})
		})
	}
}

// DESIGN §10, resetPassword by mailed code: who confirmed the address keeps the second
// factor.
func TestDesignResetKeepsTheFactorOfAConfirmedAddress(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.withFactor("alice")
		f.appPassword(u, "phone", false)
		f.Accepted(f.reset(u, "a new password"))
		f.Refused(f.Post("createSession", login("alice.test", "a new password")), 401, "AuthFactorTokenRequired", "A sign in code has been sent to your email address")
		if l := f.Letters("password_changed")[0]; strings.Contains(l.Text, "did:key:") || strings.Contains(l.Text, "Signing in asked") {
			t.Errorf("letter\n%s", l.Text)
		}
		if got := f.Recorded(u.DID); !strings.Contains(got, "password_changed by stranger from 127.0.0.1: app passwords revoked: 1\n") {
			t.Errorf("record\n%s", got)
		}
	})
}

// DESIGN §10, resetPassword by mailed code: the operator's XRPC method stays as it is in
// the contract.
func TestDesignUpdateAccountPasswordKeepsAppPasswords(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		app := f.appPassword(u, "phone", false)
		f.Accepted(f.Post("requestAccountDelete", "", u.Access))
		f.Accepted(f.Post("com.atproto.admin.updateAccountPassword", fmt.Sprintf(`{"did":%q,"password":"a new password"}`, u.DID), servertest.Admin))
		f.Accepted(f.Post("createSession", login("alice.test", app)))
		f.Accepted(f.Post("deleteAccount", fmt.Sprintf(`{"did":%q,"password":"a new password","token":%q}`, u.DID, f.Code("delete_account"))))
	})
}

// A directory that is away, or that has lost its mind, keeps nobody out: what it would
// have said is missing in the letter.
func TestResetWithoutDirectory(t *testing.T) {
	const unknown = "Which keys can change your account's identity"
	for _, tt := range []struct {
		name   string
		fault  servertest.Fault
		letter string
	}{
		{"away", servertest.HangsUp, unknown},
		{"failing", servertest.Says("", 500, "down"), unknown},
		{"no JSON", servertest.Says("", 200, "{"), unknown},
		{"many keys", servertest.Says("", 200, `{"rotationKeys":["did:key:`+strings.Repeat("x", 100_000)+`"`+strings.Repeat(`,"did:key:z"`, 10_000)+`]}`), "did:key:z"},
		{"tombstone", servertest.Says("", http.StatusGone, `{"message":"gone"}`), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			engines(t, func(t *testing.T, f *fixture) {
				u := f.SignUp("alice")
				f.PLC.Spoil(tt.fault)
				f.Accepted(f.reset(u, "a new password"))
				f.SignIn(u, "a new password")
				l := f.Letters("password_changed")[0]
				if !strings.Contains(l.Text, tt.letter) || strings.Contains(l.Text, unknown) != (tt.letter == unknown) || len(l.Text) > 5000 {
					t.Errorf("letter of %d bytes\n%.2000s", len(l.Text), l.Text)
				}
			})
		})
	}
	t.Run("a DID of another kind", func(t *testing.T) {
		f := newFixture(t)
		const did = "did:web:alice.example"
		u := f.signUpWithDID(did, f.NewIdentity(did), "alice.test")
		u.Email = "alice@example.com"
		f.PLC.Asked()
		f.Accepted(f.reset(u, "a new password"))
		if got := f.PLC.Asked(); len(got) != 0 {
			t.Errorf("the directory was asked %v", got)
		}
	})
}

// Codes that cannot be used ask nothing of the directory, whoever has one.
func TestResetAsksTheDirectoryForGoodCodesOnly(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.ChangeDID(u.DID, func(d *plc.Data) { d.RotationKeys = append(d.RotationKeys, servertest.DIDKey(f.ModKey)) })
	f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
	code := f.Code("reset_password")
	try := func(code string) answer {
		return f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"a new password"}`, code))
	}
	f.PLC.Asked()
	f.Refused(try("AAAAA-AAAAA"), 400, "InvalidToken", "Token is invalid")
	f.Advance(15 * time.Minute)
	f.Refused(try(code), 400, "ExpiredToken", "Token is expired")
	if got := f.PLC.Asked(); len(got) != 0 {
		t.Errorf("the directory was asked %v", got)
	}
	f.Accepted(f.reset(u, "a new password"))
	if got := f.PLC.Asked(); len(got) != 1 {
		t.Errorf("the directory was asked %v", got)
	}
}
