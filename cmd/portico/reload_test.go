package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/impl/mail/mailtest"
)

// A reloadable server has its settings in a file, and its log in another.
type reloadable struct {
	testing.TB
	url, file, log string
	reloads        int // that the log tells of
}

// startReloadable starts a development server whose file has these lines beside those that
// keep it apart from others.
func startReloadable(t testing.TB, lines ...string) *reloadable {
	t.Helper()
	dir := t.TempDir()
	r := &reloadable{TB: t, file: filepath.Join(dir, "env"), log: filepath.Join(dir, "log")}
	for {
		port, err := launch.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		r.write(lines...)
		c := configuration{EnvFile: r.file, Rand: rand.Reader, Now: time.Now, Environ: []string{
			"PDS_DATA_DIRECTORY=" + filepath.Join(dir, "data"), "PORTICO_LOG_FILE=" + r.log,
			"PDS_HOSTNAME=localhost", fmt.Sprint("PDS_PORT=", port), "PORTICO_PLC_PORT=0", "PORTICO_LOG_FORMAT=text",
		}}
		s, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		out := &starting{ready: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, c, s, out) }()
		select {
		case <-out.ready:
			t.Cleanup(func() {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
			r.url = s.PublicURL.String()
			return r
		case err := <-ended:
			cancel()
			if !errors.Is(err, syscall.EADDRINUSE) {
				t.Fatal(err)
			}
		}
	}
}

func (r *reloadable) write(lines ...string) {
	r.Helper()
	if err := os.WriteFile(r.file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		r.Fatal(err)
	}
}

// lines are those of the log.
func (r *reloadable) lines() []string {
	r.Helper()
	text, err := os.ReadFile(r.log)
	if err != nil {
		r.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// hangUp sends SIGHUP, waits until it was heard, and returns what the log says of it.
func (r *reloadable) hangUp() []string {
	r.Helper()
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		r.Fatal(err)
	}
	r.reloads++
	var said []string
	eventually(r, "a reload in the log", func() bool {
		said = nil
		n := 0
		for _, line := range r.lines() {
			if _, message, ok := strings.Cut(line, "msg="); ok && n == r.reloads-1 {
				said = append(said, strings.ReplaceAll(message, `\"`, `"`))
			}
			if strings.Contains(line, "settings reloaded") || strings.Contains(line, "settings were not reloaded") {
				n++
			}
		}
		return n == r.reloads
	})
	return said
}

// reload is hangUp with other lines in the file.
func (r *reloadable) reload(lines ...string) []string {
	r.Helper()
	r.write(lines...)
	return r.hangUp()
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there is never %s", what)
		}
	}
}

func (r *reloadable) expect(said []string, want ...string) {
	r.Helper()
	for _, w := range want {
		if !slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, w) }) {
			r.Errorf("the log does not say %q:\n%s", w, strings.Join(said, "\n"))
		}
	}
}

// describe is what the server tells of itself, and whether it counts requests.
func (r *reloadable) describe() (d description, counted bool) {
	r.Helper()
	answer, err := http.Get(r.url + "/xrpc/com.atproto.server.describeServer")
	if err != nil {
		r.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&d); err != nil {
		r.Fatal(err)
	}
	return d, answer.Header.Get("Ratelimit-Limit") != ""
}

type description struct {
	AvailableUserDomains []string
	InviteCodeRequired   bool
	Links                struct{ PrivacyPolicy string }
	Contact              struct{ Email string }
}

func (r *reloadable) call(method, authorization, body string) int {
	r.Helper()
	status, _, err := callServer(r.Context(), r.url, method, authorization, body)
	if err != nil && !errors.Is(err, io.EOF) { // not all answers have a body
		r.Fatal(err)
	}
	return status
}

func (r *reloadable) get(path string) {
	r.Helper()
	answer, err := http.Get(r.url + path)
	if err != nil {
		r.Fatal(err)
	}
	answer.Body.Close()
}

func (r *reloadable) signUp(handle string) int {
	r.Helper()
	return r.call("createAccount", "", fmt.Sprintf(`{"handle":%q,"email":"%s@example.com","password":"correct-horse"}`, handle, handle))
}

func adminHeader(password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+password))
}

const inviteOne = `{"useCount":1}`

