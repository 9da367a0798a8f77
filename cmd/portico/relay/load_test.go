//go:build relay

package relay

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// person is somebody with an account. Each writes one call after the other.
type person struct {
	n                   int
	did, handle, access string
	random              *rand.Rand
	clock               *syntax.TIDClock
	has                 map[string]any // values of records by collection/rkey, as far as is known
	deleted             bool
}

// load writes to a server.
type load struct {
	*testing.T
	n      *network
	people []*person
	domain string       // of handles
	calls  atomic.Int64 // that wrote
	phases int
	plain  bool // leaves out what other servers do in a way that the relay complains of
}

func newLoad(t *testing.T, n *network, domain string) *load {
	l := &load{T: t, n: n, domain: domain}
	for i := range *accounts {
		l.people = append(l.people, &person{
			n: i, handle: fmt.Sprintf("person-%d.%s", i, domain), random: rand.New(rand.NewPCG(*seed, uint64(i))),
			clock: syntax.NewTIDClock(uint(i)), has: map[string]any{},
		})
	}
	return l
}

// each runs f for everybody, eight at a time.
func (l *load) each(f func(*person)) {
	queue := make(chan *person, len(l.people))
	for _, p := range l.people {
		queue <- p
	}
	close(queue)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for p := range queue {
				f(p)
			}
		})
	}
	all.Wait()
}

func (l *load) signUp() {
	l.create()
	l.noticed()
	l.each(l.resynced)
}

// create makes everybody an account.
func (l *load) create() {
	l.each(func(p *person) {
		var out struct{ DID, AccessJWT string }
		l.post(p, "com.atproto.server.createAccount", map[string]any{
			"handle": p.handle, "email": fmt.Sprintf("person-%d@example.com", p.n), "password": "correct horse",
		}, &out)
		p.did, p.access = out.DID, out.AccessJWT
	})
}

// noticed waits until the relay has heard of everybody. It hears of nothing that was before
// it came: who is missing after a while writes once more. Not at once, since tap may lose
// what it is told just as it has read a repository.
func (l *load) noticed() {
	l.Helper()
	const patience = 10 * time.Second
	wrote := time.Now()
	for deadline := wrote.Add(2 * time.Minute); ; time.Sleep(200 * time.Millisecond) {
		heard := l.n.query(l.n.relayDatabase(), `SELECT did FROM account`)
		missing := slices.DeleteFunc(slices.Clone(l.people), func(p *person) bool { return slices.Contains(heard, p.did) })
		switch now := time.Now(); {
		case len(missing) == 0:
			return
		case now.After(deadline):
			l.Fatalf("the relay has not heard of %d of %d", len(missing), len(l.people))
		case now.Sub(wrote) > patience:
			for _, p := range missing {
				l.write(p, "createRecord", p.create(post, p.key()))
			}
			wrote = now
		}
	}
}

// signIn gets new tokens for everybody.
func (l *load) signIn() {
	l.each(func(p *person) {
		var out struct{ AccessJWT string }
		p.access = ""
		l.post(p, "com.atproto.server.createSession", map[string]any{"identifier": p.did, "password": "correct horse"}, &out)
		p.access = out.AccessJWT
	})
}

// resynced waits until tap is where p is. While it reads a repository it passes over what
// it is told of it.
func (l *load) resynced(p *person) {
	var latest struct{ Rev string }
	l.get(p, "com.atproto.sync.getLatestCommit?did="+p.did, &latest)
	l.n.resynced(p.did, latest.Rev)
}

// phase lets everybody write a quarter of what they write, and calls midway in the midst
// of it.
func (l *load) phase(name string, midway func()) {
	l.phases++
	each := *writes / 4
	half, once := make(chan struct{}), sync.Once{}
	var steps atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.each(func(p *person) {
			for i := range each {
				l.step(p)
				if i == each/2 {
					l.live(p)
				}
				if int(steps.Add(1)) >= each*len(l.people)/2 {
					once.Do(func() { close(half) })
				}
			}
		})
	}()
	select {
	case <-half:
		midway()
	case <-done:
		l.Fatalf("%s: nobody wrote", name)
	}
	<-done
}

