//go:build crash

package crash

import (
	"bufio"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// registered is what the directory has for one DID.
type registered struct {
	key, handle string // of the genesis
	tombstoned  bool
}

// check looks for what must never be, at a time when everything is settled.
func (r *round) check(t *testing.T) {
	loggedIn := r.logIn(t)
	for i := range r.servers {
		if err := r.servers[i].Stop(); err != nil {
			t.Error(err)
		}
	}
	dids := r.registered(t)
	store := r.open(t)
	defer store.Close()

	// Nothing is left half-way.
	err := store.Write(t.Context(), func(tx *db.Tx) error {
		now := time.Now().Add(48 * time.Hour)
		unfinished, err := tx.ClaimUnfinished(t.Context(), "crash test", now, now.Add(time.Minute), true, 1000)
		if err != nil {
			return err
		}
		for _, u := range unfinished {
			t.Errorf("%s (%s) is neither made nor given up", u.Account.DID, u.Account.Handle)
		}
		cleanups, err := tx.ClaimCleanups(t.Context(), "crash test", now, now.Add(time.Minute), 1000)
		for _, c := range cleanups {
			t.Errorf("%s is still to be cleaned up", c.DID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	// Who signs the operation of their DID owns it: that it is registered and nobody has
	// an account is theirs to mend, and nobody else ends it.
	signed := map[syntax.DID]bool{}
	for _, p := range r.people {
		signed[p.own] = p.signs
		if p.signs && dids[p.own].tombstoned {
			t.Errorf("%s (%s) was signed by its owner, and was tombstoned", p.own, p.handle)
		}
		// The directory has not heard of an operation before its sign-up.
		if strings.Contains(p.refused, "registered already") {
			t.Errorf("%s met the operation of a sign-up: %s", p.handle, p.refused)
		}
	}
	reserved, err := store.ReservedKeys(t.Context(), "", 10000)
	if err != nil {
		t.Fatal(err)
	}

	// Accounts, by what the database says alone.
	accounts, err := store.Accounts(t.Context(), "", 10000)
	if err != nil {
		t.Fatal(err)
	}
	byHandle := map[string]db.Account{}
	for _, a := range accounts {
		byHandle[a.Handle.String()] = a
		d, ok := dids[a.DID]
		switch {
		case !ok:
			t.Errorf("%s (%s) is an account, and the directory does not know it", a.DID, a.Handle)
			continue
		case d.tombstoned:
			t.Errorf("%s (%s) is an account, and its DID was tombstoned", a.DID, a.Handle)
		case d.handle != a.Handle.String():
			t.Errorf("%s is %s here and %s in the directory", a.DID, a.Handle, d.handle)
		}
		if key, err := store.SigningKey(t.Context(), a.DID, "atproto"); err != nil || key.Public != d.key {
			t.Errorf("%s: signing key %v, %v; the directory names %s", a.DID, key, err, d.key)
		}
		if slices.ContainsFunc(reserved, func(k db.ReservedKey) bool { return k.Public == d.key }) {
			t.Errorf("%s: the key of the account is still reserved", a.DID)
		}
		if _, err := store.Repo(t.Context(), a.DID); err != nil {
			t.Errorf("%s has no repository: %v", a.DID, err)
		}
	}
	tombstones, orphans := 0, 0
	for did, d := range dids {
		if d.tombstoned {
			tombstones++
		} else if a, ok := byHandle[d.handle]; signed[did] && (!ok || a.DID != did) {
			orphans++
		} else if a, ok := byHandle[d.handle]; !ok || a.DID != did {
			t.Errorf("%s (%s) is registered, and nobody has it", did, d.handle)
		}
	}

	// Everybody who was told so has an account and can log in, and so can everybody
	// else whose handle is taken; other handles are free.
	acknowledged, unknown, signing := 0, 0, 0
	used := map[string][]syntax.DID{}
	for _, p := range r.people {
		a, ok := byHandle[p.handle]
		if ok {
			used[p.invite] = append(used[p.invite], a.DID)
			if loggedIn[p.handle] != a.DID {
				t.Errorf("%s has the account %s, and logs in to %q", p.handle, a.DID, loggedIn[p.handle])
			}
		} else if err := store.Available(t.Context(), syntax.Handle(p.handle), p.email); err != nil {
			t.Errorf("%s has no account: %v", p.handle, err)
		}
		switch {
		case p.acknowledged != "" && a.DID != p.acknowledged:
			t.Errorf("%s was told %s, and has %q", p.handle, p.acknowledged, a.DID)
		case p.acknowledged != "":
			acknowledged++
			if p.signs {
				signing++
			}
		case ok:
			unknown++
		}
	}

	// Invites are used by exactly those who have an account.
	for _, invite := range r.invites {
		now, err := store.Invite(t.Context(), invite.Code)
		if err != nil {
			t.Fatal(err)
		}
		var users []syntax.DID
		for _, use := range now.Used {
			users = append(users, use.By)
		}
		slices.Sort(users)
		slices.Sort(used[invite.Code])
		if !slices.Equal(users, used[invite.Code]) || now.Spent != len(users) || now.Uses != invite.Uses {
			t.Errorf("invite %s for %d: %d spent, used by %v; accounts made with it: %v", invite.Code, now.Uses, now.Spent, users, used[invite.Code])
		}
		if err := store.InviteAvailable(t.Context(), invite.Code); (err == nil) != (len(users) < invite.Uses) {
			t.Errorf("invite %s for %d, used by %d: %v", invite.Code, invite.Uses, len(users), err)
		}
	}

	r.checkEvents(t, store, byHandle)
	t.Logf("%d sign-ups, %d kills: %d acknowledged (%d by who signs), %d made without their owner's hearing of it, "+
		"%d DIDs registered, %d of them tombstoned, %d their owners' without an account",
		len(r.people), r.kills, acknowledged, signing, unknown, len(dids), tombstones, orphans)
	answers := map[string]int{}
	for _, p := range r.people {
		if p.refused != "" {
			answers[p.refused]++
		}
	}
	for _, a := range slices.Sorted(maps.Keys(answers)) {
		t.Logf("  %d × %s", answers[a], a)
	}
	if acknowledged < len(r.people)/4 || signing == 0 {
		t.Errorf("only %d of %d sign-ups came through, %d by who signs: the round shows nothing", acknowledged, len(r.people), signing)
	}
}

// checkEvents looks for a gap in the numbers, and for accounts that the network
// did not hear of, or heard of twice.
func (r *round) checkEvents(t *testing.T, store *db.DB, accounts map[string]db.Account) {
	kinds := map[syntax.DID][]string{}
	last := int64(0)
	for {
		events, err := store.Events(t.Context(), last, 500)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			break
		}
		for _, e := range events {
			if e.Seq != last+1 {
				t.Errorf("event %d follows event %d", e.Seq, last)
			}
			last = e.Seq
			kinds[e.DID] = append(kinds[e.DID], e.Kind)
		}
	}
	for _, a := range accounts {
		if n := len(kinds[a.DID]); n != 4 {
			t.Errorf("%s: events %v, want identity, account, commit and sync", a.DID, kinds[a.DID])
		}
		delete(kinds, a.DID)
	}
	for did, k := range kinds {
		t.Errorf("%s has no account, and the events %v", did, k)
	}
}

// logIn tries everybody's handle and password and returns who came in as whom.
func (r *round) logIn(t *testing.T) map[string]syntax.DID {
	t.Helper()
	in := map[string]syntax.DID{}
	url := r.server(0).URL + "/xrpc/com.atproto.server.createSession"
	for _, p := range r.people {
		var out struct {
			DID syntax.DID `json:"did"`
		}
		status, answer, err := post(t.Context(), url, map[string]string{"identifier": p.handle, "password": p.password}, &out)
		switch {
		case err != nil:
			t.Fatalf("log in as %s: %v", p.handle, err)
		case status == http.StatusOK:
			in[p.handle] = out.DID
		case status != http.StatusUnauthorized:
			t.Errorf("log in as %s: %d %s", p.handle, status, answer)
		}
	}
	return in
}

// registered reads everything that the directory has accepted.
func (r *round) registered(t *testing.T) map[syntax.DID]registered {
	t.Helper()
	dids := map[syntax.DID]registered{}
	after := "0"
	for {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.directory+"/export?count=1000&after="+after, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for scanner := bufio.NewScanner(resp.Body); scanner.Scan(); lines++ {
			var entry struct {
				DID       syntax.DID  `json:"did"`
				Seq       json.Number `json:"seq"`
				Operation struct {
					Type                string            `json:"type"`
					AlsoKnownAs         []string          `json:"alsoKnownAs"`
					VerificationMethods map[string]string `json:"verificationMethods"`
					Prev                *string           `json:"prev"`
				} `json:"operation"`
			}
			if err := json.Unmarshal(scanner.Bytes(), &entry); err != nil {
				t.Fatal(errors.Join(err, resp.Body.Close()))
			}
			after = entry.Seq.String()
			d := dids[entry.DID]
			switch {
			case entry.Operation.Type == "plc_tombstone":
				d.tombstoned = true
			case len(entry.Operation.AlsoKnownAs) == 1 && d.handle == "":
				d.handle = entry.Operation.AlsoKnownAs[0][len("at://"):]
				d.key = entry.Operation.VerificationMethods["atproto"]
			case r.amended && entry.Operation.Prev != nil && slices.Equal(entry.Operation.AlsoKnownAs, []string{"at://" + d.handle}) &&
				entry.Operation.VerificationMethods["atproto"] == d.key:
			default:
				t.Errorf("%s has an operation that nobody should have made: %s", entry.DID, scanner.Bytes())
			}
			dids[entry.DID] = d
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if lines == 0 {
			return dids
		}
	}
}
