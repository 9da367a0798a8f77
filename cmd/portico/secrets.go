package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
)

// secretsName is the file in the data directory that keeps the secrets nobody
// configured.
const secretsName = "secrets.env"

// lost says what can't be had back without a secret.
var lost = map[string]string{
	"PDS_JWT_SECRET":                            "everybody is logged out",
	"PDS_ADMIN_PASSWORD":                        "admin tools need the new password",
	"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX": "the DIDs of all accounts can no longer be changed by this server",
	"PORTICO_KEY_ENCRYPTION_KEY":                "the signing keys of all accounts can't be read",
}

// openSecrets returns the secrets of dir, among them the needed ones, and makes
// them when there are none. made says that this call did. Of several processes
// that call it at once, all get the same secrets. When a secret is missing
// although database (a path; empty: not a file) exists, nothing is made and the
// error says what to restore.
func openSecrets(dir, database string, needed []string, random io.Reader, now time.Time) (secrets map[string]string, made bool, err error) {
	path := filepath.Join(dir, secretsName)
	// The order of these two looks matters: whoever makes a database has made
	// its secrets before, so a database seen here whose secrets are not seen
	// afterwards has really lost them.
	started := database != "" && exists(database)
	secrets, err = readSecrets(path)
	if errors.Is(err, fs.ErrNotExist) {
		if started {
			return nil, false, errSecretsGone(path, database, needed)
		}
		if err := makeSecrets(dir, needed, random, now); err == nil {
			made = true
		} else if !errors.Is(err, fs.ErrExist) {
			return nil, false, fmt.Errorf("make secrets: %w", err)
		}
		secrets, err = readSecrets(path)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read secrets: %w", err)
	}
	absent := slices.DeleteFunc(slices.Clone(needed), func(name string) bool { return secrets[name] != "" })
	if len(absent) > 0 {
		return nil, false, errSecretsGone(path, database, absent)
	}
	return secrets, made, nil
}

// errSecretsGone tells an operator what is missing, what it means, and the ways
// out.
func errSecretsGone(path, database string, names []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s does not have the secrets of this server", path)
	if database != "" && exists(database) {
		fmt.Fprintf(&b, ", and %s was made with them", database)
	}
	b.WriteString(". Without the old\n")
	for _, name := range names {
		fmt.Fprintf(&b, "  %s, %s\n", name, lost[name])
	}
	b.WriteString("Restore the file from a backup, or set the variables to their old values. ")
	fmt.Fprintf(&b, "To begin anew instead, move the folder %s away.", filepath.Dir(path))
	return unfit(errors.New(b.String()))
}

// secretsPath is where the secrets file is, or would be.
func (s *settings) secretsPath() string { return filepath.Join(s.DataDirectory, secretsName) }

func readSecrets(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := parseEnvFile(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	secrets := make(map[string]string, len(f.pairs))
	for _, p := range f.pairs {
		secrets[p.name] = p.value
	}
	return secrets, nil
}

// makeSecrets writes the secrets file of dir with new values for names. It
// fails with fs.ErrExist when there is one. Once it returns nil the file
// survives a power cut, and no reader ever sees a part of it.
func makeSecrets(dir string, names []string, random io.Reader, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Secrets of this server, made %s. Keep a copy in a safe place:\n", now.UTC().Format("2006-01-02"))
	b.WriteString("# without them the database beside it is lost.\n")
	for _, name := range names {
		v, err := newSecret(name, random)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s=%s\n", name, v)
	}

	if err := makeDirectory(dir); err != nil {
		return err
	}
	// A complete file is put under its name by a link, which fails when the
	// name is taken: a rename would replace what another process just wrote.
	draft := filepath.Join(dir, "."+secretsName+"."+rand.Text())
	if err := writeDurably(draft, b.String()); err != nil {
		return errors.Join(err, removeIfThere(draft))
	}
	err := os.Link(draft, filepath.Join(dir, secretsName))
	if err := errors.Join(err, removeIfThere(draft)); err != nil {
		return err
	}
	return syncDirectory(dir)
}

func writeDurably(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeDirectory makes dir, for its owner alone, in a way that survives a power
// cut.
func makeDirectory(dir string) error {
	if exists(dir) {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := makeDirectory(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(parent)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// newSecret is a new value for the variable name.
func newSecret(name string, random io.Reader) (string, error) {
	raw := make([]byte, 32)
	for {
		if _, err := io.ReadFull(random, raw); err != nil {
			return "", err
		}
		// All but one in 2^128 of 32 bytes are a secp256k1 key; that one isn't.
		if _, err := atcrypto.ParsePrivateBytesK256(raw); err == nil {
			break
		}
	}
	if name == "PDS_ADMIN_PASSWORD" {
		raw = raw[:12] // it gets typed
	}
	return hex.EncodeToString(raw), nil
}

// checkSecretsMode is a warning when others may read the secrets.
func checkSecretsMode(path string) string {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return ""
	}
	return fmt.Sprintf("%s can be read by other users (mode %04o): chmod 600 it", path, info.Mode().Perm())
}
