//go:build interop

package interop

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	serverapi "portico/api/atproto/server"
	"portico/cmd/portico/launch"
)

// TestPagesInUse uses all pages in Chromium as their users do: somebody who has signed up
// looks after the account until it is deleted, and the operator after the server. Each page
// is looked at on a phone and on a desk, by day and by night: axe-core may find nothing
// serious, nothing is wider than the screen, and each link, button and field is reached by
// the Tab key, and seen then. PORTICO_SCREENSHOT names a folder for pictures of them.
func TestPagesInUse(t *testing.T) {
	s := newStage(t, "PORTICO_SIGNUP_QUARANTINE=confirmed")
	w := &walk{stage: s, looked: map[string]bool{}}
	w.accountPages()
	w.consolePages()
	w.invitePages()
	for _, complaint := range s.complaints {
		// Forms that are refused, and pages that are not there, are answered with their status.
		if !strings.Contains(complaint, "the server responded with a status of 4") {
			t.Errorf("the browser complains: %s", complaint)
		}
	}
	for _, one := range s.requests {
		if !strings.HasPrefix(one, "https://"+stageHost+"/") && !strings.HasPrefix(one, s.console+"/") && !strings.HasPrefix(one, "data:") {
			t.Errorf("a page asked for %s", one)
		}
	}
	t.Logf("%d pages, %v for axe", len(w.looked), w.spent.Round(time.Millisecond))
}

type walk struct {
	*stage
	looked map[string]bool
	spent  time.Duration
}

// accountPages is the life of an account, on the pages of its owner.
func (w *walk) accountPages() {
	w.open(accountPages)
	w.look("account sign in")
	bea := w.member("bea", "bea@example.com", "Some App/1.0 (a phone with a very long name that nobody would type; rv:12.0) like others")
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", "not it")
	w.says("Invalid identifier or password")
	w.look("account sign in refused")
	if got := w.run(`document.querySelector('#identifier').value`); got != "bea."+stageHost {
		w.t.Errorf("the identifier is %q", got)
	}
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", ownersPassword)
	w.says("not confirmed")
	w.says("This account is not visible yet")
	w.look("account overview held")
	w.follow("Email")
	w.look("account email")
	w.submit("form#confirm-request")
	w.look("account email confirm")
	w.submit("form#confirm", "code", "AAAAA-AAAAA")
	w.look("account email refused")
	w.submit("form#confirm", "code", w.letter("bea@example.com", "Email Confirmation"))
	w.says("is confirmed")
	w.released(bea)
	w.follow("Account")
	w.look("account overview")

	w.follow("App passwords")
	w.says("There are none")
	w.submit("form#create", "name", "My other app", "privileged", "yes")
	app := w.run(`document.querySelector('#made code').textContent`)
	w.look("account app password made")
	w.follow("App passwords")
	if got := w.session("bea", app); got != http.StatusOK {
		w.t.Errorf("sign-in with the app password: %d", got)
	}
	w.submit("form#create", "name", "My other app")
	w.says("")
	w.look("account app password refused")

	w.follow("Sessions")
	w.says("My other app")
	w.says("Some App/1.0")
	w.look("account sessions")
	before := len(w.sessions())
	w.submit(`#sessions li:has(button:not([disabled])):not(:has(.tag)) form`)
	if got := len(w.sessions()); got != before-1 {
		w.t.Errorf("%d sessions were %d", got, before)
	}
	w.submit(`form[action="/account/sessions/end-others"]`)
	w.says("All other sessions are ended")
	if got := len(w.sessions()); got != 1 {
		w.t.Errorf("%d sessions are left", got)
	}
	if _, err := bea.server.GetSession(w.t.Context()); err == nil {
		w.t.Error("the token of a session that was ended is taken")
	}
	w.follow("App passwords")
	w.submit(`#app-passwords form`)
	w.says("There are none")
	if got := w.session("bea", app); got != http.StatusUnauthorized {
		w.t.Errorf("sign-in with an app password that was revoked: %d", got)
	}

	w.follow("Email")
	w.submit("form#factor-on")
	w.look("account email factor on")
	w.submit("form#update-request")
	w.look("account email update")
	w.submit("form#update", "email", "beatrice@example.com", "code", w.letter("bea@example.com", "Email Update Requested"))
	w.says("beatrice@example.com")
	w.says("not confirmed")
	w.submit("form#confirm-request")
	w.submit("form#confirm", "code", w.letter("beatrice@example.com", "Email Confirmation"))
	w.submit("form#factor-on")

	// Signing in takes a code now.
	w.submit("form.out")
	w.says("signed out")
	w.submit("form#sign-in", "identifier", "beatrice@example.com", "password", ownersPassword)
	w.look("account sign in code")
	w.submit("form#sign-in-code", "code", w.letter("beatrice@example.com", "Sign-in Code"))
	w.says("@bea." + stageHost)
	w.follow("Email")
	w.submit("form#factor-request")
	w.look("account email factor off")
	w.submit("form#factor-off", "code", w.letter("beatrice@example.com", "Email Update Requested"))
	w.securityPages()

	w.follow("Handle")
	w.look("account handle")
	w.submit("form#change-handle", "handle", "no handle")
	w.look("account handle refused")
	w.submit("form#change-handle", "handle", "beatrice."+stageHost)
	w.says("@beatrice." + stageHost)
	if got := w.ask(w.t, "GET com.atproto.identity.resolveHandle?handle=beatrice."+stageHost, ""); got.text("did") != bea.did.String() {
		w.t.Errorf("the new handle: %d %s", got.status, got.body)
	}

	blob := w.ask(w.t, "POST com.atproto.repo.uploadBlob", "\x89PNG\r\n\x1a\n", "Authorization", w.bearer("beatrice"))
	record := w.ask(w.t, "POST com.atproto.repo.createRecord", `{"repo":"`+bea.did.String()+`","collection":"com.example.holder","record":{"file":`+blob.raw("blob")+`}}`, "Authorization", w.bearer("beatrice"))
	if record.status != http.StatusOK {
		w.t.Fatalf("record: %d %s", record.status, record.body)
	}
	w.follow("Data")
	w.look("account data")
	w.download("form#export", ".car")
	w.download("form#blobs", "bafkrei")

	w.follow("Password")
	w.look("account password")
	w.submit("form#reset-request")
	w.look("account password code")
	w.submit("form#reset", "code", w.letter("beatrice@example.com", "Password Reset Requested"), "password", "another "+ownersPassword)
	w.says("Your password is changed")
	w.open(accountPages + "/password")
	w.look("account password forgotten")
	w.open(accountPages)
	w.submit("form#sign-in", "identifier", "beatrice."+stageHost, "password", "another "+ownersPassword)

	w.follow("Close")
	w.look("account close")
	w.submit("form#deactivate")
	w.says("is deactivated")
	w.look("account deactivated")
	w.open(accountPages)
	w.look("account overview deactivated")
	w.follow("Close")
	w.submit("form#activate")
	w.says("is active")
	w.submit("form#delete-request")
	w.look("account delete")
	w.submit("form#delete", "code", w.letter("beatrice@example.com", "Account Deletion Requested"), "password", "another "+ownersPassword)
	w.says("Your account is deleted")
	if got := w.session("beatrice", "another "+ownersPassword); got != http.StatusUnauthorized {
		w.t.Errorf("sign-in to an account that was deleted: %d", got)
	}
	w.open(accountPages + "/nothing")
	w.says("There is no page at this address")
	w.look("account no page")
}

