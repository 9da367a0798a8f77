package main

import (
	"bytes"
	"context"
	encoding "encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// serveIn runs a development server on dir, and returns its URL and what stops it.
func serveIn(t *testing.T, dir string) (url string, stop func()) {
	t.Helper()
	s, stop := startFor(t, "PDS_DATA_DIRECTORY="+dir)
	return s.PublicURL.String(), stop
}

// While people sign up a backup is made. A server on it knows those who had signed up
// before, their passwords and their sessions, and takes more.
func TestBackupWhileOthersSignUp(t *testing.T) {
	dir := t.TempDir()
	url, stop := serveIn(t, dir)
	type signedUp struct{ handle, refresh string }
	const before = 3
	var accounts []signedUp // sent over reached
	reached := make(chan signedUp)
	enough := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for n := 1; ; n++ {
			a := signedUp{handle: fmt.Sprintf("user%d.test", n)}
			status, out, err := callServer(t.Context(), url, "createAccount", "",
				fmt.Sprintf(`{"handle":%q,"email":"user%d@example.com","password":"correct-horse"}`, a.handle, n))
			if err != nil || status != http.StatusOK {
				ended <- fmt.Errorf("sign-up %d: %d %v", n, status, err)
				return
			}
			a.refresh = out.RefreshJWT
			select {
			case reached <- a:
			case <-enough:
				ended <- nil
				return
			}
		}
	}()
	next := func() signedUp {
		select {
		case a := <-reached:
			return a
		case err := <-ended:
			t.Fatal(err)
			return signedUp{}
		}
	}
	for range before {
		accounts = append(accounts, next())
	}
	folder := filepath.Join(t.TempDir(), "backup")
	made := make(chan error, 1)
	go func() {
		_, _, err := portico(t, []string{"PDS_DATA_DIRECTORY=" + dir}, "backup", folder)
		made <- err
	}()
	for waiting := true; waiting; {
		select {
		case <-reached:
		case err := <-ended:
			t.Fatal(err)
		case err := <-made:
			if err != nil {
				t.Fatal(err)
			}
			waiting = false
		}
	}
	next() // nobody was kept from signing up
	close(enough)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	stop()

	url, _ = serveIn(t, folder)
	for _, a := range accounts {
		if status, _, err := callServer(t.Context(), url, "createSession", "", `{"identifier":"`+a.handle+`","password":"correct-horse"}`); err != nil || status != http.StatusOK {
			t.Errorf("sign-in of %s: %d, %v", a.handle, status, err)
		}
		if status, out, err := callServer(t.Context(), url, "refreshSession", "Bearer "+a.refresh, ""); err != nil || status != http.StatusOK || out.Handle != a.handle {
			t.Errorf("refresh of %s: %d, %s, %v", a.handle, status, out.Handle, err)
		}
	}
	if status, _, err := callServer(t.Context(), url, "createAccount", "", `{"handle":"later.test","email":"later@example.com","password":"correct-horse"}`); err != nil || status != http.StatusOK {
		t.Errorf("sign-up after the restore: %d, %v", status, err)
	}
}

func callServer(ctx context.Context, url, method, authorization, body string) (status int, out struct{ Handle, RefreshJWT string }, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/xrpc/com.atproto.server."+method, strings.NewReader(body))
	if err != nil {
		return 0, out, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, out, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, out, encoding.NewDecoder(answer.Body).Decode(&out)
}

// A process that is killed while it makes a backup leaves none that looks whole, and
// none that a second one takes for its own.
func TestBackupKilled(t *testing.T) {
	dir := t.TempDir()
	environ := []string{"PDS_DATA_DIRECTORY=" + dir}
	_, stop := serveIn(t, dir)
	stop()
	secrets := filepath.Join(dir, secretsName)
	text, err := os.ReadFile(secrets)
	if err != nil {
		t.Fatal(err)
	}
	// A pipe in the place of the secrets, which are set, keeps the process waiting when it
	// has copied the database.
	if err := errors.Join(os.Remove(secrets), syscall.Mkfifo(secrets, 0o600)); err != nil {
		t.Fatal(err)
	}
	file, err := parseEnvFile(text)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "backup")
	child := exec.Command(self, "backup", folder)
	child.Args[0] = "portico" // see TestMain
	child.Env = append(append(os.Environ(), "PDS_HOSTNAME=localhost"), environ...)
	for _, p := range file.pairs {
		child.Env = append(child.Env, p.name+"="+p.value)
	}
	var said bytes.Buffer
	child.Stdout, child.Stderr = &said, &said
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended, waits := make(chan error, 1), make(chan error, 1)
	go func() { ended <- child.Wait() }()
	go func() {
		pipe, err := os.OpenFile(secrets, os.O_WRONLY, 0) // waits for who reads
		if err == nil {
			t.Cleanup(func() { pipe.Close() })
		}
		waits <- err
	}()
	select {
	case err := <-waits:
		if err := errors.Join(err, child.Process.Kill()); err != nil {
			t.Fatal(err)
		}
	case err := <-ended:
		t.Fatalf("the backup ended by itself: %v\n%s", err, said.String())
	}
	<-ended

	if !exists(filepath.Join(folder, draftName, databaseName)) {
		t.Error("the database was not being copied")
	}
	if exists(filepath.Join(folder, databaseName)) || exists(filepath.Join(folder, secretsName)) {
		t.Error("the backup that was killed looks whole")
	}
	if err := os.Remove(secrets); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secrets, text, 0o600); err != nil {
		t.Fatal(err)
	}
	want := folder + " has a backup that is being written, or was interrupted: name another folder, or remove that one"
	if _, _, err := portico(t, environ, "backup", folder); err == nil || err.Error() != want {
		t.Errorf("a second backup there: %v", err)
	}
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	if _, _, err := portico(t, environ, "backup", folder); err != nil {
		t.Errorf("a backup after it: %v", err)
	}
}
