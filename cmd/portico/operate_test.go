package main

import (
	"context"
	encoding "encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v3"

	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
)

// standIn is a server that answers whatever is asked of it, and the environment that
// makes the commands ask it.
func standIn(t *testing.T, answer http.HandlerFunc) (environ []string) {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return []string{"ATP_PDS_HOST=" + s.URL, "PDS_ADMIN_PASSWORD=secret"}
}

// What a server answers decides the status that scripts see, and what people read.
func TestAnswersOfTheServer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter)
		status int
		err    string // HOST stands for the server
	}{
		{"unknown account", failing(400, "AccountNotFound", "Could not find account"), 3, "there is no account alice.test"},
		{"wrong password", failing(401, "AuthenticationRequired", "Authentication Required"), 4, "HOST refuses the admin password (from PDS_ADMIN_PASSWORD)"},
		{"refused", failing(400, "InvalidRequest", "Not today"), 4, "the server refused: Not today"},
		{"refused by name", failing(400, "InvalidHandle", "Not today"), 4, "the server refused: Not today (InvalidHandle)"},
		{"refused without words", failing(403, "", ""), 4, "the server refused: 403"},
		{"too many requests", failing(429, "RateLimitExceeded", "Rate Limit Exceeded"), 4, "the server refused: Rate Limit Exceeded (RateLimitExceeded)"},
		{"another server", failing(400, "InvalidRequest", "No service configured for alt.portico.operator.getAccount"), 4, "HOST does not know the method: is it a Portico, of this version?"},
		{"an older server", failing(501, "MethodNotImplemented", "Method Not Implemented"), 4, "HOST does not know the method: is it a Portico, of this version?"},
		{"no server of the kind", func(w http.ResponseWriter) { http.Error(w, "<h1>Not found</h1>", 404) }, 4, "HOST does not know the method: is it a Portico, of this version?"},
		{"broken", failing(500, "InternalServerError", "Internal Server Error"), 1, "the server failed: Internal Server Error (InternalServerError)"},
		{"directory away", failing(502, "UpstreamFailure", "Unable to perform PLC operation"), 1, "another server, which this one needs, failed it: Unable to perform PLC operation. Which and why stands in the log of HOST; what concerns DIDs goes to the PLC directory (PDS_DID_PLC_URL)"},
		{"no lexicon", func(w http.ResponseWriter) { fmt.Fprint(w, `{"did":"did:plc:x"}`) }, 1, "answer of alt.portico.operator.getAccount: "},
		{"sent elsewhere", func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://pds.example.com/xrpc/x")
			w.WriteHeader(301)
		}, 1, "HOST sends elsewhere, to https://pds.example.com/xrpc/x: name that with --pds-host"},
		{"nasty words", failing(400, "InvalidRequest", "\x1b[2J"), 4, `the server refused: "\x1b[2J"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			environ := standIn(t, func(w http.ResponseWriter, r *http.Request) {
				if user, password, _ := r.BasicAuth(); user != "admin" || password != "secret" {
					t.Errorf("authorization %s:%s", user, password)
				}
				tt.answer(w)
			})
			out, _, err := portico(t, environ, "account", "show", "alice.test")
			want := strings.ReplaceAll(tt.err, "HOST", strings.TrimPrefix(environ[0], "ATP_PDS_HOST="))
			if err == nil || !strings.HasPrefix(err.Error(), want) || exitStatus(err) != tt.status || out != "" {
				t.Errorf("ends with %d: %v\nwant %d: %s", exitStatus(err), err, tt.status, want)
			}
		})
	}
}

// A server with another rotation key than the DIDs have says what account repair says,
// and not what the directory does.
func TestAnotherRotationKey(t *testing.T) {
	dir := t.TempDir()
	environ := func(s *settings) []string {
		return []string{"PDS_DATA_DIRECTORY=" + dir, "PDS_PORT=" + strconv.Itoa(s.Port)}
	}
	s, stop := startFor(t, "PDS_DATA_DIRECTORY="+dir)
	out, _, err := portico(t, environ(s), "account", "create", "alice.test", "alice@example.com", "--json")
	if err != nil {
		t.Fatal(out, err)
	}
	stop()
	s, _ = startFor(t, "PDS_DATA_DIRECTORY="+dir, "PDS_PORT="+strconv.Itoa(s.Port), "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=5c1d9a4e0b7f38261a9d4c7e2f60b58313e8a7c6d5f4b3a2918070605f4e3d2c")
	_, _, err = portico(t, environ(s), "account", "update", "alice.test", "--handle", "alicia.test")
	const sentence = "The rotation keys of the DID do not include that of this server, did:key:zQ3sh"
	if err == nil || exitStatus(err) != 4 || !strings.HasPrefix(err.Error(), "the PLC directory refused: "+sentence) ||
		!strings.HasSuffix(err.Error(), ", so this server cannot change the DID. Its owner has to add the key with one of theirs.") {
		t.Errorf("ends with %d: %v", exitStatus(err), err)
	}
	out, _, err = portico(t, environ(s), "account", "repair", "alice.test", "--dry-run")
	if err == nil || !strings.Contains(out, sentence) {
		t.Errorf("repair says %s, %v", out, err)
	}
}

func failing(status int, name, message string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.WriteHeader(status)
		if name != "" {
			encoding.NewEncoder(w).Encode(map[string]string{"error": name, "message": message})
		}
	}
}

// What strangers chose can do nothing to a terminal.
func TestTablesArePrintable(t *testing.T) {
	environ := standIn(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"entries":[{"at":"2026-01-02T03:04:05Z","actor":"stranger","event":"sign_in_failed","detail":"\u001b]0;x\u0007"}]}`)
	})
	got, _, err := portico(t, environ, "account", "log", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	want := `TIME                  EVENT           ACTOR     ADDRESS  DETAIL
2026-01-02 03:04:05Z  sign_in_failed  stranger  -        "\x1b]0;x\a"
`
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
}