// securityPages turns an authenticator app on, signs in with it, and turns it off.
func (w *walk) securityPages() {
	w.follow("Security")
	w.look("account security")
	w.submit("form#app")
	w.look("account authenticator")
	key := w.run(`document.querySelector('#key code').textContent`)
	w.submit("form#app-on", "code", "000000")
	w.says("not the code that the app shows")
	w.look("account authenticator refused")
	w.submit("form#app-on", "code", w.appCode(key, 0))
	w.says("These are your recovery codes")
	w.look("account recovery codes")
	recovery := w.run(`document.querySelector('#recovery-codes code').textContent`)
	w.follow("Security")
	w.look("account security on")

	w.submit("form.out")
	w.submit("form#sign-in", "identifier", "bea."+stageHost, "password", ownersPassword)
	w.says("authenticator app")
	w.look("account sign in app code")
	w.submit("form#sign-in-code", "code", "AAAAA-AAAAA")
	w.look("account sign in app code refused")
	w.submit("form#sign-in-code", "code", recovery)
	w.says("@bea." + stageHost)
	w.follow("Security")
	w.submit("form#app-off")
	w.says("no longer asks")

	// A passkey, of a telephone that the browser is.
	w.call("WebAuthn.enable", map[string]any{"enableUI": false})
	w.call("WebAuthn.addVirtualAuthenticator", map[string]any{"options": map[string]any{
		"protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true, "isUserVerified": true, "automaticPresenceSimulation": true,
	}})
	w.submit("form#passkey")
	w.look("account passkey")
	w.submit("form#passkey-add", "name", "My telephone")
	w.says("My telephone")
	w.look("account passkeys")
	w.submit("form.out")
	w.submit("form#sign-in-passkey")
	w.says("@bea." + stageHost)
	w.follow("Security")
	w.submit(`form[action="/account/security/passkey-remove"]`)
	w.says("There are none")
	w.call("WebAuthn.disable", nil)
}