// Another file of settings and SIGHUP are other limits, domains, links, mail servers,
// passwords and log lines, without a restart.
func TestReload(t *testing.T) {
	first, second := mailtest.Start(t, mailtest.Config{}), mailtest.Start(t, mailtest.Config{User: "pds", Password: "mail-secret-2", Methods: []string{"PLAIN"}})
	base := []string{"PORTICO_LOG_LEVEL=info", "PDS_ADMIN_PASSWORD=first-password-1", "PDS_EMAIL_SMTP_URL=" + first.URL().String(), "PDS_EMAIL_FROM_ADDRESS=first@pds.test"}
	r := startReloadable(t, base...)
	for i := range 3 {
		if status := r.signUp(fmt.Sprintf("early%d.test", i)); status != 200 {
			t.Fatalf("sign-up: %d", status)
		}
	}
	if d, counted := r.describe(); counted || len(d.AvailableUserDomains) != 1 || d.Links.PrivacyPolicy != "" || d.InviteCodeRequired {
		t.Fatalf("at the start: %+v, counted %t", d, counted)
	}
	if status := r.call("requestPasswordReset", "", `{"email":"early0.test@example.com"}`); status != 200 {
		t.Fatalf("reset: %d", status)
	}
	if m := first.Next(t); !strings.Contains(m.From, "first@") {
		t.Errorf("mail from %s", m.From)
	}

	said := r.hangUp()
	r.expect(said, `settings reloaded" changed=0 "need a restart"=0`)

	said = r.reload(
		"PORTICO_LOG_LEVEL=warn", "PDS_ADMIN_PASSWORD=second-password-2", "PDS_EMAIL_SMTP_URL="+second.URL().String(), "PDS_EMAIL_FROM_ADDRESS=second@pds.test",
		"PDS_RATE_LIMITS_ENABLED=true", "PDS_RATE_LIMIT_BYPASS_KEY=open-sesame-3", "PDS_SERVICE_HANDLE_DOMAINS=.test,.two.test", "PDS_PRIVACY_POLICY_URL=https://pds.test/privacy",
		"PDS_CONTACT_EMAIL_ADDRESS=help@pds.test", "PORTICO_RESERVED_HANDLES=mayor", "PORTICO_PASSWORD_MIN_LENGTH=20",
		"PDS_BLOB_UPLOAD_LIMIT=1000", "PORTICO_PHONE_MAX_TEXTS=7", "PDS_JWT_SECRET=another-secret-of-the-tokens-0123456789", "PORTICO_SIGNUP_TYPO=1",
	)
	r.expect(said,
		`"PORTICO_LOG_LEVEL is now warn"`, `"PDS_PRIVACY_POLICY_URL is now https://pds.test/privacy"`, `"PDS_EMAIL_SMTP_URL is another secret now"`,
		`"PDS_RATE_LIMIT_BYPASS_KEY is another secret now"`, `"PDS_ADMIN_PASSWORD is another secret now"`, `"PDS_SERVICE_HANDLE_DOMAINS is now .test,.two.test"`,
		`"needs a restart: PDS_BLOB_UPLOAD_LIMIT is now 1000"`, `"needs a restart: PORTICO_PHONE_MAX_TEXTS is now 7"`, `"needs a restart: PDS_JWT_SECRET is another secret now"`,
		"PORTICO_SIGNUP_TYPO is not a setting", `changed=11 "need a restart"=3`)
	d, counted := r.describe()
	if !counted || !slices.Equal(d.AvailableUserDomains, []string{".test", ".two.test"}) || d.Links.PrivacyPolicy != "https://pds.test/privacy" || d.Contact.Email != "help@pds.test" {
		t.Errorf("after the reload: %+v, counted %t", d, counted)
	}
	r.get("/quiet")
	if status := r.call("createInviteCode", adminHeader("first-password-1"), inviteOne); status != 401 {
		t.Errorf("the password from before: %d", status)
	}
	if status := r.call("createInviteCode", adminHeader("second-password-2"), inviteOne); status != 200 {
		t.Errorf("the new password: %d", status)
	}
	if status := r.signUp("short.two.test"); status != 400 {
		t.Errorf("a password that is too short now: %d", status)
	}
	if status := r.call("requestPasswordReset", "", `{"email":"early1.test@example.com"}`); status != 200 {
		t.Fatalf("reset: %d", status)
	}
	if m := second.Next(t); !strings.Contains(m.From, "second@") || m.User != "pds" {
		t.Errorf("mail from %s by %q", m.From, m.User)
	}

	// Back again, with a cap that is spent by now, and an invite that is asked for.
	said = r.reload(append(slices.Clone(base), "PORTICO_SIGNUPS_PER_DAY=1", "PORTICO_RESERVED_HANDLES=mayor", "PORTICO_LOG_LEVEL=info")...)
	r.expect(said, `"PDS_RATE_LIMITS_ENABLED is now false"`, `"PDS_PRIVACY_POLICY_URL is now unset"`, `"PDS_RATE_LIMIT_BYPASS_KEY is not set any more"`, `"need a restart"=0`)
	if d, counted := r.describe(); counted || d.Links.PrivacyPolicy != "" || len(d.AvailableUserDomains) != 1 {
		t.Errorf("back again: %+v, counted %t", d, counted)
	}
	r.get("/loud")
	eventually(t, "a line of a request", func() bool { return strings.Contains(strings.Join(r.lines(), "\n"), "/loud") })
	if status := r.signUp("mayor.test"); status != 400 {
		t.Errorf("a reserved name: %d", status)
	}
	if status := r.signUp("fits.test"); status != 200 {
		t.Errorf("the first of the day: %d", status)
	}
	if status := r.signUp("beyond.test"); status != 503 {
		t.Errorf("beyond the cap: %d", status)
	}
	r.reload(append(slices.Clone(base), "PDS_INVITE_REQUIRED=true")...)
	if d, _ := r.describe(); !d.InviteCodeRequired {
		t.Error("no invite is asked for")
	}

	// Mail can be taken away and come back.
	r.reload(base[:2]...)
	r.reload(base...)

	text := strings.Join(r.lines(), "\n")
	if strings.Contains(text, "/quiet") {
		t.Error("the log has a line below its level")
	}
	for _, secret := range []string{"first-password-1", "second-password-2", "mail-secret-2", "open-sesame-3", "another-secret"} {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// A file in which anything is wrong changes nothing, and the log has all that is.
func TestReloadOfAWrongFile(t *testing.T) {
	base := []string{"PORTICO_LOG_LEVEL=info", "PDS_ADMIN_PASSWORD=first-password-1"}
	r := startReloadable(t, base...)
	before := r.settingsSeen()
	for name, tt := range map[string]struct{ lines, want []string }{
		"wrong values": {
			[]string{"PORTICO_LOG_LEVEL=loud-secret", "PDS_PRIVACY_POLICY_URL=no url", "PDS_RATE_LIMITS_ENABLED=true", "PDS_EMAIL_SMTP_URL=smtp://pds:hunter-22@mail.test"},
			[]string{"PORTICO_LOG_LEVEL must be one of", "PDS_PRIVACY_POLICY_URL is not a URL", "PDS_EMAIL_FROM_ADDRESS is missing", `error="3 settings must be mended first"`},
		},
		"wrong, though it needs a restart": {
			[]string{"PDS_PRIVACY_POLICY_URL=https://pds.test/privacy", "PORTICO_KEY_ENCRYPTION_KEY=hunter-22"},
			[]string{"PORTICO_KEY_ENCRYPTION_KEY is not 32 bytes in hex", "those from before hold"},
		},
		"no lines of a file": {
			[]string{"PDS_PRIVACY_POLICY_URL=https://pds.test/privacy", "this is hunter-22 = no line"},
			[]string{"settings were not reloaded, those from before hold"},
		},
	} {
		said := r.reload(tt.lines...)
		r.expect(said, tt.want...)
		if after := r.settingsSeen(); after != before {
			t.Errorf("%s: %s, before %s", name, after, before)
		}
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	r.expect(r.hangUp(), "no such file")
	if after := r.settingsSeen(); after != before {
		t.Errorf("without a file: %s, before %s", after, before)
	}
	if text := strings.Join(r.lines(), "\n"); strings.Contains(text, "hunter-22") {
		t.Error("the log has a secret")
	}
	// Mended, it is taken up.
	r.expect(r.reload(append(base, "PDS_PRIVACY_POLICY_URL=https://pds.test/privacy")...), "changed=1")
}

func (r *reloadable) settingsSeen() string {
	r.Helper()
	d, counted := r.describe()
	return fmt.Sprint(d, counted, r.call("createInviteCode", adminHeader("first-password-1"), inviteOne))
}

// Whoever asks while settings change sees those from before or those after, and ten thousand
// signals are no ten thousand reloads.
func TestReloadUnderLoad(t *testing.T) {
	one := []string{"PORTICO_LOG_LEVEL=info", "PDS_SERVICE_HANDLE_DOMAINS=.one.test", "PDS_PRIVACY_POLICY_URL=https://one.test/"}
	two := []string{"PORTICO_LOG_LEVEL=info", "PDS_SERVICE_HANDLE_DOMAINS=.two.test", "PDS_PRIVACY_POLICY_URL=https://two.test/"}
	r := startReloadable(t, one...)
	stop := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				d, _ := r.describe()
				if d.Links.PrivacyPolicy != "https://one.test/" && d.Links.PrivacyPolicy != "https://two.test/" || len(d.AvailableUserDomains) != 1 {
					t.Errorf("between the settings: %+v", d)
				}
			}
		})
	}
	for i := range 10 {
		r.reload([][]string{two, one}[i%2]...)
	}
	close(stop)
	asking.Wait()

	const signals = 10_000
	r.write(two...)
	for range signals {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the last settings", func() bool {
		d, _ := r.describe()
		return d.Links.PrivacyPolicy == "https://two.test/" && slices.Equal(d.AvailableUserDomains, []string{".two.test"})
	})
	n := 0
	for _, line := range r.lines() {
		if strings.Contains(line, "settings reloaded") {
			n++
		}
	}
	t.Logf("%d signals were %d reloads", signals, n-10)
	if n-10 > signals/2 {
		t.Errorf("%d signals were %d reloads", signals, n-10)
	}
}

