//go:build interop

package interop

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// TestConsentInUse uses all pages in Chromium on which people let apps into their accounts, as
// TestPagesInUse does the others: those who sign up there, have forgotten their password, use an
// authenticator app, have several accounts, and are asked for permissions of every kind.
func TestConsentInUse(t *testing.T) {
	s := newAppStage(t, "PORTICO_SIGNUP_QUARANTINE=confirmed", "PDS_OAUTH_TRUSTED_CLIENTS="+trustedApp)
	w := &consentWalk{walk: walk{stage: s.stage, looked: map[string]bool{}}, apps: s}
	w.signingUp()
	w.signingIn()
	w.permissions()
	w.mistakes()
	w.inGerman()
	w.ofAnOperator()
	w.accountPages()
	for _, complaint := range s.complaints {
		// Forms that are refused are answered with their status.
		if !strings.Contains(complaint, "the server responded with a status of 4") {
			t.Errorf("the browser complains: %s", complaint)
		}
	}
	for _, one := range s.requests {
		if !slices.ContainsFunc([]string{"https://" + stageHost + "/", "http://127.0.0.1:", "https://" + appHost + "/", "data:"}, func(allowed string) bool { return strings.HasPrefix(one, allowed) }) {
			t.Errorf("a page asked for %s", one)
		}
	}
	t.Logf("%d pages, %v for axe", len(w.looked), w.spent.Round(time.Millisecond))
}

// trustedApp is an app whose name the operator lets people see.
const trustedApp = "https://" + appHost + "/trusted.json"

type consentWalk struct {
	walk
	apps   *appStage
	secret string // of Bea's authenticator app
}

// webApp is an app on a host of its own.
func (w *consentWalk) webApp(path, name, scope string) *wire {
	w.t.Helper()
	id, back := "https://"+appHost+path, "https://"+appHost+"/callback"
	w.apps.putJSON(path, map[string]any{
		"client_id": id, "client_name": name, "client_uri": "https://" + appHost, "logo_uri": "https://" + appHost + "/logo.svg",
		"tos_uri": "https://" + appHost + "/terms", "policy_uri": "https://" + appHost + "/privacy", "redirect_uris": []string{back}, "scope": scope,
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"}, "application_type": "web",
		"token_endpoint_auth_method": "none", "dpop_bound_access_tokens": true,
	})
	w.put(appHost, "/callback", "text/html", "<title>back</title>")
	w.put(appHost, "/logo.svg", "image/svg+xml", `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle cx="4.5" cy="4.5" r="4.5" fill="teal"/></svg>`)
	return w.apps.newWire(scope).by(func(w *wire) { w.id, w.back = id, back })
}

// goTo follows the link with an id.
func (w *consentWalk) goTo(id string) {
	w.t.Helper()
	said := w.run(`(() => { const e = document.getElementById(` + js(id) + `); if (!e) return 'no'; window.__before = true; setTimeout(() => e.click()); return '' })()`)
	if said != "" {
		w.t.Fatalf("there is no link %s on %s:\n%s", id, w.run("location.href"), w.text())
	}
	w.loaded(id)
}

// signingUp is somebody who comes with an app and has no account.
func (w *consentWalk) signingUp() {
	app := w.apps.newWire("atproto", "transition:generic")
	w.open(app.push("prompt", "create"))
	w.look("oauth sign up")
	w.submit("form#sign-up", "handle", "b", "email", "bea@example.com", "password", ownersPassword)
	w.look("oauth sign up refused")
	w.submit("form#sign-up", "handle", "bea", "email", "bea@example.com", "password", ownersPassword)
	w.look("oauth held")
	w.submit("form#confirm", "code", "AAAAA-AAAAA")
	w.look("oauth held refused")
	w.submit("form#confirm", "code", w.letter("bea@example.com", "Email Confirmation"))
	w.says("bea." + stageHost)
	if !w.apps.there("form#allow") { // it is being announced
		w.look("oauth held for a moment")
		session := w.ask(w.t, "POST com.atproto.server.createSession", `{"identifier":"bea.`+stageHost+`","password":"`+ownersPassword+`"}`)
		w.released(&owner{did: syntax.DID(session.text("did"))})
		w.submit("form#confirm")
	}
	w.look("oauth consent after sign up")
	w.submit("form#allow")
	if told := w.apps.told(); told.Get("code") == "" {
		w.t.Errorf("the app is told %v", told)
	}
}

