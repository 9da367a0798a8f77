package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// environment lets commands run with another home folder and without a network: all
// that a new project needs is there once Portico was built.
func environment(t *testing.T, home string) []string {
	t.Helper()
	env := append(os.Environ(), "HOME="+home, "GOPROXY=off", "GOFLAGS="+os.Getenv("GOFLAGS")+" -mod=readonly", "GOWORK=off")
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+strings.TrimSpace(string(out)))
	}
	return env
}

// TestTutorial walks the section of gen/README.md as a reader would: it writes the
// files that it shows, runs the commands, and wants the answers that it prints.
func TestTutorial(t *testing.T) {
	text, err := os.ReadFile("../../gen/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## A server of your own\n")
	if !ok {
		t.Fatal("the section is not there")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	// Another port than the reader's, in commands, in what they print, and in main.go.
	free, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(free)
	section = strings.ReplaceAll(section, "8080", port)

	home := t.TempDir()
	r := reader{t: t, home: home, env: environment(t, home), port: port}
	if r.dir, err = filepath.Abs("../.."); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kill)
	blocks := regexp.MustCompile("(?ms)^```(\\w+)(?: (\\S+))?\n(.*?)^```$").FindAllStringSubmatch(section, -1)
	commands := 0
	for _, b := range blocks {
		switch {
		case b[2] != "":
			r.write(b[2], b[3])
		case b[1] == "console":
			for session := range strings.SplitSeq("\n"+b[3], "\n$ ") {
				if command, output, _ := strings.Cut(session, "\n"); command != "" {
					r.run(command, output)
					commands++
				}
			}
		default:
			t.Errorf("a block of %s has no file", b[1])
		}
	}
	if commands < 12 {
		t.Errorf("%d commands, want all of the section", commands)
	}
}

// reader does what a tutorial says.
type reader struct {
	t          *testing.T
	home, dir  string
	env        []string
	background *exec.Cmd
	port       string
}

func (r *reader) write(name, text string) {
	r.t.Helper()
	name = strings.Replace(name, "~", r.home, 1)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		r.t.Fatal(err)
	}
}

// run runs a command and holds it to its output, in which "…" stands for anything.
func (r *reader) run(command, want string) {
	r.t.Helper()
	if dir, ok := strings.CutPrefix(command, "cd "); ok {
		r.dir = strings.Replace(dir, "~", r.home, 1)
		main, err := os.ReadFile(filepath.Join(r.dir, "main.go"))
		if err != nil {
			r.t.Fatal(err)
		}
		r.write(filepath.Join(r.dir, "main.go"), strings.ReplaceAll(string(main), "8080", r.port))
		return
	}
	if command == "kill %1" {
		r.kill()
		return
	}
	if server, ok := strings.CutSuffix(command, " &"); ok {
		r.start(server, want)
		return
	}
	cmd := exec.CommandContext(r.t.Context(), "sh", "-c", command)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", command, err, out)
	}
	pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(want)), "…", ".*") + "$"
	if got := strings.TrimSpace(string(out)); !regexp.MustCompile(pattern).MatchString(got) {
		r.t.Fatalf("%s prints\n%s\nwant\n%s", command, got, want)
	}
}

// start runs a server and waits until it has printed want.
func (r *reader) start(command, want string) {
	r.t.Helper()
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Env = r.dir, r.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run has a child
	read, write, err := os.Pipe()
	if err != nil {
		r.t.Fatal(err)
	}
	defer write.Close()
	r.t.Cleanup(func() { read.Close() })
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = write, &errs
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.background = cmd
	read.SetReadDeadline(time.Now().Add(10 * time.Minute)) // go run compiles first
	got := ""
	for b := make([]byte, 100); len(got) < len(want); {
		n, err := read.Read(b)
		if got += string(b[:n]); err != nil {
			r.kill()
			r.t.Fatalf("%s: %v\n%s%s", command, err, got, errs.String())
		}
	}
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		r.t.Fatalf("%s prints %q, want %q", command, got, want)
	}
}

