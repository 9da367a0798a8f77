package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		"    lexicons/com/atproto/x/ping.json:1:81: error Late: none → declared: compatible [error-added]\n"
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
		"    lexicons/com/atproto/x/add.json:1:54: none → procedure: breaking for the server [method-added]; Go: x.Service.Add is new; implement x.Service.Add, decide x.Policy.Add\n" + reported
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
		"    %/com/atproto/x/ping.json:1:81 (before): error Late: declared → none: breaking for clients and the server [error-removed]; Go: x.ErrPingLate is gone; stop answering it\n"
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

// TestDiffOfWhatCannotBeGenerated is about a tree in which two things would have one name in
// Go: it is compared all the same.
func TestDiffOfWhatCannotBeGenerated(t *testing.T) {
	const clash = `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"query","parameters":{"type":"params","properties":{` +
		`"a":{"type":"string"}}}},"params":{"type":"object","properties":{}}}}`
	root := lay(t, clash)
	repository(t, root)
	put(t, root, "lexicons/com/atproto/x/ping.json", document)
	status, stdout, stderr := lexgen(t, "-C", root, "diff")
	if status != 2 || !strings.Contains(stdout, "[params-removed]") ||
		!strings.HasPrefix(stderr, "what was before cannot be generated, so that Go names may be wrong:\n"+
			"lexicons/com/atproto/x/ping.json:1:") {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
	put(t, root, "lexicons/com/atproto/x/ping.json", clash)
	status, stdout, stderr = lexgen(t, "-C", root, "diff", filepath.Join(lay(t, document), "lexicons"), filepath.Join(root, "lexicons"))
	if status != 2 || !strings.Contains(stdout, "[params-added]") ||
		!strings.HasPrefix(stderr, "what is new cannot be generated, so that Go names may be wrong:\n") {
		t.Errorf("the other way: %d\n%s%s", status, stdout, stderr)
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

// strange is a document whose bytes mean something to whatever shows them.
const (
	strange = `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"query","parameters":{"type":"params","properties":{
"sort":{"type":"string","default":"up","enum":["up","down"]}}}}}}`
	stranger = `{"lexicon":1,"id":"com.atproto.x.ping","defs":{"main":{"type":"query","parameters":{"type":"params","properties":{
"sort":{"type":"string","default":"down","enum":["up","down","` + "`<b>` | @all ``[x](http://x) 100%: a,b" + `\n::error::x"]},
"a` + "`\\u202e\\n::set-output name=x::100%|\\u001b" + `":{"type":"string"}}}}}}`
)

func TestDiffFormats(t *testing.T) {
	root := t.TempDir()
	t.Chdir(root)
	const file = "lexicons/a,b:c%/ping.json"
	put(t, root, "go.mod", "module portico\n")
	put(t, root, file, strange)
	put(t, root, "lexicons/late.json", strings.ReplaceAll(pinged, "x.ping", "x.late"))
	put(t, root, "lexicons/gone.json", strings.ReplaceAll(document, "x.ping", "x.gone"))
	repository(t, root)
	put(t, root, file, stranger)
	put(t, root, "lexicons/late.json", strings.ReplaceAll(document, "x.ping", "x.late"))
	if err := os.Remove(filepath.Join(root, "lexicons/gone.json")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"-format text", "" +
			"- com.atproto.x.gone (query)\n" +
			"    lexicons/gone.json:1:55 (before): query → none: breaking for clients and the server [method-removed]; Go: x.Service.Gone is gone; delete the method of the implementation and of its policy, or keep the lexicon\n" +
			"! com.atproto.x.late (query)\n" +
			"    lexicons/late.json:1:81 (before): error Late: declared → none: breaking for clients and the server [error-removed]; Go: x.ErrLateLate is gone; stop answering it\n" +
			"~ com.atproto.x.ping (query)\n" +
			"    lexicons/a,b:c%/ping.json:2:62: params.sort enum \"`<b>` | @all ``[x](http://x) 100%: a,b\\n::error::x\": none → allowed: a change of behaviour [input-enum-wider]\n" +
			"    lexicons/a,b:c%/ping.json:2:35: params.sort default: \"up\" → \"down\": a change of behaviour [default-changed]\n" +
			"    lexicons/a,b:c%/ping.json:3:46: params.a`\\u202e\\u000a::set-output name=x::100%|\\u001b: none → optional string: compatible [property-added]\n"},
		{"-format markdown", "" +
			"**Lexicons:** 2 breaking for clients and the server, 2 a change of behaviour, 1 compatible\n" +
			"\n" +
			"- `-` `com.atproto.x.gone` (query)\n" +
			"  - `query → none`: **breaking for clients and the server** (`method-removed`, `lexicons/gone.json:1:55 (before)`); Go: `x.Service.Gone is gone`; `delete the method of the implementation and of its policy, or keep the lexicon`\n" +
			"- `!` `com.atproto.x.late` (query)\n" +
			"  - `error Late: declared → none`: **breaking for clients and the server** (`error-removed`, `lexicons/late.json:1:81 (before)`); Go: `x.ErrLateLate is gone`; `stop answering it`\n" +
			"- `~` `com.atproto.x.ping` (query)\n" +
			"  - ``` params.sort enum \"`<b>` | @all ``[x](http://x) 100%: a,b\\n::error::x\": none → allowed ```: a change of behaviour (`input-enum-wider`, `lexicons/a,b:c%/ping.json:2:62`)\n" +
			"  - `params.sort default: \"up\" → \"down\"`: a change of behaviour (`default-changed`, `lexicons/a,b:c%/ping.json:2:35`)\n" +
			"  - `` params.a`\\u202e\\u000a::set-output name=x::100%|\\u001b: none → optional string ``: compatible (`property-added`, `lexicons/a,b:c%/ping.json:3:46`)\n"},
		{"-format=github", "" +
			"::error title=com.atproto.x.gone breaking for clients and the server [method-removed]::query → none; Go: x.Service.Gone is gone; delete the method of the implementation and of its policy, or keep the lexicon; it was at lexicons/gone.json:1:55\n" +
			"::error file=lexicons/late.json,line=1,col=55,title=com.atproto.x.late breaking for clients and the server [error-removed]::error Late: declared → none; Go: x.ErrLateLate is gone; stop answering it; it was at lexicons/late.json:1:81\n" +
			"::warning file=lexicons/a%2Cb%3Ac%25/ping.json,line=2,col=62,title=com.atproto.x.ping a change of behaviour [input-enum-wider]::params.sort enum \"`<b>` | @all ``[x](http://x) 100%25: a,b\\n::error::x\": none → allowed\n" +
			"::warning file=lexicons/a%2Cb%3Ac%25/ping.json,line=2,col=35,title=com.atproto.x.ping a change of behaviour [default-changed]::params.sort default: \"up\" → \"down\"\n" +
			"::notice file=lexicons/a%2Cb%3Ac%25/ping.json,line=3,col=46,title=com.atproto.x.ping compatible [property-added]::params.a`\\u202e\\u000a::set-output name=x::100%25|\\u001b: none → optional string\n"},
	} {
		status, stdout, stderr := lexgen(t, append([]string{"diff"}, strings.Fields(c.args)...)...)
		if status != 2 || stderr != "" {
			t.Errorf("%s: %d %s", c.args, status, stderr)
		}
		if diff := cmp.Diff(c.want, stdout); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.args, diff)
		}
	}
	_, one, _ := lexgen(t, "diff", "-json")
	_, other, _ := lexgen(t, "diff", "-format", "json")
	var all struct{ Changes []struct{ Where string } }
	if err := json.Unmarshal([]byte(one), &all); err != nil || one != other || len(all.Changes) != 5 ||
		all.Changes[4].Where != "params.a`\u202e\n::set-output name=x::100%|\x1b" {
		t.Errorf("-json and -format json: %v\n%s\n%s", err, one, other)
	}
}