// signingIn is everything that is asked of who has one.
func (w *consentWalk) signingIn() {
	w.forgetCookies()
	app := w.apps.newWire("atproto", "transition:generic")
	w.open(app.push())
	w.look("oauth sign in")
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "not it")
	w.says("Invalid identifier or password")
	w.look("oauth sign in refused")
	w.open(app.push("login_hint", "bea."+stageHost))
	w.look("oauth sign in by hint")
	if got := w.run(`document.querySelector('form#sign-in').elements.identifier.value`); got != "bea."+stageHost {
		w.t.Errorf("the hint is filled in as %q", got)
	}
	w.goTo("to-reset")
	w.look("oauth reset")
	w.submit("form#reset-request", "email", "bea@example.com")
	w.look("oauth reset code")
	w.submit("form#reset", "code", "AAAAA-AAAAA", "password", "another "+ownersPassword)
	w.look("oauth reset refused")
	w.submit("form#reset", "code", w.letter("bea@example.com", "Password Reset Requested"), "password", "another "+ownersPassword)
	w.look("oauth reset done")

	// Two accounts that the browser remembers.
	w.open(app.push("prompt", "login"))
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "another "+ownersPassword, "remember", "yes")
	w.submit("form#allow")
	dan := w.member("dan", "dan@example.com", "")
	if err := dan.server.RequestEmailConfirmation(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	confirm := w.ask(w.t, "POST com.atproto.server.confirmEmail", `{"email":"dan@example.com","token":`+js(w.letter("dan@example.com", "Email Confirmation"))+`}`, "Authorization", w.bearer("dan"))
	if confirm.status != http.StatusOK {
		w.t.Fatalf("confirm: %d %s", confirm.status, confirm.body)
	}
	w.released(dan)
	w.open(app.push("prompt", "login"))
	w.submit("form#sign-in", "identifier", "dan."+stageHost, "password", ownersPassword, "remember", "yes")
	w.submit("form#allow")
	w.open(app.push("prompt", "select_account"))
	w.says("dan." + stageHost)
	w.says("bea." + stageHost)
	w.look("oauth choose account")
	w.submit("form:has(button[value=" + js(dan.did.String()) + "])")
	w.says("dan." + stageHost)

	// Dan's password asks for a code.
	w.open(accountPages)
	w.submit("form#sign-in", "identifier", "dan."+stageHost, "password", ownersPassword)
	w.follow("Security")
	w.submit("form#app")
	w.secret = w.run(`document.querySelector('#key code').textContent`)
	w.submit("form#app-on", "code", w.appCode(w.secret, 0))
	w.open(app.push("prompt", "login", "login_hint", "dan."+stageHost))
	w.submit("form#sign-in", "identifier", "dan."+stageHost, "password", ownersPassword)
	w.look("oauth code")
	w.submit("form#code-form", "code", "000000")
	w.look("oauth code refused")
	w.submit("form#code-form", "code", w.appCode(w.secret, 1))
	w.says("dan." + stageHost)
	w.submit("form#deny")
	if told := w.apps.told(); told.Get("error") != "access_denied" {
		w.t.Errorf("the app is told %v", told)
	}
}

