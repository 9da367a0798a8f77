package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/servertest"
)

// done checks that a change was made, or tried: the directory takes ten operations an hour.
func (f *fixture) done(a answer) {
	f.Helper()
	if a.Status != 200 && !strings.Contains(a.Body, "operations within last hour (max 10)") {
		f.Fatalf("answer %d %s", a.Status, a.Body)
	}
}

// What an account has the directory and the readers of events do is 20 an hour; the
// account, its apps and the operator have each their own, and other accounts theirs.
func TestIdentityChangesOfAnAccount(t *testing.T) {
	for name, change := range map[string]func(f *fixture, u user) answer{
		"activate":   func(f *fixture, u user) answer { return f.Post("activateAccount", "", u.Access) },
		"deactivate": func(f *fixture, u user) answer { return f.Post("deactivateAccount", `{}`, u.Access) },
		"handle": func(f *fixture, u user) answer {
			return f.Post("com.atproto.identity.updateHandle", fmt.Sprintf(`{"handle":%q}`, u.Handle), u.Access)
		},
		"refresh": func(f *fixture, u user) answer {
			return f.Post("com.atproto.identity.refreshIdentity", fmt.Sprintf(`{"identifier":%q}`, u.DID), u.Access)
		},
		"operator: takedown": func(f *fixture, u user) answer {
			return f.Post("com.atproto.admin.updateSubjectStatus", fmt.Sprintf(
				`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q},"takedown":{"applied":false}}`, u.DID), servertest.Admin)
		},
		"operator: handle": func(f *fixture, u user) answer {
			return f.Post("com.atproto.admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":%q}`, u.DID, u.Handle), servertest.Admin)
		},
		"operator: key": func(f *fixture, u user) answer {
			return f.Post("com.atproto.admin.updateAccountSigningKey", fmt.Sprintf(`{"did":%q,"signingKey":%q}`, u.DID, f.SigningKey(u.DID)), servertest.Admin)
		},
	} {
		t.Run(name, func(t *testing.T) {
			limitsOffAndOn(t, func(t *testing.T, f *fixture) {
				u, other := f.SignUp("alice"), f.SignUp("bob")
				for i := range 20 {
					if i%5 == 0 {
						f.Advance(5*time.Minute + time.Second) // for the request limits
					}
					f.done(change(f, u))
				}
				events := f.lastEvent()
				f.PLC.Asked()
				a := change(f, u)
				f.Refused(a, 429, "RateLimitExceeded", "Rate Limit Exceeded")
				if wait := retryAfter(t, a); wait < 30*time.Minute || wait > time.Hour {
					t.Errorf("wait %v", wait)
				}
				if f.lastEvent() != events || len(f.PLC.Asked()) > 0 {
					t.Error("it had an effect")
				}
				f.Accepted(change(f, other))
				if strings.HasPrefix(name, "operator") {
					f.Accepted(f.Post("activateAccount", "", u.Access))
				} else {
					f.Accepted(f.Post("com.atproto.admin.updateSubjectStatus", fmt.Sprintf(
						`{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":%q}}`, u.DID), servertest.Admin))
				}
				f.Advance(time.Hour)
				f.Accepted(change(f, u))
			})
		})
	}
}

// A handle that the rules refuse to everybody costs nothing: whoever looks for one that
// fits may go on. A question about somebody's does.
func TestRefusedHandlesCostNothing(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.SignUp("bob")
		owner := func(h string) answer {
			return f.Post("com.atproto.identity.updateHandle", fmt.Sprintf(`{"handle":%q}`, h), u.Access)
		}
		operator := func(h string) answer {
			return f.Post("com.atproto.admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":%q}`, u.DID, h), servertest.Admin)
		}
		f.PLC.Asked()
		for _, call := range []func(string) answer{owner, operator} {
			for range 21 {
				f.Refused(call("al.test"), 400, "InvalidHandle", "Handle too short")
			}
		}
		f.Refused(owner("admin.test"), 400, "HandleNotAvailable", "Reserved handle")
		if asked := f.PLC.Asked(); len(asked) > 0 {
			t.Errorf("the directory was asked %q", asked)
		}
		for range 20 {
			f.Refused(owner("bob.test"), 400, "HandleNotAvailable", "Handle already taken: bob.test")
		}
		f.Refused(owner("bob.test"), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		f.Refused(owner("al.test"), 400, "InvalidHandle", "Handle too short")
		f.Accepted(operator("alice2.test"))
	})
}

// An app cannot spend what its owner has: neither directory calls nor events.
func TestIdentityChangesOfApps(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		app := f.SignIn(u, f.Accepted(f.Post("createAppPassword", `{"name":"app"}`, u.Access)).Text(t, "password"))
		update := func(access string) answer {
			return f.Post("com.atproto.identity.updateHandle", `{"handle":"alice.test"}`, access)
		}
		for range 20 {
			f.done(update(app.Access))
		}
		f.Refused(update(app.Access), 429, "RateLimitExceeded", "Rate Limit Exceeded")
		f.done(update(u.Access))
	})
}

// Whoever watches a move is answered always; the directory is asked 20 times an hour.
func TestCheckAccountStatusAsksTheDirectoryNotForEver(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.Deactivate(u.DID)
		f.PLC.Asked()
		for range 60 {
			if a := f.Accepted(f.Get("checkAccountStatus", u.Access)); a.Fields(t)["validDid"] != true {
				t.Fatalf("answer %s", a.Body)
			}
		}
		if n := len(f.PLC.Asked()); n > 22 {
			t.Errorf("the directory was asked %d times", n)
		}
		// What is wrong shows here as well.
		f.Write(func(tx *db.Tx) error {
			return tx.PutSigningKey(t.Context(), db.SigningKey{DID: u.DID, Purpose: "atproto", Public: "did:key:zother", Sealed: []byte("x")})
		})
		if a := f.Accepted(f.Get("checkAccountStatus", u.Access)); a.Fields(t)["validDid"] != false {
			t.Errorf("answer %s", a.Body)
		}
	})
}