// appCode is what an authenticator app shows that has that key.
func (w *walk) appCode(key string, steps int) string {
	w.t.Helper()
	code, err := totp.GenerateCode(strings.ReplaceAll(key, " ", ""), time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	return code
}

// released waits until an account is there for everybody.
func (w *walk) released(o *owner) {
	w.t.Helper()
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(50 * time.Millisecond) {
		got := w.ask(w.t, "GET com.atproto.repo.describeRepo?repo="+o.did.String(), "")
		if got.status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s is not released: %d %s", o.did, got.status, got.body)
		}
	}
}

// letter is the code of the next mail to an address with that subject. What is mailed
// meanwhile is passed over.
func (w *walk) letter(to, subject string) string {
	w.t.Helper()
	for {
		m := w.mails.Next(w.t)
		if code := mailedCode.FindString(m.Text); code != "" && m.To == to && m.Subject == subject {
			return code
		}
	}
}

// session signs in by the API and returns the status of the answer.
func (w *walk) session(name, password string) int {
	w.t.Helper()
	return w.ask(w.t, "POST com.atproto.server.createSession", `{"identifier":"`+name+"."+stageHost+`","password":"`+password+`"}`).status
}

func (w *walk) bearer(name string) string {
	w.t.Helper()
	got := w.ask(w.t, "POST com.atproto.server.createSession", `{"identifier":"`+name+"."+stageHost+`","password":"`+ownersPassword+`"}`)
	return "Bearer " + got.text("accessJwt")
}

// sessions are the lines of the page of that name.
func (w *walk) sessions() (lines []string) {
	w.t.Helper()
	w.open(accountPages + "/sessions")
	if err := json.Unmarshal([]byte(w.run(`JSON.stringify([...document.querySelectorAll('#sessions li')].map(e => e.innerText))`)), &lines); err != nil {
		w.t.Fatal(err)
	}
	return lines
}

// follow goes where a link leads of which that is the text.
func (w *walk) follow(text string) {
	w.t.Helper()
	said := w.run(`(() => {
		const link = [...document.links].find(a => a.textContent.trim() === ` + js(text) + ` && a.checkVisibility());
		if (!link) return 'no';
		window.__before = true;
		setTimeout(() => link.click());
		return '';
	})()`)
	if said != "" {
		w.t.Fatalf("there is no link %q on %s:\n%s", text, w.run("location.href"), w.text())
	}
	w.loaded(text)
}

// download sends a form that is answered with a file, of which the name has that in it.
func (w *walk) download(selector, name string) {
	w.t.Helper()
	w.took()
	w.call("Browser.setDownloadBehavior", map[string]any{"behavior": "deny"})
	w.run(`document.querySelector(` + js(selector) + `).querySelector('button').click()`)
	got := w.awaits(selector, 1, func(one seen) bool { return one.verb == http.MethodPost })
	h := got[0].header
	if got[0].status != http.StatusOK || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") || !strings.Contains(h.Get("Content-Disposition"), name) {
		w.t.Errorf("%v is %q", got[0], h.Get("Content-Disposition"))
	}
	w.run("0")
}

