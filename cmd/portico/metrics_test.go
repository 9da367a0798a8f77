package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const profiles = "/debug/pprof/"

// askFor asks for a path, by a Host and with headers of its own.
func askFor(t *testing.T, verb, address, path, host string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), verb, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// Profiles are where they were asked for, and nowhere else: net/http/pprof, which is
// linked in, puts them into http.DefaultServeMux too.
func TestProfiling(t *testing.T) {
	plc, metrics := freePort(t), freePort(t)
	address := fmt.Sprint("127.0.0.1:", metrics)
	ports := []string{"PDS_DATA_DIRECTORY=" + t.TempDir(), fmt.Sprint("PORTICO_PLC_PORT=", plc)}
	notPublic := func(s *settings) {
		t.Helper()
		for _, port := range []int{s.Port, plc} {
			for _, path := range []string{profiles, profiles + "heap", profiles + "cmdline"} {
				at := fmt.Sprint("127.0.0.1:", port)
				if status, body := askFor(t, "GET", at, path, at); status != 404 {
					t.Errorf("%s of port %d: %d %s", path, port, status, body)
				}
			}
		}
	}

	s, stop := startFor(t, ports...)
	notPublic(s)
	if c, err := net.Dial("tcp", address); err == nil {
		c.Close()
		t.Error("something listens that nobody asked for")
	}
	stop()

	s, stop = startFor(t, append(ports, "PORTICO_METRICS_BIND="+address)...)
	notPublic(s)
	if status, body := askFor(t, "GET", address, profiles, address); status != 404 {
		t.Errorf("without PORTICO_PROFILING: %d %s", status, body)
	}
	stop()

	s, _ = startFor(t, append(ports, "PORTICO_METRICS_BIND="+address, "PORTICO_PROFILING=true")...)
	notPublic(s)
	for _, host := range []string{address, fmt.Sprint("localhost:", metrics), fmt.Sprintf("[::1]:%d", metrics)} {
		if status, body := askFor(t, "GET", address, profiles, host); status != 200 || !strings.Contains(body, "goroutine") {
			t.Errorf("by %s: %d %s", host, status, body)
		}
	}
	for _, path := range []string{"heap", "profile?seconds=1"} {
		status, body := askFor(t, "GET", address, profiles+path, address)
		packed, err := gzip.NewReader(strings.NewReader(body))
		if status != 200 || err != nil {
			t.Errorf("%s: %d %.100q", path, status, body)
			continue
		}
		if profile, err := io.ReadAll(packed); err != nil || !bytes.Contains(profile, []byte("nanoseconds")) && !bytes.Contains(profile, []byte("inuse_space")) {
			t.Errorf("%s is no profile: %v", path, err)
		}
	}

	// Pages that the operator's browser shows get nothing.
	for _, host := range []string{"example.com", fmt.Sprint("example.com:", metrics), "localhost", "127.0.0.1", fmt.Sprint("localhost:", s.Port), fmt.Sprint("10.0.0.1:", metrics), fmt.Sprint("127.0.0.1.example.com:", metrics)} {
		if status, body := askFor(t, "GET", address, profiles+"heap", host); status != 403 || body != "ask for localhost or an address of loopback, with the port\n" {
			t.Errorf("by %s: %d %.100q", host, status, body)
		}
	}
	for site, want := range map[string]int{"none": 200, "same-origin": 200, "same-site": 403, "cross-site": 403} {
		if status, body := askFor(t, "GET", address, profiles, address, "Sec-Fetch-Site", site); status != want {
			t.Errorf("%s: %d %.100q", site, status, body)
		}
	}
	for _, verb := range []string{"POST", "OPTIONS", "DELETE", "HEAD"} {
		if status, body := askFor(t, verb, address, profiles+"symbol", address); status != 405 {
			t.Errorf("%s: %d %.100q", verb, status, body)
		}
	}
}

// Two servers can't have the same listener, and the message names the setting.
func TestMetricsPortInUse(t *testing.T) {
	err := failStart(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_PLC_PORT=0", fmt.Sprint("PDS_PORT=", freePort(t)),
		fmt.Sprint("PORTICO_METRICS_BIND=127.0.0.1:", takenPort(t)))
	if err == nil || !strings.Contains(err.Error(), "listen (PORTICO_METRICS_BIND): ") {
		t.Errorf("it ended with %v", err)
	}
}
