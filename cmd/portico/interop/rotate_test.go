//go:build interop

package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/impl/identity/plc"
)

var (
	movers   = flag.Int("movers", 14, "accounts of the server whose rotation key changes; 1000 by hand")
	moveSeed = flag.Uint64("move-seed", rand.Uint64(), "of when that server is killed")
)

// A turn is a server with accounts in every state, whose rotation key changes.
type turn struct {
	*testing.T
	place  *place
	random *rand.Rand
	env    []string // settings that stay
	keys   []string // and those of rotation keys
	server *launch.Server
	owners []*owner
	before map[syntax.DID]plc.Data // what the directory said
	left   map[syntax.DID]string   // why some must be left as they are
}

// The rotation key of a server changes: killed at any moment it goes on, half-way it is
// undone, begun again it comes to its end; DIDs that are not the server's to change are
// named and left; and a backup from before still is of use.
func TestRotationKeyChanges(t *testing.T) {
	t.Logf("-move-seed %d", *moveSeed)
	v := newTurn(t)
	backup := filepath.Join(t.TempDir(), "backup")
	v.portico("backup", backup)

	file := filepath.Join(t.TempDir(), "rotation-key.env")
	var made struct{ Fingerprint, Key string }
	v.decode(v.portico("keys", "rotate-plc", "--out", file, "--json"), &made)
	old := v.keys
	v.stop()
	v.keys = linesOf(t, file)
	v.serve()

	v.portico("keys", "rotate-plc", "--confirm", made.Fingerprint, "--yes")
	v.until("half of them are done", func(m moveState) bool { return m.Done >= int64(*movers/3) })
	v.portico("keys", "rotate-plc", "--undo", "--yes")
	v.killedUntil("undone")
	for _, o := range v.owners {
		if got, want := v.said(o), v.before[o.did].RotationKeys; !slices.Equal(got, want) {
			t.Errorf("%s has the keys %v after it was undone, had %v", o.did, got, want)
		}
	}

	began := time.Now()
	v.portico("keys", "rotate-plc", "--confirm", made.Fingerprint, "--yes")
	v.killedUntil("moved")
	t.Logf("%d accounts in %v", *movers, time.Since(began).Round(time.Second))
	v.moved(made.Key)
	if err := v.tried("keys", "rotate-plc", "--finish", "--accept-left", "--yes"); err == nil {
		t.Error("finished before 72 hours have passed")
	}

	// The machine burns down, and what is left is the backup with its settings.
	v.stop()
	v.keys = old
	v.server.Data = backup
	v.serve()
	active := v.owners[0]
	if err := active.rename("renamed-0.test"); err != nil {
		t.Errorf("with the backup from before: %v", err)
	}
	active.resolved("renamed-0.test")
}

func newTurn(t *testing.T) *turn {
	t.Helper()
	directory := startDirectory(t)
	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	v := &turn{
		T: t, random: rand.New(rand.NewPCG(*moveSeed, 0)), before: map[syntax.DID]plc.Data{}, left: map[syntax.DID]string{},
		place: &place{directory: &plc.Client{URL: directory}, url: fmt.Sprintf("http://localhost:%d", port)},
		env: []string{
			fmt.Sprintf("PDS_PORT=%d", port), "PDS_HOSTNAME=localhost", "PDS_DID_PLC_URL=" + directory, "PDS_ADMIN_PASSWORD=operator of the keys",
			"PDS_JWT_SECRET=f27f9ac1e1a17cd56cf6a3f1f5c2f8b3", "PORTICO_SIGNUP_RETRY=1s", "PORTICO_PLC_RATE=10",
			"PORTICO_KEY_ENCRYPTION_KEY=00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdee",
		},
		keys: []string{"PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=" + rotationKey},
	}
	if *movers > 100 {
		v.env = append(v.env, "PORTICO_PLC_RATE=1000")
	}
	v.server = &launch.Server{Data: t.TempDir()}
	v.serve()
	for i := range *movers {
		v.owners = append(v.owners, v.person(i))
	}
	for _, o := range v.owners {
		v.before[o.did] = o.data()
	}
	return v
}