// consolePages is a day of the operator's.
func (w *walk) consolePages() {
	ctx := w.t.Context()
	w.took()
	w.open(publicConsole)
	if got := w.awaits("the console", 1, func(one seen) bool { return one.path == "/console" }); got[0].status != http.StatusNotFound {
		w.t.Errorf("the console is on the public origin: %v", got[0])
	}
	cora := w.member("cora", "cora@example.com", "")
	w.member("dora", "dora@never.example", "").server.RequestEmailConfirmation(ctx)
	for i := range 3 {
		w.member(fmt.Sprintf("bot%d", i), fmt.Sprintf("bot%d@flood.example", i), "")
	}
	w.open(w.console + "/console")
	w.look("console sign in")
	w.submit(`form[action="/console/sign-in"]`, "password", "not it")
	w.says("That is not the admin password")
	w.look("console sign in refused")
	w.submit(`form[action="/console/sign-in"]`, "password", stagePassword)
	w.says("The server works")
	w.look("console overview")
	w.run(`document.querySelector('details').open = true`)
	w.look("console overview numbers")

	w.follow("Quarantine")
	w.says("cora")
	w.look("console quarantine")
	w.submit("form.filters", "domain", "flood.example")
	if text := w.text(); strings.Contains(text, "cora") || strings.Count(text, "flood.example") != 3 {
		w.t.Errorf("accounts of flood.example:\n%s", text)
	}
	w.follow("Delete all of these…")
	w.says("Delete 3 accounts for good?")
	w.look("console delete quarantined")
	w.submit("main form")
	w.says("3 accounts deleted")
	w.open(w.console + "/console/quarantine")
	if text := w.text(); strings.Contains(text, "flood.example") || !strings.Contains(text, "dora") {
		w.t.Errorf("in quarantine are still\n%s", text)
	}
	w.run(`window.__before = true; setTimeout(() => document.querySelector('a[aria-label="Approve cora.` + stageHost + `"]').click()); 0`)
	w.loaded("approve cora")
	w.look("console approve quarantined")
	w.submit("main form")
	w.says("1 account approved")
	w.released(cora)

	w.follow("Accounts")
	w.look("console accounts")
	w.submit("form.filters", "q", "cora")
	w.says("cora@example.com")
	if strings.Contains(w.text(), "dora") {
		w.t.Errorf("the search found more:\n%s", w.text())
	}
	w.follow("cora." + stageHost)
	w.look("console account")
	w.follow("Take down…")
	w.look("console take down")
	w.submit("main form", "ref", "case 17")
	w.says("taken down")
	w.says("case 17")
	if _, err := cora.server.GetSession(ctx); err == nil {
		w.t.Error("the session of an account that is taken down is taken")
	}
	w.look("console account taken down")
	w.follow("Restore…")
	w.submit("main form")
	w.says("is restored")
	w.follow("Reset password…")
	w.look("console reset password")
	w.submit("main form")
	password := w.run(`document.querySelector('.copy code').textContent`)
	if got := w.session("cora", password); got != http.StatusOK {
		w.t.Errorf("sign-in with the new password: %d", got)
	}
	w.look("console new password")
	w.follow("Back to the account")
	w.follow("Change handle…")
	w.submit("main form", "handle", "corinna."+stageHost)
	w.says("corinna." + stageHost)
	w.follow("Inspect and repair…")
	w.says("Nothing is wrong with")
	w.look("console inspect")
	w.follow("Back")
	w.follow("Delete…")
	w.look("console delete")
	w.submit("main form", "typed", "somebody else")
	w.says("nothing was deleted")
	w.look("console delete refused")
	w.submit("main form", "typed", "corinna."+stageHost)
	w.says("is deleted")

	w.follow("Invites")
	w.look("console no invites")
	w.submit("main form.filters", "count", "3", "uses", "2")
	w.says("3 codes were made")
	w.look("console invites")
	w.follow("Disable…")
	w.look("console disable invite")
	w.submit("main form")
	w.says("is disabled")

	w.follow("Domains")
	w.look("console domains")
	w.submit("main > form", "domain", "nothing")
	w.look("console domain refused")
	w.submit("main > form", "domain", "people.test")
	w.says("people.test: ")
	w.run(`window.__before = true; setTimeout(() => document.querySelector('a[aria-label="Remove people.test"]').click()); 0`)
	w.loaded("remove a domain")
	w.look("console remove domain")
	w.submit("main form")
	w.says("people.test is removed")

	w.follow("Mails")
	w.says("try later")
	w.look("console mails")
	w.submit(`main form[action$="/retry"]`)
	w.says("is tried again now")
	w.follow("Delete…")
	w.look("console delete mail")
	w.submit("main form")
	w.says("is deleted")

	w.follow("Log")
	w.look("console log")
	w.follow("Budgets")
	w.submit("form.filters", "who", "203.0.113.7")
	w.look("console budgets")
	w.submit("form.filters", "who", "no such thing")
	w.look("console budgets refused")
	w.open(w.console + "/console/accounts/did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	w.look("console no account")
	w.submit("form.out")
	w.says("signed out")
	w.open(w.console + "/console/accounts")
	w.says("Admin password")
}

// invitePages are for whoever was sent a code.
func (w *walk) invitePages() {
	server := serverapi.Client{Client: w.admin.Client}
	out, err := server.CreateInviteCode(w.t.Context(), &serverapi.CreateInviteCodeInput{UseCount: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.forgetCookies()
	w.open("https://" + stageHost + "/invite/" + out.Code)
	w.says(out.Code)
	w.says(stageHost)
	w.look("invite")
	w.open("https://" + stageHost + "/invite/" + stageHost + "-aaaaa-aaaaa")
	w.says("cannot be used")
	w.look("invite of no use")
	if got := w.ask(w.t, "POST com.atproto.server.createAccount", `{"handle":"greta.`+stageHost+`","email":"greta@example.com","password":"`+ownersPassword+`","inviteCode":"`+out.Code+`"}`); got.status != http.StatusOK {
		w.t.Errorf("sign-up with the code: %d %s", got.status, got.body)
	}
	w.open("https://" + stageHost + "/invite/" + out.Code)
	w.says("cannot be used")
}

// axe is the checker.
var axe = sync.OnceValues(func() (string, error) {
	b, err := os.ReadFile(filepath.Join("node_modules", "axe-core", "axe.min.js"))
	return string(b), err
})

// A finding is one of axe-core.
type finding struct {
	ID, Impact, Help string
	Nodes            []struct {
		Target         []any
		FailureSummary string
	}
}

// look looks at the page that is shown now, whose name is that.
func (w *walk) look(name string) {
	w.t.Helper()
	if w.looked[name] {
		w.t.Errorf("%s is looked at twice", name)
	}
	w.looked[name] = true
	script, err := axe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.run(script + "; 0")
	backgrounds := map[string]bool{}
	for _, width := range []int{1280, 390} {
		w.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width == 390})
		for _, scheme := range []string{"light", "dark"} {
			w.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
				{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
			}})
			here := fmt.Sprintf("%s, %d, %s", name, width, scheme)
			if got := w.run(`document.documentElement.scrollWidth > innerWidth || innerWidth > ` + fmt.Sprint(width) + ` ? document.documentElement.scrollWidth + ' wide' : ''`); got != "" {
				w.t.Errorf("%s: it is %s", here, got)
			}
			backgrounds[w.run(`getComputedStyle(document.body).backgroundColor`)] = true
			if (width == 390) == (scheme == "light") {
				began := time.Now()
				w.check(here)
				w.spent += time.Since(began)
			}
			w.wholePicture(fmt.Sprintf("%s %d %s", name, width, scheme))
		}
	}
	if len(backgrounds) != 2 {
		w.t.Errorf("%s: backgrounds by day and night: %v", name, backgrounds)
	}
	w.tabs(name)
	w.call("Emulation.clearDeviceMetricsOverride", nil)
}

