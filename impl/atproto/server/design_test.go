package server_test

import (
	"fmt"
	"strings"
	"testing"

	"portico/impl/identity/handle"
	"portico/impl/servertest"
)

// DESIGN 5: a handle that is taken is refused with the name that the lexicon declares.
func TestDesign5TakenHandle(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.Refused(f.Post("createAccount", `{"handle":"Alice.test","email":"a@example.com","password":"a good password"}`),
			400, "HandleNotAvailable", "Handle already taken: alice.test")
	})
}

// DESIGN 13: a password that is given has a minimum length; at sign-up none need be given.
func TestDesign13PasswordsHaveAMinimumLength(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		f.Accepted(f.Post("requestPasswordReset", `{"email":"alice@example.com"}`))
		code := f.Code("reset_password")
		for _, short := range []string{"", "1234567", "äöüäöü1"} {
			f.Refused(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":%q}`, code, short)),
				400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
		}
		f.Refused(f.Post("createAccount", `{"handle":"bob.test","email":"bob@example.com","password":"1234567"}`),
			400, "InvalidPassword", "Password too short. Minimum length is 8 characters.")
		f.Accepted(f.Post("createAccount", `{"handle":"bob.test","email":"bob@example.com"}`))
		f.Accepted(f.Post("resetPassword", fmt.Sprintf(`{"token":%q,"password":"12345678"}`, code)))
		f.Accepted(f.TrySignIn("alice.test", "12345678"))
	})
}

// DESIGN 24: a wrong invite is refused before the directory hears of anything.
func TestDesign24InvitesAreCheckedFirst(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.PLC.Asked()
		f.Refused(f.Post("createAccount", `{"handle":"alice.test","email":"alice@example.com","password":"a good password","inviteCode":"nope"}`),
			400, "InvalidInviteCode", "Provided invite code not available")
		if asked := f.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked %q", asked)
		}
		f.SignUp("alice") // handle and address are free
	})
}

// DESIGN 30: a service token that cannot be read is a 401.
func TestDesign30MalformedServiceTokens(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		const body = `{"handle":"alice.test","email":"alice@example.com","password":"a good password","did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}`
		for _, token := range []string{"x.y.z", "e30.e30", "bm90.SlNPTg.eA", "W10.W10.eA", "..", "e30.bnVsbA.eA"} {
			f.Refused(f.Post("createAccount", body, servertest.Bearer(token)), 401, "BadJwt", "poorly formatted jwt")
		}
	})
}

// DESIGN, small ones: JSON deeper than 128 is a 400, also below keys that nobody reads.
func TestDesignSmallOnesDeepJSON(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		f.SignUp("alice")
		nested := func(depth int) string {
			// The object itself is one.
			return `{"identifier":"alice.test","password":"` + goodPassword + `","x":` + strings.Repeat("[", depth-1) + strings.Repeat("]", depth-1) + `}`
		}
		f.Accepted(f.Post("createSession", nested(128)))
		for _, depth := range []int{129, 50_000} {
			f.Refused(f.Post("createSession", nested(depth)), 400, "SyntaxError", "JSON is nested too deep")
		}
	})
}

// DESIGN 31: a media type is the same in any case.
func TestDesign31ContentTypeInAnyCase(t *testing.T) {
	f := newFixture(t)
	f.SignUp("alice")
	for _, kind := range []string{"application/json", "Application/JSON", "APPLICATION/JSON; Charset=UTF-8"} {
		f.Accepted(f.Post("createSession", login("alice.test", goodPassword), "Content-Type: "+kind))
	}
	f.Refused(f.Post("createSession", login("alice.test", goodPassword), "Content-Type: text/plain"),
		400, "InvalidRequest", "Wrong request encoding (Content-Type): text/plain")
}

// DESIGN §8: operators add to the reserved names and except from them.
func TestDesignReservedNamesOfTheOperator(t *testing.T) {
	f := newFixture(t)
	f.Refused(f.Post("createAccount", `{"handle":"blog.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.service.Handles = &handle.Rules{
		Reserved: func() handle.Names { return handle.Reserved([]string{"ourbrand"}, []string{"blog"}) },
	}
	f.Refused(f.Post("createAccount", `{"handle":"ourbrand.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.Refused(f.Post("createAccount", `{"handle":"admin.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.Accepted(f.Post("createAccount", `{"handle":"blog.test","email":"a@example.com"}`))
}
