package adopted_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"portico/db"
	"portico/impl/account/adopted"
	"portico/impl/account/token"
	"portico/impl/keyring"
)

const did = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

func ring(t *testing.T, keys ...byte) *keyring.Ring {
	t.Helper()
	var all [][]byte
	for _, k := range keys {
		all = append(all, bytes.Repeat([]byte{k}, keyring.KeySize))
	}
	r, err := keyring.New(rand.Reader, all[0], all[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is sealed opens in its own row, with the key that sealed it or after it was sealed
// with another one, and in no other row.
func TestSecrets(t *testing.T) {
	first, both, second := ring(t, 1), ring(t, 2, 1), ring(t, 2)
	tokens := &token.Issuer{Secret: bytes.Repeat([]byte("s"), 32)}
	password, err := adopted.Password(first, did, "salt:hash")
	if err != nil {
		t.Fatal(err)
	}
	app, err := adopted.AppPassword(first, did, "desk top ☎", "salt:app")
	if err != nil {
		t.Fatal(err)
	}
	session, err := adopted.Session(first, tokens, did, "jti+/", "next")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(password.Beside, []byte("salt:hash")) || !bytes.Equal(app.Beside, []byte("salt:app")) ||
		!bytes.Equal(session.Beside, tokens.HashID("next")) || !bytes.Equal(session.Name, tokens.HashID("jti+/")) {
		t.Errorf("rows are %q, %q, %q", password.Beside, app.Beside, session.Beside)
	}
	last, err := adopted.Session(first, tokens, did, "next", "")
	if err != nil || len(last.Beside) != 0 {
		t.Errorf("a session without successor has %q beside it, %v", last.Beside, err)
	}
	for text, s := range map[string]db.AdoptedSecret{"salt:hash": password, "salt:app": app, "jti+/": session} {
		if got, err := adopted.Open(first, s); err != nil || got != text {
			t.Errorf("%s: %q, %v", s.Kind, got, err)
		}
		if bytes.Contains(s.Sealed, []byte(text)) {
			t.Errorf("%s lies open", s.Kind)
		}
		elsewhere := []db.AdoptedSecret{s, s, s}
		elsewhere[0].DID = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
		elsewhere[1].Name = []byte("another")
		elsewhere[2].Kind += "s"
		for _, other := range elsewhere {
			if got, err := adopted.Open(first, other); !errors.Is(err, keyring.ErrSealed) {
				t.Errorf("%s opens in the row of %s %q: %q, %v", s.Kind, other.DID, other.Name, got, err)
			}
		}
		if _, err := adopted.Open(second, s); !errors.Is(err, keyring.ErrUnknownKey) {
			t.Errorf("%s opens with another key: %v", s.Kind, err)
		}
		var err error
		if s.Sealed, err = adopted.Reseal(both, s); err != nil {
			t.Fatal(err)
		}
		if got, err := adopted.Open(second, s); err != nil || got != text {
			t.Errorf("%s sealed anew: %q, %v", s.Kind, got, err)
		}
	}
}
