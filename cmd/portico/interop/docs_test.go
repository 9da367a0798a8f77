//go:build interop

package interop

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"portico/cmd/portico/launch"
)

// TestDocs does in Chromium what /docs says to do first: creates an account by the
// example, and asks for its session with the token that the page kept. It looks at every
// request that the browser made, and at whether the pages fit a phone. PORTICO_SCREENSHOT
// names a folder for pictures of them.
func TestDocs(t *testing.T) {
	server, err := launch.StartServer(t.Context(), binary, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	b := startBrowser(t)
	b.call("Page.enable", nil)
	b.call("Runtime.enable", nil)
	b.call("Network.enable", nil)
	b.call("Log.enable", nil)
	b.call("Page.navigate", map[string]any{"url": server.URL + "/docs"})

	const send = `document.querySelector('main form').requestSubmit()`
	answered := func(text string) string {
		return `document.querySelector('.status')?.textContent === '200 OK' && document.querySelector('.answer pre').textContent.includes('` + text + `')`
	}
	open := func(nsid string) {
		t.Helper()
		name := nsid[strings.LastIndexByte(nsid, '.')+1:]
		b.run(`document.querySelector('nav a[href="#` + nsid + `"]').click()`)
		b.until(nsid, `document.querySelector('h1').textContent === '`+name+`' && document.querySelector('nav a[aria-current]').hash === '#`+nsid+`'`)
	}
	b.until("the first step", `[...document.querySelectorAll('.steps .button')].some(e => e.hash === '#com.atproto.server.createAccount')`)
	b.picture("start")
	open("com.atproto.server.createAccount")
	b.run(send)
	b.until("an account", answered(`"accessJwt"`))
	b.picture("account")
	open("com.atproto.server.getSession")
	b.run(send)
	b.until("its session", answered(`"active": true`))
	b.picture("session")
	open("com.atproto.identity.resolveHandle")
	b.run(send)
	b.until("its handle", answered(`"did:plc:`))
	b.run(`location.hash = ''`)
	b.until("the steps to be done", `document.querySelectorAll('.steps .done').length === 3`)

	tried := 0
	for _, url := range b.requests {
		if !strings.HasPrefix(url, server.URL+"/") && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asked for %s", url)
		}
		if strings.HasPrefix(url, server.URL+"/xrpc/") {
			tried++
		}
	}
	if tried != 4 { // describeServer at the start, and the three
		t.Errorf("%d methods were called: %q", tried, b.requests)
	}

	// On a phone, by day and by night, nothing is wider than the screen, and the list
	// of methods is there when it is asked for.
	const fits = `document.documentElement.scrollWidth <= 390 && innerWidth === 390`
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true})
	backgrounds := map[string]bool{}
	for _, scheme := range []string{"light", "dark"} {
		b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
		for _, path := range []string{"/", "/docs", "/docs#com.atproto.identity.getRecommendedDidCredentials", "/docs#com.atproto.admin.updateSubjectStatus"} {
			b.call("Page.navigate", map[string]any{"url": "about:blank"})
			b.call("Page.navigate", map[string]any{"url": server.URL + path})
			b.until(path, `document.querySelector('h1') !== null`)
			b.until(path+" to fit", fits)
			b.picture(scheme + strings.NewReplacer("/", "-", "#", "-").Replace(path))
		}
		b.until("no list", `getComputedStyle(document.querySelector('nav')).display === 'none'`)
		b.run(`document.getElementById('menu').click()`)
		b.until("the list", `getComputedStyle(document.querySelector('nav')).display === 'block' && `+fits)
		backgrounds[b.run(`getComputedStyle(document.body).backgroundColor`)] = true
	}
	if len(backgrounds) != 2 {
		t.Errorf("backgrounds by day and night: %v", backgrounds)
	}
	for _, complaint := range b.complaints {
		t.Errorf("the browser complains: %s", complaint)
	}
}

// browser is a page of Chromium, driven by its DevTools protocol.
type browser struct {
	t          *testing.T
	conn       *websocket.Conn
	calls      int
	requests   []string // URLs, in order
	complaints []string // errors of the console
	dialogs    []string // what pages said by alert and its like, which are closed at once
}

