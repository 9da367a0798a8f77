package server_test

import (
	"testing"

	"portico/impl/handle"
)

// DESIGN 31: a media type is the same in any case.
func TestDesign31ContentTypeInAnyCase(t *testing.T) {
	f := newFixture(t)
	f.signUp("alice")
	for _, kind := range []string{"application/json", "Application/JSON", "APPLICATION/JSON; Charset=UTF-8"} {
		f.accepted(f.post("createSession", login("alice.test", goodPassword), "Content-Type", kind))
	}
	f.refused(f.post("createSession", login("alice.test", goodPassword), "Content-Type", "text/plain"),
		400, "InvalidRequest", "Wrong request encoding (Content-Type): text/plain")
}

// DESIGN §8: operators add to the reserved names and except from them.
func TestDesignReservedNamesOfTheOperator(t *testing.T) {
	f := newFixture(t)
	f.refused(f.post("createAccount", `{"handle":"blog.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.service.Handles = &handle.Rules{
		Domains: []string{".test"}, Reserved: handle.Reserved([]string{"ourbrand"}, []string{"blog"}),
	}
	f.refused(f.post("createAccount", `{"handle":"ourbrand.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.refused(f.post("createAccount", `{"handle":"admin.test","email":"a@example.com"}`), 400, "HandleNotAvailable", "Reserved handle")
	f.accepted(f.post("createAccount", `{"handle":"blog.test","email":"a@example.com"}`))
}