// accountPages are what an account's own pages say of apps, and a passkey that lets one in.
func (w *consentWalk) accountPages() {
	w.forgetCookies()
	app := w.webApp("/kept.json", "An app", "atproto transition:generic repo:com.example.event blob:image/*")
	w.open(app.push())
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "another "+ownersPassword, "remember", "yes")
	w.submit("form#allow")
	access, _ := app.tokens(app.redeem(w.apps.told().Get("code")))

	w.open(accountPages)
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "another "+ownersPassword)
	w.follow("Apps")
	w.says(appHost)
	w.look("account apps")
	w.run(`document.querySelectorAll('details').forEach(e => e.open = true); 0`)
	w.look("account apps in full")
	w.submit("#apps form.inline")
	if got, _ := app.call("GET", "com.atproto.server.getSession", "", access); !got.is("401 invalid_token") {
		w.t.Errorf("an app that was signed out: %v", got)
	}
	for w.apps.there("#browsers form") {
		w.submit("#browsers form")
	}
	w.look("account apps without browsers")
	w.open(app.push())
	if !w.apps.there("form#sign-in") {
		w.t.Errorf("a browser that was to forget:\n%s", w.text())
	}

	w.call("WebAuthn.enable", map[string]any{"enableUI": false})
	w.call("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
	}})
	w.open(accountPages + "/security")
	w.submit("form#passkey")
	w.submit("form#passkey-add", "name", "My telephone")
	w.says("My telephone")
	request := app.push("prompt", "login")
	w.open(request)
	w.look("oauth sign in by passkey")
	w.submit("form#sign-in-passkey")
	w.says("bea." + stageHost)
	w.submit("form#allow")
	if told := w.apps.told(); told.Get("code") == "" {
		w.t.Errorf("the app is told %v", told)
	}
	w.call("WebAuthn.disable", nil)
}

// consentPage opens a request with Bea signed in.
func (w *consentWalk) consentPage(app *wire) {
	w.t.Helper()
	w.open(app.push("prompt", "consent", "login_hint", "bea."+stageHost))
	if w.apps.there("form#sign-in") {
		w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "another "+ownersPassword)
	}
	if !w.apps.there("form#allow") {
		w.t.Fatalf("no consent is asked for:\n%s", w.text())
	}
}