// live is what happens to accounts beside their records.
func (l *load) live(p *person) {
	deactivate := func() { l.post(p, "com.atproto.server.deactivateAccount", map[string]any{}, nil) }
	activate := func() { l.post(p, "com.atproto.server.activateAccount", nil, nil) }
	switch p.n % 5 {
	case 0:
		p.handle = fmt.Sprintf("person-%d-%d.%s", p.n, l.phases, l.domain)
		l.post(p, "com.atproto.identity.updateHandle", map[string]any{"handle": p.handle}, nil)
	case 1:
		deactivate()
		activate()
	case 2: // Brings back what it deleted.
		have := p.some()
		if have == "" || l.plain {
			return
		}
		archive, _ := l.try(p, http.MethodGet, "com.atproto.sync.getRepo?did="+p.did, "", nil)
		l.write(p, "deleteRecord", p.remove(have))
		// A relay drops what it learns of an account that is off by then, and a #sync of the
		// tree that tap still has is none to tap.
		l.resynced(p)
		deactivate()
		l.try(p, http.MethodPost, "com.atproto.repo.importRepo", "application/vnd.ipld.car", archive)
		activate()
		l.reload(p)
		// tap reads such a repository anew, and does not forget what it had: not either what
		// was deleted in between.
		l.resynced(p)
	case 3:
		for _, applied := range []bool{true, false} {
			l.post(p, "com.atproto.admin.updateSubjectStatus", map[string]any{
				"subject":  map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": p.did},
				"takedown": map[string]any{"applied": applied},
			}, nil)
		}
	}
}

// delete deletes the last two accounts.
func (l *load) delete() {
	for _, p := range l.people[len(l.people)-2:] {
		l.post(p, "com.atproto.admin.deleteAccount", map[string]any{"did": p.did}, nil)
		p.deleted = true
	}
}

const (
	post    = "app.bsky.feed.post"
	like    = "app.bsky.feed.like"
	follow  = "app.bsky.graph.follow"
	profile = "app.bsky.actor.profile"
	unknown = "com.example.guestbook.entry"
)

// value is a new record for a collection.
func (p *person) value(collection string) map[string]any {
	v := map[string]any{"$type": collection, "createdAt": "2026-01-02T03:04:05.000Z"}
	switch collection {
	case post, unknown:
		v["text"] = fmt.Sprint("number ", p.random.Int64(), strings.Repeat(".", p.random.IntN(200)))
	case like:
		v["subject"] = map[string]any{
			"uri": fmt.Sprintf("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/%s/3jzfcijpj2z2%c", post, 'a'+p.random.IntN(3)),
			"cid": "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a",
		}
	case follow:
		v["subject"] = fmt.Sprintf("did:plc:ewvi7nxzyoun6zhxrhs64oi%c", 'a'+p.random.IntN(3))
	case profile:
		v["displayName"] = fmt.Sprint("name ", p.random.IntN(3))
	}
	return v
}

// key is a new key.
func (p *person) key() string { return p.clock.Next().String() }

// some is a path that p has, of a post or an entry; "" if there is none.
func (p *person) some() string {
	paths := slices.Sorted(maps.Keys(p.has))
	paths = slices.DeleteFunc(paths, func(path string) bool { return !strings.HasPrefix(path, post) && !strings.HasPrefix(path, unknown) })
	if len(paths) == 0 {
		return ""
	}
	return paths[p.random.IntN(len(paths))]
}

func (p *person) create(collection, key string) map[string]any {
	v := p.value(collection)
	p.has[collection+"/"+key] = v
	return map[string]any{"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": key, "value": v}
}

