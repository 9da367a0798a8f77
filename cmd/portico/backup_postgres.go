package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"portico/db"
	"portico/impl/backup"
)

// dump has pg_dump send what the database has at the moment of the list of blobs.
func (k *snapshotMaker) dump(ctx context.Context, m *backup.Manifest) error {
	direct, err := k.settings.directURL()
	if err != nil {
		return err
	}
	environ, err := libpqEnviron(direct, os.Environ())
	if err != nil {
		return err
	}
	return k.inStep(func(settled func(blobReader) (bool, error)) error {
		at := k.now()
		return k.from.SharedSnapshot(ctx, func(state *db.Snapshot, name string, version int) error {
			m.Time = at
			program, err := postgresProgram(ctx, "pg_dump", version/10000)
			if err != nil {
				return err
			}
			if ok, err := settled(state); err != nil || !ok {
				return err
			}
			if err := k.describe(ctx, m, state, state); err != nil {
				return err
			}
			dump := exec.CommandContext(ctx, program, "--format=custom", "--compress=0", "--no-owner", "--no-privileges", "--no-password", "--snapshot="+name)
			dump.Env = environ
			out, err := startOutput(dump)
			if err != nil {
				return err
			}
			defer out.Close()
			return k.writer.Part(backup.Database, out)
		})
	})
}

// output is what a program writes, and an error at the end when it failed.
type output struct {
	io.ReadCloser
	cmd    *exec.Cmd
	stderr tail
	ended  bool
}

func startOutput(cmd *exec.Cmd) (*output, error) {
	o := &output{cmd: cmd}
	cmd.Stderr = &o.stderr
	var err error
	if o.ReadCloser, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return o, nil
}

func (o *output) Read(p []byte) (int, error) {
	n, err := o.ReadCloser.Read(p)
	if err == io.EOF && !o.ended {
		o.ended = true
		if failed := o.cmd.Wait(); failed != nil {
			return n, fmt.Errorf("%s: %w: %s", filepath.Base(o.cmd.Path), failed, o.stderr.text())
		}
	}
	return n, err
}

// Close ends the program, unless it has ended.
func (o *output) Close() error {
	if !o.ended {
		o.ended = true
		o.cmd.Process.Kill()
		o.cmd.Wait()
	}
	return nil
}

// A tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > 2000 {
		t.b = t.b[len(t.b)-2000:]
	}
	return len(p), nil
}

func (t *tail) text() string { return printable(strings.Join(strings.Fields(string(t.b)), " ")) }

var majorVersion = regexp.MustCompile(`\) (\d+)`)

// postgresProgram finds a program of Postgres that is not older than a server of a version:
// on PATH, or where Debian has it.
func postgresProgram(ctx context.Context, name string, version int) (string, error) {
	var found []string
	if path, err := exec.LookPath(name); err == nil {
		found = append(found, path)
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/pgsql-*/bin/"} {
		more, err := filepath.Glob(pattern + name)
		if err != nil {
			return "", err
		}
		found = append(found, more...)
	}
	var older []string
	for _, path := range found {
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if err != nil {
			continue
		}
		match := majorVersion.FindSubmatch(bytes.TrimSpace(out))
		if match == nil {
			continue
		}
		if is, err := strconv.Atoi(string(match[1])); err == nil && is >= version {
			return path, nil
		}
		older = append(older, string(match[1]))
	}
	if len(older) > 0 {
		return "", fmt.Errorf("the database is Postgres %d, and %s here is of %s: install the client programs of %d", version, name, strings.Join(older, ", "), version)
	}
	return "", fmt.Errorf("there is no %s here: install the client programs of Postgres %d", name, version)
}

// directURL is that of Postgres past its pooler, for programs that set up their connection as
// they need it: behind a pooler others would get it so.
func (s *settings) directURL() (string, error) {
	if s.DatabasePooled && s.DatabaseListenURL == "" {
		return "", unfit(errors.New("PORTICO_DATABASE_LISTEN_URL is missing: the programs of Postgres need a way past the pooler"))
	}
	if s.DatabasePooled {
		return string(s.DatabaseListenURL), nil
	}
	return string(s.DatabaseURL), nil
}

// libpq are the parameters of a URL and the variables that pg_dump reads them from: on its
// command line everybody on the machine would read them.
var libpq = map[string]string{
	"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE", "database": "PGDATABASE",
	"sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY", "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL", "sslsni": "PGSSLSNI",
	"connect_timeout": "PGCONNECT_TIMEOUT", "channel_binding": "PGCHANNELBINDING", "gssencmode": "PGGSSENCMODE", "krbsrvname": "PGKRBSRVNAME",
	"target_session_attrs": "PGTARGETSESSIONATTRS", "service": "PGSERVICE", "servicefile": "PGSERVICEFILE", "passfile": "PGPASSFILE",
	"options": "PGOPTIONS",
}

// libpqEnviron is the environment of a program of Postgres that reaches the database at a
// URL. Nothing of this server's settings is in it.
func libpqEnviron(address string, environ []string) ([]string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("PORTICO_DATABASE_URL is no URL")
	}
	env := slices.DeleteFunc(slices.Clone(environ), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return name != "PATH" && name != "HOME" && name != "USER" && !strings.HasPrefix(name, "PG")
	})
	env = append(env, "LC_ALL=C", "PGAPPNAME=portico backup")
	var hosts, ports []string
	for one := range strings.SplitSeq(u.Host, ",") {
		if one == "" {
			continue
		}
		h := &url.URL{Host: one}
		hosts, ports = append(hosts, h.Hostname()), append(ports, h.Port())
	}
	if len(hosts) > 0 {
		env = append(env, "PGHOST="+strings.Join(hosts, ","))
	}
	if strings.Join(ports, "") != "" {
		env = append(env, "PGPORT="+strings.Join(ports, ","))
	}
	if user := u.User.Username(); user != "" {
		env = append(env, "PGUSER="+user)
	}
	if password, ok := u.User.Password(); ok {
		env = append(env, "PGPASSWORD="+password)
	}
	if name := strings.TrimPrefix(u.Path, "/"); name != "" {
		env = append(env, "PGDATABASE="+name)
	}
	for name, values := range u.Query() {
		switch variable := libpq[name]; {
		case variable != "":
			env = append(env, variable+"="+values[len(values)-1])
		case strings.HasPrefix(name, "pool_"), strings.HasPrefix(name, "statement_cache_"), strings.HasPrefix(name, "default_query_"), name == "application_name":
			// They are the server's own.
		default:
			return nil, fmt.Errorf("PORTICO_DATABASE_URL has %q, of which pg_dump cannot be told: back up with pg_dump by hand", name)
		}
	}
	return env, nil
}
