//go:build crash

package crash

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/db"
)

// TestKilledInTheMidstOfReleases kills servers while the operator lets accounts out of
// quarantine and their owners write, with a directory that delays, loses and denies behind
// them. Some accounts are deleted or taken down meanwhile. Of three rounds the first is on
// SQLite, the last has two servers on one Postgres, and there is none between.
func TestKilledInTheMidstOfReleases(t *testing.T) {
	t.Logf("-seed %d", *seed)
	for i := range *rounds {
		if i%3 == 1 {
			continue
		}
		servers, engine := 1, "sqlite"
		if i%3 == 2 {
			servers, engine = 2, "postgres"
		}
		t.Run(fmt.Sprintf("%d %s", i+1, engine), func(t *testing.T) {
			q := &queue{T: t, round: newRound(t, *seed+uint64(i), servers)}
			q.amended = servers > 1
			q.env = append(q.env, "PDS_INVITE_REQUIRED=false", "PORTICO_SIGNUP_QUARANTINE=approved", "PORTICO_RELEASES_PER_HOUR=100000")
			q.run()
			q.check()
		})
	}
}

// A queue is the quarantine of servers that are killed.
type queue struct {
	*testing.T
	*round
	held []*heldPerson
}

// A heldPerson has an account in quarantine, and a fate.
type heldPerson struct {
	handle, access string
	did            syntax.DID
	fate           string
	before         bool     // the fate comes before the approval
	again          bool     // the deletion was asked for once more, maybe of nobody
	written        []string // keys of records that were acknowledged
}

// Fates of accounts beside that of being released.
const (
	deleted   = "deleted"
	takenDown = "taken down"
)

func (q *queue) run() {
	q.start(q.T, q.env, q.folders...)
	for i := range max(6, *signUps/5) {
		p := &heldPerson{handle: fmt.Sprintf("held-%d.test", i), before: i%2 == 0}
		switch i % 6 {
		case 1, 2:
			p.fate = deleted
		case 3, 4:
			p.fate = takenDown
		}
		var out struct {
			DID       syntax.DID `json:"did"`
			AccessJwt string     `json:"accessJwt"`
		}
		in := map[string]string{"handle": p.handle, "email": fmt.Sprintf("held-%d@example.com", i), "password": "password of " + p.handle}
		if status, answer := q.try(q.Context(), len(q.servers), "createAccount", in, &out); status != http.StatusOK {
			q.Fatalf("sign up %s: %d %s", p.handle, status, answer)
		}
		p.did, p.access = out.DID, "Bearer "+out.AccessJwt
		q.held = append(q.held, p)
		q.write(p, 2)
	}
	if dids := q.registered(q.T); len(dids) > 0 {
		q.Errorf("%d DIDs are in the directory before any release", len(dids))
	}

	var over, killed atomic.Bool
	var killer, all sync.WaitGroup
	killer.Go(func() {
		for !over.Load() || q.kills < 6 {
			time.Sleep(50*time.Millisecond + time.Duration(q.random.Int64N(int64(400*time.Millisecond))))
			i := q.random.IntN(len(q.servers))
			q.kill(i)
			q.again(q.T, i)
		}
		killed.Store(true)
	})
	people := make(chan *heldPerson)
	for range concurrency {
		all.Go(func() {
			for p := range people {
				if p.before {
					q.end(p)
				}
				q.approve(p)
				if p.fate == "" {
					q.write(p, 3)
				}
				if !p.before {
					q.end(p)
				}
			}
		})
	}
	for _, p := range q.held {
		people <- p
	}
	close(people)
	all.Wait()
	over.Store(true)
	for !killed.Load() { // who was released meanwhile goes on
		for _, p := range q.held {
			if p.fate == "" && !killed.Load() && len(p.written) < 40 { // one who is held may have fifty
				q.write(p, 1)
			}
		}
	}
	killer.Wait()
	q.proxy.behave()
	time.Sleep(settle)
	q.settle()
	for _, p := range q.held {
		if p.fate == "" {
			q.write(p, 1)
		}
	}
}

// settle waits until nobody is in quarantine whose account is active.
func (q *queue) settle() {
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(200 * time.Millisecond) {
		i := slices.IndexFunc(q.held, func(p *heldPerson) bool { return p.fate == "" && !q.approve(p) })
		if i < 0 {
			return
		}
		if time.Now().After(deadline) {
			q.Fatalf("%s is not released", q.held[i].handle)
		}
	}
}

