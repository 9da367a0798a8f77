package servertest

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/serviceauth"
	"portico/impl/account/token"
	"portico/impl/audit"
	"portico/impl/mail"
)

// A User is somebody who signed up.
type User struct {
	DID             syntax.DID
	Handle, Email   string
	Access, Refresh string // credentials, for Authorization
}

// SignUp makes an account NAME.test with the address NAME@example.com and
// [GoodPassword].
func (s *Server) SignUp(name string) User {
	s.Helper()
	return s.SignUpWith(name, "")
}

// SignUpWith is SignUp with an invite code.
func (s *Server) SignUpWith(name, code string) User {
	s.Helper()
	in := map[string]any{"handle": name + ".test", "email": name + "@example.com", "password": GoodPassword}
	if code != "" {
		in["inviteCode"] = code
	}
	u := User{Handle: name + ".test", Email: name + "@example.com"}
	return u.in(s, s.Post("com.atproto.server.createAccount", string(Must(json.Marshal(in)))))
}

// SignIn opens another session and returns the user with its credentials. The
// password is [GoodPassword], or the given one.
func (s *Server) SignIn(u User, password string) User {
	s.Helper()
	return u.in(s, s.TrySignIn(u.Handle, cmp.Or(password, GoodPassword)))
}

// TrySignIn is what createSession answers.
func (s *Server) TrySignIn(identifier, password string) Answer {
	s.Helper()
	in := map[string]any{"identifier": identifier, "password": password}
	return s.Post("com.atproto.server.createSession", string(Must(json.Marshal(in))))
}

// in is the user in the session that an answer opened.
func (u User) in(s *Server, a Answer) User {
	s.Helper()
	s.Accepted(a)
	u.DID = syntax.DID(a.Text(s, "did"))
	u.Access, u.Refresh = Bearer(a.Text(s, "accessJwt")), Bearer(a.Text(s, "refreshJwt"))
	return u
}

// Scoped are credentials of u with an access token of any scope.
func (s *Server) Scoped(u User, scope token.Scope) string {
	return Bearer(s.Tokens.Access(u.DID, scope, s.Now()))
}

// ServiceToken are credentials with which issuer, whose key it is, may call a method
// here for so long; "" is any method.
func (s *Server) ServiceToken(issuer syntax.DID, key atcrypto.PrivateKey, method string, life time.Duration) string {
	s.Helper()
	return s.ServiceTokenFor(DID, issuer, key, method, life)
}

// ServiceTokenFor is ServiceToken for another audience.
func (s *Server) ServiceTokenFor(audience string, issuer syntax.DID, key atcrypto.PrivateKey, method string, life time.Duration) string {
	s.Helper()
	text, err := serviceauth.Issue(serviceauth.Request{
		Issuer: issuer, Audience: audience, Method: method, IssuedAt: s.Now(), Expires: s.Now().Add(life).Unix(),
	}, key, rand.Reader)
	s.Check(err)
	return Bearer(text)
}

// Write changes the database behind the server's back.
func (s *Server) Write(do func(*db.Tx) error) {
	s.Helper()
	s.Check(s.DB.Write(s.Context(), do))
}

// Account is the row of an account, which must be there.
func (s *Server) Account(did syntax.DID) *db.Account {
	s.Helper()
	a, err := s.DB.AccountByDID(s.Context(), did)
	s.Check(err)
	return a
}

// SetAccount changes the row of an account behind the server's back.
func (s *Server) SetAccount(did syntax.DID, change func(*db.Account)) {
	s.Helper()
	s.Write(func(tx *db.Tx) error {
		a, err := tx.LockAccount(s.Context(), did)
		if err != nil {
			return err
		}
		change(a)
		return tx.UpdateAccount(s.Context(), a)
	})
}

// TakeDown takes an account down behind the server's back; its sessions stay.
func (s *Server) TakeDown(did syntax.DID) {
	s.Helper()
	s.SetAccount(did, func(a *db.Account) { a.TakedownRef = new("test") })
}

// Deactivate deactivates an account behind the server's back.
func (s *Server) Deactivate(did syntax.DID) {
	s.Helper()
	s.SetAccount(did, func(a *db.Account) { a.DeactivatedAt = new(s.Now()) })
}

// Remove deletes the rows of an account behind the server's back.
func (s *Server) Remove(did syntax.DID) {
	s.Helper()
	s.Write(func(tx *db.Tx) error { return tx.DeleteAccount(s.Context(), did) })
}

// Invite stores an invite code for an owner, which is "admin" or a DID.
func (s *Server) Invite(code string, uses int, owner string) {
	s.Helper()
	s.Write(func(tx *db.Tx) error {
		return tx.InsertInvites(s.Context(), db.Invite{Code: code, Uses: uses, ForAccount: owner, CreatedBy: "admin", CreatedAt: s.Now()})
	})
}

// SigningKey is the did:key of an account's repository.
func (s *Server) SigningKey(did syntax.DID) string {
	s.Helper()
	key, err := s.DB.SigningKey(s.Context(), did, "atproto")
	s.Check(err)
	return key.Public
}

// DIDKey is the did:key of a key.
func DIDKey(key atcrypto.PrivateKey) string { return Must(key.PublicKey()).DIDKey() }

// Letters are those of a kind in the outbox, the newest first.
func (s *Server) Letters(kind string) []mail.Letter {
	s.Helper()
	return slices.Collect(s.letters(kind))
}

// letters opens them one after the other: there may be many.
func (s *Server) letters(kind string) iter.Seq[mail.Letter] {
	s.Helper()
	all, err := s.Outbox.List(s.Context(), 0, 1000)
	s.Check(err)
	return func(yield func(mail.Letter) bool) {
		for _, m := range all {
			if m.Kind != kind {
				continue
			}
			_, l, err := s.Outbox.Read(s.Context(), m.ID)
			if err != nil || l == nil {
				s.Fatalf("letter %d: %v", m.ID, err)
			}
			if !yield(*l) {
				return
			}
		}
	}
}

// CodePattern matches an emailed code.
var CodePattern = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// Code is the code in the newest letter of a kind.
func (s *Server) Code(kind string) string {
	s.Helper()
	for l := range s.letters(kind) {
		code := CodePattern.FindString(l.Text)
		if code == "" {
			s.Fatalf("letter %q has no code:\n%s", kind, l.Text)
		}
		return code
	}
	s.Fatalf("no letter of kind %s", kind)
	return ""
}

// Recorded is the audit log of an account since its creation, a line an entry, the
// newest first, "DID" standing for its own.
func (s *Server) Recorded(did syntax.DID) string {
	s.Helper()
	entries, err := s.DB.Audit(s.Context(), did, 1000)
	s.Check(err)
	var b strings.Builder
	for _, e := range entries {
		if e.Event == audit.AccountCreated {
			break
		}
		b.WriteString(e.At.UTC().Format("15:04:05") + " " + e.Event + " by " + e.Actor + " from " + e.Address + ": " + e.Detail + "\n")
	}
	return strings.ReplaceAll(b.String(), did.String(), "DID")
}