func (p *person) update(path string, v any) map[string]any {
	p.has[path] = v
	collection, key, _ := strings.Cut(path, "/")
	return map[string]any{"$type": "com.atproto.repo.applyWrites#update", "collection": collection, "rkey": key, "value": v}
}

func (p *person) remove(path string) map[string]any {
	delete(p.has, path)
	collection, key, _ := strings.Cut(path, "/")
	return map[string]any{"$type": "com.atproto.repo.applyWrites#delete", "collection": collection, "rkey": key}
}

// step is one call that writes.
func (l *load) step(p *person) {
	collections := []string{post, post, unknown}
	collection := collections[p.random.IntN(len(collections))]
	apply := func(writes ...map[string]any) {
		if writes == nil {
			writes = []map[string]any{}
		}
		l.post(p, "com.atproto.repo.applyWrites", map[string]any{"repo": p.did, "writes": writes}, nil)
	}
	write := func(method string, w map[string]any) { l.write(p, method, w) }
	have := p.some()
	kind := p.random.IntN(16)
	if l.plain {
		kind = p.random.IntN(11)
	}
	if have == "" && kind >= 6 {
		kind = 0
	}
	switch kind {
	case 0, 1, 2:
		write("createRecord", p.create(collection, p.key()))
	case 3: // replaces one with the same subject
		c := []string{like, follow}[p.random.IntN(2)]
		l.post(p, "com.atproto.repo.createRecord", map[string]any{"repo": p.did, "collection": c, "record": p.value(c)}, nil)
	case 4: // now and then as it is
		write("putRecord", p.update(profile+"/self", p.value(profile)))
	case 5: // nothing to do
		write("deleteRecord", p.remove(collection+"/"+p.key()))
	case 6:
		collection, _, _ := strings.Cut(have, "/")
		write("putRecord", p.update(have, p.value(collection)))
	case 7, 8:
		write("deleteRecord", p.remove(have))
	case 9: // several of a kind
		var writes []map[string]any
		for range 1 + p.random.IntN(20) {
			writes = append(writes, p.create(collection, p.key()))
		}
		apply(writes...)
	case 10: // of all kinds
		apply(p.create(collection, p.key()), p.remove(have), p.create(post, p.key()))
	case 11: // R1: delete and create
		collection, key, _ := strings.Cut(have, "/")
		apply(p.remove(have), p.create(collection, key))
	case 12: // R2: create and delete
		key := p.key()
		apply(p.create(collection, key), p.remove(collection+"/"+key))
	case 13: // R3: nothing
		apply()
	case 14: // R4: as it is
		apply(p.update(have, p.has[have]))
	case 15: // all of it
		var writes []map[string]any
		for _, path := range slices.Sorted(maps.Keys(p.has)) {
			if len(writes) < 150 && path != profile+"/self" {
				writes = append(writes, p.remove(path))
			}
		}
		apply(writes...)
		write("createRecord", p.create(post, p.key()))
	}
}

// write calls a method that writes one record, as w does in applyWrites.
func (l *load) write(p *person, method string, w map[string]any) {
	in := map[string]any{"repo": p.did, "collection": w["collection"], "rkey": w["rkey"]}
	if v := w["value"]; v != nil {
		in["record"] = v
	}
	l.post(p, "com.atproto.repo."+method, in, nil)
}

// reload reads what p has, but for likes and follows, which replace each other.
func (l *load) reload(p *person) {
	clear(p.has)
	l.eachRecord(p, func(path, _ string, value any) {
		if !strings.HasPrefix(path, like) && !strings.HasPrefix(path, follow) {
			p.has[path] = value
		}
	})
}

// list is what the server lists of p: paths with CIDs, sorted.
func (l *load) list(p *person) (list []string) {
	if p.deleted {
		return nil
	}
	l.eachRecord(p, func(path, cid string, _ any) { list = append(list, path+" "+cid) })
	slices.Sort(list)
	return list
}

