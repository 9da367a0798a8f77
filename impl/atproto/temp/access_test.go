package temp_test

import (
	"testing"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

func newServer(t testing.TB, change ...func(*servertest.Options)) *servertest.Server {
	t.Helper()
	return servertest.New(t, append([]func(*servertest.Options){servertest.In("com.atproto.temp")}, change...)...)
}

// Who may call what, and how often, shows in one file; methods that are not in it are
// not served.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(newServer(t).Routes()))
}

// Every method is called with every credential, on behalf of an account in every
// state. What comes of it is a table, to be reviewed line by line.
func TestAccess(t *testing.T) {
	requests := map[string]string{
		"checkSignupQueue": "", "checkHandleAvailability": "?handle=bob.test",
		"requestPhoneVerification": `{"phoneNumber":"+15551234567"}`,
	}
	credentials := append(servertest.Credentials("none", "malformed header", "unknown scheme", "Basic admin", "DPoP", "access",
		"access, app password", "access, privileged app password", "access, takendown", "access, signupQueued",
		"access, expired", "access, foreign key", "refresh"), servertest.AppCredentials()...)
	table := newServer(t).AccessTable(requests, credentials)
	servertest.Golden(t, "access.golden", "# What each method answers to each credential, on a server that verifies no phones.\n"+table)
}

// Nobody waits here, in whatever state the account is.
func TestCheckSignupQueue(t *testing.T) {
	s := newServer(t)
	for name, enter := range map[string]func(servertest.User){
		"active":      func(servertest.User) {},
		"deactivated": func(u servertest.User) { s.Deactivate(u.DID) },
		"takendown":   func(u servertest.User) { s.TakeDown(u.DID) },
		"deleted":     func(u servertest.User) { s.Remove(u.DID) },
	} {
		u := s.SignUp("who-is-" + name)
		enter(u)
		if a := s.Accepted(s.Get("checkSignupQueue", u.Access)); a.Body != `{"activated":true}` {
			t.Errorf("%s: %s", name, a.Body)
		}
	}
}

// The other methods of the namespace are unknown here, as on the reference.
func TestNotServed(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	for _, method := range []string{
		"addReservedHandle", "dereferenceScope", "fetchLabels", "revokeAccountCredentials",
	} {
		message := "No service configured for com.atproto.temp." + method
		for _, credentials := range []string{"", alice.Access, servertest.Admin} {
			s.Refused(s.Get(method, credentials), 400, "InvalidRequest", message)
			s.Refused(s.Post(method, `{}`, credentials), 400, "InvalidRequest", message)
		}
	}
}
