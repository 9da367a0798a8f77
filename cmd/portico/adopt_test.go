package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/impl/reference/adopt"
	"portico/impl/reference/referencetest"
)

// oldSettings writes a settings file of a reference PDS, with what it cannot do without.
func oldSettings(t *testing.T, lines ...string) *referenceEnv {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pds.env")
	text := "PDS_HOSTNAME=pds.example.com\nPDS_JWT_SECRET=0f1e2d3c4b5a69788796a5b4c3d2e1f0\nPDS_ADMIN_PASSWORD=0123456789abcdef\n" +
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n" +
		"PDS_DATA_DIRECTORY=/pds\nPDS_BLOBSTORE_DISK_LOCATION=/pds/blocks\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := readReferenceEnv(path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Docker takes what stands behind the = as it is.
func TestReferenceEnv(t *testing.T) {
	e := oldSettings(t, "# PDS_PORT=1", "", "  PDS_SERVICE_NAME=A # of $HOME", "PDS_LOGO_URL=", `PDS_CONTACT_EMAIL_ADDRESS=a"b'c@example.com`+"\r")
	for name, want := range map[string]string{
		"PDS_SERVICE_NAME": "A # of $HOME", "PDS_LOGO_URL": "", "PDS_PORT": "", "PDS_CONTACT_EMAIL_ADDRESS": `a"b'c@example.com`,
	} {
		if got := e.value(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, line := range []string{`PDS_JWT_SECRET="0f1e2d3c4b5a6978"`, `PDS_JWT_SECRET='0f1e2d3c4b5a6978'`, "PDS_JWT_SECRET", "PDS-JWT=a", "PDS_JWT_SECRET=a\x00"} {
		path := filepath.Join(t.TempDir(), "pds.env")
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readReferenceEnv(path)
		if err == nil || !strings.HasPrefix(err.Error(), path+":1: ") || strings.Contains(err.Error(), "0f1e2d") {
			t.Errorf("%q: %v", line, err)
		}
	}
}

// What docker compose would make something else of is told, and of the secret of the tokens
// it is to be shown that it is meant.
func TestReferenceEnvAmbiguous(t *testing.T) {
	e := oldSettings(t, "PDS_SERVICE_NAME=A # of us", "PDS_PORT=3000", "PDS_ADMIN_PASSWORD=pa$$word0123456789", "PDS_HOME_URL= https://new.example.com",
		"PDS_LOGO_URL=https://new.example.com/#logo")
	want := []string{"PDS_SERVICE_NAME", "PDS_ADMIN_PASSWORD", "PDS_HOME_URL"}
	if diff := cmp.Diff(want, e.ambiguous()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	a := &adopter{old: e}
	if err := a.checkAmbiguous(); err != nil || len(a.found) != 1 || !strings.HasSuffix(a.found[0].Text, ": PDS_SERVICE_NAME, PDS_ADMIN_PASSWORD, PDS_HOME_URL") {
		t.Errorf("found %+v, %v", a.found, err)
	}
	a = &adopter{old: oldSettings(t, "PDS_JWT_SECRET=0f1e2d3c4b5a6978$8796a5b4c3d2e1f0")}
	if err := a.checkAmbiguous(); err == nil || !strings.HasPrefix(err.Error(), "PDS_JWT_SECRET in ") || strings.Contains(err.Error(), "0f1e2d") {
		t.Errorf("a secret that may be another: %v", err)
	}
	a.token = "of an app"
	if err := a.checkAmbiguous(); err != nil || len(a.found) != 1 {
		t.Errorf("a secret that is shown to be the one: %+v, %v", a.found, err)
	}
}

// Paths of the container are found below the folder that it had as its own.
func TestReferenceLayout(t *testing.T) {
	elsewhere := t.TempDir()
	for _, tt := range []struct {
		lines                   []string
		accounts, blobs, tempts string
	}{
		{nil, "/srv/pds/account.sqlite", "/srv/pds/blocks", "/srv/pds/blocks/tempt"},
		{[]string{"PDS_ACCOUNT_DB_LOCATION=/pds/db/a.sqlite", "PDS_BLOBSTORE_DISK_TMP_LOCATION=/pds/../pds/tmp"}, "/srv/pds/db/a.sqlite", "/srv/pds/blocks", "/srv/pds/tmp"},
		{[]string{"PDS_ACCOUNT_DB_LOCATION=a.sqlite"}, "/srv/pds/a.sqlite", "/srv/pds/blocks", "/srv/pds/blocks/tempt"},
		{[]string{"PDS_DATA_DIRECTORY=/data", "PDS_BLOBSTORE_DISK_LOCATION=/data/blobs"}, "/srv/pds/account.sqlite", "/srv/pds/blobs", "/srv/pds/blobs/tempt"},
		{[]string{"PDS_BLOBSTORE_DISK_LOCATION=" + elsewhere}, "/srv/pds/account.sqlite", elsewhere, elsewhere + "/tempt"},
	} {
		l, err := oldSettings(t, tt.lines...).layout("/srv/pds")
		if err != nil || l.AccountDB != tt.accounts || l.Blobs != tt.blobs || l.Temporary != tt.tempts || l.Quarantine != tt.blobs+"/quarantine" {
			t.Errorf("%q: %+v, %v", tt.lines, l, err)
		}
	}
	if l, err := oldSettings(t, "PDS_BLOBSTORE_DISK_LOCATION=/pdsblobs").layout("/srv/pds"); err == nil || !strings.Contains(err.Error(), "PDS_BLOBSTORE_DISK_LOCATION") {
		t.Errorf("a folder that is not mounted: %+v, %v", l, err)
	}
}

// The file that is written says what the old one did, but for what means something else.
func TestAdoptedSettings(t *testing.T) {
	old := oldSettings(t, `PDS_SERVICE_NAME=It's "ours" \ $HOME`, "PDS_HCAPTCHA_SALT=abc", "NODE_OPTIONS=--max", "PDS_HOME_URL=https://old.example.com", "PDS_CRAWLERS=https://bsky.network",
		"PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT=true", "PDS_ACCOUNT_DB_LOCATION=/pds/account.sqlite")
	pairs, left := old.takenOver([]envPair{{"PDS_HOME_URL", "https://new.example.com"}, {"PDS_CRAWLERS", ""}}, "/var/lib/portico", "/srv/pds/blocks")
	f, err := parseEnvFile([]byte(envText(pairs)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pairs, f.pairs, cmp.AllowUnexported(envPair{})); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	got := map[string]string{}
	for _, p := range f.pairs {
		got[p.name] = p.value
	}
	want := map[string]string{
		"PDS_HOSTNAME": "pds.example.com", "PDS_JWT_SECRET": "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "PDS_ADMIN_PASSWORD": "0123456789abcdef",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		"PDS_SERVICE_NAME":                          `It's "ours" \ $HOME`, "PDS_HOME_URL": "https://new.example.com", "PDS_PORT": "3000",
		"PDS_DATA_DIRECTORY": "/var/lib/portico", "PORTICO_BLOBSTORE_LEFT_LOCATION": "/srv/pds/blocks",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"PDS_HCAPTCHA_SALT", "NODE_OPTIONS", "PDS_ACCOUNT_DB_LOCATION"}, left); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// What cannot be adopted is refused before anything is written.
func TestAdoptRefuses(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	weak := "PDS_JWT_SECRET=short"
	for _, tt := range []struct {
		name    string
		lines   string // of pds.env, after its own
		environ []string
		args    []string
		status  int
		want    string
	}{
		{"no folder", "", nil, nil, 2, "--into names the folder to write to"},
		{"its own folder", "", nil, []string{"--into", "$PDS/portico"}, 2, "is in the directory of the old server"},
		{"its own folder, from the environment", "", []string{"PDS_DATA_DIRECTORY=$PDS"}, nil, 2, "is in the directory of the old server"},
		{"the folder around it", "", nil, []string{"--into", "$PDS/.."}, 2, "has the directory of the old server in it"},
		{"a folder in use", "", nil, []string{"--into", full}, 1, "is not empty, and not of an adoption"},
		{"no settings", "", nil, []string{"--into", "$NEW", "--reference-env", "$PDS/none.env"}, 1, "none.env does not exist"},
		{"an entryway", "PDS_ENTRYWAY_URL=https://bsky.social", nil, []string{"--into", "$NEW"}, 78, "PDS_ENTRYWAY_URL is set"},
		{"a key elsewhere", "PDS_PLC_ROTATION_KEY_KMS_KEY_ID=a", nil, []string{"--into", "$NEW"}, 78, "PDS_PLC_ROTATION_KEY_KMS_KEY_ID is set"},
		{"two stores of blobs", "PDS_BLOBSTORE_S3_BUCKET=a", nil, []string{"--into", "$NEW"}, 78, "PDS_BLOBSTORE_DISK_LOCATION is set, and so is"},
		{"another name", "", []string{"PDS_HOSTNAME=pds.example.org"}, []string{"--into", "$NEW"}, 78, "PDS_HOSTNAME differs from that in"},
		{"another secret", "", []string{"PDS_JWT_SECRET=0f1e2d3c4b5a69788796a5b4c3d2e1f0"}, []string{"--into", "$NEW"}, 78, "PDS_JWT_SECRET differs from that in"},
		{"Postgres", "", []string{"PORTICO_DATABASE_URL=postgres://localhost/portico"}, []string{"--into", "$NEW"}, 78, "PORTICO_DATABASE_URL is set: an adoption writes to SQLite"},
		{"Postgres, in the old settings", "PORTICO_DATABASE_URL=postgres://localhost/portico", nil, []string{"--into", "$NEW"}, 78, "PORTICO_DATABASE_URL is set: an adoption writes to SQLite"},
		{"Postgres, looked at first", "", []string{"PORTICO_DATABASE_URL=postgres://localhost/portico"}, []string{"--into", "$NEW", "--dry-run"}, 78, "PORTICO_DATABASE_URL is set: an adoption writes to SQLite"},
		{"a bad setting", "PDS_CRAWLERS=bsky.network", nil, []string{"--into", "$NEW"}, 78, "PDS_CRAWLERS is not a URL"},
		{"a token of another secret", weak, nil, []string{"--into", "$NEW", "--check-token", "$TOKEN"}, 1, "was not signed with the PDS_JWT_SECRET"},
		{"an unknown way", "", nil, []string{"--into", "$NEW", "--blobs", "move"}, 2, "--blobs is copy, link or leave"},
		{"no directory", "", nil, []string{"--into", "$NEW"}, 1, "data directory: lstat $PDS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pds, into := referencetest.Unpack(t, referencetest.Stopped), filepath.Join(t.TempDir(), "new")
			appendTo(t, filepath.Join(pds, "pds.env"), tt.lines)
			if tt.name == "no directory" {
				if err := os.RemoveAll(pds); err != nil {
					t.Fatal(err)
				}
			}
			before := contents(t, filepath.Dir(pds))
			fill := strings.NewReplacer("$PDS", pds, "$NEW", into, "$TOKEN", liveToken(t)).Replace
			environ := make([]string, len(tt.environ))
			for i := range environ {
				environ[i] = fill(tt.environ[i])
			}
			args := []string{"adopt", pds, "--offline", "--accept-unmanaged"}
			for _, arg := range tt.args {
				args = append(args, fill(arg))
			}
			_, _, err := portico(t, environ, args...)
			if err == nil || exitStatus(err) != tt.status || !strings.Contains(err.Error(), fill(tt.want)) {
				t.Errorf("ends with %d: %v", exitStatus(err), err)
			}
			if diff := cmp.Diff(before, contents(t, filepath.Dir(pds))); diff != "" || exists(into) {
				t.Errorf("was written: %s", diff)
			}
		})
	}
}

func appendTo(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// liveToken is a token that an app has of the server of the tests.
func liveToken(t *testing.T) string {
	t.Helper()
	var e struct {
		Accounts []struct {
			SignUp struct{ RefreshJWT string }
		}
	}
	if err := json.Unmarshal(referencetest.Expected(t, referencetest.Stopped), &e); err != nil {
		t.Fatal(err)
	}
	return e.Accounts[0].SignUp.RefreshJWT
}

// A secret that is weak is taken along, since sessions hang on it, and said to be weak at
// every start.
func TestAdoptWeakSecret(t *testing.T) {
	e := oldSettings(t, "PDS_JWT_SECRET=short")
	a := &adopter{config: configuration{Environ: nil}, old: e}
	a.pairs, _ = e.takenOver(nil, t.TempDir(), "")
	a.acceptSecret()
	if err := a.check(); err != nil {
		t.Fatal(err)
	}
	if string(a.settings.JWTSecret) != "short" || len(a.found) == 0 || a.found[0].Name != "weak-secret" || a.found[0].Grave {
		t.Errorf("found: %+v", a.found)
	}
	if !strings.Contains(strings.Join(a.settings.Warnings, "\n"), "PDS_JWT_SECRET is weak") {
		t.Errorf("warnings: %q", a.settings.Warnings)
	}
	_, err := configuration{Environ: with(production, "PDS_JWT_SECRET=short")}.read()
	if err == nil || !strings.Contains(err.Error(), "PDS_JWT_SECRET is too short") {
		t.Errorf("without the setting: %v", err)
	}
}

// Nobody serves what was not adopted to the end, nor while the old server answers.
func TestServeBesideTheOldServer(t *testing.T) {
	answering := true
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/xrpc/_health" && answering {
			w.Write([]byte(`{"version":"0.4.219"}`))
			return
		}
		http.Error(w, "Bad Gateway", http.StatusBadGateway)
	}))
	defer old.Close()
	dir := t.TempDir()
	if again, err := adopt.Begin(dir, adopt.Mark{Source: "/pds", Fingerprint: "one", Old: []string{old.URL}}); err != nil || again != "" {
		t.Fatal(again, err)
	}
	s := mustRead(t, with(production, "PDS_DATA_DIRECTORY="+dir)...)
	err := checkAdopted(t.Context(), s)
	if err == nil || !strings.Contains(err.Error(), `run "portico adopt /pds --into `+dir+`" again`) || exitStatus(err) != 78 {
		t.Errorf("unfinished: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, databaseName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also when the end was cut off
		err = checkAdopted(t.Context(), s)
		if err == nil || !strings.Contains(err.Error(), "still answers at "+old.URL) || !strings.Contains(err.Error(), "remove "+dir+"/adopted") {
			t.Errorf("beside the old server: %v", err)
		}
		if err := adopt.Settle(dir); err != nil && exists(filepath.Join(dir, "adopting")) {
			t.Fatal(err)
		}
	}
	answering = false
	if err := checkAdopted(context.WithoutCancel(t.Context()), s); err != nil {
		t.Errorf("the old server is gone: %v", err)
	}
	if err := adopt.Forget(dir); err != nil {
		t.Fatal(err)
	}
	answering = true // by now it is this one
	if err := checkAdopted(t.Context(), s); err != nil {
		t.Errorf("after the first start: %v", err)
	}
}

// Whatever is a server that may run is taken for one: a mistake in that direction costs
// another look, and in the other two servers are one.
func TestSignOfLife(t *testing.T) {
	release := make(chan struct{})
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.Host {
		case "well.test":
			w.Write([]byte(`{"version":"0.4.219"}`))
		case "without-database.test":
			w.WriteHeader(http.StatusServiceUnavailable)
			w.Write([]byte(`{"version":"0.4.219","error":"Service Unavailable"}`))
		case "proxy.test":
			http.Error(w, "Bad Gateway", http.StatusBadGateway)
		case "redirect.test":
			http.Redirect(w, r, "http://well.test/xrpc/_health", http.StatusFound)
		case "page.test":
			w.Write([]byte("<!doctype html>"))
		case "endless.test":
			w.Write(bytes.Repeat([]byte(" "), 1<<20))
			w.Write([]byte(`{"version":"0.4.219"}`))
		case "silent.test", "localhost":
			<-release
		}
	}
	plain, encrypted := httptest.NewServer(http.HandlerFunc(answer)), httptest.NewTLSServer(http.HandlerFunc(answer))
	defer plain.Close()
	defer encrypted.Close()
	defer close(release)
	// Every name leads to one of the two.
	transport := healthClient.Transport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		to := plain.Listener.Addr().String()
		if strings.HasSuffix(address, ":443") {
			to = encrypted.Listener.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	client := *healthClient
	client.Transport, client.Timeout = transport, time.Minute
	for at, want := range map[string]string{
		"http://well.test": "answers", "https://well.test": "answers", // with a certificate of nobody's
		"http://without-database.test": "answers", "http://proxy.test": "", "http://redirect.test": "", "http://page.test": "", "http://endless.test": "",
	} {
		if got := signOfLife(t.Context(), &client, at); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	client.Timeout = time.Second / 5
	for at, want := range map[string]string{
		"http://silent.test": "", "http://localhost": "takes connections and does not answer",
	} {
		if got := signOfLife(t.Context(), &client, at); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if got := signOfLife(canceled, &client, "http://localhost"); got != "" {
		t.Errorf("given up: %q", got)
	}
}

// What is killed before there is a mark is gone on with, too.
func TestAdoptKilledBeforeItsMark(t *testing.T) {
	into := t.TempDir()
	for _, name := range []string{"scratch/copy-1/copy.sqlite", "portico.lock", "adopting.new"} {
		path := filepath.Join(into, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if finished, err := (&adopter{directory: "/pds", into: into}).claim(); err != nil || finished {
			t.Errorf("with %s: %v, %v", name, finished, err)
		}
	}
	if err := os.WriteFile(filepath.Join(into, "secrets.env"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&adopter{directory: "/pds", into: into}).claim(); err == nil || !strings.Contains(err.Error(), "is not empty, and not of an adoption") {
		t.Errorf("with secrets of somebody: %v", err)
	}
}
