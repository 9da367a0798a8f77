//go:build cluster

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"portico/cmd/portico/launch"
	"portico/cmd/portico/repotest"
	"portico/db"
)

var (
	seed = flag.Uint64("seed", rand.Uint64(), "seed of what is asked and in which order parts are killed; timing remains the machine's")
	away = flag.Duration("away", 5*time.Second, "how long a part that was killed stays away")
	calm = flag.Duration("calm", 4*time.Second, "how long all is whole before the next part is killed")
	only = flag.String("only", "", "the only part to kill, of node, frozen node, split node, pgbouncer, standby, primary, redis, s3, haproxy and etcd")
)

var binary string

func TestMain(m *testing.M) { launch.RunTests(m, &binary, nil) }

// A trouble is a part's being killed, and when.
type trouble struct {
	name        string
	from        time.Time // it was killed
	back, whole time.Time // it was started again; everything was as it was
	to          time.Time // of what is counted
}

// signUpTimes are an operator's settings, only shorter.
var signUpTimes = []string{"PORTICO_SIGNUP_LEASE=20s", "PORTICO_SIGNUP_RETRY=1s", "PORTICO_SIGNUP_CLEANUP_AFTER=1s,5s,15s"}

// TestCluster kills each part in turn, in an order of chance, while people sign up, sign in,
// refresh their sessions, write, bring blobs and read at every server; what each was told has
// to be so in the end.
func TestCluster(t *testing.T) {
	t.Logf("-seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	var wires [nodes]*wire
	for i := range wires {
		wires[i] = newWire()
	}
	way := func(node int, address string) string { return wires[node].lay(t, address) }
	c, err := startCluster(t.Context(), binary, t.Logf, way, signUpTimes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("-seed %d; what all parts wrote is in %s/log", *seed, c.dir)
			if err := c.keep(); err != nil {
				t.Error(err)
			}
		}
		c.stop()
	})

	log := &record{next: &http.Transport{MaxIdleConnsPerHost: 16}, front: strings.TrimPrefix(c.URL, "http://")}
	w := &crowd{T: t, c: c, wires: wires[:], client: &http.Client{Transport: log, Timeout: 30 * time.Second}, doors: append([]string{c.URL}, c.nodeURLs...)}
	w.invite(400)
	h := &repotest.Host{TB: t, URL: func(i int) string { return w.doors[i] }, Doors: len(w.doors), Directory: c.directory, Client: w.client, Once: true}
	for range 8 {
		v := w.newcomer(w.takeInvite())
		var out session
		in := map[string]string{"handle": v.handle, "email": v.email, "password": v.password, "inviteCode": v.invite}
		if status, answer, err := w.call(0, "server.createAccount", "", in, &out); err != nil || status != http.StatusOK {
			t.Fatalf("sign up: %d %s, %v", status, answer, err)
		}
		v.told, v.refresh = out.DID, out.RefreshJwt
		w.idle = append(w.idle, v)
		h.People = append(h.People, &repotest.Person{DID: out.DID, Access: out.AccessJwt})
	}
	source := func(i int) *rand.Rand { return rand.New(rand.NewPCG(*seed, uint64(100+i))) }
	for i := range 6 { // half of them by way of HAProxy
		h.AddWriter(max(0, i-2), source(i))
	}
	for door := range h.Doors { // one follows each server
		h.AddConsumer(repotest.Steady, door, true, source(10+door)).Begin()
	}
	h.AddConsumer(repotest.Restless, 0, false, source(20)).Begin()

	working, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for _, writer := range h.Writers {
		all.Go(func() { every(working, 50*time.Millisecond, writer.Write) })
	}
	for i := range 2 {
		signing, going := source(30+i), source(40+i)
		all.Go(func() { every(working, time.Second, func() { w.signUp(signing) }) })
		all.Go(func() { every(working, 200*time.Millisecond, func() { w.goOn(going) }) })
	}
	reading := source(50)
	all.Go(func() {
		every(working, 200*time.Millisecond, func() { w.download(reading, h.People[reading.IntN(8)].DID) })
	})
	troubles, err := w.trouble(random)
	if err == nil {
		err = w.whole()
	}
	time.Sleep(*calm)
	stop()
	all.Wait()
	t.Log("\n" + log.table(troubles))
	if err != nil {
		t.Fatal(err)
	}

	w.settle()
	w.leave()
	for _, v := range w.visitors[8:] {
		if v.did != "" {
			h.People = append(h.People, &repotest.Person{DID: v.did, Access: v.access})
		}
	}
	sums := h.Check(w.lastEvent())
	commits, blobs := h.Acknowledged()
	t.Logf("%d commits and %d blobs acknowledged, %d records, %d blobs named, %d events in %d accounts", commits, blobs, sums.Records, sums.Blobs, sums.Events, len(h.People))
	answers := h.Answers()
	for a, n := range answers {
		t.Logf("  %d × %s", n, a)
	}
	if commits < 100 || blobs == 0 {
		t.Error("too little came through: the run shows nothing")
	}
}