func (l *load) eachRecord(p *person, f func(path, cid string, value any)) {
	var repo struct{ Collections []string }
	l.get(p, "com.atproto.repo.describeRepo?repo="+p.did, &repo)
	for _, collection := range repo.Collections {
		for cursor := "?"; cursor != ""; {
			var page struct {
				Cursor  string
				Records []struct {
					URI, CID string
					Value    any
				}
			}
			l.get(p, "com.atproto.repo.listRecords"+cursor+"&limit=100&repo="+p.did+"&collection="+collection, &page)
			for _, r := range page.Records {
				f(strings.TrimPrefix(r.URI, "at://"+p.did+"/"), r.CID, r.Value)
			}
			cursor = ""
			if page.Cursor != "" {
				cursor = "?cursor=" + url.QueryEscape(page.Cursor)
			}
		}
	}
}

// records is how many there are.
func (l *load) records() (n int) {
	for _, p := range l.people {
		n += len(l.list(p))
	}
	return n
}

// verifyArchives lets repo-tool look at the archive of everybody.
func (l *load) verifyArchives() {
	l.each(func(p *person) {
		if p.deleted {
			return
		}
		file := filepath.Join(l.n.dir, fmt.Sprintf("%d.car", p.n))
		archive, _ := l.try(p, http.MethodGet, "com.atproto.sync.getRepo?did="+p.did, "", nil)
		if err := os.WriteFile(file, archive, 0o600); err != nil {
			l.Error(err)
		}
		for _, command := range []string{"verify-car-mst", "verify-car-signature"} {
			if err := l.n.repoTool(command, file); err != nil {
				l.Errorf("%s (%s): %v", p.did, p.handle, err)
			}
		}
	})
}

func (l *load) get(p *person, method string, out any) {
	body, _ := l.try(p, http.MethodGet, method, "", nil)
	l.decode(method, body, out)
}

// post calls a method. A client whose connection broke does not know what became of its
// write, and looks.
func (l *load) post(p *person, method string, in, out any) {
	l.calls.Add(1)
	var body []byte
	kind := ""
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			l.Error(err)
		}
		kind = "application/json"
	}
	answer, again := l.try(p, http.MethodPost, method, kind, body)
	if again && strings.HasPrefix(method, "com.atproto.repo.") {
		l.reload(p)
	}
	if out != nil {
		l.decode(method, answer, out)
	}
}

func (l *load) decode(method string, body []byte, out any) {
	if err := json.Unmarshal(body, out); err != nil {
		l.Errorf("%s: %v: %.200s", method, err, body)
	}
}

// try sends a request until it is answered, and says whether it was sent more than once:
// then a refusal may mean that it had been carried out.
func (l *load) try(p *person, verb, method, kind string, body []byte) (answer []byte, again bool) {
	deadline := time.Now().Add(time.Minute)
	for ; ; again = true {
		req, err := http.NewRequestWithContext(l.Context(), verb, l.n.pds().URL+"/xrpc/"+method, bytes.NewReader(body))
		if err != nil {
			l.Error(err)
			return nil, again
		}
		if kind != "" {
			req.Header.Set("Content-Type", kind)
		}
		switch {
		case strings.HasPrefix(method, "com.atproto.admin."), strings.HasPrefix(method, "alt.portico.operator."):
			req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("admin:"+adminPassword)))
		case p.access != "":
			req.Header.Set("Authorization", "Bearer "+p.access)
		}
		resp, err := http.DefaultClient.Do(req)
		status := 0
		if err == nil {
			status = resp.StatusCode
			answer, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		switch {
		case err == nil && status == http.StatusOK, err == nil && status < 500 && again:
			return answer, again
		case err == nil && status != http.StatusServiceUnavailable, time.Now().After(deadline):
			l.Errorf("%s of %s: %d %v: %.300s", method, p.handle, status, err, answer)
			return answer, again
		}
		time.Sleep(50 * time.Millisecond)
	}
}
