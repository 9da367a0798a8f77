//go:build compare

package compare

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/cmd/portico/launch"
	"portico/gen/corpora"
)

// lexSeed makes other requests than those that the list of differences is for, to look for
// more: go test -tags compare -run Lexicons ./cmd/portico/compare -args -seed 2
var lexSeed = flag.Uint64("seed", 0, "make other requests of lexicons than the usual ones")

// lexCount is how many requests a method gets: those of the documents made for this
// test, in which everything occurs, more than others.
func lexCount(nsid string) int {
	if strings.HasPrefix(nsid, "com.example.lex.") {
		return 1500
	}
	return 60
}

// notBuilt are methods of the generator's own cases that the reference does not understand,
// and what it says of them.
var notBuilt = map[string]string{
	"com.example-4.x4-2.act":                 "Cannot convert undefined or null to object",
	"com.example-4.x4-2.ask":                 "Lexicon lex:com.example-4.x4-2.name not found",
	"com.example.inlineobjects.shop.getInfo": "Unknown lexicon type: object",
	"com.example.lenient.shop.getAny":        "Unknown lexicon type: unknown",
}

// TestLexicons sends requests, most of which are wrong in one thing, to a server that was
// generated from lexicons and to the reference's own server with the same lexicons. Both
// have to take the same ones, and refuse the others with the same words.
func TestLexicons(t *testing.T) {
	folder, documents := gather(t)
	project := generateServer(t, folder)
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	reference := startLexicons(t, folder)
	ours := fmt.Sprintf("http://localhost:%d", port)
	p, err := launch.Start(t.Context(), ours+"/openapi.json", "", nil, filepath.Join(project, "server"), "-addr", fmt.Sprintf("localhost:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)

	var built struct {
		Built   []string
		Refused map[string]string
	}
	get(t, reference+"/built", &built)
	if diff := cmp.Diff(notBuilt, built.Refused); diff != "" {
		t.Errorf("what the reference cannot build (-want +got):\n%s", diff)
	}
	all := documents.requests(built.Built, lexCount)
	start := time.Now()
	lines := make([]string, len(all))
	answers := map[string]int{}
	var mu sync.Mutex
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: time.Minute}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(all) {
					return
				}
				a, err := ask(client, reference, all[i])
				if err != nil {
					t.Error(err)
					return
				}
				b, err := ask(client, ours, all[i])
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answers[a.verdict()]++
				mu.Unlock()
				documents.forget(all[i].nsid, a.understood.Params)
				lines[i] = a.difference(b)
			}
		})
	}
	wg.Wait()
	t.Logf("%d methods, %d requests to either server in %s: %v", len(built.Built), len(all), time.Since(start).Round(time.Second), answers)
	if len(all) < 20_000 {
		t.Errorf("%d requests", len(all))
	}
	holdAgainst(t, all, lines)
}

