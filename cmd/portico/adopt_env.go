package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"portico/db/reference"
)

// referenceEnv is the settings file of a reference PDS, as docker reads it: what stands
// behind the = is the value, quotes and all.
type referenceEnv struct {
	path  string
	pairs []envPair // a name each
}

// readReferenceEnv reads a settings file of a reference PDS. A value that docker run and
// docker compose take differently is an error: a wrong secret cannot be noticed later.
func readReferenceEnv(path string) (*referenceEnv, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s does not exist: it has the settings and secrets of the old server; where it is somewhere else, --reference-env names it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the old settings: %w", err)
	}
	e := &referenceEnv{path: path}
	number := 0
	for line := range strings.Lines(string(bytes.TrimPrefix(data, []byte("\ufeff")))) {
		number++
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		name = strings.TrimSpace(strings.TrimPrefix(name, "export "))
		switch {
		case !ok || !namePattern.MatchString(name):
			return nil, fmt.Errorf("%s:%d: is not of the form NAME=value", path, number)
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			return nil, fmt.Errorf("%s:%d: is not text in UTF-8", path, number)
		}
		value = strings.TrimRight(value, " \t")
		if q := strings.TrimLeft(value, " \t"); q != "" && strings.ContainsAny(q[:1], `'"`) {
			return nil, fmt.Errorf("%s:%d: the value of %s is in quotes, which docker compose takes away and docker run does not: "+
				"write a copy of the file without them, and name it with --reference-env", path, number, name)
		}
		e.pairs = slices.DeleteFunc(e.pairs, func(p envPair) bool { return p.name == name })
		if value != "" {
			e.pairs = append(e.pairs, envPair{name, value})
		}
	}
	return e, nil
}

// ambiguous are the names of the variables whose values docker run takes as they are, as is
// done here, and docker compose does not: it replaces what begins with $, and takes blanks
// and comments away. No way of writing them is the same to both.
func (e *referenceEnv) ambiguous() (names []string) {
	for _, p := range e.pairs {
		if strings.Contains(p.value, "$") || strings.Contains(p.value, " #") || strings.Contains(p.value, "\t#") || strings.TrimLeft(p.value, " \t") != p.value {
			names = append(names, p.name)
		}
	}
	return names
}