// send is one request to one of the servers. An error means that no whole answer came.
func (q *queue) send(verb, method, authorization string, in, out any) (int, string, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, "", err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(q.Context(), verb, q.server(0).URL+"/xrpc/"+method, body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && out != nil {
		err = json.Unmarshal(answer, out)
	}
	return resp.StatusCode, string(answer), err
}

// insist sends until the server answers with one of some statuses.
func (q *queue) insist(method, authorization string, in, out any, statuses ...int) int {
	var last string
	for deadline := time.Now().Add(launch.Patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		status, answer, err := q.send(http.MethodPost, method, authorization, in, out)
		if err == nil && slices.Contains(statuses, status) {
			return status
		}
		last = fmt.Sprintf("%d %s, %v", status, answer, err)
	}
	q.Errorf("%s: %s", method, last)
	return 0
}

var operator = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:9b1a2c63e7d84f50"))

// approve lets somebody out, and reports whether they were out already, or are not there any
// more. An attempt that has failed is made again at once.
func (q *queue) approve(p *heldPerson) (out bool) {
	var answer struct {
		Kept []syntax.DID `json:"kept"`
	}
	q.insist("alt.portico.operator.approveQuarantined", operator, map[string]any{"dids": []any{p.did}}, &answer, 200)
	return slices.Contains(answer.Kept, p.did)
}

// end deals somebody their fate.
func (q *queue) end(p *heldPerson) {
	switch p.fate {
	case deleted:
		status, _, err := q.send(http.MethodPost, "com.atproto.admin.deleteAccount", operator, map[string]any{"did": p.did}, nil)
		if p.again = err != nil || status != http.StatusOK; p.again {
			q.insist("com.atproto.admin.deleteAccount", operator, map[string]any{"did": p.did}, nil, 200)
		}
	case takenDown:
		q.insist("com.atproto.admin.updateSubjectStatus", operator, map[string]any{
			"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": p.did},
			"takedown": map[string]any{"applied": true, "ref": "crash"},
		}, nil, 200)
	}
}

// write creates n records.
func (q *queue) write(p *heldPerson, n int) {
	for range n {
		key := fmt.Sprint("n", len(p.written))
		in := map[string]any{"repo": p.did, "collection": "com.example.note", "rkey": key, "record": map[string]any{"$type": "com.example.note", "text": key}}
		q.insist("com.atproto.repo.putRecord", p.access, in, nil, 200)
		p.written = append(p.written, key)
	}
}

func (q *queue) check() {
	for _, p := range q.held {
		if p.fate != "" {
			continue
		}
		for _, key := range p.written {
			method := "com.atproto.repo.getRecord?collection=com.example.note&rkey=" + key + "&repo=" + url.QueryEscape(p.did.String())
			if status, answer, err := q.send(http.MethodGet, method, "", nil, nil); err != nil || status != http.StatusOK {
				q.Errorf("%s: record %s: %d %s, %v", p.handle, key, status, answer, err)
			}
		}
	}
	for i := range q.servers {
		if err := q.servers[i].Stop(); err != nil {
			q.Error(err)
		}
	}
	dids := q.registered(q.T)
	store := q.open(q.T)
	defer store.Close()
	events := map[syntax.DID][]db.Event{}
	last := int64(0)
	for {
		page, err := store.Events(q.Context(), last, 500)
		if err != nil {
			q.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, e := range page {
			if e.Seq != last+1 {
				q.Errorf("event %d follows event %d", e.Seq, last)
			}
			last = e.Seq
			events[e.DID] = append(events[e.DID], e)
		}
	}
	released := 0
	for _, p := range q.held {
		var kinds []string
		for _, e := range events[p.did] {
			kinds = append(kinds, e.Kind)
		}
		d, registered := dids[p.did]
		_, err := store.Quarantined(q.Context(), p.did)
		held := err == nil
		appeared := len(kinds) >= 3 && slices.Equal(kinds[:3], []string{"#identity", "#account", "#sync"})
		switch {
		case p.fate == "":
			released++
			if held || !registered || d.tombstoned || !appeared {
				q.Errorf("%s: held %v, registered %v, tombstoned %v, events %v", p.handle, held, registered, d.tombstoned, kinds)
			}
			if slices.ContainsFunc(kinds[min(3, len(kinds)):], func(k string) bool { return k != "#commit" }) {
				q.Errorf("%s: events %v", p.handle, kinds)
			}
		case p.fate == deleted && len(kinds) == 0:
			if registered && !d.tombstoned {
				q.Errorf("%s was deleted before it appeared, and is in the directory", p.handle)
			}
		case p.fate == deleted && p.again:
			// Of an account that is not here any more the network is told that it is deleted.
			if !slices.Equal(kinds, []string{"#account"}) {
				q.Errorf("%s was deleted twice: events %v", p.handle, kinds)
			}
		case p.fate == deleted:
			if p.before || !slices.Equal(kinds, []string{"#account"}) || !registered || d.tombstoned {
				q.Errorf("%s was deleted: events %v, registered %v, tombstoned %v", p.handle, kinds, registered, d.tombstoned)
			}
		case held:
			if len(kinds) > 0 || p.before && registered {
				q.Errorf("%s was taken down: events %v, registered %v", p.handle, kinds, registered)
			}
		case p.before || !appeared && !slices.Equal(kinds, []string{"#identity", "#account"}):
			q.Errorf("%s was taken down: held %v, events %v", p.handle, held, kinds)
		}
	}
	if released == 0 || q.kills < 6 {
		q.Errorf("%d released, %d kills: the round shows nothing", released, q.kills)
	}
	q.Logf("%d accounts, %d released, %d kills, %d events, %d DIDs registered", len(q.held), released, q.kills, last, len(dids))
}