// What an account has spent is one line a budget.
func TestBudgetTable(t *testing.T) {
	environ := standIn(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"budgets":[{"kind":"failed-passwords/visitors/strangers","spent":61,"limit":50,"resetAt":"2026-01-02T03:04:05Z","protects":"a password from being guessed"}]}`)
	})
	got, _, err := portico(t, environ, "budget", "show", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	want := `BUDGET                               SPENT     UNTIL                 PROTECTS
failed-passwords/visitors/strangers  61 of 50  2026-01-02 03:04:05Z  a password from being guessed
`
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
}

// The same holds for JSON, which stays what it was for whoever reads it.
func TestJSONIsPrintable(t *testing.T) {
	const detail = "\u009b2J \x7f \u202eevil \U000e0001 caf\u00e9\n"
	environ := standIn(t, func(w http.ResponseWriter, r *http.Request) {
		encoding.NewEncoder(w).Encode(map[string]any{"entries": []map[string]string{
			{"at": "2026-01-02T03:04:05Z", "actor": "stranger", "event": "sign_in_failed", "detail": detail},
		}})
	})
	got, _, err := portico(t, environ, "account", "log", "--json", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	want := `"detail": "\u009b2J \u007f \u202eevil \udb40\udc01 café\n"`
	if err != nil || !strings.Contains(got, want) {
		t.Errorf("%v\n%s\nwant %s", err, got, want)
	}
	var out struct {
		Entries []struct{ Detail string }
	}
	if err := encoding.Unmarshal([]byte(got), &out); err != nil || out.Entries[0].Detail != detail {
		t.Errorf("read back as %+v: %v", out, err)
	}
}

// What ends a command may quote who answered in place of the server.
func TestErrorsArePrintable(t *testing.T) {
	for text, want := range map[string]string{
		"plain, of\n\ttwo lines": "plain, of\n\ttwo lines",
		"valid for \x1b[2J.com":  `valid for \u001b[2J.com`,
		"\u009b \r \xff":         `\u009b \u000d \ufffd`,
	} {
		if got := legible(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}

// The password of the server that the settings describe goes to no other.
func TestPasswordOfAnotherServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(file, []byte("PDS_HOSTNAME=pds.example.com\nPDS_ADMIN_PASSWORD=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := []string{"PDS_HOSTNAME=pds.example.com", "PDS_ADMIN_PASSWORD=secret"}
	for _, tt := range []struct {
		name           string
		environ        []string
		file           string
		host, password string
		sent           string // "": to nobody
	}{
		{"from a file, to another", nil, file, "https://pds.example.org", "", ""},
		{"from a file, to another of the environment", []string{"ATP_PDS_HOST=https://pds.example.org"}, file, "", "", ""},
		{"from the environment, to another", settings, "", "https://pds.example.org", "", ""},
		{"from a file, to its server", nil, file, "https://PDS.example.com:8443", "", "secret"},
		{"from a file, to its server here", nil, file, "http://localhost:2583", "", "secret"},
		{"from a file, to its server in the network", nil, file, "http://10.0.0.5:2583", "", "secret"},
		{"from elsewhere than the file", []string{"PDS_ADMIN_PASSWORD=other"}, file, "https://pds.example.org", "", "other"},
		{"given", settings, file, "https://pds.example.org", "other", "other"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := configuration{Environ: tt.environ, EnvFile: tt.file, Now: time.Now}.target(tt.host, tt.password)
			if tt.sent != "" {
				if err != nil || string(got.password) != tt.sent {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			const want = "the admin password in PDS_ADMIN_PASSWORD is that of pds.example.com, not of https://pds.example.org"
			if err == nil || exitStatus(err) != 2 || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// Who does not learn what became of a sign-up is told that the password is lost.
func TestSignUpOfUnknownEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(http.ResponseWriter)
		lost   bool
	}{
		"failed":   {failing(502, "UpstreamFailure", "Unable to perform PLC operation"), true},
		"hangs up": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, true},
		"refused":  {failing(400, "InvalidRequest", "Email already taken: a@example.com"), false},
	} {
		environ := standIn(t, func(w http.ResponseWriter, r *http.Request) { tt.answer(w) })
		_, errs, err := portico(t, environ, "account", "create", "alice.test", "a@example.com")
		if err == nil || strings.Contains(errs, "account reset-password") != tt.lost {
			t.Errorf("%s: %v\n%s", name, err, errs)
		}
	}
}

// Nothing is done to an account that may come to be in the next moment.
func TestAccountUnderCreation(t *testing.T) {
	environ := standIn(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".getAccount") {
			t.Error("the server was asked", r.URL)
		}
		fmt.Fprint(w, `{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","handle":"alice.test","status":"creating","emailAuthFactor":false,`+
			`"invitesDisabled":false,"createdAt":"2026-01-02T03:04:05Z"}`)
	})
	for _, command := range []string{
		"takedown", "restore", "deactivate", "activate", "delete --yes", "reset-password", "disable-2fa", "update --handle bob.test",
	} {
		_, _, err := portico(t, environ, append([]string{"account"}, append(strings.Fields(command), "alice.test")...)...)
		const want = "alice.test is under creation: what can be done about that, account repair says"
		if err == nil || exitStatus(err) != 4 || err.Error() != want {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// Lists are read in as many pages as they have, and no more of them than is wanted.
func TestListsArePaged(t *testing.T) {
	const all = 1200
	for _, tt := range []struct {
		args     []string
		listed   int
		requests string
		more     bool
	}{
		{nil, 100, "100", true},
		{[]string{"--all"}, all, "500 500 500", false},
		{[]string{"--limit", "2000"}, all, "500 500 500", false},
		{[]string{"--limit", "1200"}, all, "500 500 200", false},
		{[]string{"--limit", "1199"}, 1199, "500 500 199", true},
		{[]string{"--limit", "5"}, 5, "5", true},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var limits []string
			environ := standIn(t, func(w http.ResponseWriter, r *http.Request) {
				limit, _ := strconv.Atoi(r.FormValue("limit"))
				from, _ := strconv.Atoi(r.FormValue("cursor"))
				limits = append(limits, r.FormValue("limit"))
				out := new(strings.Builder)
				for i := from; i < min(from+limit, all); i++ {
					if i > from {
						out.WriteString(",")
					}
					fmt.Fprintf(out, `{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","handle":"a%d.test","status":"active",`+
						`"emailAuthFactor":false,"invitesDisabled":false,"createdAt":"2026-01-02T03:04:05Z"}`, i)
				}
				cursor := ""
				if from+limit < all {
					cursor = fmt.Sprintf(`"cursor":"%d",`, from+limit)
				}
				fmt.Fprintf(w, `{%s"accounts":[%s]}`, cursor, out)
			})
			out, errs, err := portico(t, environ, append([]string{"account", "list"}, tt.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(out, "\n") - 1; n != tt.listed {
				t.Errorf("%d accounts, want %d", n, tt.listed)
			}
			if got := strings.Join(limits, " "); got != tt.requests {
				t.Errorf("asked for pages of %s, want %s", got, tt.requests)
			}
			if got := strings.Contains(errs, "There are more"); got != tt.more {
				t.Errorf("says that there are more: %v", got)
			}
		})
	}
}

// Who interrupts a command is not told that the server is away.
func TestInterruptedCommand(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	environ := standIn(t, func(_ http.ResponseWriter, r *http.Request) {
		stop()
		<-r.Context().Done()
	})
	err := newCommand(environ, new(strings.Builder), new(strings.Builder)).Run(ctx, []string{"portico", "account", "list"})
	if err == nil || exitStatus(err) != 1 || !strings.HasPrefix(err.Error(), "interrupted; ") {
		t.Errorf("got %v", err)
	}
}

// A server that anybody could be gets no password.
func TestUntrustedServer(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Error("the server was asked", r.URL)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	_, _, err := portico(t, []string{"PDS_ADMIN_PASSWORD=secret"}, "account", "list", "--pds-host", s.URL)
	want := "who answers at " + s.URL + " does not prove to be that server: "
	if err == nil || exitStatus(err) != 5 || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestHostOfTheServer(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"https://pds.example.com", "https://pds.example.com"},
		{"https://pds.example.com/", "https://pds.example.com"},
		{"pds.example.com", "https://pds.example.com"},
		{"pds.example.com:8443", "https://pds.example.com:8443"},
		{"http://10.0.0.5:2583", "http://10.0.0.5:2583"},
		{"localhost", "http://localhost"},
		{"localhost:2583", "http://localhost:2583"},
		{"127.0.0.1:2583", "http://127.0.0.1:2583"},
		{"[::1]:2583", "http://[::1]:2583"},
		{"https://localhost:2583", "https://localhost:2583"},
		{"ftp://pds.example.com", ""},
		{"https://admin:secret@pds.example.com", ""},
		{"https://pds.example.com/xrpc", ""},
		{"https://pds.example.com?x=1", ""},
		{"https://", ""},
		{"pds example com", ""},
	} {
		got, err := parseHost(tt.text)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v, want %q", tt.text, got, err, tt.want)
		}
		if err != nil && exitStatus(err) != 2 {
			t.Errorf("%q: ends with %d", tt.text, exitStatus(err))
		}
	}
}