// person has an account, in one of all states.
func (v *turn) person(i int) *owner {
	o := v.place.signUp(v.T, fmt.Sprintf("person-%d", i))
	own := func(n int) (keys []string) {
		for range n {
			key, err := atcrypto.GeneratePrivateKeyK256()
			o.check(err)
			public, err := key.PublicKey()
			o.check(err)
			keys = append(keys, public.DIDKey())
		}
		return keys
	}
	server, key := rotationDIDKey(v.T), rotation(v.T)
	change := func(f func(*plc.Data)) { o.post(o.signed(key, f)) }
	switch i % 7 {
	case 1:
		v.portico("account", "deactivate", o.did.String())
	case 2:
		v.portico("account", "takedown", o.did.String(), "--ref", "case 17")
	case 3:
		change(func(d *plc.Data) { d.RotationKeys = append(own(1), append([]string{server}, own(3)...)...) })
	case 4:
		change(func(d *plc.Data) { d.RotationKeys = own(1) })
		v.left[o.did] = "no_key"
	case 5:
		change(func(d *plc.Data) {
			d.Services = map[string]plc.Service{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://elsewhere.example"}}
		})
		v.left[o.did] = "elsewhere"
	case 6:
		change(func(d *plc.Data) { d.RotationKeys = append(own(1), server) })
	}
	return o
}

func (v *turn) serve() {
	v.Helper()
	s, err := launch.StartServer(context.WithoutCancel(v.Context()), binary, v.server.Data, append(v.env, v.keys...)...)
	if err != nil {
		v.Fatal(err)
	}
	v.Cleanup(s.Kill)
	v.server = s
}

func (v *turn) stop() {
	v.Helper()
	if err := v.server.Stop(); err != nil {
		v.Fatal(err)
	}
}

// portico runs a command of the operator's, which must do what it is asked to.
func (v *turn) portico(args ...string) (out string) {
	v.Helper()
	out, err := v.run(args...)
	if err != nil {
		v.Fatalf("portico %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// tried runs one that may be refused.
func (v *turn) tried(args ...string) error {
	_, err := v.run(args...)
	return err
}

func (v *turn) run(args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(v.Context(), binary, args...)
	cmd.Env = append(append(launch.Environ(), "PDS_DATA_DIRECTORY="+v.server.Data), append(v.env, v.keys...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%w\n%s%s", err, out.String(), errs.String())
	}
	return out.String(), nil
}

func (v *turn) decode(text string, out any) {
	v.Helper()
	if err := json.Unmarshal([]byte(text), out); err != nil {
		v.Fatalf("%v: %s", err, text)
	}
}

// moveState is what --status says.
type moveState struct {
	Phase               string
	Waiting, Done, Left int64
}

func (v *turn) status() (m moveState, left map[syntax.DID]string) {
	v.Helper()
	var out struct {
		Move moveState
		DIDs []struct {
			DID    syntax.DID
			Reason string
		}
	}
	v.decode(v.portico("keys", "rotate-plc", "--status", "--all", "--json"), &out)
	left = map[syntax.DID]string{}
	for _, d := range out.DIDs {
		left[d.DID] = d.Reason
	}
	return out.Move, left
}

// until waits until the move is so far.
func (v *turn) until(what string, far func(moveState) bool) {
	v.Helper()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		m, _ := v.status()
		if far(m) {
			return
		}
		if time.Now().After(deadline) {
			v.Fatalf("%s: it stands at %+v\n%s", what, m, v.server.Log())
		}
	}
}

// killedUntil kills the server three times on the way to a phase.
func (v *turn) killedUntil(phase string) {
	v.Helper()
	for range 3 {
		select {
		case <-v.server.Done():
			v.Fatal(v.server.Log())
		case <-time.After(time.Duration(v.random.Int64N(int64(time.Second)))):
		}
		v.server.Kill()
		v.serve()
	}
	v.until(phase, func(m moveState) bool { return m.Phase == phase })
}

// said are the rotation keys that the directory has for a DID.
func (v *turn) said(o *owner) []string { return o.data().RotationKeys }

// moved looks at what every DID has become.
func (v *turn) moved(key string) {
	v.Helper()
	_, left := v.status()
	server := rotationDIDKey(v.T)
	for _, o := range v.owners {
		was, is := v.before[o.did].RotationKeys, v.said(o)
		if left[o.did] != v.left[o.did] {
			v.Errorf("%s was left because of %q, want %q", o.did, left[o.did], v.left[o.did])
		}
		switch {
		case v.left[o.did] != "":
			if !slices.Equal(is, was) {
				v.Errorf("%s is not ours to change: keys were %v, are %v", o.did, was, is)
			}
		case !slices.Contains(is, key), !slices.Contains(is, server), len(is) > 5:
			if len(was) != 5 || !slices.Contains(is, key) && !slices.Contains(is, server) {
				v.Errorf("%s: keys were %v, are %v", o.did, was, is)
			}
		}
		for _, k := range was {
			if k != server && !slices.Contains(is, k) {
				v.Errorf("%s has lost the owner's key %s", o.did, k)
			}
		}
	}
}