// permissions are of every kind.
func (w *consentWalk) permissions() {
	for name, scope := range map[string]string{
		"identify":   "atproto",
		"transition": "atproto transition:generic transition:chat.bsky transition:email",
		"granular": "atproto repo:app.bsky.feed.post repo:com.example.event?action=create repo:com.example.a.very.long.name.that.does.not.fit.on.a.telephone.record " +
			"blob:image/* blob:video/mp4 rpc:app.bsky.feed.getTimeline?aud=did:web:api.bsky.app%23bsky_appview rpc:com.example.getEvents?aud=* account:email",
		"powerful": "atproto repo:* blob:*/* identity:* account:repo?action=manage account:status?action=manage account:email?action=manage",
		"handle":   "atproto identity:handle",
		"unknown":  "atproto whatever:thing another",
	} {
		w.consentPage(w.apps.newWire(strings.Fields(scope)...))
		w.look("oauth consent " + name)
	}
	const scope = "atproto transition:generic"
	w.consentPage(w.webApp("/untrusted.json", "Bluesky", scope))
	if text := w.text(); strings.Contains(text, "Bluesky wants") || !strings.Contains(text, appHost+"/untrusted.json") {
		w.t.Errorf("an app that is not trusted is shown as\n%s", text)
	}
	w.look("oauth consent web app")
	w.consentPage(w.webApp("/trusted.json", "The trusted app", scope))
	w.says("The trusted app")
	w.look("oauth consent trusted app")

	// A permission set, which somebody of this server has published.
	set, err := json.Marshal(map[string]any{
		"repo": "bea." + stageHost, "collection": "com.atproto.lexicon.schema", "rkey": "com.example.authBasic", "validate": false,
		"record": map[string]any{
			"$type": "com.atproto.lexicon.schema", "lexicon": 1, "id": "com.example.authBasic", "defs": map[string]any{"main": map[string]any{
				"type": "permission-set", "title": "Calendar " + short, "title:lang": map[string]string{"de": "Kalender"},
				"detail": "Make and read events of your calendar. " + short, "detail:lang": map[string]string{"de": "Termine lesen und anlegen."},
				"permissions": []map[string]any{
					{"type": "permission", "resource": "repo", "collection": []string{"com.example.event", "com.example.invitation"}},
					{"type": "permission", "resource": "rpc", "lxm": []string{"com.example.getEvents"}, "inheritAud": true},
				},
			}},
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	made := w.ask(w.t, "POST com.atproto.repo.createRecord", string(set), "Authorization", w.bearerOf("bea", "another "+ownersPassword))
	if made.status != http.StatusOK {
		w.t.Fatalf("publish: %d %s", made.status, made.body)
	}
	w.apps.again("PDS_LEXICON_AUTHORITY_DID=" + w.did("bea"))
	w.consentPage(w.apps.newWire("atproto", "include:com.example.authBasic?aud=did:web:example.com%23calendar"))
	w.says("Calendar")
	w.look("oauth consent set")
	if got := w.run(`String(window.__pwned)`); got != "undefined" {
		w.t.Error("the title of a permission set ran")
	}
}

func (w *consentWalk) did(name string) string {
	w.t.Helper()
	return w.ask(w.t, "GET com.atproto.identity.resolveHandle?handle="+name+"."+stageHost, "").text("did")
}

// bearerOf is bearer with another password.
func (w *consentWalk) bearerOf(name, password string) string {
	w.t.Helper()
	got := w.ask(w.t, "POST com.atproto.server.createSession", `{"identifier":"`+name+"."+stageHost+`","password":"`+password+`"}`)
	return "Bearer " + got.text("accessJwt")
}

// mistakes are requests that nothing comes of.
func (w *consentWalk) mistakes() {
	const pages = "https://" + stageHost + "/oauth/authorize"
	w.open(pages)
	w.look("oauth no request")
	app := w.apps.newWire()
	w.open(pages + "?client_id=" + "https://" + appHost + "/nothing.json&request_uri=urn:ietf:params:oauth:request_uri:req-00000000000000000000000000000000")
	w.look("oauth unknown request")
	request := app.push()
	w.open(request)
	w.submit("form#deny")
	w.open(request)
	if told := w.apps.told(); told.Get("error") != "access_denied" || !strings.Contains(told.Get("error_description"), "already") {
		w.t.Errorf("of a request that was answered the app is told %v", told)
	}
}

// inGerman are the pages for who reads German.
func (w *consentWalk) inGerman() {
	w.call("Network.setExtraHTTPHeaders", map[string]any{"headers": map[string]string{"Accept-Language": "de-AT,de;q=0.8,en;q=0.5"}})
	w.forgetCookies()
	app := w.apps.newWire("atproto", "transition:generic", "repo:com.example.event", "identity:*", "account:email?action=manage", "include:com.example.authBasic?aud=did:web:example.com%23calendar", "whatever:thing")
	request := app.push("prompt", "create")
	w.open(request)
	if got := w.run("document.documentElement.lang"); !strings.HasPrefix(got, "de") {
		w.t.Errorf("the page is in %q:\n%s", got, w.text())
	}
	w.look("oauth german sign up")
	w.submit("form#sign-up", "handle", "b", "email", "bea@example.com", "password", ownersPassword)
	w.look("oauth german sign up refused")
	request = app.push()
	w.open(request)
	w.look("oauth german sign in")
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "not it")
	w.look("oauth german sign in refused")
	w.goTo("to-reset")
	w.look("oauth german reset")
	w.open(request)
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "another "+ownersPassword)
	w.look("oauth german consent")
	w.open("https://" + stageHost + "/oauth/authorize")
	w.look("oauth german no request")
	w.call("Network.setExtraHTTPHeaders", map[string]any{"headers": map[string]string{}})
}

// ofAnOperator are the pages in an operator's colours.
func (w *consentWalk) ofAnOperator() {
	w.apps.again("PDS_SERVICE_NAME=The Moose Lodge", "PDS_LOGO_URL=https://"+appHost+"/logo.svg", "PDS_HOME_URL=https://"+appHost+"/home",
		"PDS_TERMS_OF_SERVICE_URL=https://"+appHost+"/terms", "PDS_PRIVACY_POLICY_URL=https://"+appHost+"/privacy", "PDS_SUPPORT_URL=https://"+appHost+"/help",
		"PDS_PRIMARY_COLOR=#8a1f6b", "PDS_ERROR_COLOR=rgb(200, 30, 0)", "PDS_WARNING_COLOR=#ffb000", "PDS_INFO_COLOR=#3080a0", "PDS_SUCCESS_COLOR=#2f8f2f")
	w.forgetCookies()
	app := w.webApp("/untrusted2.json", "An app", "atproto transition:generic identity:*")
	w.open(app.push())
	w.says("The Moose Lodge")
	w.look("oauth operator sign in")
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "not it")
	w.look("oauth operator sign in refused")
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "another "+ownersPassword)
	w.look("oauth operator consent")
}
