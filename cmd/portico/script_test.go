package main

import (
	"database/sql"
	encoding "encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"portico/cmd/internal/curl"
)

// The program is the command of the scripts, in a process of its own; and the curl of
// documents, for machines without.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"portico": main, "curl": curl.Main})
}

// Every script is an operator at the shell, next to a server that the test runs.
// -update puts what was printed into the scripts.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		UpdateScripts:      *update,
		Setup: func(env *testscript.Env) error {
			env.Values[steadyKey{}] = &steady{seen: map[string]string{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server": startServer,
			"run":    runCommand,
			"json":   checkJSON,
			"keep":   keep,
			"sql":    changeDatabase,
		},
	})
}

// startServer is "server [NAME=value...]": a development server with these settings
// and its data in ./data, whose port is PDS_PORT from then on.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	s, stop, err := start(append([]string{"PDS_DATA_DIRECTORY=" + ts.MkAbs("data")}, args...)...)
	ts.Check(err)
	ts.Defer(func() { ts.Check(stop()) })
	ts.Setenv("PDS_PORT", strconv.Itoa(s.Port))
}

// runCommand is "run [STATUS] COMMAND...": the command must end with the status, 0
// where none is given. What differs from one run to the next is made the same.
func runCommand(ts *testscript.TestScript, neg bool, args []string) {
	want := 0
	if n, err := strconv.Atoi(args[0]); err == nil {
		want, args = n, args[1:]
	}
	status := 0
	err := ts.Exec(args[0], args[1:]...)
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		status = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	p := ts.Value(steadyKey{}).(*steady)
	p.stdout = ts.ReadFile("stdout")
	stdout, stderr := p.make(p.stdout), p.make(strings.ReplaceAll(ts.ReadFile("stderr"), ts.Getenv("WORK"), "$WORK"))
	io.WriteString(ts.Stdout(), stdout)
	io.WriteString(ts.Stderr(), stderr)
	if status != want {
		ts.Fatalf("ended with %d, want %d", status, want)
	}
}

type steadyKey struct{}

// steady makes outputs the same in every run, as wide as they were.
type steady struct {
	seen   map[string]string
	stdout string // of the last command, as it was
}

var changing = regexp.MustCompile(`did:plc:[a-z2-7]{24}|did:key:z[a-zA-Z0-9]+|localhost-[a-z2-7]{5}-[a-z2-7]{5}|` +
	`\b20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ|\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\b[a-z2-7]{24}\b|\b127\.0\.0\.1:\d+|\blocalhost:\d+`)

func (p *steady) make(text string) string {
	return changing.ReplaceAllStringFunc(text, func(s string) string {
		// The first of a kind gets a, the second b, and so on.
		number := func(prefix, format string) string {
			if p.seen[s] == "" {
				p.seen[prefix] += "a"
				p.seen[s] = strings.Map(func(r rune) rune {
					if r == '?' {
						return rune('a' + len(p.seen[prefix]) - 1)
					}
					return r
				}, format)
			}
			return p.seen[s]
		}
		switch {
		case strings.HasPrefix(s, "did:plc:"):
			return number("did:plc:", "did:plc:????????????????????????")
		case strings.HasPrefix(s, "did:key:"):
			return number("did:key:", "did:key:z?")
		case strings.HasPrefix(s, "localhost-"):
			return number("code", "localhost-?????-?????")
		case strings.HasPrefix(s, "127.0.0.1:"):
			return "127.0.0.1:PORT"
		case strings.HasPrefix(s, "localhost:"):
			return "localhost:PORT"
		case len(s) == 24 && !strings.Contains(s, "T"):
			return number("password", "password????????????????")
		case strings.Contains(s, "T"):
			return "2026-01-02T03:04:05.000Z"
		}
		return "2026-01-02 03:04:05Z"
	})
}

// checkJSON is "json PATH VALUE...": what was printed is one JSON document, and has
// these values. A path is names and indexes with dots between, "#" the length.
func checkJSON(ts *testscript.TestScript, neg bool, args []string) {
	document := decode(ts, ts.ReadFile("stdout"))
	for len(args) >= 2 {
		if got := find(ts, document, args[0]); got != args[1] {
			ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
		}
		args = args[2:]
	}
}

// keep is "keep NAME [PATH]": the value at the path of what was printed, or all of
// it without the end of the line, becomes a variable.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	raw := ts.Value(steadyKey{}).(*steady).stdout
	if len(args) == 1 {
		ts.Setenv(args[0], strings.TrimSpace(raw))
		return
	}
	ts.Setenv(args[0], find(ts, decode(ts, raw), args[1]))
}

// changeDatabase is "sql STATEMENT": what no command would do to the database.
func changeDatabase(ts *testscript.TestScript, neg bool, args []string) {
	raw, err := sql.Open("sqlite", ts.MkAbs("data/"+databaseName))
	ts.Check(err)
	defer raw.Close()
	_, err = raw.Exec(args[0])
	ts.Check(err)
}

func decode(ts *testscript.TestScript, text string) (document any) {
	d := encoding.NewDecoder(strings.NewReader(text))
	ts.Check(d.Decode(&document))
	if _, err := d.Token(); err != io.EOF {
		ts.Fatalf("there is more than one document")
	}
	return document
}

func find(ts *testscript.TestScript, v any, path string) string {
	for step := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			n, err := strconv.Atoi(step)
			switch {
			case step == "#":
				v = len(at)
			case err != nil || n >= len(at):
				ts.Fatalf("%s: there is no %s", path, step)
			default:
				v = at[n]
			}
		default:
			ts.Fatalf("%s: there is no %s", path, step)
		}
	}
	return fmt.Sprint(v)
}