// TestDiffBelow is about a module that is not the whole repository, whose files GitHub knows
// by their paths in that.
func TestDiffBelow(t *testing.T) {
	top := t.TempDir()
	put(t, top, "server/go.mod", "module portico\n")
	put(t, top, "server/lexicons/ping.json", document)
	repository(t, top)
	put(t, top, "server/lexicons/ping.json", pinged)
	root := filepath.Join(top, "server")
	status, stdout, stderr := lexgen(t, "-C", root, "diff", "-format", "github")
	const want = "::notice file=server/lexicons/ping.json,line=1,col=81,title=com.atproto.x.ping compatible [error-added]::error Late: none → declared\n"
	if status != 1 || stdout != want || stderr != "" {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
	if _, stdout, _ = lexgen(t, "-C", root, "diff"); !strings.Contains(stdout, "\n    lexicons/ping.json:1:81: ") {
		t.Errorf("as text, where one works in the module:\n%s", stdout)
	}
}

func TestDiffIgnore(t *testing.T) {
	root := lay(t, pinged)
	put(t, root, "lexicons/com/atproto/x/gone.json", added)
	repository(t, root)
	put(t, root, "lexicons/com/atproto/x/ping.json", document)
	if err := os.Remove(filepath.Join(root, "lexicons/com/atproto/x/gone.json")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    string
		status  int
		ignored int
	}{
		{"", 2, 0},
		{"-ignore error-removed", 2, 1},
		{"-ignore error-removed -ignore method-removed", 0, 2},
		{"-ignore=error-removed:com.atproto.x.ping -ignore method-removed:com.atproto.*", 0, 2},
		{"-ignore error-removed:com.atproto.x.add -ignore method-removed:com.example.*", 2, 0},
		{"-ignore error-added", 2, 0},
	} {
		status, stdout, stderr := lexgen(t, append([]string{"-C", root, "diff"}, strings.Fields(c.args)...)...)
		if status != c.status || strings.Count(stdout, "; ignored\n") != c.ignored || strings.Count(stdout, "\n") != 4 || stderr != "" {
			t.Errorf("%q: %d\n%s%s", c.args, status, stdout, stderr)
		}
	}
	ignore := []string{"-C", root, "diff", "-ignore", "error-removed", "-ignore", "method-removed", "-format"}
	status, stdout, _ := lexgen(t, append(ignore, "github")...)
	if status != 0 || strings.Count(stdout, "::notice ") != 2 || strings.Count(stdout, "; ignored") != 2 {
		t.Errorf("github: %d\n%s", status, stdout)
	}
	status, stdout, _ = lexgen(t, append(ignore, "markdown")...)
	if status != 0 || !strings.HasPrefix(stdout, "**Lexicons:** 2 ignored\n") || strings.Count(stdout, "; ignored\n") != 2 ||
		!strings.Contains(stdout, ": breaking for clients and the server (`error-removed`,") {
		t.Errorf("markdown: %d\n%s", status, stdout)
	}
	status, stdout, _ = lexgen(t, append(ignore, "json")...)
	if status != 0 || !strings.HasPrefix(stdout, "{\n  \"direction\": \"\",\n  \"severity\": \"\",\n") || strings.Count(stdout, `"ignored": true`) != 2 {
		t.Errorf("json: %d\n%s", status, stdout)
	}
}

func TestDiffCommandLine(t *testing.T) {
	root := lay(t, document)
	repository(t, root)
	for args, want := range map[string]string{
		"-ignore eror-removed":       `there is no rule "eror-removed" (did you mean "error-removed"?)`,
		"-ignore property-required":  `there is no rule "property-required" (there are input-property-required, output-property-required, shared-property-required)`,
		"-ignore nonsense":           `there is no rule "nonsense"`,
		"-ignore error-removed:":     `"error-removed:" has no NSID after the colon`,
		"-format html":               "lexgen diff: there is no format \"html\": it is one of github, json, markdown, text\n",
		"-ignore method-added a b c": "usage: lexgen [-C folder] diff ",
	} {
		status, stdout, stderr := lexgen(t, append([]string{"-C", root, "diff"}, strings.Fields(args)...)...)
		if status != 3 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d\n%s%s", args, status, stdout, stderr)
		}
	}
	if status, _, stderr := lexgen(t, "-C", root, "diff", "-h"); status != 0 || !strings.Contains(stderr, "-ignore rule\n") || !strings.Contains(stderr, "-format text\n") {
		t.Errorf("-h: %d\n%s", status, stderr)
	}
}