// The log that is moved away goes on in a new file, and nothing of it is lost.
func TestLogFile(t *testing.T) {
	r := startReloadable(t, "PORTICO_LOG_LEVEL=info")
	moved := r.log + ".1"
	r.get("/line-1")
	if err := os.Rename(r.log, moved); err != nil {
		t.Fatal(err)
	}
	r.get("/line-2")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new file", func() bool { return exists(r.log) })
	r.get("/line-3")
	all := func() string {
		t.Helper()
		old, err := os.ReadFile(moved)
		if err != nil {
			t.Fatal(err)
		}
		return string(old) + "\n-----\n" + strings.Join(r.lines(), "\n")
	}
	eventually(t, "all three lines", func() bool { return strings.Count(all(), "/line-") == 3 })
	old, now, _ := strings.Cut(all(), "-----")
	if !strings.Contains(old, "/line-1") || !strings.Contains(old, "/line-2") || !strings.Contains(now, "/line-3") {
		t.Errorf("%s\n-----\n%s", old, now)
	}

	err := failStart(t, "PDS_DATA_DIRECTORY="+t.TempDir(), "PORTICO_PLC_PORT=0", fmt.Sprint("PDS_PORT=", freePort(t)), "PORTICO_LOG_FILE="+filepath.Join(t.TempDir(), "none", "log"))
	if err == nil || !strings.Contains(err.Error(), "PORTICO_LOG_FILE") || exitStatus(err) != 78 {
		t.Errorf("a log that cannot be written: %v", err)
	}
}

// SIGHUP during a start or a stop ends nothing; one that came too early is heard afterwards.
func TestHangupEarlyAndLate(t *testing.T) {
	log, err := openLog(&settings{LogFile: filepath.Join(t.TempDir(), "log"), LogFormat: "text"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	h := watchHangups(log)
	hangUp := func() {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hangUp()
	eventually(t, "an early signal", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.missed })
	heard := make(chan struct{}, 10)
	h.serve(func() { heard <- struct{}{} })
	<-heard
	hangUp()
	<-heard
	h.serve(nil)
	hangUp()
	eventually(t, "a late signal", func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.missed })
	h.stop()
	if len(heard) > 0 {
		t.Error("it was heard after the end")
	}
}

// Each setting that SIGHUP takes up is one of those that are in force anew.
func TestReloadableSettingsAreRead(t *testing.T) {
	for _, row := range []string{"PDS_HOSTNAME", "PDS_PORT", "PDS_DATA_DIRECTORY", "PORTICO_DATABASE_URL", "PDS_JWT_SECRET", "PORTICO_KEY_ENCRYPTION_KEY", "PORTICO_LOG_FILE"} {
		if settingOf(row).reload {
			t.Errorf("%s cannot change while the server runs", row)
		}
	}
}
