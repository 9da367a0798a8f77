//go:build cluster

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// An asked is a request that was made of the cluster, and what came of it.
type asked struct {
	method string
	front  bool      // of HAProxy
	at     time.Time // of the answer
	status int       // 0: none
}

// A record of all that was asked is a transport, which gives each client an address.
type record struct {
	next  http.RoundTripper
	front string // HAProxy's address
	mu    sync.Mutex
	all   []asked
}

func (r *record) RoundTrip(req *http.Request) (*http.Response, error) {
	who := fnv.New32()
	io.WriteString(who, req.Header.Get("Authorization"))
	req = req.Clone(req.Context())
	if req.Header.Get("X-Forwarded-For") == "" {
		n := who.Sum32()
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("100.%d.%d.%d", 128+n>>16&63, n>>8&255, n&255))
	}
	resp, err := r.next.RoundTrip(req)
	a := asked{method: strings.TrimPrefix(path.Ext(req.URL.Path), "."), front: req.URL.Host == r.front, at: time.Now()}
	if err == nil {
		a.status = resp.StatusCode
	}
	r.mu.Lock()
	r.all = append(r.all, a)
	r.mu.Unlock()
	return resp, err
}

// longest is for how long HAProxy answered nothing of some methods with 200 between two times.
func (r *record) longest(from, to time.Time, methods ...string) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, most := from, time.Duration(0)
	for _, a := range r.all {
		if a.front && a.status == http.StatusOK && a.at.After(from) && a.at.Before(to) && slices.Contains(methods, a.method) {
			last, most = a.at, max(most, a.at.Sub(last))
		}
	}
	return max(most, to.Sub(last))
}

// count is how many requests were answered so between two times, of one method or of all.
func (r *record) count(from, to time.Time, method string) (done, refused, failed, unanswered int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.all {
		if a.at.Before(from) || a.at.After(to) || method != "" && a.method != method {
			continue
		}
		switch {
		case a.status == 0:
			unanswered++
		case a.status == http.StatusOK:
			done++
		case a.status < http.StatusInternalServerError:
			refused++
		default:
			failed++
		}
	}
	return done, refused, failed, unanswered
}

// methods are those that were asked for.
func (r *record) methods() (all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.all {
		if !slices.Contains(all, a.method) {
			all = append(all, a.method)
		}
	}
	slices.Sort(all)
	return all
}

// A visitor has an account, or tried to get one.
type visitor struct {
	handle, email, password, invite string

	told    syntax.DID // of a 200 at sign-up; empty: none was seen
	refused bool       // the answer was 4xx
	refresh string     // the last token that came of a 200

	did    syntax.DID // who they are in the end; empty: there is no account
	access string     // their token then
}

// crowd signs up, in and out of the doors of a cluster. Its methods may be called at the
// same time.
type crowd struct {
	*testing.T
	c      *cluster
	wires  []*wire // from each server to the database
	client *http.Client
	doors  []string

	mu       sync.Mutex
	visitors []*visitor
	idle     []*visitor // whose session nobody uses now
	invites  []string   // each for one
	given    int
	doubles  int // refreshes of one token at two servers that were both answered
}

// call is one request. An error means that no whole answer came.
func (w *crowd) call(door int, method, token string, in, out any) (int, string, error) {
	verb, body := http.MethodGet, io.Reader(nil)
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return 0, "", err
		}
		verb, body = http.MethodPost, bytes.NewReader(text)
	} else if strings.HasSuffix(method, "refreshSession") {
		verb = http.MethodPost
	}
	req, err := http.NewRequestWithContext(w.Context(), verb, w.doors[door]+"/xrpc/com.atproto."+method, body)
	if err != nil {
		return 0, "", err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if v, ok := in.(map[string]string); ok { // whoever has no token has an address by name
		who := fnv.New32()
		io.WriteString(who, v["handle"]+v["identifier"])
		n := who.Sum32()
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("100.%d.%d.%d", 64+n>>16&63, n>>8&255, n&255))
	}
	switch {
	case token == "admin":
		req.SetBasicAuth("admin", w.c.password)
	case token != "":
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := w.client.Do(req)
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

type session struct {
	DID        syntax.DID `json:"did"`
	AccessJwt  string     `json:"accessJwt"`
	RefreshJwt string     `json:"refreshJwt"`
}

// newcomer is somebody who wants an account.
func (w *crowd) newcomer(invite string) *visitor {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := fmt.Sprintf("visitor-%d", len(w.visitors))
	v := &visitor{handle: name + "." + hostName, email: name + "@example.com", password: "password of " + name, invite: invite}
	w.visitors = append(w.visitors, v)
	return v
}

// takeInvite is an invite that nobody has yet, "" when there are no more.
func (w *crowd) takeInvite() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.given == len(w.invites) {
		return ""
	}
	w.given++
	return w.invites[w.given-1]
}

