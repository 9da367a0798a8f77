//go:build interop

package interop

import "testing"

// TestPasskeys adds a passkey of Chromium's on the pages of an account, and signs in with it there
// and where apps are let in: alone, and in the place of the code of an authenticator app.
func TestPasskeys(t *testing.T) {
	s := newAppStage(t)
	w := &walk{stage: s.stage, looked: map[string]bool{}}
	s.member("bea", "bea@example.com", "")
	s.call("WebAuthn.enable", map[string]any{"enableUI": false})
	s.call("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
	}})
	s.signIn("bea")
	s.open(accountPages + "/security")
	s.submit("form#app")
	secret := s.run(`document.querySelector('#key code').textContent`)
	s.submit("form#app-on", "code", w.appCode(secret, 0))
	s.open(accountPages + "/security")
	s.submit("form#passkey")
	s.submit("form#passkey-add", "name", "My telephone")
	s.says("The passkey is added.")

	s.submit("form.out")
	s.submit("form#sign-in-passkey")
	s.says("@bea." + stageHost)

	app := s.newWire("atproto", "transition:generic")
	letIn := func() {
		t.Helper()
		s.says("@bea." + stageHost)
		s.submit("form#allow")
		if got := app.redeem(s.told().Get("code")); got.status != 200 {
			t.Errorf("redeem: %v", got)
		}
	}
	s.forgetCookies()
	s.open(app.push())
	s.run("document.getElementById('remember').checked = true, ''")
	s.submit("form#sign-in-passkey")
	letIn()
	s.open(app.push()) // it is remembered
	letIn()
	s.open(app.push("prompt", "login", "ui_locales", "de"))
	s.submit("form#sign-in", "identifier", "bea."+stageHost, "password", ownersPassword)
	s.says("Ihre Authenticator-App zeigt den Code.")
	s.submit("form#sign-in-passkey")
	letIn()
	for _, complaint := range s.complaints {
		t.Errorf("the browser complains: %s", complaint)
	}
}
