package server_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/db"
	"portico/db/dbtest"
	"portico/impl/identity/plc"
	"portico/impl/servertest"
)

// watch returns functions that ask for the status of an account: what it says of the DID,
// and whether the directory was asked for it.
func (f *fixture) watch(t *testing.T, u user) (status func(valid, asks bool)) {
	return func(valid, asks bool) {
		t.Helper()
		f.PLC.Asked()
		if a := f.Accepted(f.Get("checkAccountStatus", u.Access)); a.Fields(t)["validDid"] != valid {
			t.Errorf("want validDid %t, answer %s", valid, a.Body)
		}
		want := ""
		if asks {
			want = "GET data"
		}
		if asked := strings.Join(f.PLC.Asked(), ", "); asked != want {
			t.Errorf("the directory was asked %q, want %q", asked, want)
		}
	}
}

// Of an active account that was found valid the answer is good for half a minute, and does
// not begin anew when it is given again. What is not valid is asked for every time.
func TestCheckAccountStatusSaysForHalfAMinuteWhatWasValid(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		status := f.watch(t, u)
		status(true, true)
		status(true, false)
		f.Advance(20 * time.Second)
		status(true, false)
		f.Advance(10*time.Second - time.Microsecond)
		status(true, false)
		f.Advance(time.Microsecond)
		status(true, true)

		away := func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://other.test"}
		}
		back := func(d *plc.Data) {
			d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: "https://pds.test"}
		}
		f.ChangeDID(u.DID, away)
		f.Advance(30*time.Second - time.Microsecond)
		status(true, false)
		f.Advance(time.Microsecond)
		status(false, true)
		status(false, true)
		f.ChangeDID(u.DID, back)
		status(true, true)
		status(true, false)
	})
}

// What this server knows to have changed, or may have, is asked for by the next question.
func TestCheckAccountStatusForgetsWhatWasValid(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		status := f.watch(t, u)
		status(true, true)
		status(true, false)

		f.Empty(f.Post("com.atproto.identity.updateHandle", `{"handle":"alicia.test"}`, u.Access))
		status(true, true)
		status(true, false)

		// One that the directory refuses, or does not answer.
		for _, fault := range []servertest.Fault{servertest.Says("POST", 500, `{}`), servertest.Says("POST", 400, `{}`)} {
			f.PLC.Spoil(fault)
			if a := f.Post("com.atproto.identity.updateHandle", `{"handle":"alice.test"}`, u.Access); a.Status < 400 {
				t.Errorf("answer %d", a.Status)
			}
			f.PLC.Spoil(nil)
			status(true, true)
			status(true, false)
		}

		sign := func() string {
			f.Empty(f.Post("com.atproto.identity.requestPlcOperationSignature", "", u.Access))
			a := f.Accepted(f.Post("com.atproto.identity.signPlcOperation", `{"token":"`+f.Code("plc_operation")+`"}`, u.Access))
			return strings.TrimSpace(a.Body)
		}
		operation := sign()
		status(true, true)
		status(true, false)
		f.Empty(f.Post("com.atproto.identity.submitPlcOperation", operation, u.Access))
		status(true, true)
		status(true, false)

		// activateAccount decides something: it asks, and what it finds is known.
		f.ChangeDID(u.DID, func(d *plc.Data) { d.VerificationMethods = nil })
		status(true, false)
		f.Refused(f.Post("activateAccount", "", u.Access), 400, "InvalidRequest",
			"DID document verification method does not match expected signing key")
		status(false, true)
		f.ChangeDID(u.DID, func(d *plc.Data) { d.VerificationMethods = map[string]string{"atproto": f.SigningKey(u.DID)} })
		f.Accepted(f.Post("activateAccount", "", u.Access))
		status(true, false)

		// Another key of the account, whoever gave it to it.
		f.Write(func(tx *db.Tx) error {
			return tx.PutSigningKey(t.Context(), db.SigningKey{DID: u.DID, Purpose: "atproto", Public: "did:key:zother", Sealed: []byte("x")})
		})
		status(false, true)
	})
}

// Who moves an account away or here is told what the directory says now.
func TestCheckAccountStatusOfInactiveAccountsAsks(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		u := f.SignUp("alice")
		status := f.watch(t, u)
		status(true, true)
		f.Accepted(f.Post("deactivateAccount", "{}", u.Access))
		status(true, true)
		status(true, true)
		f.Accepted(f.Post("activateAccount", "", u.Access))
		status(true, false)
		f.TakeDown(u.DID)
		status(true, true)
	})
}

// A client that asks all the time writes nothing, also when it has asked too often.
func TestCheckAccountStatusWritesNothing(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	d := dbtest.Open(t, func(c *db.Config) {
		c.Now = func() time.Time { return servertest.Start }
		c.Trace = func(text string) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, text)
		}
	})
	f := newFixture(t, func(o *options) { o.DB = d })
	u := f.SignUp("alice")
	poll := func() {
		t.Helper()
		f.Accepted(f.Get("checkAccountStatus", u.Access))
		mu.Lock()
		seen = nil
		mu.Unlock()
		for range 3 {
			f.Accepted(f.Get("checkAccountStatus", u.Access))
		}
		mu.Lock()
		defer mu.Unlock()
		if i := slices.IndexFunc(seen, func(text string) bool { return !strings.HasPrefix(text, "SELECT") }); i >= 0 {
			t.Errorf("a question ran %s", seen[i])
		}
	}
	poll()
	f.Deactivate(u.DID)
	for range 20 {
		f.Accepted(f.Get("checkAccountStatus", u.Access))
	}
	poll()
}
