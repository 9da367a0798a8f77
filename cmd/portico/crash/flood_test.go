//go:build crash

package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/cmd/portico/repotest"
)

var flooders = flag.Int("flood", 300, "sign-ups of the flood, from 50 addresses")

const (
	people = 20 // who have accounts and use them
	bots   = 50 // addresses of the network that sign up
)

// A flood signs up from fifty addresses while twenty people work. All of it stays in
// quarantine: the directory, the firehose, the lists and everything that answers strangers
// know of the twenty alone; and one command ends it.
func TestFloodStaysInQuarantine(t *testing.T) {
	f := &flood{T: t, directory: startDirectory(t)}
	f.start(t, []string{
		"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PDS_ADMIN_PASSWORD=9b1a2c63e7d84f50", "PDS_DID_PLC_URL=" + f.directory,
		"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + strings.Repeat("5d", 32), "PDS_INVITE_REQUIRED=false",
		"PORTICO_SIGNUP_QUARANTINE=approved",
	}, t.TempDir())
	for i := range people {
		u := f.signUp(fmt.Sprintf("person-%d.test", i), fmt.Sprintf("203.0.113.%d", i+1))
		f.users = append(f.users, u)
		f.operate("approve", u.did.String())
	}
	f.wait(func() bool { return len(f.hosted()) == people })

	quiet := f.work(func() { time.Sleep(5 * time.Second) })
	var all []*floodUser
	began := time.Now()
	loud := f.work(func() { all = f.pour() })
	took := time.Since(began)
	t.Logf("%d sign-ups, and %d that were refused, from %d addresses in %v; calls of %d people: alone %v, in the flood %v",
		len(all), *flooders-len(all), bots, took.Round(time.Millisecond), people, quiet, loud)
	if len(all) < *flooders*3/4 {
		t.Fatalf("%d of %d signed up", len(all), *flooders)
	}

	f.check(all)
	began = time.Now()
	out := f.operate("delete", "--quarantined", "--since", "1h", "--yes")
	t.Logf("account delete --quarantined in %v: %s", time.Since(began).Round(time.Millisecond), lastLine(out))
	for _, u := range all[:5] {
		if status := f.status(http.MethodGet, "com.atproto.server.getSession", u.access); status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("the session of %s, who was deleted, answers %d", u.handle, status)
		}
		f.signUp(u.handle, "203.0.113.200") // its name is free
	}
	f.checkUnheard()
	if err := f.server(0).Stop(); err != nil {
		t.Error(err)
	}
}

type flood struct {
	*testing.T
	fleet
	directory string
	users     []*floodUser
}

type floodUser struct {
	handle, access string
	did            syntax.DID
}