// check has axe-core look at the page.
func (w *walk) check(here string) {
	w.t.Helper()
	var answer struct {
		Result           struct{ Value string }
		ExceptionDetails json.RawMessage
	}
	w.result(w.call("Runtime.evaluate", map[string]any{
		"expression": `axe.run(document, {resultTypes: ['violations']}).then(r => JSON.stringify(r.violations))`, "awaitPromise": true, "returnByValue": true,
	}), &answer)
	var findings []finding
	if err := json.Unmarshal([]byte(answer.Result.Value), &findings); err != nil {
		w.t.Fatalf("axe: %v: %s", err, answer.ExceptionDetails)
	}
	for _, f := range findings {
		say := w.t.Logf
		if f.Impact == "serious" || f.Impact == "critical" {
			say = w.t.Errorf
		}
		for _, n := range f.Nodes {
			say("%s: %s, %s: %s: %v: %s", here, f.Impact, f.ID, f.Help, n.Target, n.FailureSummary)
		}
	}
}

var elements = regexp.MustCompile(`\s+`)

// tabs presses Tab until it is where it began, and wants to have been at all that can be
// done on the page, with something to see each time.
func (w *walk) tabs(name string) {
	w.t.Helper()
	w.run(`window.__left = new Set([...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')].filter(e => e.checkVisibility() && !e.disabled));
		document.activeElement.blur(); window.__unseen = []; document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex'); 0`)
	most := 0
	fmt.Sscan(w.run(`String(window.__left.size * 2 + 10)`), &most)
	for range most {
		for _, kind := range []string{"rawKeyDown", "keyUp"} {
			w.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9})
		}
		left := w.run(`(() => {
			const e = document.activeElement;
			if (window.__left.delete(e)) {
				const s = getComputedStyle(e), r = e.getBoundingClientRect();
				if (!(s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2) || r.bottom <= 0 || r.top >= innerHeight || r.right <= 0 || r.left >= innerWidth)
					window.__unseen.push(e.outerHTML.slice(0, 200));
			}
			return String(window.__left.size);
		})()`)
		if left == "0" {
			break
		}
	}
	if left := w.run(`[...window.__left].map(e => e.outerHTML.slice(0, 200)).join('\n')`); left != "" {
		w.t.Errorf("%s: Tab does not lead to\n%s", name, left)
	}
	if unseen := w.run(`window.__unseen.join('\n')`); unseen != "" {
		w.t.Errorf("%s: it is not to be seen that Tab led to\n%s", name, elements.ReplaceAllString(unseen, " "))
	}
}
