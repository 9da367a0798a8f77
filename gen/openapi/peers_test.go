//go:build peers

package openapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"portico/cmd/portico/launch"
	"portico/gen"
	"portico/gen/model"
)

// ogen and oapi-codegen, whose versions the module in gen/openapi/testdata/peers has, generate
// clients and servers for every method of every document, which compile.
func TestOtherGenerators(t *testing.T) {
	p := newPeers(t)
	if n := p.takes(t, "project", read(t, "../../api/openapi.json")); n < 100 {
		t.Errorf("the project has %d methods, want all", n)
	}
	p.takes(t, "constructs", read(t, "testdata/openapi.json"))
	p.takes(t, "scaffold", scaffold(t))
	p.takes(t, "indigo", generate(t, os.DirFS(indigo(t)), ofIndigo()))
	cases, err := filepath.Glob("../testdata/*/lexicons")
	if err != nil {
		t.Fatal(err)
	}
	methods := 0
	for _, lexicons := range cases {
		dir := filepath.Dir(lexicons)
		if name := filepath.Base(dir); !strings.HasPrefix(name, "fail-") {
			methods += p.takes(t, name, document(t, dir))
		}
	}
	if methods < 30 {
		t.Errorf("%d methods in gen/testdata, want more", methods)
	}
	p.write(t, "talk/main.go", read(t, "testdata/peers/talk/main.go"))
	p.run(t, "go", "build", "./...")
	p.talks(t)
}