// startBrowser starts Chromium, with switches beside those that it needs to be driven.
func startBrowser(t *testing.T, switches ...string) *browser {
	t.Helper()
	var binary string
	var err error
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if binary, err = exec.LookPath(name); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatalf("this test needs Chromium: %v", err)
	}
	profile, err := os.MkdirTemp("", "browser")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, append(switches, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
		"--no-first-run", "--window-size=1400,1500", "--remote-debugging-port=0", "--remote-allow-origins=*", "--user-data-dir="+profile, "about:blank")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		// Its other processes end in their own time, and write to the profile until then.
		for deadline := time.Now().Add(launch.Patience); ; time.Sleep(50 * time.Millisecond) {
			err := os.RemoveAll(profile)
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("Chromium does not end: %v", err)
				return
			}
		}
	})
	var port string
	for deadline := time.Now().Add(launch.Patience); port == ""; {
		if text, err := os.ReadFile(filepath.Join(profile, "DevToolsActivePort")); err == nil && strings.Contains(string(text), "\n") {
			port, _, _ = strings.Cut(string(text), "\n")
		} else if time.Now().After(deadline) {
			t.Fatal("Chromium does not say where it listens")
		} else {
			time.Sleep(50 * time.Millisecond)
		}
	}
	var pages []struct {
		Type string
		URL  string `json:"webSocketDebuggerUrl"`
	}
	get(t, "http://127.0.0.1:"+port+"/json/list", &pages)
	for _, p := range pages {
		if p.Type == "page" {
			conn, err := websocket.Dial(p.URL, "", "http://localhost/")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return &browser{t: t, conn: conn}
		}
	}
	t.Fatal("Chromium has no page")
	return nil
}

// send asks for method, and the answer has the number that it returns.
func (b *browser) send(method string, params any) int {
	b.t.Helper()
	b.calls++
	if err := websocket.JSON.Send(b.conn, map[string]any{"id": b.calls, "method": method, "params": params}); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	return b.calls
}

// call asks for method and notes what happened in the page until the answer.
func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	result, err := b.attempt(method, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// attempt is call for what Chromium may refuse.
func (b *browser) attempt(method string, params any) (json.RawMessage, error) {
	b.t.Helper()
	id := b.send(method, params)
	for {
		var m struct {
			ID     int
			Method string
			Params struct {
				Request struct{ URL string }
				Entry   struct{ Level, Text, URL string }
				Message string
			}
			Result json.RawMessage
			Error  json.RawMessage
		}
		b.conn.SetReadDeadline(time.Now().Add(launch.Patience))
		if err := websocket.JSON.Receive(b.conn, &m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.ID == id && m.Error != nil:
			return nil, fmt.Errorf("%s: %s", method, m.Error)
		case m.ID == id:
			return m.Result, nil
		case m.Method == "Network.requestWillBeSent":
			b.requests = append(b.requests, m.Params.Request.URL)
		case m.Method == "Log.entryAdded" && m.Params.Entry.Level == "error":
			b.complaints = append(b.complaints, m.Params.Entry.Text+" "+m.Params.Entry.URL)
		case m.Method == "Page.javascriptDialogOpening":
			b.dialogs = append(b.dialogs, m.Params.Message)
			b.send("Page.handleJavaScriptDialog", map[string]any{"accept": true})
		case m.Method == "Runtime.exceptionThrown":
			b.complaints = append(b.complaints, "an exception")
		}
	}
}

func (b *browser) result(from json.RawMessage, into any) {
	b.t.Helper()
	if err := json.Unmarshal(from, into); err != nil {
		b.t.Fatal(err)
	}
}

// run evaluates an expression and returns its value where that is a text.
func (b *browser) run(expression string) string {
	b.t.Helper()
	var answer struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.result(b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}), &answer)
	if answer.ExceptionDetails != nil {
		b.t.Fatalf("%.200s: %s", expression, answer.ExceptionDetails)
	}
	text, _ := answer.Result.Value.(string)
	return text
}

// picture keeps what the page looks like, if the environment says where.
func (b *browser) picture(name string) {
	b.t.Helper()
	folder := os.Getenv("PORTICO_SCREENSHOT")
	if folder == "" {
		return
	}
	var picture struct{ Data string }
	b.result(b.call("Page.captureScreenshot", nil), &picture)
	png, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, name+".png"), png, 0o666)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// until waits for an expression to be true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(50 * time.Millisecond) {
		var answer struct{ Result struct{ Value any } }
		if got, err := b.attempt("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}); err == nil { // the page may go away just now
			b.result(got, &answer)
		}
		if answer.Result.Value == true {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s did not come; the browser complains %q and asked for %q", what, b.complaints, b.requests)
		}
	}
}
