package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portico/cmd/portico/launch"
	"portico/gen/corpora"
)

// TestNewCorpora makes a project of each author's lexicons, by the command that the tutorial
// has and no flags, and one of all of them, which it starts and asks for every method.
func TestNewCorpora(t *testing.T) {
	all, err := corpora.All()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("%d authors", len(all))
	}
	together := corpora.Corpus{Name: "together"}
	taken := map[string]bool{}
	for _, c := range all {
		for _, d := range c.Documents {
			if !taken[d.ID] { // one author has copies of another's
				together.Documents = append(together.Documents, d)
			}
			taken[d.ID] = true
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			typecheck(t, newOf(t, c), c.Name)
		})
	}
	t.Run(together.Name, func(t *testing.T) {
		t.Parallel()
		project := newOf(t, together)
		// What runs once is not worth the whole of the compiler's pains.
		build := exec.CommandContext(t.Context(), "go", "build", "-gcflags="+together.Name+"/...=-N -l -dwarf=false", "-ldflags=-s -w", "-o", "server", ".")
		build.Dir, build.Env = project, environment(t, t.TempDir())
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		port, err := launch.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		address := fmt.Sprintf("localhost:%d", port)
		server, err := launch.Start(t.Context(), "http://"+address+"/openapi.json", "", nil, filepath.Join(project, "server"), "-addr", address)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Kill()

		methods := 0
		ask := func(verb, nsid, want string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), verb, "http://"+address+"/xrpc/"+nsid, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusNotImplemented || string(body) != want {
				t.Errorf("%s: %d %s %v", nsid, resp.StatusCode, body, err)
			}
			methods++
		}
		for _, d := range together.Documents {
			verb := map[string]string{"query": http.MethodGet, "procedure": http.MethodPost}[d.Main]
			if verb != "" {
				ask(verb, d.ID+query(t, d), `{"error":"MethodNotImplemented","message":"Nobody has decided who may call this method"}`)
			}
		}
		if methods < 50 {
			t.Errorf("%d methods", methods)
		}
		ask(http.MethodGet, "sh.tangled.repo.unheardOf", `{"error":"MethodNotImplemented","message":"Method Not Implemented"}`)
	})
}

// query has the parameters of a method that must be there: they are looked at before who asks.
func query(t *testing.T, d corpora.Document) string {
	t.Helper()
	type schema struct {
		Type, Format string
		Items        *schema
	}
	var document struct {
		Defs struct {
			Main struct {
				Parameters struct {
					Required   []string
					Properties map[string]schema
				}
			}
		}
	}
	if err := json.Unmarshal(d.Text, &document); err != nil {
		t.Fatal(err)
	}
	params := document.Defs.Main.Parameters
	q := url.Values{}
	for _, name := range params.Required {
		of := params.Properties[name]
		if of.Items != nil {
			of = *of.Items
		}
		q.Set(name, map[string]string{
			"integer": "1", "boolean": "true", "string": "x",
			"string did": "did:web:example.com", "string at-identifier": "example.com", "string at-uri": "at://example.com",
		}[strings.TrimSpace(of.Type+" "+of.Format)])
	}
	return "?" + q.Encode()
}

// newOf makes the project of a corpus.
func newOf(t *testing.T, c corpora.Corpus) (project string) {
	t.Helper()
	dir := t.TempDir()
	lexicons, project := filepath.Join(dir, "lexicons"), filepath.Join(dir, c.Name)
	if err := c.Lay(lexicons); err != nil {
		t.Fatal(err)
	}
	status, stdout, stderr := lexgen(t, "new", "-lexicons", lexicons, project)
	if status != 0 || stderr != "" || !strings.Contains(stdout, "\n"+c.Name+": ") && !strings.HasPrefix(stdout, c.Name+": ") {
		t.Fatalf("%d\n%s%s", status, stdout, stderr)
	}
	return project
}
