package server_test

import (
	"strings"
	"testing"
	"time"

	"portico/db"
	"portico/impl/mail"
	"portico/impl/servertest"
)

// An owner whose address is confirmed hears of sign-ins from where the account was not used
// before, once a day.
func TestASignInFromANewPlaceIsTold(t *testing.T) {
	s := servertest.New(t, func(o *servertest.Options) { o.TrustedProxies = 1 })
	u := s.SignUp("alice")
	told := func() int { return len(s.Letters(mail.KindNewPlace)) }
	from := func(address, password string) {
		t.Helper()
		s.Accepted(s.Post("createSession", `{"identifier":"alice.test","password":"`+password+`"}`, "X-Forwarded-For: "+address))
	}
	from("198.51.100.1", servertest.GoodPassword)
	if told() != 0 {
		t.Fatal("told at an address that nobody has confirmed")
	}
	s.SetAccount(u.DID, func(a *db.Account) { a.EmailConfirmedAt = new(s.Now()) })
	from("198.51.100.1", servertest.GoodPassword)
	if told() != 0 {
		t.Fatal("told of a place that is known")
	}
	s.Post("createSession", `{"identifier":"alice.test","password":"wrong password"}`, "X-Forwarded-For: 198.51.100.2")
	if told() != 0 {
		t.Fatal("told of a wrong password")
	}
	from("198.51.100.2", servertest.GoodPassword)
	if letters := s.Letters(mail.KindNewPlace); len(letters) != 1 || letters[0].To != u.Email || !strings.Contains(letters[0].Text, "198.51.100.2") {
		t.Fatalf("letters %v", letters)
	}
	from("198.51.100.3", servertest.GoodPassword)
	if told() != 1 {
		t.Fatal("told twice in a day")
	}
	s.Advance(24 * time.Hour)
	app := s.Accepted(s.Post("createAppPassword", `{"name":"phone"}`, s.SignIn(u, servertest.GoodPassword).Access)).Text(t, "password")
	from("198.51.100.4", app)
	if told() != 1 {
		t.Fatal("told of an app password")
	}
	from("2001:db8::1", servertest.GoodPassword)
	if told() != 2 {
		t.Fatal("not told on another day")
	}
	s.Advance(24 * time.Hour)
	from("10.0.0.1", servertest.GoodPassword)
	if told() != 2 {
		t.Fatal("told of an address that is nobody's")
	}
}