func (r *reader) kill() {
	if r.background != nil {
		syscall.Kill(-r.background.Process.Pid, syscall.SIGKILL)
		r.background.Wait()
		r.background = nil
	}
}

// TestNewEverything makes a project of all documents that the pinned indigo comes
// with, and holds it to the rules of Go.
func TestNewEverything(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	lexicons := filepath.Join(strings.TrimSpace(string(out)), "lexicons")
	project := filepath.Join(t.TempDir(), "all")
	status, _, stderr := lexgen(t, "new", "-lexicons", lexicons, "-module", "example.org/all", "-merge=ask", project)
	if status != 1 || !strings.Contains(stderr, "package cycle") || !strings.Contains(stderr, "is given with -merge") {
		t.Fatalf("without merging: %d %s", status, stderr)
	}
	if _, err := os.Stat(project); !os.IsNotExist(err) {
		t.Fatalf("something was written: %v", err)
	}
	status, stdout, stderr := lexgen(t, "new", "-lexicons", lexicons, "-module", "example.org/all", "-merge", "app.bsky=bsky", project)
	if status != 0 {
		t.Fatalf("%d %s", status, stderr)
	}
	settled, rest, ok := strings.Cut(stdout, "example.org/all: ")
	if want := `settled in lexgen/main.go: chat.bsky is part of the package chatbsky: chat.bsky.convo, chat.bsky.embed, chat.bsky.group need each other
settled in lexgen/main.go: app.bsky.embed.record:/defs/view/properties/record is called EmbedRecordViewRecordUnion: EmbedRecordViewRecord is taken
`; settled != want || !ok {
		t.Errorf("printed\n%s\nwant\n%s", settled, want)
	}
	var documents, methods int
	if n, err := fmt.Sscanf(rest, "%d documents, %d methods, all of which answer 501", &documents, &methods); n != 2 || documents < 370 || methods < 300 {
		t.Errorf("%v, printed %s", err, stdout)
	}
	if n := typecheck(t, project, "example.org/all"); n < 50 {
		t.Errorf("%d packages", n)
	}
	cmd := exec.CommandContext(t.Context(), "go", "tool", "lexgen", "check")
	cmd.Dir, cmd.Env = filepath.Join(project, "api"), environment(t, t.TempDir())
	if out, err := cmd.Output(); err != nil || len(out) > 0 {
		t.Errorf("go tool lexgen check: %v\n%s", err, out)
	}
}