// Without encryption the password goes to this machine and its own network alone,
// whatever name leads there.
func TestPlainConnections(t *testing.T) {
	for _, tt := range []struct {
		address string
		allowed bool
	}{
		{"127.0.0.1:2583", true},
		{"[::1]:2583", true},
		{"[::ffff:127.0.0.1]:2583", true},
		{"0.0.0.0:2583", true},
		{"10.1.2.3:80", true},
		{"172.17.0.2:80", true},
		{"192.168.1.2:80", true},
		{"[fd00::1]:80", true},
		{"[fe80::1%eth0]:80", true},
		{"203.0.113.1:80", false},
		{"[2001:db8::1]:80", false},
		{"[::ffff:203.0.113.1]:80", false},
		{"172.32.0.1:80", false},
	} {
		if err := onlyPrivate("tcp", tt.address, nil); (err == nil) != tt.allowed || err != nil && !errors.Is(err, errPlain) {
			t.Errorf("%s: %v", tt.address, err)
		}
	}
}

// Where nobody names a server, it is the one that the settings describe.
func TestServerOfTheSettings(t *testing.T) {
	for _, tt := range []struct {
		name    string
		environ []string
		host    string
	}{
		{"default", nil, "http://127.0.0.1:2583"},
		{"port", []string{"PDS_PORT=3000"}, "http://127.0.0.1:3000"},
		{"all interfaces", []string{"PORTICO_BIND=0.0.0.0"}, "http://127.0.0.1:2583"},
		{"one interface", []string{"PORTICO_BIND=192.0.2.7"}, "http://192.0.2.7:2583"},
		{"IPv6", []string{"PORTICO_BIND=::1"}, "http://[::1]:2583"},
		{"host name of the server", []string{"PDS_HOSTNAME=pds.example.com"}, "http://127.0.0.1:2583"},
		{"named", []string{"PDS_HOST=https://pds.example.com"}, "https://pds.example.com"},
		{"named twice", []string{"PDS_HOST=a.example.com", "ATP_PDS_HOST=b.example.com"}, "https://b.example.com"},
		{"empty name", []string{"PDS_HOST="}, "http://127.0.0.1:2583"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := configuration{Environ: append(tt.environ, "PDS_ADMIN_PASSWORD=secret"), Now: time.Now}.target("", "")
			if err != nil || got.host != tt.host || got.password != "secret" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// The key that request limits are bypassed with goes where the password goes, and an
// admin password given by hand takes none along.
func TestBypassKeyGoesWithThePassword(t *testing.T) {
	var got []string
	host := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Header.Get("x-ratelimit-bypass"))
		io.WriteString(w, `{"accounts":[]}`)
	}))
	defer host.Close()
	environ := []string{"PDS_ADMIN_PASSWORD=operator password", "PDS_RATE_LIMIT_BYPASS_KEY=bypass key"}
	if _, errs, err := portico(t, environ, "account", "list", "--pds-host", host.URL); err != nil {
		t.Fatal(err, errs)
	}
	if _, errs, err := portico(t, environ, "account", "list", "--pds-host", host.URL, "--admin-password", "another"); err != nil {
		t.Fatal(err, errs)
	}
	if want := []string{"bypass key", ""}; !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// What goes through all that an account has takes as long as that takes; other answers
