package sync_test

import (
	"testing"

	"portico/impl/servertest"
)

// Whatever asks for a method of the namespace hears what it would hear of any other name,
// also who comes with a websocket.
func TestNotServed(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.sync"))
	if routes := s.Routes(); len(routes) != 0 {
		t.Errorf("served: %v", routes)
	}
	alice := s.SignUp("alice")
	for _, method := range []string{"getRepo", "getBlob", "listRepos", "requestCrawl", "subscribeRepos"} {
		message := "No service configured for com.atproto.sync." + method
		s.Refused(s.Get(method, alice.Access), 400, "InvalidRequest", message)
		s.Refused(s.Post(method, `{}`, alice.Access), 400, "InvalidRequest", message)
	}
	s.Refused(s.Get("subscribeRepos", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), 400, "InvalidRequest", "No service configured for com.atproto.sync.subscribeRepos")
}