// trouble kills one part after the other, and lets it come back.
func (w *crowd) trouble(random *rand.Rand) (all []trouble, err error) {
	kinds := []string{"node", "frozen node", "split node", "pgbouncer", "standby", "primary", "redis", "s3", "haproxy", "etcd"}
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	if *only != "" {
		kinds = strings.Split(*only, ",")
	}
	for _, kind := range kinds {
		if err := w.whole(); err != nil {
			return all, err
		}
		time.Sleep(*calm)
		if n := len(all); n > 0 {
			all[n-1].to = time.Now()
		}
		name, i := kind, random.IntN(nodes)
		switch kind {
		case "node", "frozen node", "split node":
			name = fmt.Sprintf("node-%d", 1+i)
		case "primary", "standby":
			if name, err = w.c.withRole(w.Context(), kind); err != nil {
				return all, err
			}
		}
		p := w.c.part(name)
		k := trouble{name: kind, from: time.Now()}
		if kind != name {
			k.name += " (" + name + ")"
		}
		w.Logf("%s", k.name)
		switch kind {
		case "frozen node":
			if err := p.freeze(); err != nil {
				return all, err
			}
			time.Sleep(2 * *away)
			err = p.thaw()
		case "split node":
			w.wires[i].set(true)
			err = w.unwell(w.doors[1+i])
			w.wires[i].set(false)
		default:
			p.kill()
			time.Sleep(*away)
			err = p.start(w.Context())
		}
		k.back = time.Now()
		if err == nil {
			err = w.whole()
		}
		k.whole, k.to = time.Now(), time.Now()
		all = append(all, k)
		if err != nil {
			return all, fmt.Errorf("after %s: %w", k.name, err)
		}
	}
	return all, nil
}

// whole waits until all parts are there: a primary and a standby that has all it has, and
// servers that say so of themselves and of HAProxy.
func (w *crowd) whole() error {
	ctx, cancel := context.WithTimeout(w.Context(), launch.Patience)
	defer cancel()
	for {
		_, err1 := w.c.withRole(ctx, "primary")
		_, err2 := w.c.withRole(ctx, "sync")
		err := errors.Join(err1, err2)
		for _, url := range w.doors {
			err = errors.Join(err, answers(url+"/xrpc/_health")(ctx))
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster is not whole: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// unwell waits until a server that the database does not answer says so.
func (w *crowd) unwell(url string) error {
	ctx, cancel := context.WithTimeout(w.Context(), 30*time.Second)
	defer cancel()
	for healthy := answers(url + "/xrpc/_health"); healthy(ctx) == nil; {
		select {
		case <-ctx.Done():
			return errors.New("a server that the database does not answer says that it is well")
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// withRole is the name of the machine whose Patroni says that it has a role.
func (c *cluster) withRole(ctx context.Context, role string) (string, error) {
	if role == "standby" {
		role = "replica"
	}
	var err error
	for i, rest := range rests {
		e := answers("http://" + c.at(rest) + "/" + role)(ctx)
		if e == nil {
			return fmt.Sprintf("db-%d", i+1), nil
		}
		err = errors.Join(err, e)
	}
	return "", err
}

// invite makes invites, each for one.
func (w *crowd) invite(n int) {
	var out struct{ Codes []struct{ Codes []string } }
	status, answer, err := w.call(0, "server.createInviteCodes", "admin", map[string]int{"codeCount": n, "useCount": 1}, &out)
	if err != nil || status != http.StatusOK || len(out.Codes) != 1 || len(out.Codes[0].Codes) != n {
		w.Fatalf("createInviteCodes: %d %s, %v", status, answer, err)
	}
	w.invites = out.Codes[0].Codes
}

// settle waits until no sign-up is under way.
func (w *crowd) settle() {
	conn, err := pgx.Connect(w.Context(), w.c.database)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(w.Context()))
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(500 * time.Millisecond) {
		var left int
		if err := conn.QueryRow(w.Context(), "SELECT count(*) FROM creation").Scan(&left); err != nil {
			w.Fatal(err)
		}
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.Fatalf("%d sign-ups are neither made nor given up", left)
		}
	}
}

func (w *crowd) lastEvent() int64 {
	store, err := db.Open(w.Context(), db.Config{URL: w.c.database, ReadOnly: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	defer store.Close()
	last, err := store.LastEvent(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return last
}