// are waited for a minute.
func TestPatience(t *testing.T) {
	const account = `{"did":"did:plc:aaaaaaaaaaaaaaaaaaaaaaaa","handle":"alice.test","status":"active","createdAt":"2026-03-01T12:00:00.000Z",` +
		`"emailConfirmed":true,"emailAuthFactor":false,"invitesDisabled":false,"invites":[]}`
	answers := map[string]string{
		"getAccount": account, "listAccounts": `{"accounts":[` + account + `]}`,
		"verifyRepo": `{"records":0,"nodes":1,"findings":[]}`, "listBlobs": `{"blobs":[]}`, "importRepo": ``,
		"inspectAccount": `{"findings":[{"name":"repo_index","message":"","repairable":true}]}`, "repairAccount": `{"repaired":[],"remaining":[]}`,
	}
	file := filepath.Join(t.TempDir(), "alice.car")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		do   func(context.Context, *console, *cli.Command) error
		want string // the methods, those with a * that are waited for
	}{
		{"repo verify", []string{"alice.test"}, verifyRepos, "getAccount verifyRepo*"},
		{"repo verify --all", []string{"--all"}, verifyRepos, "listAccounts verifyRepo*"},
		{"repo import", []string{"--yes", "alice.test", file}, importRepo, "getAccount importRepo* getAccount"},
		{"blob verify", []string{"alice.test"}, verifyBlobs, "getAccount listBlobs*"},
		{"account repair", []string{"--yes", "alice.test"}, repairAccount, "getAccount inspectAccount* repairAccount*"},
	} {
		var called []string
		con := &console{out: io.Discard, errs: io.Discard, operator: &operatorapi.Client{Client: xrpc.Client{
			Host: "https://pds.example.com",
			HTTP: &http.Client{Timeout: time.Minute, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				method := path.Ext(r.URL.Path)[1:]
				answer := answers[method]
				if _, ends := r.Context().Deadline(); !ends {
					method += "*"
				}
				called = append(called, method)
				return &http.Response{
					StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r,
				}, nil
			})},
		}}}
		command := &cli.Command{
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "yes"}, &cli.BoolFlag{Name: "all"}},
			Action: func(ctx context.Context, c *cli.Command) error { return tt.do(ctx, con, c) },
		}
		if err := command.Run(t.Context(), append([]string{"command"}, tt.args...)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := strings.Join(called, " "); got != tt.want {
			t.Errorf("%s: calls %s, want %s", tt.name, got, tt.want)
		}
	}
}
