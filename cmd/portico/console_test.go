package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
)

// The console is where it was asked for, and nowhere else.
func TestConsole(t *testing.T) {
	plc, port := freePort(t), freePort(t)
	address := fmt.Sprint("127.0.0.1:", port)
	own := []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), fmt.Sprint("PORTICO_PLC_PORT=", plc)}
	paths := []string{"/console", "/console/", "/console/sign-in", "/console/accounts", "/console/x/y"}

	s, stop := startFor(t, own...)
	public := fmt.Sprint("localhost:", s.Port)
	for _, path := range paths {
		for _, verb := range []string{"GET", "POST", "PUT"} {
			if status, body := askFor(t, verb, public, path, public, "Accept", "text/html"); status != 404 && !(status == 405 && verb == "PUT") || strings.Contains(body, "assword") {
				t.Errorf("%s %s of the public origin, where there is no console: %d %s", verb, path, status, body)
			}
		}
	}
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("something listens that nobody asked for")
	}
	stop()

	s, stop = startFor(t, append(own, "PORTICO_CONSOLE_BIND="+address)...)
	public = fmt.Sprint("localhost:", s.Port)
	if status, _ := askFor(t, "GET", public, "/console/sign-in", public); status != 404 {
		t.Errorf("on the public origin too: %d", status)
	}
	for host, want := range map[string]int{address: 200, fmt.Sprint("localhost:", port): 200, "evil.example": 404, "alice.test": 404, public: 404} {
		if status, body := askFor(t, "GET", address, "/console/sign-in", host); status != want || want == 200 && !strings.Contains(body, "Admin password") {
			t.Errorf("by %s: %d %s", host, status, body)
		}
	}
	if status, _ := askFor(t, "GET", address, "/xrpc/_health", address); status != 404 {
		t.Errorf("methods are served there: %d", status)
	}
	stop()

	s, _ = startFor(t, append(own, "PORTICO_CONSOLE=public")...)
	public = fmt.Sprint("localhost:", s.Port)
	for host, want := range map[string]int{public: 200, "alice.test": 404, fmt.Sprint("alice.test:", s.Port): 404, "evil.example": 404} {
		if status, body := askFor(t, "GET", public, "/console/sign-in", host); status != want || want == 200 && !strings.Contains(body, "Admin password") {
			t.Errorf("public, by %s: %d %s", host, status, body)
		}
	}
	answer, err := http.Get("http://" + public + "/console/sign-in")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if h := answer.Header; h.Get("Access-Control-Allow-Origin") != "" || h.Get("X-Frame-Options") != "DENY" || !strings.Contains(h.Get("Set-Cookie"), "SameSite=Strict") {
		t.Errorf("header %v", h)
	}
}

// Nobody has the console at an address that others reach.
func TestConsoleBindIsLoopback(t *testing.T) {
	for value, want := range map[string]string{
		"127.0.0.1:9101": "", "[::1]:9101": "", "127.0.0.1:0": "PORTICO_CONSOLE_BIND is not an address of loopback and a port",
		"0.0.0.0:9101": "PORTICO_CONSOLE_BIND is not an address of loopback and a port", "192.168.0.2:9101": "PORTICO_CONSOLE_BIND is not an address of loopback and a port",
		"localhost:9101": "PORTICO_CONSOLE_BIND is not an address of loopback and a port", ":9101": "PORTICO_CONSOLE_BIND is not an address of loopback and a port",
	} {
		_, err := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), "PORTICO_CONSOLE_BIND=" + value}}.read()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
	_, err := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), "PORTICO_CONSOLE=yes"}}.read()
	if err == nil || !strings.Contains(err.Error(), "PORTICO_CONSOLE must be one of off, public") {
		t.Errorf("PORTICO_CONSOLE=yes: %v", err)
	}
}
