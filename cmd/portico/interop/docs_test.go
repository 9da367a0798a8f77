//go:build interop

package interop

import (
	"encoding/base64"
	"encoding/json"
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

// TestDocs opens /docs in Chromium, tries describeServer from it, and looks at every
// request that the browser made. PORTICO_SCREENSHOT names a file for a picture of it.
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
	b.call("Page.navigate", map[string]any{"url": server.URL + "/docs#?route=get-/xrpc/com.atproto.server.describeServer"})

	// The viewer lives in shadow roots, which no selector reaches through.
	const all = `(function walk(root, found = []) {
		for (const e of root.querySelectorAll('*')) { found.push(e); if (e.shadowRoot) walk(e.shadowRoot, found) }
		return found
	})(document)`
	b.until("the method's button", all+`.some(e => e.tagName === 'BUTTON' && e.textContent.trim() === 'EXECUTE')`)
	b.call("Runtime.evaluate", map[string]any{
		"expression": all + `.find(e => e.tagName === 'BUTTON' && e.textContent.trim() === 'EXECUTE').click()`,
	})
	b.until("the answer", all+`.some(e => e.tagName === 'PRE' && e.textContent.includes('"availableUserDomains"') && e.textContent.includes('did:web:localhost'))`)

	if path := os.Getenv("PORTICO_SCREENSHOT"); path != "" {
		var picture struct{ Data string }
		b.result(b.call("Page.captureScreenshot", nil), &picture)
		png, err := base64.StdEncoding.DecodeString(picture.Data)
		if err == nil {
			err = os.WriteFile(path, png, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tried := false
	for _, url := range b.requests {
		if !strings.HasPrefix(url, server.URL+"/") && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asked for %s", url)
		}
		tried = tried || url == server.URL+"/xrpc/com.atproto.server.describeServer"
	}
	if !tried {
		t.Errorf("describeServer was not asked for, only %q", b.requests)
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
}

func startBrowser(t *testing.T) *browser {
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
	cmd := exec.Command(binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
		"--no-first-run", "--window-size=1400,1500", "--remote-debugging-port=0", "--remote-allow-origins=*", "--user-data-dir="+profile, "about:blank")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		// Its other processes end in their own time, and write to the profile until then.
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
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
	for deadline := time.Now().Add(30 * time.Second); port == ""; {
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

// call asks for method and notes what happened in the page until the answer.
func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	b.calls++
	if err := websocket.JSON.Send(b.conn, map[string]any{"id": b.calls, "method": method, "params": params}); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		var m struct {
			ID     int
			Method string
			Params struct {
				Request struct{ URL string }
				Entry   struct{ Level, Text, URL string }
			}
			Result json.RawMessage
			Error  json.RawMessage
		}
		b.conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if err := websocket.JSON.Receive(b.conn, &m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.ID == b.calls && m.Error != nil:
			b.t.Fatalf("%s: %s", method, m.Error)
		case m.ID == b.calls:
			return m.Result
		case m.Method == "Network.requestWillBeSent":
			b.requests = append(b.requests, m.Params.Request.URL)
		case m.Method == "Log.entryAdded" && m.Params.Entry.Level == "error":
			b.complaints = append(b.complaints, m.Params.Entry.Text+" "+m.Params.Entry.URL)
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

// until waits for an expression to be true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		var answer struct{ Result struct{ Value any } }
		b.result(b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}), &answer)
		if answer.Result.Value == true {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s did not come; the browser complains %q and asked for %q", what, b.complaints, b.requests)
		}
	}
}