// value is that of a variable, "" for none.
func (e *referenceEnv) value(name string) string {
	for _, p := range e.pairs {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// refuse names everything because of which the server cannot be adopted at all.
func (e *referenceEnv) refuse() error {
	var problems settingsError
	for _, p := range e.pairs {
		switch {
		case strings.HasPrefix(p.name, "PDS_ENTRYWAY_"):
			problems = append(problems, problem{p.name, "is set: the accounts of this server are on an entryway, which is no server that can be adopted"})
		case p.name == "PDS_PLC_ROTATION_KEY_KMS_KEY_ID":
			problems = append(problems, problem{p.name, "is set: a key in a key management service cannot be taken along"})
		}
	}
	for _, name := range mustStay {
		if name != "PDS_SERVICE_DID" && e.value(name) == "" {
			problems = append(problems, problem{name, "is missing in " + e.path})
		}
	}
	switch disk, bucket := e.value("PDS_BLOBSTORE_DISK_LOCATION"), e.value("PDS_BLOBSTORE_S3_BUCKET"); {
	case disk != "" && bucket != "":
		problems = append(problems, problem{"PDS_BLOBSTORE_DISK_LOCATION", "is set, and so is PDS_BLOBSTORE_S3_BUCKET: take away the one that the old server does not use"})
	case disk == "" && bucket == "":
		problems = append(problems, problem{"PDS_BLOBSTORE_DISK_LOCATION", "is missing in " + e.path + ", and so is PDS_BLOBSTORE_S3_BUCKET: one of them says where the blobs are"})
	}
	if problems != nil {
		return problems
	}
	return nil
}

// mustStay are the settings that the accounts, their tokens and DIDs hang on.
var mustStay = []string{"PDS_HOSTNAME", "PDS_SERVICE_DID", "PDS_JWT_SECRET", "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"}

// layout finds the parts of the data directory, whose paths are those of the container that
// had it as PDS_DATA_DIRECTORY.
func (e *referenceEnv) layout(directory string) (reference.Layout, error) {
	l := reference.Layout{Settings: e.path}
	for _, part := range []struct {
		to       *string
		variable string
		def      string
	}{
		{&l.AccountDB, "PDS_ACCOUNT_DB_LOCATION", "account.sqlite"},
		{&l.SequencerDB, "PDS_SEQUENCER_DB_LOCATION", "sequencer.sqlite"},
		{&l.Actors, "PDS_ACTOR_STORE_DIRECTORY", "actors"},
		{&l.Blobs, "PDS_BLOBSTORE_DISK_LOCATION", ""},
		{&l.Temporary, "PDS_BLOBSTORE_DISK_TMP_LOCATION", ""},
	} {
		given := e.value(part.variable)
		if given == "" {
			if part.def != "" {
				*part.to = filepath.Join(directory, part.def)
			}
			continue
		}
		var err error
		if *part.to, err = e.rebase(directory, given); err != nil {
			return l, fmt.Errorf("%s in %s: %w", part.variable, e.path, err)
		}
	}
	if l.Blobs != "" {
		if l.Temporary == "" {
			l.Temporary = filepath.Join(l.Blobs, "tempt")
		}
		l.Quarantine = filepath.Join(l.Blobs, "quarantine")
	}
	return l, nil
}

// rebase is where a path of the container is on this machine.
func (e *referenceEnv) rebase(directory, given string) (string, error) {
	if !path.IsAbs(given) {
		return filepath.Join(directory, given), nil
	}
	for _, root := range []string{e.value("PDS_DATA_DIRECTORY"), "/pds"} {
		if !path.IsAbs(root) || path.Clean(root) == "/" {
			continue
		}
		root = path.Clean(root)
		if rest, ok := strings.CutPrefix(path.Clean(given), root); ok && (rest == "" || rest[0] == '/') {
			return filepath.Join(directory, rest), nil
		}
	}
	if !exists(given) {
		return "", fmt.Errorf("%s does not exist on this machine: where it is mounted elsewhere, write a copy of the file with the path that it has here, "+
			"and name it with --reference-env", given)
	}
	return given, nil
}

// meantOtherwise are the settings that say something else here, or nothing.
var meantOtherwise = []string{
	"PDS_DATA_DIRECTORY", "PDS_BLOBSTORE_DISK_LOCATION", "PDS_BLOBSTORE_DISK_TMP_LOCATION", "PDS_SQLITE_DISABLE_WAL_AUTO_CHECKPOINT",
}

// takenOver are the settings of a server that goes on in folder: the old ones but for what
// has no effect here, with given, which goes before them, in their place. left are the names
// of what is not taken over.
func (e *referenceEnv) takenOver(given []envPair, folder, leftBlobs string) (pairs []envPair, left []string) {
	set := func(name, value string) {
		pairs = slices.DeleteFunc(pairs, func(p envPair) bool { return p.name == name })
		if value != "" {
			pairs = append(pairs, envPair{name, value})
		}
	}
	for _, p := range e.pairs {
		row := settingOf(p.name)
		if slices.Contains(meantOtherwise, p.name) || row == nil && !ours(p.name) || row != nil && row.noEffect != "" {
			if !slices.Contains(meantOtherwise, p.name) {
				left = append(left, p.name)
			}
			continue
		}
		set(p.name, p.value)
	}
	if e.value("PDS_PORT") == "" {
		set("PDS_PORT", "3000") // what the image sets, and the proxy in front asks
	}
	for _, p := range given {
		set(p.name, p.value)
	}
	set("PDS_DATA_DIRECTORY", folder)
	if leftBlobs != "" {
		set("PORTICO_BLOBSTORE_LEFT_LOCATION", leftBlobs)
	}
	return pairs, left
}

// envText is a file that [parseEnvFile] reads as pairs.
func envText(pairs []envPair) string {
	var b strings.Builder
	b.WriteString("# Settings of this server, taken over from another one. The secrets in here and in\n" +
		"# " + secretsName + " are all that it needs beside its data: keep a copy in a safe place.\n")
	for _, p := range pairs {
		b.WriteString(p.name + "=" + envQuoted(p.value) + "\n")
	}
	return b.String()
}

func envQuoted(value string) string {
	switch {
	case value != "" && strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./:,@+=%") == "":
		return value
	case !strings.Contains(value, "'"):
		return "'" + value + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(value) + `"`
}
