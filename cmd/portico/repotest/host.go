// Package repotest is people who write to servers that are killed, relays that read them
// meanwhile, and the checks of what both were told: what was acknowledged is there, the log
// has each event once and in order for whoever reads, and every repository verifies.
package repotest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
)

const keys = 24 // of a writer in an account and a collection, at a time

// A Host is one PDS and those who write to it and read it. Its fields are set before anybody
// begins.
type Host struct {
	testing.TB
	// URL is that of a door, of Doors: a server, or what stands before servers.
	URL       func(door int) string
	Doors     int
	Directory string // URL of the PLC directory
	Client    *http.Client
	// Once says that a request may take place long after nobody answered it. It is not made
	// again then, and nothing is written any more where it may have written.
	Once bool
	// Others says that the log has events of others than People, too.
	Others bool

	People    []*Person
	Writers   []*Writer
	Consumers []*Consumer

	mu      sync.Mutex
	answers map[string]int // that were not 200
}

// A Person has an account.
type Person struct {
	DID    syntax.DID
	Access string

	mu   sync.Mutex
	revs []string // of commits that were acknowledged
}

// A Writer has keys of its own in each repository, so it knows what is there. It is one
// goroutine's at a time.
type Writer struct {
	*Host
	id       int
	random   *rand.Rand
	door     int
	count    int
	uploaded int
	// states are what a path of a person may be: the text of its record, "" when there is
	// none. There is one but where nobody answered.
	states map[*Person]map[string][]string
	left   map[*Person]map[string]int // how often a path was left for another, by its first name
}

// AddWriter adds one who writes at a door.
func (h *Host) AddWriter(door int, random *rand.Rand) *Writer {
	w := &Writer{Host: h, id: len(h.Writers), random: random, door: door, states: map[*Person]map[string][]string{}, left: map[*Person]map[string]int{}}
	for _, p := range h.People {
		w.states[p], w.left[p] = map[string][]string{}, map[string]int{}
	}
	h.Writers = append(h.Writers, w)
	return w
}

// AddConsumer adds one who reads at one door after the other, or always at the same where
// it stays.
func (h *Host) AddConsumer(kind Kind, door int, stays bool, random *rand.Rand) *Consumer {
	c := &Consumer{Host: h, Kind: kind, door: door, stays: stays, random: random}
	h.Consumers = append(h.Consumers, c)
	return c
}

// Write is one request that writes, made until somebody answers.
func (w *Writer) Write() {
	p := w.People[w.random.IntN(len(w.People))]
	switch n := w.random.IntN(10); {
	case n < 3: // a blob and a record that names it
		size := 1 + w.random.IntN(60_000)
		if blob := w.upload(p, size); blob != nil {
			w.put(p, w.path(p, "com.example.photo"), blob)
		}
	case n < 5:
		w.put(p, w.path(p, "com.example.note"), nil)
	case n < 6:
		w.delete(p, w.path(p, []string{"com.example.note", "com.example.photo"}[w.random.IntN(2)]))
	case n < 8:
		w.create(p)
	default:
		w.apply(p)
	}
}

// path is one of a person's that the writer may write to.
func (w *Writer) path(p *Person, collection string) string {
	path := fmt.Sprintf("%s/w%d-%d", collection, w.id, w.random.IntN(keys))
	for w.Once && len(w.known(p, path+w.suffix(p, path))) > 1 {
		w.left[p][path]++
	}
	return path + w.suffix(p, path)
}

// suffix is of the name that came in the place of a path.
func (w *Writer) suffix(p *Person, path string) string {
	if n := w.left[p][path]; n > 0 {
		return fmt.Sprint("-", n)
	}
	return ""
}

// text is one that nobody has used.
func (w *Writer) text() string {
	w.count++
	return fmt.Sprintf("%d of writer %d", w.count, w.id)
}

func (w *Writer) known(p *Person, path string) []string {
	if s := w.states[p][path]; s != nil {
		return s
	}
	return []string{""}
}

// a change is what a request makes of a path.
type change struct{ path, text string }

// send makes a request until it is answered, and notes what the paths may be now.
func (w *Writer) send(p *Person, method string, in any, changes ...change) {
	body, err := json.Marshal(in)
	if err != nil {
		w.Error(err)
		return
	}
	clear := true // all requests were answered, and none with 5xx
	maybe := func() {
		for _, c := range changes {
			if known := w.known(p, c.path); !slices.Contains(known, c.text) {
				w.states[p][c.path] = append(slices.Clone(known), c.text)
			}
		}
		clear = false
	}
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); {
		var out struct {
			Commit *struct {
				Rev string `json:"rev"`
			} `json:"commit"`
		}
		status, answer, err := w.call(p, method, "application/json", body, &out)
		switch {
		case err != nil && !w.Once:
			maybe()
			time.Sleep(20 * time.Millisecond)
			continue
		case err != nil || status >= 500:
			maybe()
			time.Sleep(50 * time.Millisecond) // as a client does that is told so
		case status != http.StatusOK && clear:
			w.Errorf("%s %s: %d %s", method, body, status, answer)
		case status == http.StatusOK:
			for _, c := range changes {
				w.states[p][c.path] = []string{c.text}
			}
			if out.Commit != nil {
				p.mu.Lock()
				p.revs = append(p.revs, out.Commit.Rev)
				p.mu.Unlock()
			}
		}
		return
	}
	w.Errorf("%s: nobody answers", method)
}