// talks asks the server by the clients that were generated.
func (p peers) talks(t *testing.T) {
	t.Helper()
	binary, err := launch.Binary(t.Context(), p.dir)
	if err != nil {
		t.Fatal(err)
	}
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	plc, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	server, err := launch.Start(t.Context(), url+"/xrpc/_health", "", []string{
		"PDS_DATA_DIRECTORY=" + t.TempDir(), fmt.Sprint("PDS_PORT=", port), fmt.Sprint("PORTICO_PLC_PORT=", plc),
	}, binary, "serve")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	out, err := p.command("go", "run", "./talk", url).CombinedOutput()
	if err != nil {
		t.Errorf("talk: %v\n%s\n%s", err, out, server.Log())
	}
	const want = `createAccount alice.test
createSession 401 AuthenticationRequired
applyWrites 401 AuthMissing
applyWrites com.atproto.repo.applyWrites#createResult /app.bsky.feed.post/3lz2vkx4m5c2a
uploadBlob blob text/plain 5 bafkreiayl6g3gitr7ys7kyng7sjywlrgimdoymco3jiyab6rozecmoazne
getRepo true <nil>
listRecords 1 "Hello"
listRecords 1 Hello
applyWrites com.atproto.repo.applyWrites#deleteResult <nil>
createSession 401 AuthenticationRequired
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Errorf("the clients were answered (-want +got):\n%s", diff)
	}
}

// What ogen has no code for, it refuses: nothing is left out in silence.
func TestOtherGeneratorsRefuse(t *testing.T) {
	p := newPeers(t)
	broken := strings.NewReplacer(`"oneOf": [`, `"anyOf": [`, `"x-ogen-type"`, `"x-other"`).Replace(string(read(t, "../../api/openapi.json")))
	out, err := p.ogen("broken", []byte(broken)).CombinedOutput()
	if err != nil && strings.Contains(string(out), "is not implemented yet") {
		return
	}
	t.Errorf("ogen takes a document with an anyOf of objects: %v\n%s", err, out)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// document is that of a case of gen/testdata, with one method more, which answers with
// each of its definitions.
func document(t *testing.T, dir string) []byte {
	t.Helper()
	c := gen.Config{
		Lexicons: "lexicons", Out: "api", OpenAPI: "Test",
		Model: model.Config{Emit: []string{"*"}, Import: "example.com/api"},
	}
	settings, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err == nil {
		err = json.Unmarshal(settings, &struct {
			Foreign *bool
			Exclude *[]string
			*model.Config
		}{&c.Foreign, &c.Exclude, &c.Model})
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	lexicons := os.DirFS(dir)
	r, err := c.Run(lexicons)
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	properties := map[string]any{}
	for _, d := range r.Documents {
		for _, def := range d.Defs {
			switch def.Node.String("type") {
			case "query", "procedure", "subscription", "permission-set", "params":
			default:
				properties[fmt.Sprintf("p%d", len(properties))] = map[string]string{"type": "ref", "ref": def.ID()}
			}
		}
	}
	all := map[string]any{"lexicon": 1, "id": "net.peers.all", "defs": map[string]any{"main": map[string]any{
		"type": "query", "output": map[string]any{
			"encoding": "application/json", "schema": map[string]any{"type": "object", "properties": properties},
		},
	}}}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	c.Model.Emit = append(c.Model.Emit, "net.peers.all")
	files, err := c.Generate(beside{lexicons, fstest.MapFS{"lexicons/net/peers/all.json": {Data: text}}})
	if err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	return files["api/openapi.json"]
}

// beside is two file systems in one.
type beside struct{ first, second fs.FS }

func (b beside) Open(name string) (fs.File, error) {
	f, err := b.first.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return b.second.Open(name)
	}
	return f, err
}

func (b beside) ReadDir(name string) ([]fs.DirEntry, error) {
	first, err := fs.ReadDir(b.first, name)
	second, secondErr := fs.ReadDir(b.second, name)
	if err != nil && secondErr != nil {
		return nil, err
	}
	return append(first, second...), nil
}

// scaffold is the document of a new project.
func scaffold(t *testing.T) []byte {
	t.Helper()
	project := filepath.Join(t.TempDir(), "shop")
	out, err := exec.CommandContext(t.Context(), "go", "tool", "lexgen", "new", "-dangling=raw", "-lexicons", "testdata/lexicons", project).CombinedOutput()
	if err != nil {
		t.Fatalf("lexgen new: %v\n%s", err, out)
	}
	return read(t, filepath.Join(project, "api/openapi.json"))
}

// peers is a module with the two generators, and with what they generate.
type peers struct{ dir string }

func newPeers(t *testing.T) peers {
	t.Helper()
	p := peers{t.TempDir()}
	for _, name := range []string{"go.mod", "go.sum", "peers.go"} {
		p.write(t, name, read(t, "testdata/peers/"+name))
	}
	p.write(t, "ogen.yml", []byte("generator:\n  features:\n    enable: [paths/client, paths/server]\n"))
	p.run(t, "go", "build", "-o", "bin/", "github.com/ogen-go/ogen/cmd/ogen", "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen")
	return p
}

func (p peers) write(t *testing.T, name string, data []byte) {
	t.Helper()
	name = filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func (p peers) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	return cmd
}

func (p peers) run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := p.command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func (p peers) ogen(name string, document []byte) *exec.Cmd {
	folder := filepath.Join(p.dir, name)
	if err := errors.Join(os.MkdirAll(folder, 0o777), os.WriteFile(filepath.Join(folder, "openapi.json"), document, 0o666)); err != nil {
		panic(err)
	}
	return p.command("bin/ogen", "-config", "ogen.yml", "-loglevel", "error", "-target", name+"/ogen", "-package", "api", name+"/openapi.json")
}

var (
	ogenMethod = regexp.MustCompile(`(?m)^func \(c \*Client\) send`)
	oapiMethod = regexp.MustCompile(`(?m)^func \(siw \*ServerInterfaceWrapper\) `)
)

// takes lets both generators have a document, and counts its methods, which both have
// to find.
func (p peers) takes(t *testing.T, name string, document []byte) int {
	t.Helper()
	var d struct {
		Paths map[string]map[string]json.RawMessage
	}
	if len(document) > 0 { // no document is made of no packages
		if err := json.Unmarshal(document, &d); err != nil {
			t.Fatal(err)
		}
	}
	if len(d.Paths) == 0 {
		return 0
	}
	if out, err := p.ogen(name, document).CombinedOutput(); err != nil {
		t.Errorf("%s: ogen: %v\n%s", name, err, out)
		return 0
	}
	p.write(t, name+"/oapi/api.go", nil) // for its folder
	parts := "types,client,std-http-server"
	if name == "project" {
		parts += ",strict-server" // not of others: it has no words for two bodies that are not JSON
	}
	cmd := p.command("bin/oapi-codegen", "-package", "api", "-generate", parts, "-o", name+"/oapi/api.go", name+"/openapi.json")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: oapi-codegen: %v\n%s", name, err, out)
		return 0
	}
	for file, method := range map[string]*regexp.Regexp{"/ogen/oas_client_gen.go": ogenMethod, "/oapi/api.go": oapiMethod} {
		if n := len(method.FindAll(read(t, p.dir+"/"+name+file), -1)); n != len(d.Paths) {
			t.Errorf("%s%s has %d methods, want %d: %s", name, file, n, len(d.Paths), slices.Sorted(maps.Keys(d.Paths)))
		}
	}
	t.Logf("%s: %d methods", name, len(d.Paths))
	return len(d.Paths)
}