// gather lays all documents into a folder: those made for this test, upstream's, those of
// other authors, and the generator's own cases as far as they say nothing of what is there.
func gather(t *testing.T) (string, schemas) {
	t.Helper()
	folder, all := filepath.Join(t.TempDir(), "lexicons"), schemas{}
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	add := func(data []byte) error {
		var d map[string]any
		if err := json.Unmarshal(data, &d); err != nil {
			return err
		}
		id, _ := d["id"].(string)
		if all[id] != nil {
			return nil
		}
		all[id] = d
		return os.WriteFile(filepath.Join(folder, id+".json"), data, 0o666)
	}
	cases, err := filepath.Glob("../../../gen/testdata/*/lexicons")
	if err != nil {
		t.Fatal(err)
	}
	authors, err := corpora.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range authors {
		for _, d := range c.Documents {
			if err := add(d.Text); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, from := range slices.Concat([]string{"lexicons", "../../../lexicons"}, cases) {
		of := strings.ReplaceAll(filepath.Base(filepath.Dir(from)), "-", "")
		if strings.HasPrefix(of, "fail") {
			continue
		}
		err := filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(name) != ".json" {
				return err
			}
			data, err := os.ReadFile(name)
			if slices.Contains(cases, from) {
				// Each case has the same few NSIDs, and in some are files that are no JSON.
				data = bytes.ReplaceAll(data, []byte("com.example."), []byte("com.example."+of+"."))
			}
			if err != nil || !json.Valid(data) {
				return err
			}
			return add(data)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return folder, all
}

var handler = regexp.MustCompile(`(?s)\) (\w+)\(ctx context\.Context([^{]*?)\) (error|\([^{]*\)) \{\n\treturn (nil, )?xrpc\.MethodNotImplemented\(\)`)

// received is what handlers answer with: what they were given.
const received = `package impl

import (
	"encoding/json"
	"net/http"

	"portico/api/xrpc"
)

// Undecided lets anyone call.
func Undecided[In any]() xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: xrpc.Public, Limits: xrpc.GlobalLimitOnly[In]()}
}

// Received is no failure, but says what a method got.
func Received(params, in any) error {
	b, err := json.Marshal(map[string]any{"params": params, "input": in})
	if err != nil {
		return err
	}
	return &xrpc.Error{Status: http.StatusNotImplemented, Name: "MethodNotImplemented", Message: string(b)}
}
`

// generateServer makes a project of the folder, of which everybody may call every method.
func generateServer(t *testing.T, folder string) string {
	t.Helper()
	project := filepath.Join(t.TempDir(), "lexicons")
	run := func(dir, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run("../../..", "go", "tool", "lexgen", "new", "-skip-invalid", "-lexicons", folder, "-module", "example.org/lexicons", project)
	if err := os.WriteFile(filepath.Join(project, "impl/undecided.go"), []byte(received), 0o666); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(filepath.Join(project, "impl"), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "service.go" {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		text = bytes.Replace(text, []byte("\t\"portico/api/xrpc\"\n"), []byte("\t\"example.org/lexicons/impl\"\n\t\"portico/api/xrpc\"\n\n"), 1)
		text = handler.ReplaceAllFunc(text, func(m []byte) []byte {
			params, in := "nil", "nil"
			if bytes.Contains(m, []byte(", params *api.")) {
				params = "params"
			}
			if bytes.Contains(m, []byte(", in *api.")) {
				in = "in"
			}
			return bytes.Replace(m, []byte("xrpc.MethodNotImplemented()"), []byte("impl.Received("+params+", "+in+")"), 1)
		})
		text = append(text, "\nvar _ xrpc.None\n"...)
		return os.WriteFile(name, text, 0o666)
	})
	if err != nil {
		t.Fatal(err)
	}
	run(project, "go", "build", "-o", "server", ".")
	return project
}

// startLexicons starts the reference's server of the documents in folder.
func startLexicons(t *testing.T, folder string) string {
	t.Helper()
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	url := fmt.Sprintf("http://localhost:%d", port)
	p, err := launch.Start(t.Context(), url+"/built", "", nil, node, "lex.mjs", folder, fmt.Sprint(port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return url
}

func get(t *testing.T, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// verdict is an answer to a lexRequest.
type verdict struct {
	status         int
	error, message string
	understood     understood // of a request that is valid
}

type understood struct{ Params, Input any }

func ask(client *http.Client, url string, r lexRequest) (*verdict, error) {
	method, target := http.MethodGet, url+"/xrpc/"+r.nsid
	var body io.Reader
	if r.post {
		method = http.MethodPost
	}
	if r.contentType != "" {
		body = strings.NewReader(r.body)
	}
	if r.query != "" {
		target += "?" + r.query
	}
	req, err := http.NewRequest(method, target, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r, err)
	}
	var answer struct {
		Error, Message string
		understood
	}
	if err := decodeNumbers(text, &answer); err != nil {
		return nil, fmt.Errorf("%s: answered %d %s", r, resp.StatusCode, text)
	}
	v := &verdict{resp.StatusCode, answer.Error, answer.Message, answer.understood}
	if v.error == "MethodNotImplemented" {
		v = &verdict{status: http.StatusOK}
		if err := decodeNumbers([]byte(answer.Message), &v.understood); err != nil {
			return nil, fmt.Errorf("%s: received %s", r, answer.Message)
		}
	}
	return v, nil
}

// decodeNumbers keeps numbers as they are written, of which Go cannot hold all.
func decodeNumbers(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(v)
}

func (v *verdict) verdict() string { return strings.TrimSpace(fmt.Sprint(v.status, " ", v.error)) }

func (v *verdict) String() string {
	if v.status == http.StatusOK {
		return "taken"
	}
	if v.error == "SyntaxError" {
		return fmt.Sprintf("%d SyntaxError", v.status) // the words are those of the reader of JSON
	}
	return fmt.Sprintf("%d %s: %s", v.status, v.error, v.message)
}

// difference is empty when both say the same.
func (v *verdict) difference(ours *verdict) string {
	if v.String() != ours.String() {
		return v.String() + " → " + ours.String()
	}
	said := unlike(v.understood.Input, ours.understood.Input, "$")
	if said == "" {
		said = unlike(plainNames(v.understood.Params), plainNames(ours.understood.Params), "?")
	}
	if said != "" {
		return "understood " + said
	}
	return ""
}

// forget takes out of the parameters of a method those that it does not have, which the
// reference passes on.
func (s schemas) forget(nsid string, params any) {
	_, def := s.definition("", nsid)
	parameters, _ := def["parameters"].(map[string]any)
	properties, _ := parameters["properties"].(map[string]any)
	object, _ := params.(map[string]any)
	maps.DeleteFunc(object, func(name string, _ any) bool { return properties[name] == nil })
}

// plainNames is an object whose names have nothing but small letters and digits, so that the
// names of parameters and of the fields that they are in are alike, and no null: a field that
// nothing is in.
func plainNames(object any) any {
	names, ok := object.(map[string]any)
	if !ok {
		return object
	}
	plain := map[string]any{}
	for name, value := range names {
		if value != nil {
			plain[strings.ToLower(strings.ReplaceAll(name, "-", ""))] = value
		}
	}
	return plain
}

// unlike is where b, the body that a method got, has something that a has not. What no
// property has is in a alone.
func unlike(a, b any, at string) string {
	switch b := b.(type) {
	case nil:
		return "" // no body, or one without a schema
	case map[string]any:
		object, ok := a.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(b)) {
			if !ok {
				break
			}
			value, there := object[key]
			if !there {
				return fmt.Sprintf("%s: nothing → %v", at+"."+key, b[key])
			}
			if said := unlike(value, b[key], at+"."+key); said != "" {
				return said
			}
		}
		if ok {
			return ""
		}
	case []any:
		list, ok := a.([]any)
		for i := range b {
			if !ok || len(list) != len(b) {
				break
			}
			if said := unlike(list[i], b[i], fmt.Sprintf("%s[%d]", at, i)); said != "" {
				return said
			}
		}
		if ok && len(list) == len(b) {
			return ""
		}
	case json.Number:
		y, err := b.Float64()
		if n, ok := a.(json.Number); ok {
			if x, _ := n.Float64(); x == y {
				return ""
			}
		} else if a == nil && err != nil {
			return "" // too large for JavaScript, which writes null
		}
	case string:
		text, ok := a.(string)
		if ok && (text == b || strings.HasSuffix(at, ".$bytes") && len(text)*3/4 == len(strings.TrimRight(b, "="))*3/4) {
			return "" // base64 is written in several ways, of which one side keeps what was sent
		}
	default:
		if a == b {
			return ""
		}
	}
	return fmt.Sprintf("%s: %v → %v", at, a, b)
}

// holdAgainst holds what was found against what is listed, in which "…" stands for any text,
// and which may begin with a method.
func holdAgainst(t *testing.T, all []lexRequest, lines []string) {
	t.Helper()
	listed, err := readDifferences("lexdifferences.txt")
	if err != nil {
		t.Fatal(err)
	}
	patterns, seen := make([]*regexp.Regexp, len(listed)), make([]int, len(listed))
	for i, d := range listed {
		patterns[i] = regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(d.line), "…", "(?s:.*)") + "$")
	}
	unlisted := map[string][]int{}
	for i, line := range lines {
		if line == "" {
			continue
		}
		if at := slices.IndexFunc(patterns, func(p *regexp.Regexp) bool {
			return p.MatchString(line) || p.MatchString(all[i].nsid+": "+line)
		}); at >= 0 {
			seen[at]++
			continue
		}
		kind := detail.ReplaceAllString(line, "(got …)$2")
		unlisted[kind] = append(unlisted[kind], i)
	}
	for i, d := range listed {
		if seen[i] == 0 && *lexSeed == 0 {
			t.Errorf("lexdifferences.txt has under %q what does not occur:\n%s", d.row, d.line)
		}
	}
	for _, kind := range slices.SortedFunc(maps.Keys(unlisted), func(a, b string) int { return len(unlisted[b]) - len(unlisted[a]) }) {
		first := unlisted[kind][0]
		t.Errorf("%s\n%d times, first with %s: %s\n%s", kind, len(unlisted[kind]), all[first].how, all[first], lines[first])
	}
}

// detail is what differs from one difference of a kind to another.
var detail = regexp.MustCompile(`\(got .*?\)( at [^ ]*)?( →|$)`)
