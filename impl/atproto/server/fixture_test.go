package server_test

import (
	"testing"

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

// engines runs a test on a server with each engine.
func engines(t *testing.T, test func(t *testing.T, f *fixture), change ...func(*options)) {
	t.Helper()
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, &fixture{s, s.Server}) }, change...)
}
