package server_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"portico/db"
	"portico/impl/account/adopted"
	"portico/impl/account/session"
	"portico/impl/servertest"
)

// Ids of refresh tokens that a reference PDS made: A was exchanged for B, and B for C.
const (
	jtiA = "NtHB3qOZpqJfUqwVL9brJ6tOQozU99LdvpBEh5Uaz5Q"
	jtiB = "mOlRP+JSyEj9VD67kf467nQkF4lBN3CyfHBhy9oMmvw"
	jtiC = "WR0KCXYekFBa76zMR/NHlUrkFUVhqhgT0oDi2QcGonY"
)

// adoptSessions gives u the sessions A, B and C as an adoption does.
func (f *fixture) adoptSessions(u user) {
	f.Helper()
	ids := []string{jtiA, jtiB, jtiC, ""}
	f.Check(f.DB.Write(f.Context(), func(tx *db.Tx) error {
		for n, jti := range ids[:3] {
			row := db.Session{ID: f.Tokens.HashID(jti), DID: u.DID, CreatedAt: f.Now(), ExpiresAt: f.Now().Add(session.Grace)}
			if next := ids[n+1]; next != "" {
				row.NextID = f.Tokens.HashID(next)
			} else {
				row.ExpiresAt = f.Now().Add(90 * 24 * time.Hour)
			}
			secret, err := adopted.Session(f.Keys, f.Tokens, u.DID, jti, ids[n+1])
			if err == nil {
				err = tx.PutAdoptedSecrets(f.Context(), []db.AdoptedSecret{secret})
			}
			if err == nil {
				err = tx.InsertAdoptedSession(f.Context(), row, f.Tokens.HashID(jtiA), int64(n))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}))
}

// refresh exchanges the refresh token with an id.
func (f *fixture) refresh(u user, jti string) answer {
	f.Helper()
	return f.Post("refreshSession", "", servertest.Bearer(f.Tokens.Refresh(u.DID, jti, f.Now())))
}

// jtiOf is the id of the refresh token in an answer.
func (f *fixture) jtiOf(a answer) string {
	f.Helper()
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(f.Accepted(a).Text(f, "refreshJwt"), &claims); err != nil {
		f.Fatal(err)
	}
	return claims.ID
}

// Sessions that another server began go on as it would have gone on with them: tokens that
// it exchanged get the successors that it chose, for as long as their grace lasts.
func TestAdoptedSessions(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		f.adoptSessions(u)
		own := f.Tokens.SuccessorID(jtiC)
		for _, step := range [][2]string{{jtiA, jtiB}, {jtiB, jtiC}, {jtiA, jtiB}, {jtiC, own}, {jtiA, jtiB}, {jtiB, jtiC}, {jtiC, own}} {
			a := f.refresh(u, step[0])
			if got := f.jtiOf(a); got != step[1] {
				t.Errorf("%s was exchanged for %s, want %s", step[0], got, step[1])
			}
			f.Accepted(f.Get("getSession", servertest.Bearer(a.Text(t, "accessJwt"))))
		}
		f.Advance(session.Grace)
		f.Refused(f.refresh(u, jtiA), 400, "ExpiredToken", "Token has been revoked")
		f.Refused(f.refresh(u, jtiB), 400, "ExpiredToken", "Token has been revoked")
		after := f.jtiOf(f.refresh(u, own))
		if after != f.Tokens.SuccessorID(own) {
			t.Errorf("%s was exchanged for %s", own, after)
		}
	})
}

// Who signs out of one of them has signed out of all that came from it and that it came from.
func TestAdoptedSessionsEnd(t *testing.T) {
	for _, end := range []string{jtiA, jtiB, jtiC} {
		f := newFixture(t)
		u := f.SignUp("alice")
		f.adoptSessions(u)
		own := f.jtiOf(f.refresh(u, jtiC))
		f.Accepted(f.Post("deleteSession", "", servertest.Bearer(f.Tokens.Refresh(u.DID, end, f.Now()))))
		for _, jti := range []string{jtiA, jtiB, jtiC, own} {
			f.Refused(f.refresh(u, jti), 400, "ExpiredToken", "Token has been revoked")
		}
		// The session that was begun here is another one.
		f.Accepted(f.Post("refreshSession", "", u.Refresh))
	}
}

