package main

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"portico/impl/keyring"
	"portico/impl/oauth/grant"
)

// A server on SQLite remembers used proofs as long as it runs, so it takes no nonce from before;
// those on one Postgres take each other's.
func TestNoncesOfProofs(t *testing.T) {
	ring := func() *keyring.Ring {
		keys, err := keyring.New(rand.Reader, bytes.Repeat([]byte{7}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	keys := ring()
	canary, err := keys.NewCanary()
	if err != nil {
		t.Fatal(err)
	}
	other := ring()
	for _, k := range []*keyring.Ring{keys, other} {
		if err := k.Unlock(canary); err != nil {
			t.Fatal(err)
		}
	}
	grants := &grant.Grants{Now: time.Now}
	for _, tt := range []struct {
		name     string
		settings settings
		same     bool
	}{
		{"SQLite", settings{}, false},
		{"SQLite with a secret", settings{DPoPSecret: bytes.Repeat([]byte{1}, 32)}, false},
		{"Postgres", settings{DatabaseURL: "postgres://localhost/portico"}, true},
		{"Postgres with a secret", settings{DatabaseURL: "postgres://localhost/portico", DPoPSecret: bytes.Repeat([]byte{1}, 32)}, true},
	} {
		one, another := tt.settings.proofs("https://pds.test", grants, keys), tt.settings.proofs("https://pds.test", grants, other)
		if nonce := one.Nonces.Next(); !one.Nonces.Good(nonce) || another.Nonces.Good(nonce) != tt.same {
			t.Errorf("%s: another process takes the nonce: %v", tt.name, another.Nonces.Good(nonce))
		}
	}
	secret, derived := settings{DatabaseURL: "x", DPoPSecret: bytes.Repeat([]byte{1}, 32)}, settings{DatabaseURL: "x"}
	if derived.proofs("", grants, keys).Nonces.Good(secret.proofs("", grants, keys).Nonces.Next()) {
		t.Error("the secret makes no difference")
	}
}

// The operator's colours are on the pages, and the colour of mails is not unless it was chosen.
func TestBranding(t *testing.T) {
	s := mustRead(t, append(production, "PDS_SUCCESS_COLOR=#0a0", "PDS_SUPPORT_URL=https://help.example.com/", "PDS_TERMS_OF_SERVICE_URL=https://example.com/terms")...)
	b := s.branding()
	if b.Primary != nil || b.Success == nil || b.Success.G != 0xaa || b.SupportURL != "https://help.example.com/" || b.TermsURL != "https://example.com/terms" || b.LogoURL != "" {
		t.Errorf("branding %+v", b)
	}
	b = mustRead(t, append(production, "PDS_PRIMARY_COLOR=rgb(1, 2, 3)")...).branding()
	if b.Primary == nil || b.Primary.B != 3 {
		t.Errorf("branding %+v", b)
	}
	if mustRead(t, production...).captcha(nil, nil) != nil {
		t.Error("a captcha that nobody set up")
	}
}
