package repotest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"portico/cmd/portico/launch"
)

// What there is in the end.
type Sums struct{ Records, Blobs, Events int }

// Check looks for what must never be, once all have written and the last event has the
// number last.
func (h *Host) Check(last int64) (sums Sums) {
	deadline := time.Now().Add(launch.Patience)
	for _, c := range h.Consumers {
		for c.Kind != Live && c.last() < last && time.Now().Before(deadline) {
			time.Sleep(10 * time.Millisecond)
		}
		c.stop()
		<-c.done
	}
	log := h.log(last)
	for _, c := range h.Consumers {
		h.checkConsumer(c, log)
	}
	told := h.checkCommits(log)

	for _, p := range h.People {
		named := h.checkRepository(p, told[p.DID])
		sums.Records += len(told[p.DID].records)
		for cid := range named {
			h.checkBlob(p, cid)
		}
		sums.Blobs += len(named)
		var missing struct {
			Blobs []json.RawMessage `json:"blobs"`
		}
		h.get(p, "com.atproto.repo.listMissingBlobs", nil, &missing)
		if len(missing.Blobs) > 0 {
			h.Errorf("%s: %d blobs are missing: %s", p.DID, len(missing.Blobs), missing.Blobs[0])
		}
	}
	sums.Events = len(log)
	return sums
}

// checkConsumer: it has got what is in the log, each event once and in order.
func (h *Host) checkConsumer(c *Consumer, log []Frame) {
	h.Logf("consumer of kind %d: %d events by %d connections", c.Kind, len(c.frames), c.conns)
	if c.Kind != Live && len(c.frames) != len(log) {
		h.Errorf("a consumer of kind %d got %d events of %d", c.Kind, len(c.frames), len(log))
	}
	if c.Kind == Live && len(c.frames) == 0 {
		h.Error("a live consumer got nothing")
	}
	for _, f := range c.frames {
		if f.Seq > int64(len(log)) || !bytes.Equal(f.Bytes, log[f.Seq-1].Bytes) {
			h.Errorf("a consumer of kind %d got another event %d than the log has", c.Kind, f.Seq)
		}
	}
}

// A replica is what the events of an account make of its repository.
type replica struct {
	records map[string]cid.Cid
	rev     string
	revs    map[string]bool
	data    cid.Cid
}

// checkCommits: each commit follows the one before, inverts, and changes something; those
// that were acknowledged are there.
func (h *Host) checkCommits(log []Frame) map[syntax.DID]*replica {
	ctx := context.Background()
	all := map[syntax.DID]*replica{}
	for _, p := range h.People {
		all[p.DID] = &replica{records: map[string]cid.Cid{}, revs: map[string]bool{}}
	}
	for _, f := range log {
		m, _, err := Decode(f.Bytes)
		if err != nil {
			h.Fatalf("event %d: %v", f.Seq, err)
		}
		if m == nil {
			continue
		}
		r := all[syntax.DID(m.Repo)]
		if r == nil {
			if !h.Others {
				h.Errorf("event %d is of nobody: %s", f.Seq, m.Repo)
			}
			continue
		}
		commit, _, err := repo.LoadRepoFromCAR(ctx, bytes.NewReader(m.Blocks))
		if err != nil {
			h.Errorf("event %d: %v", f.Seq, err)
			continue
		}
		if r.rev != "" {
			if _, err := repo.VerifyCommitMessage(ctx, m); err != nil {
				h.Errorf("event %d: %v", f.Seq, err)
			}
			if m.Since == nil || *m.Since != r.rev || m.Rev <= r.rev {
				h.Errorf("event %d: rev %s since %v, after %s", f.Seq, m.Rev, m.Since, r.rev)
			}
			if m.PrevData == nil || cid.Cid(*m.PrevData) != r.data {
				h.Errorf("event %d: prevData %v, want %s", f.Seq, m.PrevData, r.data)
			}
			if len(m.Ops) == 0 {
				h.Errorf("event %d changes nothing", f.Seq)
			}
		}
		for _, op := range m.Ops {
			if op.Action == "delete" {
				delete(r.records, op.Path)
			} else {
				r.records[op.Path] = cid.Cid(*op.Cid)
			}
		}
		r.rev, r.data, r.revs[m.Rev] = m.Rev, commit.Data, true
	}
	for _, p := range h.People {
		for _, rev := range p.revs {
			if !all[p.DID].revs[rev] {
				h.Errorf("%s: commit %s was acknowledged, and the log does not have it", p.DID, rev)
			}
		}
	}
	return all
}