// signUp makes an account for one, or has three want the same invite at once.
func (w *crowd) signUp(random *rand.Rand) {
	invite := w.takeInvite()
	if invite == "" {
		return
	}
	var all sync.WaitGroup
	for range 1 + 2*(random.IntN(4)/3) {
		v, door := w.newcomer(invite), random.IntN(len(w.doors))
		all.Go(func() {
			var out session
			in := map[string]string{"handle": v.handle, "email": v.email, "password": v.password, "inviteCode": invite}
			status, _, err := w.call(door, "server.createAccount", "", in, &out)
			switch {
			case err != nil:
			case status == http.StatusOK:
				v.told, v.refresh = out.DID, out.RefreshJwt
				w.mu.Lock()
				w.idle = append(w.idle, v)
				w.mu.Unlock()
			case status < http.StatusInternalServerError:
				v.refused = true
			}
		})
	}
	all.Wait()
}

// goOn refreshes somebody's session, at two doors at once now and then, or signs in anew.
func (w *crowd) goOn(random *rand.Rand) {
	w.mu.Lock()
	if len(w.idle) == 0 {
		w.mu.Unlock()
		return
	}
	i := random.IntN(len(w.idle))
	v := w.idle[i]
	w.idle = slices.Delete(w.idle, i, i+1)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.idle = append(w.idle, v)
		w.mu.Unlock()
	}()
	if random.IntN(4) == 0 {
		var out session
		status, answer, err := w.call(random.IntN(len(w.doors)), "server.createSession", "", map[string]string{"identifier": v.handle, "password": v.password}, &out)
		switch {
		case err != nil || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
		case status != http.StatusOK || out.DID != v.told:
			w.Errorf("%s, who is %s, signs in: %d %s", v.handle, v.told, status, answer)
		default:
			v.refresh = out.RefreshJwt
		}
		return
	}
	at := []int{random.IntN(len(w.doors))}
	if random.IntN(3) == 0 {
		at = []int{1 + random.IntN(len(w.doors)-1), 1 + random.IntN(len(w.doors)-1)}
	}
	next := make([]string, len(at))
	var all sync.WaitGroup
	for i, door := range at {
		all.Go(func() {
			var out session
			status, answer, err := w.call(door, "server.refreshSession", v.refresh, nil, &out)
			switch {
			case err != nil || status >= http.StatusInternalServerError || status == http.StatusTooManyRequests:
			case status != http.StatusOK:
				w.Errorf("%s refreshes: %d %s", v.handle, status, answer)
			default:
				next[i] = out.RefreshJwt
			}
		})
	}
	all.Wait()
	next = slices.DeleteFunc(next, func(s string) bool { return s == "" })
	if len(next) == 2 {
		w.mu.Lock()
		w.doubles++
		w.mu.Unlock()
		if a, b := w.id(next[0]), w.id(next[1]); a == "" || a != b {
			w.Errorf("%s: a token was refreshed to two, %s and %s", v.handle, a, b)
		}
	}
	if len(next) > 0 {
		v.refresh = next[0]
	}
}

// id is the number of a token.
func (w *crowd) id(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		w.Errorf("a token of %d parts", len(parts))
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ JTI string }
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		w.Error(err)
	}
	return claims.JTI
}

// download reads the repository of somebody.
func (w *crowd) download(random *rand.Rand, did syntax.DID) {
	req, err := http.NewRequestWithContext(w.Context(), http.MethodGet, w.doors[random.IntN(len(w.doors))]+"/xrpc/com.atproto.sync.getRepo?"+url.Values{"did": {did.String()}}.Encode(), nil)
	if err != nil {
		w.Error(err)
		return
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	archive, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return
	}
	if resp.StatusCode != http.StatusOK {
		w.Errorf("getRepo of %s: %s %s", did, resp.Status, archive)
	} else if _, _, err := repo.LoadRepoFromCAR(w.Context(), bytes.NewReader(archive)); err != nil {
		w.Errorf("getRepo of %s, %d bytes: %v", did, len(archive), err)
	}
}

