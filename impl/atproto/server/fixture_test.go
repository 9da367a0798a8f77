package server_test

import (
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/atproto/server"
	"portico/impl/servertest"
)

// A fixture is a server that the tests are the clients of.
type fixture struct {
	*servertest.Server
	service *server.Service
}

type (
	answer  = servertest.Answer
	user    = servertest.User
	options = servertest.Options
)

const goodPassword = servertest.GoodPassword

func newFixture(t testing.TB, change ...func(*options)) *fixture {
	t.Helper()
	s := servertest.New(t, change...)
	return &fixture{s, s.Server}
}

// from signs in from an address.
func (f *fixture) from(address, identifier, password string) answer {
	f.Helper()
	return f.Post("createSession", login(identifier, password), "X-Forwarded-For: "+address)
}

// did is that of an account, by its handle.
func (f *fixture) did(h syntax.Handle) syntax.DID {
	f.Helper()
	a, err := f.DB.AccountByHandle(f.Context(), h)
	f.Check(err)
	return a.DID
}

// engines runs a test on a server with each engine.
func engines(t *testing.T, test func(t *testing.T, f *fixture), change ...func(*options)) {
	t.Helper()
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, &fixture{s, s.Server}) }, change...)
}
