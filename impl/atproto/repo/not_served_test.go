package repo_test

import (
	"testing"

	"portico/impl/servertest"
)

// Whatever asks for a method of the namespace hears what it would hear of any other name.
func TestNotServed(t *testing.T) {
	s := servertest.New(t, servertest.In("com.atproto.repo"))
	if routes := s.Routes(); len(routes) != 0 {
		t.Errorf("served: %v", routes)
	}
	alice := s.SignUp("alice")
	for _, method := range []string{"createRecord", "getRecord", "uploadBlob", "importRepo"} {
		message := "No service configured for com.atproto.repo." + method
		s.Refused(s.Get(method, alice.Access), 400, "InvalidRequest", message)
		s.Refused(s.Post(method, `{}`, alice.Access), 400, "InvalidRequest", message)
	}
}
