package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lay makes a module with one document.
func lay(t *testing.T, document string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module portico\n", "lexicons/com/atproto/x/ping.json": document, "deep/er/x": "",
	} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func lexgen(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err strings.Builder
	status = tool().Main(args, &out, &err)
	return status, out.String(), err.String()
}

const document = `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"query"}}}`

const next = "next: go vet ./... names what has to follow, make check tells whether all of it did\n"

func TestGenerateAndCheck(t *testing.T) {
	root := lay(t, document)
	status, stdout, stderr := lexgen(t, "-C", filepath.Join(root, "deep", "er"), "check")
	if status != 1 || !strings.Contains(stdout, "+++ api/atproto/x/ping_gen.go\n") ||
		stderr != "4 generated files are not what the lexicons say: run `make generate`\n" {
		t.Errorf("check before: %d\n%s%s", status, stdout, stderr)
	}
	status, stdout, stderr = lexgen(t, "-C", filepath.Join(root, "deep", "er"))
	if status != 0 || stdout != "lexicons: 1 documents, 1 methods\nchanges: there is no commit to compare with\n"+
		"api: 4 written, 0 removed, 0 unchanged\n"+next || stderr != "" {
		t.Errorf("generate: %d\n%s%s", status, stdout, stderr)
	}
	if status, stdout, stderr = lexgen(t, "-C", root, "check"); status != 0 || stdout != "" || stderr != "" {
		t.Errorf("check after: %d\n%s%s", status, stdout, stderr)
	}
	status, stdout, _ = lexgen(t, "-C", root, "list")
	if status != 0 || stdout != "com.atproto.x.ping  query  Service.Ping  api/atproto/x/ping_gen.go\n" {
		t.Errorf("list: %d\n%q", status, stdout)
	}
	status, stdout, _ = lexgen(t, "-C", root, "openapi")
	if written, err := os.ReadFile(filepath.Join(root, "api/openapi.json")); status != 0 || err != nil || stdout != string(written) {
		t.Errorf("openapi: %d, %v\n%s", status, err, stdout)
	}
	if err := os.Remove(filepath.Join(root, "lexicons/com/atproto/x/ping.json")); err != nil {
		t.Fatal(err)
	}
	if status, stdout, _ = lexgen(t, "-C", root, "generate"); status != 0 || !strings.Contains(stdout, "0 written, 4 removed") {
		t.Errorf("generate without the document: %d\n%s", status, stdout)
	}
	if _, err := os.Stat(filepath.Join(root, "api")); !os.IsNotExist(err) {
		t.Errorf("the output folder is still there: %v", err)
	}
}

func TestNothingIsWrittenWhenADocumentIsWrong(t *testing.T) {
	root := lay(t, `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"qery"}}}`)
	status, stdout, stderr := lexgen(t, "-C", root)
	const want = `lexicons/com/atproto/x/ping.json:1:63: /defs/main/type: unknown type "qery" (did you mean "query"?)` + "\n"
	if status != 1 || stdout != "" || stderr != want {
		t.Errorf("got %d\n%s%s", status, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(root, "api")); !os.IsNotExist(err) {
		t.Errorf("an output folder was made: %v", err)
	}
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"frobnicate"}, {"check", "more"}, {"-x"}} {
		if status, _, stderr := lexgen(t, args...); status != 2 || !strings.Contains(stderr, "usage: lexgen") {
			t.Errorf("%q: %d, %s", args, status, stderr)
		}
	}
	for _, args := range [][]string{{"-help"}, {"--help"}, {"-h"}} {
		if status, _, stderr := lexgen(t, args...); status != 0 || !strings.Contains(stderr, "usage: lexgen") {
			t.Errorf("%q: %d, %s", args, status, stderr)
		}
	}
	if status, _, stderr := lexgen(t, "-C", t.TempDir()); status != 1 || !strings.Contains(stderr, "is in no Go module") {
		t.Errorf("outside of a module: %d, %s", status, stderr)
	}
}

// TestForeignModule holds the generator to leave the files of other modules alone.
func TestForeignModule(t *testing.T) {
	root := lay(t, document)
	if status, _, stderr := lexgen(t, "-C", root); status != 0 {
		t.Fatal(stderr)
	}
	for name, text := range map[string]string{"go.mod": "// Example.\nmodule  \"example.org/all\" // here\n", "lexicons/com/atproto/x/ping.json": "{}"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{}, {"generate"}, {"check"}, {"list"}, {"sync", root}, {"pull", "com.example.x"}} {
		const says = " is the module example.org/all, and this generator writes portico/api: use that module's own, with go tool lexgen there\n"
		if status, stdout, stderr := lexgen(t, append([]string{"-C", root}, args...)...); status != 1 || stdout != "" || !strings.HasSuffix(stderr, says) {
			t.Errorf("%q: %d %s%s", args, status, stdout, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "api/atproto/x/ping_gen.go")); err != nil {
		t.Error(err)
	}
}

func TestSuggestsWhatSettles(t *testing.T) {
	root := lay(t, `{"lexicon":1,"id":"com.atproto.x.ping","defs":{
		"main":{"type":"procedure","input":{"encoding":"application/json","schema":{"type":"object","properties":{}}}},
		"input":{"type":"object","properties":{}}}}`)
	const want = `lexicons/com/atproto/x/ping.json:3:11: /defs/input: PingInput is also the Go name of lexicons/com/atproto/x/ping.json:2:78 /defs/main/input/schema; add "com.atproto.x.ping:/defs/input" to Rename

With these entries in the model.Config of cmd/lexgen/config.go all of it is settled:

	Rename: map[string]string{
		"com.atproto.x.ping:/defs/input": "PingInputObject", // PingInput is taken
	},
`
	if status, stdout, stderr := lexgen(t, "-C", root); status != 1 || stdout != "" || stderr != want {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(root, "api")); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}
