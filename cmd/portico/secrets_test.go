package main

import (
	"bytes"
	"crypto/rand"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func atNoon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func TestSecretsAreMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	c := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir}, Rand: rand.Reader, Now: atNoon}
	first, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	if !first.SecretsMade || first.SecretsFile != filepath.Join(dir, "secrets.env") {
		t.Errorf("made %v, file %s", first.SecretsMade, first.SecretsFile)
	}
	if len(first.JWTSecret) != 64 || len(first.AdminPassword) != 24 || first.RotationKey == nil || len(first.KeyEncryptionKey) != 32 {
		t.Errorf("JWT secret of %d, admin password of %d characters, rotation key %v, key-encryption key of %d bytes",
			len(first.JWTSecret), len(first.AdminPassword), first.RotationKey, len(first.KeyEncryptionKey))
	}

	info, err := os.Stat(first.SecretsFile)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode of the file: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode of the folder: %v, %v", info.Mode(), err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 1 {
		t.Errorf("files left: %v", files)
	}
	if hiddenFiles, _ := filepath.Glob(filepath.Join(dir, ".*")); len(hiddenFiles) != 0 {
		t.Errorf("files left: %v", hiddenFiles)
	}

	// With a database beside them they are the same ones.
	if err := os.WriteFile(filepath.Join(dir, "portico.sqlite"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	second, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	if second.SecretsMade || second.JWTSecret != first.JWTSecret || second.AdminPassword != first.AdminPassword ||
		!bytes.Equal(second.KeyEncryptionKey, first.KeyEncryptionKey) || !bytes.Equal(second.RotationKey.Bytes(), first.RotationKey.Bytes()) {
		t.Error("the second start has other secrets")
	}
}

func TestConfiguredSecretsAreNotMade(t *testing.T) {
	dir := t.TempDir()
	s, err := configuration{Environ: with(production, "PDS_DATA_DIRECTORY="+dir), Rand: rand.Reader, Now: atNoon}.load()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.SecretsFile)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); !strings.Contains(text, "PORTICO_KEY_ENCRYPTION_KEY=") || strings.Contains(text, "PDS_") {
		t.Errorf("the file has more than the key-encryption key:\n%s", text)
	}

	dir = t.TempDir()
	s, err = configuration{Environ: with(production, "PDS_DATA_DIRECTORY="+dir,
		"PORTICO_KEY_ENCRYPTION_KEY=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), Now: atNoon}.load()
	if err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 || s.SecretsFile != "" {
		t.Errorf("written although everything is configured: %v, %q", files, s.SecretsFile)
	}
}

func TestAWrongSettingMakesNoSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := (configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir, "PDS_PORT=0"}, Rand: rand.Reader, Now: atNoon}).load(); err == nil {
		t.Fatal("no error")
	}
	if exists(dir) {
		t.Error("the data folder was made")
	}
}

func TestADatabaseWithoutItsSecretsIsNotStartedOver(t *testing.T) {
	dir := t.TempDir()
	database := filepath.Join(dir, "portico.sqlite")
	if err := os.WriteFile(database, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir}, Rand: rand.Reader, Now: atNoon}
	_, err := c.load()
	if err == nil {
		t.Fatal("started over")
	}
	want := filepath.Join(dir, "secrets.env") + " does not have the secrets of this server, and " + database + ` was made with them. Without the old
  PDS_JWT_SECRET, everybody is logged out
  PDS_ADMIN_PASSWORD, admin tools need the new password
  PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX, the DIDs of all accounts can no longer be changed by this server
  PORTICO_KEY_ENCRYPTION_KEY, the signing keys of all accounts can't be read
Restore the file from a backup, or set the variables to their old values. To begin anew instead, move the folder ` + dir + " away."
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
	if exists(filepath.Join(dir, "secrets.env")) {
		t.Error("a new secrets file was made")
	}

	// One that has only some of them is not filled up either.
	if err := os.WriteFile(filepath.Join(dir, "secrets.env"), []byte("PDS_ADMIN_PASSWORD=x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = c.load()
	if err == nil || strings.Contains(err.Error(), "PDS_ADMIN_PASSWORD") || !strings.Contains(err.Error(), "PDS_JWT_SECRET") {
		t.Errorf("got %v", err)
	}
}

func TestRacingStartersGetTheSameSecrets(t *testing.T) {
	for range 20 {
		dir := filepath.Join(t.TempDir(), "data")
		database := filepath.Join(dir, "portico.sqlite")
		needed := slices.Sorted(maps.Keys(lost))
		var wg sync.WaitGroup
		var mu sync.Mutex
		makers := 0
		all := map[string]bool{}
		for range 8 {
			wg.Go(func() {
				secrets, made, err := openSecrets(dir, database, needed, rand.Reader, atNoon())
				if err == nil {
					// What follows at once in a real start.
					err = os.WriteFile(database, nil, 0o600)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if made {
					makers++
				}
				all[secrets["PDS_JWT_SECRET"]+secrets["PORTICO_KEY_ENCRYPTION_KEY"]] = true
			})
		}
		wg.Wait()
		if makers != 1 || len(all) != 1 {
			t.Fatalf("%d made secrets, %d different ones are in use", makers, len(all))
		}
	}
}

func TestSecretsThatOthersMayReadAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	c := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir}, Rand: rand.Reader, Now: atNoon}
	s, err := c.load()
	if err != nil || len(s.Warnings) > 0 {
		t.Fatal(err, s.Warnings)
	}
	if err := os.Chmod(s.SecretsFile, 0o640); err != nil {
		t.Fatal(err)
	}
	s, err = c.load()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{s.SecretsFile + " can be read by other users (mode 0640): chmod 600 it"}, s.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestSecretsThatCantBeReadAreNamedByFile(t *testing.T) {
	dir := t.TempDir()
	c := configuration{Environ: []string{"PDS_DATA_DIRECTORY=" + dir}, Rand: rand.Reader, Now: atNoon}
	s, err := c.load()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.SecretsFile)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(data), "PORTICO_KEY_ENCRYPTION_KEY=", "PORTICO_KEY_ENCRYPTION_KEY=x", 1)
	if err := os.WriteFile(s.SecretsFile, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = c.load()
	if err == nil || !strings.Contains(err.Error(), "PORTICO_KEY_ENCRYPTION_KEY in "+s.SecretsFile+" is not 32 bytes in hex") {
		t.Errorf("got %v", err)
	}
}