// leave signs everybody in who has an account, and looks for what must never be of accounts,
// invites and sessions.
func (w *crowd) leave() {
	var all sync.WaitGroup
	queue := make(chan *visitor)
	for range 4 {
		all.Go(func() {
			for v := range queue {
				w.last(v)
			}
		})
	}
	for _, v := range w.visitors {
		queue <- v
	}
	close(queue)
	all.Wait()

	users := map[string][]syntax.DID{}
	told := 0
	for _, v := range w.visitors {
		if v.did != "" {
			users[v.invite] = append(users[v.invite], v.did)
		}
		if v.told != "" {
			told++
		}
	}
	used := map[string][]syntax.DID{}
	for cursor := ""; ; {
		var page struct {
			Cursor string
			Codes  []struct {
				Code string
				Uses []struct{ UsedBy syntax.DID }
			}
		}
		q := url.Values{"limit": {"500"}, "sort": {"usage"}}
		if cursor != "" {
			q.Set("cursor", cursor)
		}
		if status, answer, err := w.call(0, "admin.getInviteCodes?"+q.Encode(), "admin", nil, &page); err != nil || status != http.StatusOK {
			w.Fatalf("getInviteCodes: %d %s, %v", status, answer, err)
		}
		for _, c := range page.Codes {
			for _, u := range c.Uses {
				used[c.Code] = append(used[c.Code], u.UsedBy)
			}
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	for _, code := range w.invites {
		if len(users[code]) > 1 || !slices.Equal(used[code], users[code]) {
			w.Errorf("invite %s for one was used by %v; accounts made with it: %v", code, used[code], users[code])
		}
	}
	w.Logf("%d wanted an account, %d were told that they have one; %d invites, %d given; %d tokens refreshed at two servers at once",
		len(w.visitors), told, len(w.invites), w.given, w.doubles)
	if told < 20 || w.doubles == 0 {
		w.Error("too little came through: the run shows nothing")
	}
}

// last: who was told so has an account, and their session goes on.
func (w *crowd) last(v *visitor) {
	var out session
	status, answer, err := w.call(0, "server.createSession", "", map[string]string{"identifier": v.handle, "password": v.password}, &out)
	switch {
	case err != nil || status != http.StatusOK && status != http.StatusUnauthorized:
		w.Errorf("%s signs in: %d %s, %v", v.handle, status, answer, err)
		return
	case status == http.StatusOK:
		v.did, v.access = out.DID, out.AccessJwt
	}
	if v.told != "" && v.did != v.told {
		w.Errorf("%s was told %s, and is %q", v.handle, v.told, v.did)
	}
	if v.refresh == "" {
		return
	}
	if status, answer, err := w.call(1, "server.refreshSession", v.refresh, nil, &out); err != nil || status != http.StatusOK {
		w.Errorf("the session of %s does not go on: %d %s, %v", v.handle, status, answer, err)
	}
}

// table is what became of requests, and for how long there were none of some kinds.
func (r *record) table(troubles []trouble) string {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "killed\taway for s\twhole after s\tno write for s\tno blob\tno session\tno archive\tdone\t5xx\tunanswered")
	for _, k := range troubles {
		done, _, failed, none := r.count(k.from, k.to, "")
		fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%.1f\t%d\t%d\t%d\n", k.name, k.back.Sub(k.from).Seconds(), k.whole.Sub(k.from).Seconds(),
			r.longest(k.from, k.to, "createRecord", "putRecord", "deleteRecord", "applyWrites").Seconds(), r.longest(k.from, k.to, "uploadBlob").Seconds(),
			r.longest(k.from, k.to, "createSession", "refreshSession").Seconds(), r.longest(k.from, k.to, "getRepo").Seconds(), done, failed, none)
	}
	t.Flush()
	fmt.Fprintln(&b)
	fmt.Fprintln(t, "method\tdone\t4xx\t5xx\tunanswered")
	for _, m := range r.methods() {
		done, refused, failed, none := r.count(time.Time{}, time.Now(), m)
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\n", m, done, refused, failed, none)
	}
	t.Flush()
	return b.String()
}

// every calls f again and again, with a pause between, until ctx ends.
func every(ctx context.Context, pause time.Duration, f func()) {
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
