package proxy_test

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"testing"
	"time"

	"portico/db"
	"portico/impl/keyring"
	"portico/impl/servertest"
)

// A service token names the account, the service without its id and the method as it stands
// in the path, for a minute; no two are the same.
func TestToken(t *testing.T) {
	w := newWorld(t)
	seen := make(map[string]bool)
	for _, path := range []string{query, query, query + "/", "app.bsky.feed.GETLIKES"} {
		w.Accepted(w.Get(path, w.alice.Access))
		token := w.tokenOf(one(t, w.AppView).Request, w.alice.DID)
		lxm := regexp.MustCompile(`/$`).ReplaceAllString(path, "")
		now := servertest.Start.Unix()
		want := fmt.Sprintf(`{"iat":%d,"iss":%q,"aud":"did:web:appview.example","exp":%d,"lxm":%q,"jti":%q}`, now, w.alice.DID, now+60, lxm, token.Jti)
		if token.Header != `{"typ":"JWT","alg":"ES256K"}` || token.payload != want {
			t.Errorf("token %s.%s, want %s", token.Header, token.payload, want)
		}
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(token.Jti) || seen[token.Jti] {
			t.Errorf("jti %q", token.Jti)
		}
		seen[token.Jti] = true
	}
}

// Contract §9 row 10: a token is sent again where the operator wants that: to the same
// service, for the same method and account, while it is good for 30 seconds more.
func TestTokenReuse(t *testing.T) {
	w := newWorld(t)
	w.Proxy.ReuseTokens = true
	bob := w.SignUp("bob")
	other := w.NewUpstream("did:web:other.example", "view")
	ask := func(u servertest.User, method string) string {
		t.Helper()
		w.Accepted(w.Get(method, u.Access))
		return w.tokenOf(one(t, w.AppView).Request, u.DID).Jti
	}
	first := ask(w.alice, query)
	w.Advance(29 * time.Second)
	if again := ask(w.alice, query); again != first {
		t.Error("another token within 30 seconds")
	}
	if ask(bob, query) == first || ask(w.alice, "app.bsky.feed.getQuotes") == first {
		t.Error("the token of another account or method")
	}
	w.Accepted(w.Get(query, w.alice.Access, "Atproto-Proxy: did:web:other.example#view"))
	if token := w.tokenOf(one(t, other).Request, w.alice.DID); token.Jti == first || token.Aud != "did:web:other.example" {
		t.Error("the token for another service")
	}
	w.Advance(time.Second)
	if ask(w.alice, query) == first {
		t.Error("a token that is good for 30 seconds, no more")
	}
}

// A token of an account with another key by now, or that is no more, is not sent again.
func TestTokenReuseEndsWithTheKey(t *testing.T) {
	w := newWorld(t)
	w.Proxy.ReuseTokens = true
	w.Accepted(w.Get(query, w.alice.Access))
	first := one(t, w.AppView).Header.Get("Authorization")
	w.changeKey(w.alice)
	w.Accepted(w.Get(query, w.alice.Access))
	second := one(t, w.AppView)
	if second.Header.Get("Authorization") == first {
		t.Error("the token of the former key")
	}
	w.tokenOf(second.Request, w.alice.DID)
	w.Remove(w.alice.DID)
	w.Refused(w.Get(query, w.alice.Access), 403, "AccountNotFound", "Account not found")
	nobody(t, w.AppView)
}

// changeKey gives an account another signing key behind the server's back.
func (w world) changeKey(u servertest.User) {
	w.Helper()
	key := servertest.Must(keyring.NewKey(rand.Reader))
	row, err := w.DB.SigningKey(w.Context(), u.DID, "atproto")
	w.Check(err)
	changed := *row
	changed.Public = servertest.DIDKey(key)
	changed.Sealed = servertest.Must(w.Keys.Seal("atproto", u.DID.String(), key.Bytes()))
	w.Write(func(tx *db.Tx) error { return tx.PutSigningKey(w.Context(), changed) })
}
