//go:build compare

package compare

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"portico/cmd/portico/launch"
	"portico/impl/mail/mailtest"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// A mortal is a portico that is killed and comes back, with its data and under its URL.
type mortal struct {
	*launch.Server
	mails *mailtest.Server
}

func startMortal(t *testing.T, n *network) *mortal {
	t.Helper()
	mails := mailtest.Start(t, mailtest.Config{})
	env := append(settings(startGate(t, n.directory).url, mails), "PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=did:web:here.example.com")
	s, err := launch.StartServer(t.Context(), binary, t.TempDir(), env...)
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{s, mails}
	t.Cleanup(func() { m.Kill() })
	return m
}

// TestMoves moves accounts with records and blobs from the reference to Portico and the
// other way round, with requests that are cut off, repeated and late, and Portico killed
// in each step.
func TestMoves(t *testing.T) {
	network := startNetwork(t)
	reference := startReference(t, network, []string{
		"PDS_INVITE_REQUIRED=false", "PDS_SERVICE_DID=did:web:there.example.com", "PDS_SERVICE_HANDLE_DOMAINS=.there.test",
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1b0d2f4c6b8e1a3957c4d6e8f0a2b4c6d8e0f1a3b5c7d9e1f3a5b7c9d1e3f5a7"})
	portico := startMortal(t, network)
	for i, tt := range []struct {
		name  string
		in    bool            // to Portico
		kills []time.Duration // after a step began, one after the other; none: it is never killed
	}{
		{"in", true, nil},
		{"out", false, nil},
		{"in, killed", true, []time.Duration{0, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond}},
		{"out, killed", false, []time.Duration{0, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to, mails := reference.url, portico.URL, reference.mails
			before, after := fmt.Sprintf("mover%d.there.test", i), fmt.Sprintf("mover%d.test", i)
			if !tt.in {
				from, to, mails, before, after = to, from, portico.mails, after, before
			}
			box := httptest.NewServer(mails.Mailbox())
			defer box.Close()
			began := time.Now()
			moved := portico.move(t, tt.kills, from, to, network.directory, box.URL, before, after)
			t.Logf("moved in %v", time.Since(began))
			moved.check(t, to)
		})
		if t.Failed() {
			t.Fatalf("reference wrote at last\n%s\nportico wrote at last\n%s", tail(reference.process), tail(portico.Process))
		}
	}
}

// moved is what move.mjs says.
type moved struct {
	DID   string   `json:"did"`
	CAR   []byte   `json:"car"` // of the server before
	Blobs []string `json:"blobs"`
}

// move runs move.mjs, and kills the server in each step.
func (m *mortal) move(t *testing.T, kills []time.Duration, args ...string) (said moved) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), node, append([]string{"move.mjs"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var wrong bytes.Buffer
	cmd.Stderr = &wrong
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReaderSize(out, 1<<20)
	steps := 0
	last := ""
	for {
		line, err := lines.ReadBytes('\n')
		name, step := strings.CutPrefix(strings.TrimSpace(string(line)), "step ")
		switch {
		case err != nil:
			if err := cmd.Wait(); err != nil {
				t.Fatalf("move.mjs: %v, in step %q\n%s\nportico wrote at last\n%s", err, last, wrong.Bytes(), tail(m.Process))
			}
			if len(said.Blobs) == 0 {
				t.Fatal("move.mjs has not said what moved")
			}
			return said
		case step:
			last = name
			if len(kills) > 0 {
				time.Sleep(kills[steps%len(kills)])
				m.Kill()
				s, err := m.Again(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				m.Server = s
			}
			steps++
		default:
			if err := json.Unmarshal(line, &said); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// check compares what the server at url has of an account with what it was before.
func (m moved) check(t *testing.T, url string) {
	t.Helper()
	get := func(path string) []byte {
		t.Helper()
		resp, err := http.Get(url + "/xrpc/" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s, %v", path, resp.StatusCode, body, err)
		}
		return body
	}
	before, records := contents(t, m.CAR)
	after, same := contents(t, get("com.atproto.sync.getRepo?did="+m.DID))
	if before.Data != after.Data || !maps.Equal(records, same) || len(records) < 1000 {
		t.Errorf("%d blocks under %s are not the %d under %s that there were", len(same), after.Data, len(records), before.Data)
	}
	if after.Rev <= before.Rev {
		t.Errorf("rev %s after %s", after.Rev, before.Rev)
	}
	var list struct {
		CIDs []string `json:"cids"`
	}
	if err := json.Unmarshal(get("com.atproto.sync.listBlobs?limit=1000&did="+m.DID), &list); err != nil {
		t.Fatal(err)
	}
	if want := slices.Sorted(slices.Values(m.Blobs)); !slices.Equal(slices.Sorted(slices.Values(list.CIDs)), want) {
		t.Errorf("blobs %v, want %v", list.CIDs, want)
	}
	for _, cid := range m.Blobs {
		if got := dagcbor.Sum(dagcbor.CodecRaw, get("com.atproto.sync.getBlob?did="+m.DID+"&cid="+cid)).String(); got != cid {
			t.Errorf("blob %s is %s", cid, got)
		}
	}
}

// contents returns the commit of an archive and the names of its other blocks.
func contents(t *testing.T, archive []byte) (*repo.Commit, map[dagcbor.CID]bool) {
	t.Helper()
	r, err := car.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var commit *repo.Commit
	blocks := make(map[dagcbor.CID]bool)
	for {
		b, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.CID != r.Roots()[0] {
			blocks[b.CID] = true
		} else if commit, err = repo.ParseCommit(b.Data); err != nil {
			t.Fatal(err)
		}
	}
	if commit == nil {
		t.Fatal("an archive without its commit")
	}
	return commit, blocks
}