// A successor that is not known any more ends its session, and is nobody's fault.
func TestAdoptedSessionsWithoutSecrets(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.adoptSessions(u)
	kept, err := f.DB.AdoptedSecret(f.Context(), u.DID, db.AdoptedSession, f.Tokens.HashID(jtiC))
	f.Check(err)
	f.Check(f.DB.Write(f.Context(), func(tx *db.Tx) error {
		return tx.ResealAdoptedSecret(f.Context(), *kept, append(bytes.Clone(kept.Sealed), 0))
	}))
	f.Refused(f.refresh(u, jtiB), 400, "ExpiredToken", "Token has been revoked")
	if got := f.jtiOf(f.refresh(u, jtiA)); got != jtiB {
		t.Errorf("A was exchanged for %s", got)
	}
	f.Check(f.DB.Write(f.Context(), func(tx *db.Tx) error {
		_, err := tx.DeleteAdoptedSecrets(f.Context(), 10)
		return err
	}))
	f.Refused(f.refresh(u, jtiA), 400, "ExpiredToken", "Token has been revoked")
	if got, want := f.jtiOf(f.refresh(u, jtiC)), f.Tokens.SuccessorID(jtiC); got != want {
		t.Errorf("C was exchanged for %s, want %s", got, want)
	}
}

// keep seals what an adoption has stored of an account.
func (f *fixture) keep(secret db.AdoptedSecret, err error) {
	f.Helper()
	f.Check(err)
	f.Check(f.DB.Write(f.Context(), func(tx *db.Tx) error {
		return tx.PutAdoptedSecrets(f.Context(), []db.AdoptedSecret{secret})
	}))
}

// kept is what an account had elsewhere, and what stands beside it.
func (f *fixture) kept(u user, kind db.AdoptedKind, name string) (text string, beside []byte) {
	f.Helper()
	secret, err := f.DB.AdoptedSecret(f.Context(), u.DID, kind, []byte(name))
	f.Check(err)
	text, err = adopted.Open(f.Keys, *secret)
	f.Check(err)
	return text, secret.Beside
}

// The hash of another server is replaced by ours at the first sign-in, and kept for the way
// back until the password is another one.
func TestAdoptedPassword(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		scrypt := importedHash(t)
		f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = scrypt })
		f.keep(adopted.Password(f.Keys, u.DID, scrypt))
		hash := func() string {
			a, err := f.DB.AccountByDID(t.Context(), u.DID)
			f.Check(err)
			return a.PasswordHash
		}
		check := func(valid bool) {
			t.Helper()
			text, beside := f.kept(u, db.AdoptedPassword, "")
			if text != scrypt || (string(beside) == hash()) != valid {
				t.Errorf("kept %q beside %q, the account has %q", text, beside, hash())
			}
		}
		check(true)
		f.Accepted(f.Post("createSession", login("alice.test", goodPassword)))
		if hash() == scrypt {
			t.Error("the old hash was not replaced")
		}
		check(true)
		f.Accepted(f.Post("createSession", login("alice.test", goodPassword)))
		check(true)
		f.Accepted(f.Post("com.atproto.admin.updateAccountPassword", `{"did":"`+u.DID.String()+`","password":"another password"}`, servertest.Admin))
		check(false)
		f.Accepted(f.Post("createSession", login("alice.test", "another password")))
		check(false)
	})
}

// So is that of an app password, until there is none of its name, or another one.
func TestAdoptedAppPassword(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		const name, text = "desk top ☎", "abcd-efgh-ijkl-mnop"
		f.imported(u, name, text)
		stored := func() *db.AppPassword {
			p, err := f.DB.AppPasswordByName(t.Context(), u.DID, name)
			f.Check(err)
			return p
		}
		scrypt := stored().Scrypt
		f.keep(adopted.AppPassword(f.Keys, u.DID, name, scrypt))
		f.Accepted(f.Post("createSession", login("alice.test", text)))
		if old, beside := f.kept(u, db.AdoptedAppPassword, name); old != scrypt || !bytes.Equal(beside, stored().MAC) {
			t.Errorf("kept %q beside %x, the account has %x", old, beside, stored().MAC)
		}
		f.Accepted(f.Post("revokeAppPassword", `{"name":"`+name+`"}`, u.Access))
		f.Accepted(f.Post("createAppPassword", `{"name":"`+name+`"}`, u.Access))
		if _, beside := f.kept(u, db.AdoptedAppPassword, name); bytes.Equal(beside, stored().MAC) {
			t.Error("the old hash counts for the new password")
		}
	})
}

// Once the adoption is finished nothing is kept any more.
func TestFinishedAdoptionKeepsNothing(t *testing.T) {
	f := newFixture(t)
	u := f.SignUp("alice")
	f.SetAccount(u.DID, func(a *db.Account) { a.PasswordHash = importedHash(t) })
	f.imported(u, "phone", "abcd-efgh-ijkl-mnop")
	f.Accepted(f.Post("createSession", login("alice.test", goodPassword)))
	f.Accepted(f.Post("createSession", login("alice.test", "abcd-efgh-ijkl-mnop")))
	secrets, err := f.DB.AdoptedSecretsOf(t.Context(), u.DID)
	f.Check(err)
	if len(secrets) != 0 {
		t.Errorf("kept %d secrets", len(secrets))
	}
}