// call is one request from an address of the network.
func (f *flood) call(verb, path, host, address, authorization string, in any) (int, []byte, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(f.Context(), verb, f.server(0).URL+path, body)
	if err != nil {
		return 0, nil, err
	}
	if host != "" {
		req.Host = host
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Forwarded-For", address)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := floodClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

var floodClient = &http.Client{Timeout: launch.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: bots + people}}

// status is what a method says to somebody.
func (f *flood) status(verb, method, authorization string) int {
	f.Helper()
	status, _, err := f.call(verb, "/xrpc/"+method, "", "203.0.113.250", authorization, nil)
	if err != nil {
		f.Error(err)
	}
	return status
}

func (f *flood) signUp(handle, address string) *floodUser {
	in := map[string]string{"handle": handle, "email": strings.Replace(handle, ".test", "@mail.example", 1), "password": "password of " + handle}
	for deadline := time.Now().Add(launch.Patience); ; {
		status, answer, err := f.call(http.MethodPost, "/xrpc/com.atproto.server.createAccount", "", address, "", in)
		if err == nil && status == http.StatusServiceUnavailable && time.Now().Before(deadline) {
			time.Sleep(100 * time.Millisecond) // as it says: too much to do
			continue
		}
		if err == nil && status == http.StatusTooManyRequests && strings.HasPrefix(handle, "bot-") {
			return nil // what was refused because of the load counts among its address's sign-ups of the day
		}
		var out struct {
			DID       syntax.DID `json:"did"`
			AccessJwt string     `json:"accessJwt"`
		}
		if err == nil && status == http.StatusOK {
			err = json.Unmarshal(answer, &out)
		}
		if err != nil || status != http.StatusOK {
			f.Errorf("sign up %s: %d %s, %v", handle, status, answer, err)
			return nil
		}
		return &floodUser{handle, "Bearer " + out.AccessJwt, out.DID}
	}
}

// pour is the flood: each of its accounts writes as soon as it is there.
func (f *flood) pour() (all []*floodUser) {
	var mu sync.Mutex
	var running sync.WaitGroup
	for bot := range bots {
		running.Go(func() {
			for i := bot; i < *flooders; i += bots { // as many from each address
				u := f.signUp(fmt.Sprintf("bot-%d.test", i), fmt.Sprintf("198.51.100.%d", bot+1))
				if u == nil {
					continue
				}
				record := map[string]any{
					"repo": u.did, "collection": "app.bsky.feed.post", "rkey": "3jqfcqzm3fo2j",
					"record": map[string]any{"$type": "app.bsky.feed.post", "text": "buy", "createdAt": "2026-01-01T00:00:00Z"},
				}
				if status, answer, err := f.call(http.MethodPost, "/xrpc/com.atproto.repo.putRecord", "", "198.51.100.1", u.access, record); err != nil || status != http.StatusOK {
					f.Errorf("%s writes: %d %s, %v", u.handle, status, answer, err)
				}
				mu.Lock()
				all = append(all, u)
				mu.Unlock()
			}
		})
	}
	running.Wait()
	return all
}

// latency is how long calls took.
type latency struct {
	calls         int
	median, worst time.Duration // of 99 in a hundred
}

func (l latency) String() string {
	return fmt.Sprintf("%d calls, median %v, p99 %v", l.calls, l.median.Round(10*time.Microsecond), l.worst.Round(10*time.Microsecond))
}

// work lets people work, one call a tenth of a second each, while meanwhile runs.
func (f *flood) work(meanwhile func()) latency {
	var over atomic.Bool
	var mu sync.Mutex
	var all []time.Duration
	var working sync.WaitGroup
	for i, u := range f.users {
		working.Go(func() {
			for n := 0; !over.Load(); n++ {
				repo := url.QueryEscape(u.did.String())
				verb, path, in := http.MethodGet, "/xrpc/com.atproto.server.getSession", any(nil)
				switch n % 4 {
				case 1:
					verb, path = http.MethodPost, "/xrpc/com.atproto.repo.createRecord"
					in = map[string]any{"repo": u.did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": "work"}}
				case 2:
					path = "/xrpc/com.atproto.repo.listRecords?collection=com.example.note&limit=10&repo=" + repo
				case 3:
					path = "/xrpc/com.atproto.repo.describeRepo?repo=" + repo
				}
				began := time.Now()
				status, answer, err := f.call(verb, path, "", fmt.Sprintf("203.0.113.%d", i+1), u.access, in)
				took := time.Since(began)
				if err != nil || status != http.StatusOK {
					f.Errorf("%s: %s: %d %s, %v", u.handle, path, status, answer, err)
				}
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
				time.Sleep(100*time.Millisecond - min(took, 100*time.Millisecond))
			}
		})
	}
	meanwhile()
	over.Store(true)
	working.Wait()
	slices.Sort(all)
	return latency{len(all), all[len(all)/2], all[len(all)*99/100]}
}

// hosted is all that listRepos says.
func (f *flood) hosted() (dids []string) {
	cursor := ""
	for {
		_, answer, err := f.call(http.MethodGet, "/xrpc/com.atproto.sync.listRepos?limit=1000&cursor="+url.QueryEscape(cursor), "", "203.0.113.250", "", nil)
		var page struct {
			Cursor string `json:"cursor"`
			Repos  []struct {
				DID string `json:"did"`
			} `json:"repos"`
		}
		if err == nil {
			err = json.Unmarshal(answer, &page)
		}
		if err != nil {
			f.Fatal(err)
		}
		for _, r := range page.Repos {
			dids = append(dids, r.DID)
		}
		if cursor = page.Cursor; cursor == "" {
			return dids
		}
	}
}

func (f *flood) wait(until func() bool) {
	f.Helper()
	for deadline := time.Now().Add(launch.Patience); !until(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatal("it does not come to that")
		}
	}
}

// check asks for some of the flood as a stranger, as the account itself and as the operator.
func (f *flood) check(all []*floodUser) {
	f.checkUnheard()
	for i := 0; i < len(all); i += max(1, len(all)/10) {
		u := all[i]
		did := url.QueryEscape(u.did.String())
		for _, method := range []string{
			"com.atproto.repo.getRecord?collection=app.bsky.feed.post&rkey=3jqfcqzm3fo2j&repo=" + did,
			"com.atproto.repo.getRecord?collection=app.bsky.feed.post&rkey=3jqfcqzm3fo2j&repo=" + u.handle,
			"com.atproto.repo.listRecords?collection=app.bsky.feed.post&repo=" + did, "com.atproto.repo.describeRepo?repo=" + u.handle,
			"com.atproto.sync.getRepo?did=" + did, "com.atproto.sync.getLatestCommit?did=" + did,
			"com.atproto.sync.getRecord?collection=app.bsky.feed.post&rkey=3jqfcqzm3fo2j&did=" + did, "com.atproto.sync.listBlobs?did=" + did,
		} {
			if got := [3]int{f.status("GET", method, ""), f.status("GET", method, u.access), f.status("GET", method, operator)}; got[0] == 200 || got[1] != 200 || got[2] != 200 {
				f.Errorf("%s answers a stranger, the account and the operator %v", method, got)
			}
		}
		for _, method := range []string{"com.atproto.sync.getRepoStatus?did=" + did, "com.atproto.identity.resolveHandle?handle=" + u.handle} {
			if got := f.status("GET", method, ""); got == 200 {
				f.Errorf("%s answers a stranger", method)
			}
		}
		for path, host := range map[string]string{"/.well-known/atproto-did": u.handle, "/tls-check?domain=" + u.handle: ""} {
			if status, answer, err := f.call("GET", path, host, "203.0.113.250", "", nil); err != nil || status == 200 {
				f.Errorf("%s of %s answers %d %s, %v", path, u.handle, status, answer, err)
			}
		}
	}
}

// checkUnheard looks at what the network was told.
func (f *flood) checkUnheard() {
	f.Helper()
	known := map[string]bool{}
	for _, u := range f.users {
		known[u.did.String()] = true
	}
	for _, did := range f.hosted() {
		if !known[did] {
			f.Errorf("listRepos has %s", did)
		}
	}
	req, err := http.NewRequestWithContext(f.Context(), http.MethodGet, f.directory+"/export?count=1000", nil)
	if err != nil {
		f.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	operations := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); operations++ {
		var entry struct {
			DID string `json:"did"`
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil || !known[entry.DID] {
			f.Errorf("in the directory is %s, %v", lines.Bytes(), err)
		}
	}
	if operations != people {
		f.Errorf("the directory has %d operations", operations)
	}

	// The firehose, from its beginning to an event that is made now.
	h := &repotest.Host{TB: f.T, URL: func(i int) string { return f.server(i).URL }}
	ctx, cancel := context.WithTimeout(f.Context(), launch.Patience)
	defer cancel()
	conn, err := h.Subscribe(ctx, 0, "?cursor=0")
	if err != nil {
		f.Fatal(err)
	}
	defer conn.CloseNow()
	marker := f.users[0]
	text := fmt.Sprint("the end, at ", time.Now().UnixNano())
	if status, answer, err := f.call("POST", "/xrpc/com.atproto.repo.createRecord", "", "203.0.113.1", marker.access, map[string]any{
		"repo": marker.did, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": text},
	}); err != nil || status != 200 {
		f.Fatalf("%d %s, %v", status, answer, err)
	}
	for last := int64(0); ; {
		frame, err := repotest.Read(ctx, conn)
		if err != nil {
			f.Fatalf("event after %d: %v", last, err)
		}
		if frame.Seq != last+1 {
			f.Errorf("event %d follows event %d", frame.Seq, last)
		}
		last = frame.Seq
		if !slices.ContainsFunc(f.users, func(u *floodUser) bool { return bytes.Contains(frame.Bytes, []byte(u.did)) }) {
			f.Errorf("event %d is of nobody: %q", frame.Seq, frame.Bytes)
		}
		if bytes.Contains(frame.Bytes, []byte(text)) {
			return
		}
	}
}

// operate runs "portico account" beside the server.
func (f *flood) operate(args ...string) string {
	f.Helper()
	s := f.server(0)
	c := exec.CommandContext(f.Context(), binary, append([]string{"account"}, args...)...)
	c.Env = append(os.Environ(), "PDS_DATA_DIRECTORY="+s.Data, "PDS_PORT="+s.URL[strings.LastIndexByte(s.URL, ':')+1:],
		"PDS_HOSTNAME=localhost", "PDS_ADMIN_PASSWORD=9b1a2c63e7d84f50")
	out, err := c.CombinedOutput()
	if err != nil {
		f.Fatalf("account %q: %v\n%s", args, err, out)
	}
	return string(out)
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