// call is one request. An error means that no whole answer came.
func (h *Writer) call(p *Person, method, contentType string, body []byte, out any) (int, string, error) {
	url := h.URL(h.door) + "/xrpc/com.atproto.repo." + method
	req, err := http.NewRequestWithContext(h.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Authorization", "Bearer "+p.Access)
	resp, err := h.Client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	if resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(answer, out)
	} else {
		h.mu.Lock()
		if h.answers == nil {
			h.answers = map[string]int{}
		}
		h.answers[fmt.Sprintf("%s: %d %s", method, resp.StatusCode, answer)]++
		h.mu.Unlock()
	}
	return resp.StatusCode, string(answer), err
}

func value(path, text string, blob json.RawMessage) map[string]any {
	collection, _, _ := strings.Cut(path, "/")
	v := map[string]any{"$type": collection, "text": text}
	if blob != nil {
		v["blob"] = blob
	}
	return v
}

func (w *Writer) at(p *Person, path string) map[string]any {
	collection, rkey, _ := strings.Cut(path, "/")
	return map[string]any{"repo": p.DID, "collection": collection, "rkey": rkey}
}

func (w *Writer) put(p *Person, path string, blob json.RawMessage) {
	text := w.text()
	in := w.at(p, path)
	in["record"] = value(path, text, blob)
	w.send(p, "putRecord", in, change{path, text})
}

func (w *Writer) delete(p *Person, path string) {
	w.send(p, "deleteRecord", w.at(p, path), change{path, ""})
}

// create creates at a key of its own, so that there are ever more of them.
func (w *Writer) create(p *Person) {
	text := w.text()
	path := fmt.Sprintf("com.example.note/w%d-new-%d", w.id, w.count)
	in := w.at(p, path)
	in["record"] = value(path, text, nil)
	w.send(p, "createRecord", in, change{path, text})
}

// apply changes up to five paths in one commit, of which it is known what they are.
func (w *Writer) apply(p *Person) {
	var changes []change
	var all []any
	for range 1 + w.random.IntN(5) {
		path := w.path(p, "com.example.note")
		known := w.known(p, path)
		if len(known) > 1 || slices.ContainsFunc(changes, func(c change) bool { return c.path == path }) {
			continue
		}
		collection, rkey, _ := strings.Cut(path, "/")
		one := map[string]any{"collection": collection, "rkey": rkey}
		c := change{path: path}
		switch {
		case known[0] != "" && w.random.IntN(3) == 0:
			one["$type"] = "com.atproto.repo.applyWrites#delete"
		case known[0] != "":
			one["$type"] = "com.atproto.repo.applyWrites#update"
			c.text = w.text()
		default:
			one["$type"] = "com.atproto.repo.applyWrites#create"
			c.text = w.text()
		}
		if c.text != "" {
			one["value"] = value(path, c.text, nil)
		}
		changes, all = append(changes, c), append(all, one)
	}
	if len(changes) > 0 {
		w.send(p, "applyWrites", map[string]any{"repo": p.DID, "writes": all}, changes...)
	}
}

// upload returns the blob as it is to stand in a record, nil when the server refused.
func (w *Writer) upload(p *Person, size int) json.RawMessage {
	body := make([]byte, size)
	for i := range body {
		body[i] = byte(w.random.Uint32())
	}
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); {
		var out struct {
			Blob json.RawMessage `json:"blob"`
		}
		status, answer, err := w.call(p, "uploadBlob", "application/octet-stream", body, &out)
		switch {
		case err != nil && !w.Once:
			time.Sleep(20 * time.Millisecond)
			continue
		case err != nil || status >= 500:
			time.Sleep(50 * time.Millisecond)
			return nil
		case status != http.StatusOK:
			w.Errorf("uploadBlob: %d %s", status, answer)
			return nil
		}
		w.uploaded++
		return out.Blob
	}
	w.Error("uploadBlob: nobody answers")
	return nil
}

// Acknowledged is how many commits and blobs were.
func (h *Host) Acknowledged() (commits, blobs int) {
	for _, p := range h.People {
		commits += len(p.revs)
	}
	for _, w := range h.Writers {
		blobs += w.uploaded
	}
	return commits, blobs
}

// Answers are those that were not 200, by what they said, and how often.
func (h *Host) Answers() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.answers)
}
