package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/cmd/portico/launch"
	"portico/db"
	"portico/impl/blob/blobtest"
	"portico/impl/identity/directory"
	"portico/impl/reference/adopt"
	"portico/impl/reference/referencetest"
)

// surround gives the server of the tests a PLC directory and what else it asks, and returns
// the settings by which it does.
func surround(t *testing.T, w *referencetest.World) (environ []string) {
	t.Helper()
	store, err := db.Open(t.Context(), db.Config{Dir: t.TempDir(), Synchronous: "OFF", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	plc := httptest.NewServer(directory.New(plcStore{store}, time.Now, "test", slog.New(slog.DiscardHandler)))
	t.Cleanup(plc.Close)
	w.Surround(t, plc.URL)
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		"PDS_DID_PLC_URL=" + plc.URL, "PDS_DISABLE_SSRF_PROTECTION=true", "PDS_REPO_BACKFILL_LIMIT_MS=315360000000", "PDS_CRAWLERS=",
		fmt.Sprintf("PDS_PORT=%d", port), "PORTICO_BIND=127.0.0.1", "PORTICO_LOG_LEVEL=error",
	}
}

// serveAdopted starts a server with the settings that an adoption has written.
func serveAdopted(t *testing.T, folder string) (url string) {
	t.Helper()
	c := configuration{EnvFile: filepath.Join(folder, adoptedEnv), Rand: rand.Reader, Now: time.Now}
	s, err := c.read()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	out := &starting{ready: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, c, s, out) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-out.ready:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	return fmt.Sprintf("http://127.0.0.1:%d", s.Port)
}

// Whoever had an account there has it here, and nothing there has changed.
func TestAdopt(t *testing.T) {
	pds, into := referencetest.Unpack(t, referencetest.Stopped), filepath.Join(t.TempDir(), "new")
	w := referencetest.Read(t, referencetest.Stopped)
	before := contents(t, pds)
	environ := surround(t, w)
	out, errs, err := portico(t, environ, "adopt", pds, "--into", into, "--accept-unmanaged", "--check-token", liveToken(t))
	if err != nil || !strings.Contains(out, "portico serve --env-file "+into+"/portico.env") {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	if diff := cmp.Diff(before, contents(t, pds)); diff != "" {
		t.Errorf("the old directory changed: %s", diff)
	}
	for _, name := range []string{scratchName, "adopting", databaseName + ".adopting"} {
		if exists(filepath.Join(into, name)) {
			t.Errorf("%s is left", name)
		}
	}
	for _, name := range []string{adopt.ReportName, beforeName, secretsName, databaseName, "adopted"} {
		if !exists(filepath.Join(into, name)) {
			t.Errorf("%s is not there", name)
		}
	}
	again, _, err := portico(t, environ, "adopt", pds, "--into", into)
	if err != nil || again != out {
		t.Errorf("a second time: %v\n%s", err, again)
	}
	url := serveAdopted(t, into)
	if exists(filepath.Join(into, "adopted")) {
		t.Error("the first start is not remembered")
	}
	signInTo(t, url, w)
}

// Who went back before the first start, and writes there, does not lose that by starting here
// all the same.
func TestAdoptedIsOutOfDate(t *testing.T) {
	pds, into := referencetest.Unpack(t, referencetest.Stopped), filepath.Join(t.TempDir(), "new")
	environ := surround(t, referencetest.Read(t, referencetest.Stopped))
	if out, errs, err := portico(t, environ, "adopt", pds, "--into", into, "--accept-unmanaged"); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	real, err := filepath.EvalSymlinks(pds)
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range []string{"sequencer.sqlite-wal", "account.sqlite-wal"} {
		if err := os.WriteFile(filepath.Join(pds, log), []byte("a post"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err = portico(t, environ, "adopt", pds, "--into", into, "--accept-unmanaged")
		if want := real + " was written to since all of it was adopted into " + into +
			": remove that folder, from which no server has started yet, and run this again"; err == nil || err.Error() != want || exitStatus(err) != 1 {
			t.Errorf("adopted again: %v", err)
		}
		_, _, err = portico(t, nil, "serve", "--env-file", filepath.Join(into, adoptedEnv))
		if want := real + " was written to since it was adopted: what happened there since would be lost. Adopt it again, into a new folder. " +
			"If nothing did, remove " + into + "/adopted, and start again"; err == nil || err.Error() != want || exitStatus(err) != 78 {
			t.Errorf("started: %v", err)
		}
		if err := os.Remove(filepath.Join(pds, log)); err != nil {
			t.Fatal(err)
		}
	}
	// What was put aside cannot be compared, and hinders nobody.
	if err := os.Rename(pds, filepath.Join(t.TempDir(), "aside")); err != nil {
		t.Fatal(err)
	}
	serveAdopted(t, into)
}

// signInTo signs in to every account that can be, with its password and its app passwords,
// and goes on with the session that it signed up with.
func signInTo(t *testing.T, url string, w *referencetest.World) {
	t.Helper()
	tried := 0
	for _, a := range w.Accounts {
		status, _ := a.SubjectStatus.(map[string]any)
		takedown, _ := status["takedown"].(map[string]any)
		if a.Deleted || takedown["applied"] == true {
			continue
		}
		passwords := []string{a.Password}
		for _, p := range a.AppPasswords {
			passwords = append(passwords, p.Password)
		}
		for _, password := range passwords {
			if password == "" {
				continue
			}
			status, out, err := callServer(t.Context(), url, "createSession", "", fmt.Sprintf(`{"identifier":%q,"password":%q}`, a.Handle, password))
			if err != nil || status != http.StatusOK || out.Handle != a.Handle {
				t.Errorf("%s: sign-in: %d %+v %v", a.Name, status, out, err)
			}
			tried++
		}
		if time.Now().After(w.MadeAt.Add(89 * 24 * time.Hour)) {
			continue // the session would have ended there too
		}
		if status, out, err := callServer(t.Context(), url, "refreshSession", "Bearer "+a.SignUp.RefreshJWT, ""); err != nil || status != http.StatusOK || out.Handle != a.Handle {
			t.Errorf("%s: refresh: %d %+v %v", a.Name, status, out, err)
		}
	}
	if tried < 10 {
		t.Errorf("only %d passwords were tried", tried)
	}
}

// Blobs in a bucket stay there: they are read and hashed, and served from it. Without it
// nothing is adopted, unless it is said to be left alone.
func TestAdoptBucket(t *testing.T) {
	pds, folder := referencetest.Unpack(t, referencetest.Stopped), t.TempDir()
	server := blobtest.StartS3(t)
	referencetest.PutIntoBucket(t, pds, server.Put)
	if err := os.RemoveAll(filepath.Join(pds, "blocks")); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(pds, "pds.env"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(old), "PDS_BLOBSTORE_DISK_LOCATION=/pds/blocks\n", "", 1) + "PDS_BLOBSTORE_S3_BUCKET=" + server.Bucket +
		"\nPDS_BLOBSTORE_S3_REGION=us-east-1\nPDS_BLOBSTORE_S3_ENDPOINT=" + server.URL +
		"\nPDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true\nPDS_BLOBSTORE_S3_ACCESS_KEY_ID=key\nPDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=secret\n"
	if err := os.WriteFile(filepath.Join(pds, "pds.env"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w := referencetest.Read(t, referencetest.Stopped)
	environ := surround(t, w)
	const unusable = "bucket-unusable: blobs are in a bucket that cannot be read: bucket elsewhere: no such bucket. --skip-bucket goes on without it"
	const skipped = "bucket-skipped: 7 blobs stay in the bucket, and were not looked at: portico blob verify reads those of an account"
	const whole = "bucket-read: 7 blobs stay in the bucket, and all were read there and hashed"
	for _, tt := range []struct {
		name   string
		bucket string
		args   []string
		status int
		want   string
	}{
		{"no bucket, looked at first", "elsewhere", []string{"--dry-run"}, 1, unusable},
		{"no bucket", "elsewhere", nil, 1, unusable},
		{"no bucket, and left alone", "elsewhere", []string{"--skip-bucket"}, 0, skipped},
		{"nobody is asked", "elsewhere", []string{"--offline"}, 0, skipped},
		{"looked at first", server.Bucket, []string{"--dry-run"}, 0, ""},
		{"adopted", server.Bucket, nil, 0, whole},
	} {
		into := filepath.Join(folder, tt.name)
		args := append([]string{"adopt", pds, "--into", into, "--accept-unmanaged"}, tt.args...)
		out, errs, err := portico(t, with(environ, "PDS_BLOBSTORE_S3_BUCKET="+tt.bucket), args...)
		if (err != nil) != (tt.status != 0) || err != nil && exitStatus(err) != tt.status || !strings.Contains(out, tt.want) || strings.Contains(out, "blob-") {
			t.Errorf("%s: %v\n%s%s", tt.name, err, out, errs)
		}
		if exists(filepath.Join(into, databaseName)) != (tt.status == 0 && !slices.Contains(tt.args, "--dry-run")) {
			t.Errorf("%s: adopted, or not", tt.name)
		}
		if tt.want == whole && (!strings.Contains(errs, "identities 11 of 11\n") || !strings.Contains(errs, "blobs in the bucket 7 of 7\n")) {
			t.Errorf("progress:\n%s", errs)
		}
	}
	if n := blobAt(t, serveAdopted(t, filepath.Join(folder, "adopted"))); n != 72 {
		t.Errorf("a blob in the bucket: %d bytes", n)
	}
}

// Finishing deletes what is kept for the way back, once.
func TestAdoptFinish(t *testing.T) {
	pds, into := referencetest.Unpack(t, referencetest.Stopped), filepath.Join(t.TempDir(), "new")
	w := referencetest.Read(t, referencetest.Stopped)
	referencetest.ShiftDirectory(t, pds, time.Since(w.MadeAt).Truncate(time.Second)) // sessions that are over are left
	environ := surround(t, w)
	if out, errs, err := portico(t, environ, "adopt", pds, "--into", into, "--accept-unmanaged"); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	finish := []string{"adopt", "--finish", "--env-file", filepath.Join(into, adoptedEnv)}
	if _, _, err := portico(t, nil, finish...); err == nil || !strings.Contains(err.Error(), "not confirmed") {
		t.Errorf("without a yes: %v", err)
	}
	finish = append(finish, "--yes", "--json")
	// 11 passwords, 5 app passwords and 22 sessions, two of which were used and are over in hours.
	out, _, err := portico(t, nil, finish...)
	var answer struct{ Deleted int }
	if err != nil || json.Unmarshal([]byte(out), &answer) != nil || answer.Deleted < 11+5+20 {
		t.Errorf("%v: %s", err, out)
	}
	if _, _, err := portico(t, nil, finish...); err == nil || !strings.Contains(err.Error(), "no adoption is under way") {
		t.Errorf("a second time: %v", err)
	}
}

// What a crash has left is named, and adopted only when it is said what becomes of it.
func TestAdoptAfterACrash(t *testing.T) {
	pds, into := referencetest.Unpack(t, referencetest.Crashed), filepath.Join(t.TempDir(), "new")
	w := referencetest.Read(t, referencetest.Crashed)
	environ := surround(t, w)
	old, err := os.ReadFile(filepath.Join(referencetest.Unpack(t, referencetest.Stopped), "pds.env"))
	if err == nil {
		err = os.WriteFile(filepath.Join(pds, "pds.env"), old, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := contents(t, pds)
	for _, args := range [][]string{{"--dry-run"}, nil} {
		out, _, err := portico(t, environ, append([]string{"adopt", pds, "--into", into, "--accept-unmanaged"}, args...)...)
		if err == nil || exitStatus(err) != 1 || !strings.Contains(out, "store-missing did:plc:pdjqvg4tyf7ffkhnswvn3t5z") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
		if exists(filepath.Join(into, databaseName)) || args != nil && exists(into) {
			t.Errorf("%q: something was adopted", args)
		}
	}
	out, errs, err := portico(t, environ, "adopt", pds, "--into", into, "--accept-unmanaged", "--skip-broken")
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	if diff := cmp.Diff(before, contents(t, pds)); diff != "" {
		t.Errorf("the old directory changed: %s", diff)
	}
	w.Accounts = slices.DeleteFunc(w.Accounts, func(a referencetest.Account) bool { return a.Name == "carol" })
	signInTo(t, serveAdopted(t, into), w)
}

// Where all accounts have the same oddity the others are still seen, and all are listed in
// JSON.
func TestAdoptTellsMuch(t *testing.T) {
	pds := referencetest.Unpack(t, referencetest.Stopped)
	environ := surround(t, referencetest.Read(t, referencetest.Stopped))
	for n := range 25 {
		if err := os.WriteFile(filepath.Join(pds, "actors", fmt.Sprintf("stray%d", n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"adopt", pds, "--into", filepath.Join(t.TempDir(), "new"), "--accept-unmanaged", "--dry-run"}
	out, errs, err := portico(t, environ, args...)
	if err != nil || strings.Count(out, "\n  stray-file: ") != 21 || !strings.HasSuffix(out, "\n  stray-file: 5 more, which --json lists\n") {
		t.Errorf("%v\n%s%s", err, out, errs)
	}
	out, _, err = portico(t, environ, append(args, "--json")...)
	if err != nil || strings.Count(out, `"name": "stray-file"`) != 25 {
		t.Errorf("%v\n%s", err, out)
	}
}

// Blobs that are left where they are are served from there, and who starts the server is told
// that it has to be able to read them.
func TestAdoptLeaveBlobs(t *testing.T) {
	pds, into := referencetest.Unpack(t, referencetest.Stopped), filepath.Join(t.TempDir(), "new")
	environ := surround(t, referencetest.Read(t, referencetest.Stopped))
	out, errs, err := portico(t, environ, "adopt", pds, "--into", into, "--accept-unmanaged", "--blobs", "leave")
	real, linkErr := filepath.EvalSymlinks(pds)
	if err != nil || linkErr != nil {
		t.Fatalf("%v, %v\n%s%s", err, linkErr, out, errs)
	}
	if want := "The user that the server runs as has to own it.\nBlobs are read in " + real + "/blocks: that user has to be able to.\n"; !strings.Contains(out, want) {
		t.Errorf("printed:\n%s", out)
	}
	if n := blobAt(t, serveAdopted(t, into)); n != 72 {
		t.Errorf("a blob that was left: %d bytes", n)
	}
}

// blobAt reads a picture of an adopted account, and returns how many bytes it has.
func blobAt(t *testing.T, url string) int {
	t.Helper()
	answer, err := http.Get(url + "/xrpc/com.atproto.sync.getBlob?did=did:plc:u7qzys5wcqoclfwvcd6dp6fl&cid=bafkreigpmk2l33yfexd535e52hswycveieccrhgczyr5qaz4xe2kpnovcy")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("getBlob: %d, %v", answer.StatusCode, err)
	}
	return len(b)
}
