package server_test

import (
	"testing"

	"portico/impl/identity/handle"
)

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
		Reserved: handle.Reserved([]string{"ourbrand"}, []string{"blog"}),
	}
	f.Refused(f.Post("createAccount", `{"handle":"ourbrand.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.Refused(f.Post("createAccount", `{"handle":"admin.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.Accepted(f.Post("createAccount", `{"handle":"blog.test","email":"a@example.com"}`))
}
