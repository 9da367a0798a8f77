package repo_test

import "testing"

// Whatever asks for a method that is not served hears what it would hear of any other
// name.
func TestNotServed(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	for _, method := range []string{"rebaseRepo"} {
		message := "No service configured for com.atproto.repo." + method
		s.Refused(s.Get(method, alice.Access), 400, "InvalidRequest", message)
		s.Refused(s.Post(method, `{}`, alice.Access), 400, "InvalidRequest", message)
	}
}