// documents lays a folder of lexicons, which are named by their file.
func documents(t *testing.T, defs map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lexicons")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for nsid, text := range defs {
		text = `{"lexicon":1,"id":"` + nsid + `","defs":{` + text + `}}`
		if err := os.WriteFile(filepath.Join(dir, nsid+".json"), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNewWithoutMethods(t *testing.T) {
	lexicons := documents(t, map[string]string{
		"com.example.x.post":  `"main":{"type":"record","key":"tid","record":{"type":"object","required":["at"],"properties":{"at":{"type":"string","format":"datetime"}}}}`,
		"com.example.y.token": `"main":{"type":"token"}`,
	})
	project := filepath.Join(t.TempDir(), "posts")
	status, stdout, stderr := lexgen(t, "new", "-lexicons", lexicons, project)
	const want = "posts: 2 documents, nothing to serve: api has types and their tables, and there is no server\n" +
		"next: go vet ./... in the new folder; then import its packages\n"
	if status != 0 || stdout != want || stderr != "" {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
	for name, there := range map[string]bool{
		"api/example/x/post_gen.go": true, "api/example/x/records_gen.go": true, "lexgen/main.go": true, "README.md": true, "main.go": false, "impl": false,
	} {
		if _, err := os.Stat(filepath.Join(project, name)); (err == nil) != there {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A program of the project puts records into a repository with Portico's client.
	if err := os.WriteFile(filepath.Join(project, "main.go"), []byte(writesRecords), 0o666); err != nil {
		t.Fatal(err)
	}
	if n := typecheck(t, project, "posts"); n != 5 {
		t.Errorf("%d packages", n)
	}

	lexicons = documents(t, map[string]string{
		"com.example.x.watch": `"main":{"type":"subscription","message":{"schema":{"type":"union","refs":["#m"]}}},"m":{"type":"object","properties":{}}`,
	})
	project = filepath.Join(t.TempDir(), "watch")
	if status, stdout, _ := lexgen(t, "new", "-lexicons", lexicons, project); status != 0 || !strings.HasPrefix(stdout, "watch: 1 documents, 1 methods") {
		t.Errorf("%d\n%s", status, stdout)
	}
	if n := typecheck(t, project, "watch"); n != 6 {
		t.Errorf("%d packages", n)
	}
}

const writesRecords = `package main

import (
	"context"
	"encoding/json"
	"log"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"portico/api/atproto/repo"
	"portico/api/xrpc"

	"posts/api/example/x"
)

func main() {
	post, err := json.Marshal(x.Post{At: syntax.DatetimeNow()})
	if err != nil {
		log.Fatal(err)
	}
	pds := repo.Client{Client: xrpc.Client{Host: "https://pds.example.com"}}
	_, err = pds.CreateRecord(context.Background(), &repo.CreateRecordInput{Repo: "alice.example.com", Collection: x.PostNSID, Record: post})
	if err != nil {
		log.Fatal(err)
	}
}
`

func TestNewLeavesOut(t *testing.T) {
	lexicons := documents(t, map[string]string{
		"com.example.x.ping":  `"main":{"type":"query"}`,
		"com.example.x.wrong": `"main":{"type":"qery"}`,
		"com.example.x.old":   `"main":{"type":"nonsense"}`,
		"com.example.y.draft": `"main":{"type":"nonsense"}`,
	})
	for args, want := range map[string]int{"": 3, "-skip-invalid": 0} {
		project := filepath.Join(t.TempDir(), "x")
		all := slices.DeleteFunc([]string{"new", "-lexicons", lexicons, args, "-exclude", "com.example.x.old", "-exclude=com.example.y.*", project}, func(s string) bool { return s == "" })
		status, stdout, stderr := lexgen(t, all...)
		const says = "\nleft out, for they cannot be used:\n" +
			`lexicons/com.example.x.wrong.json:1:64: /defs/main/type: unknown type "qery" (did you mean "query"?)` + "\n"
		if status != want || !strings.HasPrefix(stdout, "x: 1 documents, 1 methods") || stderr != says {
			t.Errorf("%s: %d\n%s%s", args, status, stdout, stderr)
		}
		main, err := os.ReadFile(filepath.Join(project, "lexgen/main.go"))
		if err != nil || !strings.Contains(string(main), "\tExclude: []string{\n\t\t\"com.example.x.old\",\n\t\t\"com.example.y.*\",\n\t\t\"com.example.x.wrong.json\",\n\t},\n") {
			t.Errorf("%v\n%s", err, main)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	lay := func(document string) string {
		dir := filepath.Join(t.TempDir(), "lexicons")
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(document), 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	good := lay(`{"lexicon":1,"id":"com.example.x.ping","defs":{"main":{"type":"query"}}}`)
	out := func(name string) string { return filepath.Join(t.TempDir(), name) }
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no folder", []string{"-lexicons", good}, 2, "usage: lexgen new"},
		{"no lexicons", []string{out("a")}, 2, "usage: lexgen new"},
		{"no pair", []string{"-lexicons", good, "-merge", "x", out("a")}, 2, "want A=B"},
		{"unknown dangling", []string{"-lexicons", good, "-dangling=loose", out("a")}, 2, "usage: lexgen new"},
		{"not empty", []string{"-lexicons", good, good}, 1, "is not empty: a new project needs a folder of its own"},
		{"no module name", []string{"-lexicons", good, out("a b")}, 1, `"a b" cannot be the path of a module: choose one with -module`},
		{"inside", []string{"-lexicons", good, "inside"}, 1, "is inside of the checkout of portico"},
		{"wrong document", []string{"-lexicons", lay(`{"lexicon":1,"id":"com.example.x.ping","defs":{"main":{"type":"qery"}}}`), out("a")}, 1,
			`lexicons/x.json:1:63: /defs/main/type: unknown type "qery" (did you mean "query"?)`},
		{"dangling", []string{"-lexicons", lay(`{"lexicon":1,"id":"com.example.x.defs","defs":{"a":{"type":"object","properties":{"b":{"type":"ref","ref":"org.else.where"}}}}}`), out("a")}, 1,
			`"org.else.where" is in no document`},
		{"nothing", []string{"-lexicons", lay(`{"lexicon":1,"id":"com.example.x.auth","defs":{"main":{"type":"permission-set","permissions":[]}}}`), out("a")}, 1,
			"has anything to generate"},
		{"asking", []string{"-lexicons", lay(`{"lexicon":1,"id":"com.example.import.ping","defs":{"main":{"type":"query"}}}`), "-merge=ask", out("a")}, 1,
			`"import" cannot be a package`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _, stderr := lexgen(t, append([]string{"new"}, tt.args...)...)
			if status != tt.status || !strings.Contains(stderr, tt.says) {
				t.Errorf("%d %s, want %d with %s", status, stderr, tt.status, tt.says)
			}
			if _, err := os.Stat(tt.args[len(tt.args)-1] + "/go.mod"); err == nil {
				t.Error("something was written")
			}
		})
	}
	project := out("a.b")
	if status, stdout, stderr := lexgen(t, "new", "-lexicons", good, project); status != 0 || stdout != fmt.Sprintln("a.b: 1 documents, 1 methods, all of which answer 501")+
		fmt.Sprintln("next: go run . in the new folder; then write the methods in impl") {
		t.Errorf("%d %s%s", status, stdout, stderr)
	}
}

// TestNewLends holds what is taken from the checkout to what is referred to and missing.
func TestNewLends(t *testing.T) {
	lexicons := documents(t, map[string]string{
		"com.example.x.like":  `"main":{"type":"record","key":"tid","record":{"type":"object","properties":{"subject":{"type":"ref","ref":"com.atproto.repo.strongRef"},"facet":{"type":"ref","ref":"app.bsky.richtext.facet"}}}}`,
		"com.example.x.write": `"main":{"type":"object","properties":{"create":{"type":"ref","ref":"com.atproto.repo.applyWrites#create"}}}`,
		"com.example.x.else":  `"main":{"type":"object","properties":{"b":{"type":"ref","ref":"org.else.where"}}}`,
		// One that is there and another than the checkout's.
		"app.bsky.richtext.facet": `"main":{"type":"object","properties":{"mine":{"type":"boolean"}}}`,
	})
	// One that is there, broken, where the checkout has its own.
	broken := filepath.Join(lexicons, "com/atproto/repo/applyWrites.json")
	if err := os.MkdirAll(filepath.Dir(broken), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	project := filepath.Join(t.TempDir(), "x")
	status, stdout, stderr := lexgen(t, "new", "-lexicons", lexicons, project)
	const says = "taken from the lexicons of portico: com.atproto.repo.strongRef\n" +
		"x: 3 documents, nothing to serve: api has types and their tables, and there is no server\n"
	if status != 3 || !strings.HasPrefix(stdout, says) || !strings.Contains(stderr, `"org.else.where" is in no document`) ||
		!strings.Contains(stderr, "lexicons/com/atproto/repo/applyWrites.json:1:1: ") {
		t.Errorf("%d\n%s%s", status, stdout, stderr)
	}
	ours, err := os.ReadFile("../../lexicons/com/atproto/repo/strongRef.json")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(project, "lexicons/com/atproto/repo/strongRef.json")); err != nil || !bytes.Equal(text, ours) {
		t.Errorf("%v\n%s", err, text)
	}

	status, stdout, stderr = lexgen(t, "new", "-lexicons", lexicons, "-dangling=raw", "-exclude", "com/*", filepath.Join(t.TempDir(), "x"))
	if status != 0 || strings.Contains(stdout, "taken") || stderr != "" {
		t.Errorf("raw: %d\n%s%s", status, stdout, stderr)
	}
}
