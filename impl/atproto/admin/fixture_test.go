package admin_test

import (
	"strings"
	"testing"

	"portico/impl/servertest"
)

// A fixture is a server whose operator the tests are.
type fixture struct{ *servertest.Server }

type (
	answer = servertest.Answer
	user   = servertest.User
)

const goodPassword = servertest.GoodPassword

func newFixture(t testing.TB, change ...func(*servertest.Options)) *fixture {
	t.Helper()
	return &fixture{servertest.New(t, append(change, servertest.In("com.atproto.admin"))...)}
}

// engines runs a test on a server with each engine.
func engines(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, &fixture{s}) }, servertest.In("com.atproto.admin"))
}

// ask is a query by the operator.
func (f *fixture) ask(method string) answer {
	f.Helper()
	return f.Get(method, servertest.Admin)
}

// do is a procedure by the operator.
func (f *fixture) do(method, body string) answer {
	f.Helper()
	return f.Post(method, body, servertest.Admin)
}

// silent checks that a procedure without output succeeded.
func (f *fixture) silent(a answer) {
	f.Helper()
	if f.Empty(a); a.Header.Get("Cache-Control") != "private" || !strings.Contains(a.Header.Get("Vary"), "Authorization") {
		f.Errorf("answer %v, want a private one", a.Header)
	}
}
