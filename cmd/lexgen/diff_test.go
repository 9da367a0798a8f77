package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes a repository of what stands in root, with one commit.
func repository(t *testing.T, root string) {
	t.Helper()
	t.Setenv("GIT_CONFIG_GLOBAL", os.DevNull)
	t.Setenv("GIT_CONFIG_SYSTEM", os.DevNull)
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "."}, {"-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "Begin"},
	} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", root}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

const (
	pinged   = `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"query","errors":[{"name":"Late"}]}}}`
	added    = `{"lexicon":1,"id":"com.atproto.x.add","defs":{"main":{"type":"procedure"}}}`
	reported = "~ com.atproto.x.ping (query)\n" +
		"    lexicons/com/atproto/x/ping.json:1:81: error Late: none → declared: compatible\n"
)

func TestDiffWithTheLastCommit(t *testing.T) {
	root := lay(t, document)
	repository(t, root)
	if status, stdout, stderr := lexgen(t, "-C", root, "diff"); status != 0 || stdout != "" || stderr != "" {
		t.Errorf("nothing changed: %d\n%s%s", status, stdout, stderr)
	}
	put(t, root, "lexicons/com/atproto/x/ping.json", pinged)
	if status, stdout, stderr := lexgen(t, "-C", root, "diff"); status != 1 || stdout != reported || stderr != "" {
		t.Errorf("an error more: %d\n%s%s", status, stdout, stderr)
	}
	put(t, root, "lexicons/com/atproto/x/add.json", added)
	status, stdout, stderr := lexgen(t, "-C", root, "diff", "HEAD")
	const want = "+ com.atproto.x.add (procedure)\n" +
		"    lexicons/com/atproto/x/add.json:1:54: none → procedure: breaking for the server; implement x.Service.Add, decide x.Policy.Add\n" + reported
	if status != 2 || stdout != want || stderr != "" {
		t.Errorf("a method more: %d\n%s%s", status, stdout, stderr)
	}

	// In a folder below, and as JSON.
	status, stdout, _ = lexgen(t, "-C", filepath.Join(root, "deep"), "diff", "--json")
	var got struct {
		Direction string
		Changes   []struct{ ID, Rule string }
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != 2 || got.Direction != "breaking for the server" ||
		len(got.Changes) != 2 || got.Changes[0].ID != "com.atproto.x.add" || got.Changes[1].Rule != "error-added" {
		t.Errorf("as JSON: %d, %v\n%s", status, err, stdout)
	}

	// generate prints the same.
	status, stdout, stderr = lexgen(t, "-C", root)
	if status != 0 || stderr != "" || !strings.HasPrefix(stdout, "lexicons: 2 documents, 2 methods\n"+
		"changes since HEAD: 1 breaking for the server, 1 compatible\n"+want+"api: ") {
		t.Errorf("generate: %d\n%s%s", status, stdout, stderr)
	}
}

func TestDiffOfFolders(t *testing.T) {
	root, other := lay(t, document), lay(t, pinged)
	t.Chdir(root)
	old, new := filepath.Join(root, "lexicons"), filepath.Join(other, "lexicons")
	status, stdout, stderr := lexgen(t, "diff", old, new)
	if status != 1 || stdout != strings.ReplaceAll(reported, "lexicons/", filepath.ToSlash(new)+"/") || stderr != "" {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
	status, stdout, _ = lexgen(t, "diff", new, "lexicons")
	const want = "! com.atproto.x.ping (query)\n" +
		"    %/com/atproto/x/ping.json:1:81 (before): error Late: declared → none: breaking for clients and the server; stop answering it\n"
	if status != 2 || stdout != strings.ReplaceAll(want, "%", filepath.ToSlash(new)) {
		t.Errorf("the other way: %d\n%s", status, stdout)
	}
}

func TestDiffProblems(t *testing.T) {
	root := lay(t, `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"qery"}}}`)
	status, stdout, stderr := lexgen(t, "-C", root, "diff")
	if status != 3 || stdout != "" || stderr != "\"HEAD\" is neither a folder nor a git revision here\n" {
		t.Errorf("in no repository: %d\n%s%s", status, stdout, stderr)
	}
	repository(t, root)
	const wrong = `lexicons/com/atproto/x/ping.json:1:63: /defs/main/type: unknown type "qery" (did you mean "query"?)` + "\n"
	if status, stdout, stderr = lexgen(t, "-C", root, "diff"); status != 3 || stdout != "" || stderr != "in HEAD:\n"+wrong {
		t.Errorf("a wrong document: %d\n%s%s", status, stdout, stderr)
	}
	for _, args := range [][]string{{"diff", "a", "b", "c"}, {"diff", "-x"}, {"diff", "--", "--output=x"}} {
		if status, _, _ := lexgen(t, append([]string{"-C", root}, args...)...); status != 3 {
			t.Errorf("%q: %d", args, status)
		}
	}
	put(t, root, "lexicons/com/atproto/x/ping.json", document)
	status, stdout, _ = lexgen(t, "-C", root)
	if status != 0 || !strings.Contains(stdout, "changes: the lexicons of the last commit cannot be compared with: in HEAD:\n"+wrong) {
		t.Errorf("generate: %d\n%s", status, stdout)
	}
}

func TestDangling(t *testing.T) {
	const refers = `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"query","output":{"encoding":"application/json","schema":` +
		`{"type":"object","properties":{"a":{"type":"ref","ref":"org.nowhere.defs#a"}}}}}}}`
	root := lay(t, refers)
	if status, _, stderr := lexgen(t, "-C", root, "generate"); status != 1 || !strings.Contains(stderr, `"org.nowhere.defs#a" is in no document`) {
		t.Errorf("without: %d, %s", status, stderr)
	}
	if status, _, stderr := lexgen(t, "-C", root, "--dangling=raw", "generate"); status != 0 || stderr != "" {
		t.Errorf("with: %d, %s", status, stderr)
	}
	data, err := os.ReadFile(filepath.Join(root, "api/atproto/x/ping_gen.go"))
	if err != nil || !strings.Contains(string(data), "A json.RawMessage `json:\"a,omitzero\"`") {
		t.Errorf("%v\n%s", err, data)
	}
	if status, _, _ := lexgen(t, "-C", root, "-dangling=fine"); status != 2 {
		t.Errorf("another value: %d", status)
	}
}