// TestDiffOfThePage holds what gen/README.md shows of a report to what is printed.
func TestDiffOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../gen/README.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	changed := t.TempDir()
	if err := os.CopyFS(filepath.Join(changed, "lexicons"), os.DirFS(filepath.Join(root, "lexicons"))); err != nil {
		t.Fatal(err)
	}
	const name = "lexicons/com/atproto/repo/listRecords.json"
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	put(t, changed, name, edit{"", "/defs/main/parameters/properties/limit/default", ""}.splice(t, data))
	t.Chdir(root)
	if _, stdout, _ := lexgen(t, "diff", "lexicons", filepath.Join(changed, "lexicons")); !strings.Contains(string(page), strings.SplitAfter(stdout, "\n")[1]) {
		t.Errorf("the page has no line\n%s", stdout)
	}

	shown := string(page)
	shown = shown[strings.Index(shown, "        {\n"):]
	shown = shown[:strings.Index(shown, "\n        }\n")] + "}"
	var want, got map[string]any
	if err := json.Unmarshal([]byte(regexp.MustCompile(`(?m) // .*$`).ReplaceAllString(shown, "")), &want); err != nil {
		t.Fatalf("%v\n%s", err, shown)
	}
	change := want["changes"].([]any)[0].(map[string]any)
	if change["note"] != "…" || change["ignored"] != true {
		t.Errorf("what is left out is not shown: %v", change)
	}
	delete(change, "note")
	delete(change, "ignored")
	_, stdout, _ := lexgen(t, "diff", "-json", "lexicons", filepath.Join(changed, "lexicons"))
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-page +printed):\n%s", diff)
	}
}