// checkRepository: the archive verifies, the index has what it has, the log has told it,
// and all writers find what they were told is there. It returns the CIDs of blobs that
// records name.
func (h *Host) checkRepository(p *Person, told *replica) map[string]bool {
	car := h.get(p, "com.atproto.sync.getRepo", url.Values{"did": {p.DID.String()}}, nil)
	commit, archived, err := Archived(h.Context(), car, h.key(p))
	if err != nil {
		h.Fatalf("%s: %v", p.DID, err)
	}
	if commit.Rev != told.rev || commit.Data != told.data {
		h.Errorf("%s is at %s (%s), and the log says %s (%s)", p.DID, commit.Rev, commit.Data, told.rev, told.data)
	}
	texts, blobs := map[string]string{}, map[string]bool{}
	indexed := 0
	for _, collection := range []string{"com.example.note", "com.example.photo"} {
		for r := range h.list(p, collection) {
			path := strings.TrimPrefix(r.URI, "at://"+p.DID.String()+"/")
			indexed++
			texts[path] = r.Value.Text
			if blob := r.Value.Blob.Ref.Link; blob != "" {
				blobs[blob] = true
			}
			if archived[path].String() != r.CID || told.records[path].String() != r.CID {
				h.Errorf("%s: %s is %s in the index, %s in the archive, %s in the log", p.DID, path, r.CID, archived[path], told.records[path])
			}
		}
	}
	if indexed != len(archived) || indexed != len(told.records) {
		h.Errorf("%s: %d records in the index, %d in the archive, %d in the log", p.DID, indexed, len(archived), len(told.records))
	}
	written := map[string]bool{}
	for _, w := range h.Writers {
		for path, known := range w.states[p] {
			written[path] = true
			if !slices.Contains(known, texts[path]) {
				h.Errorf("%s: %s is %q, and writer %d knows that it is one of %q", p.DID, path, texts[path], w.id, known)
			}
		}
	}
	for path := range texts {
		if !written[path] {
			h.Errorf("%s: nobody wrote %s", p.DID, path)
		}
	}
	return blobs
}

// Archived verifies the archive of a repository that is signed with key. It returns its commit and
// the CIDs of its records, by path.
func Archived(ctx context.Context, car []byte, key atcrypto.PublicKey) (*repo.Commit, map[string]cid.Cid, error) {
	commit, archive, err := repo.LoadRepoFromCAR(ctx, bytes.NewReader(car))
	if err == nil {
		err = commit.VerifySignature(key)
	}
	if err == nil {
		err = archive.MST.Verify()
	}
	records := map[string]cid.Cid{}
	if err == nil {
		err = archive.MST.Walk(func(key []byte, val cid.Cid) error {
			collection, rkey, err := syntax.ParseRepoPath(string(key))
			if err == nil {
				_, _, err = archive.GetRecordBytes(ctx, collection, rkey)
			}
			records[string(key)] = val
			return err
		})
	}
	return commit, records, err
}

func (h *Host) checkBlob(p *Person, name string) {
	b := h.get(p, "com.atproto.sync.getBlob", url.Values{"did": {p.DID.String()}, "cid": {name}}, nil)
	if err := IsBlob(name, b); err != nil {
		h.Errorf("%s: blob %s: %v", p.DID, name, err)
	}
}

// IsBlob returns an error unless a blob has the CID that it is called by.
func IsBlob(name string, b []byte) error {
	c, err := cid.Decode(name)
	if err != nil {
		return err
	}
	is, err := c.Prefix().Sum(b)
	if err == nil && is != c {
		err = fmt.Errorf("its bytes are those of %s", is)
	}
	return err
}

type listed struct {
	URI   string `json:"uri"`
	CID   string `json:"cid"`
	Value struct {
		Text string `json:"text"`
		Blob struct {
			Ref struct {
				Link string `json:"$link"`
			} `json:"ref"`
		} `json:"blob"`
	} `json:"value"`
}

// list is all that listRecords has.
func (h *Host) list(p *Person, collection string) func(yield func(listed) bool) {
	return func(yield func(listed) bool) {
		q := url.Values{"repo": {p.DID.String()}, "collection": {collection}, "limit": {"100"}}
		for {
			var page struct {
				Records []listed `json:"records"`
				Cursor  string   `json:"cursor"`
			}
			h.get(p, "com.atproto.repo.listRecords", q, &page)
			for _, r := range page.Records {
				if !yield(r) {
					return
				}
			}
			if page.Cursor == "" {
				return
			}
			q.Set("cursor", page.Cursor)
		}
	}
}

// get asks the first server, which is expected to answer.
func (h *Host) get(p *Person, method string, q url.Values, out any) []byte {
	h.Helper()
	req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, h.URL(0)+"/xrpc/"+method+"?"+q.Encode(), nil)
	if err != nil {
		h.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.Access)
	resp, err := h.Client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(body, out)
	}
	if err != nil {
		h.Errorf("%s %s: %v", method, q, err)
	}
	return body
}

// key is the signing key that the directory names.
func (h *Host) key(p *Person) atcrypto.PublicKey {
	req, err := http.NewRequestWithContext(h.Context(), http.MethodGet, h.Directory+"/"+p.DID.String()+"/data", nil)
	if err != nil {
		h.Fatal(err)
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	var data struct {
		VerificationMethods map[string]string `json:"verificationMethods"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&data); err != nil {
		h.Fatal(err)
	}
	key, err := atcrypto.ParsePublicDIDKey(data.VerificationMethods["atproto"])
	if err != nil {
		h.Fatal(err)
	}
	return key
}
