package operator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
	"portico/impl/identity/domain"
	"portico/impl/servertest"
)

// A place is a server whose operator changes its domains.
type place struct{ *servertest.Server }

func newPlace(t testing.TB, change ...func(*servertest.Options)) place {
	t.Helper()
	return place{servertest.New(t, append([]func(*servertest.Options){servertest.In("alt.portico.operator")}, change...)...)}
}

func places(t *testing.T, test func(t *testing.T, p place), change ...func(*servertest.Options)) {
	t.Helper()
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) { test(t, place{s}) },
		append([]func(*servertest.Options){servertest.In("alt.portico.operator")}, change...)...)
}

func invited(o *servertest.Options) { o.InviteRequired = true }

// put adds or changes a domain; no policy is none given.
func (p place) put(name, policy string) servertest.Answer {
	p.Helper()
	in := map[string]string{"domain": name}
	if policy != "" {
		in["invitePolicy"] = policy
	}
	return p.Post("putDomain", string(servertest.Must(json.Marshal(in))), servertest.Admin)
}

func (p place) remove(name string, force bool) servertest.Answer {
	p.Helper()
	return p.Post("removeDomain", fmt.Sprintf(`{"domain":%q,"force":%v}`, name, force), servertest.Admin)
}

func (p place) list(want string) {
	p.Helper()
	if a := p.Accepted(p.Get("listDomains", servertest.Admin)); a.Body != want {
		p.Errorf("domains\n%s, want\n%s", a.Body, want)
	}
}

// described is what describeServer tells of the domains.
func (p place) described(want string) {
	p.Helper()
	var out struct {
		Domains  []string `json:"availableUserDomains"`
		Required *bool    `json:"inviteCodeRequired"`
	}
	p.Accepted(p.Get("com.atproto.server.describeServer")).Decode(p, &out)
	if out.Domains == nil || out.Required == nil {
		p.Fatalf("described: %+v", out)
	}
	if got := fmt.Sprint(strings.Join(out.Domains, " "), " ", *out.Required); got != want {
		p.Errorf("described as %s, want %s", got, want)
	}
}

// signUp asks for a handle with an invite code, or without.
func (p place) signUp(handle, code string) servertest.Answer {
	p.Helper()
	return p.Post("com.atproto.server.createAccount", signUpAs(handle, code))
}

func signUpAs(handle, code string) string {
	in := map[string]string{"handle": handle, "email": strings.ReplaceAll(handle, ".", "-") + "@example.com", "password": servertest.GoodPassword}
	if code != "" {
		in["inviteCode"] = code
	}
	return string(servertest.Must(json.Marshal(in)))
}

func (p place) moves(u servertest.User, handle string) servertest.Answer {
	p.Helper()
	return p.Post("com.atproto.identity.updateHandle", fmt.Sprintf(`{"handle":%q}`, handle), u.Access)
}

func (p place) gives(u servertest.User, handle string) servertest.Answer {
	p.Helper()
	return p.Post("com.atproto.admin.updateAccountHandle", fmt.Sprintf(`{"did":%q,"handle":%q}`, u.DID, handle), servertest.Admin)
}

func (p place) resolve(handle string) servertest.Answer {
	p.Helper()
	return p.Get("com.atproto.identity.resolveHandle?handle=" + handle)
}

// resolved checks whose a handle is, "" for nobody's as far as this server's domains
// go.
func (p place) resolved(handle string, u servertest.User) {
	p.Helper()
	if got := p.Accepted(p.resolve(handle)).Text(p, "did"); got != u.DID.String() {
		p.Errorf("%s is of %s, want %s", handle, got, u.DID)
	}
}

func TestDomains(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		const configured = `{"domain":"test","invitePolicy":"open","configured":true,"accounts":0}`
		p.list(`{"domains":[` + configured + `]}`)
		p.described(".test false")

		const added = `{"domain":"example.com","invitePolicy":"open","configured":false,"accounts":0,"addedAt":"2026-03-01T12:00:00.000Z"}`
		if a := p.Accepted(p.put(".Example.com", "")); a.Body != added {
			t.Errorf("put %s", a.Body)
		}
		p.list(`{"domains":[` + configured + "," + added + `]}`)
		p.described(".test .example.com false")
		p.Accepted(p.signUp("alice.example.com", ""))
		p.Accepted(p.resolve("alice.example.com"))

		p.Accepted(p.put("example.com", "closed"))
		p.described(".test false")
		p.list(`{"domains":[` + configured + "," + strings.NewReplacer("open", "closed", `"accounts":0`, `"accounts":1`).Replace(added) + `]}`)
		p.Accepted(p.put("example.com", "invite"))
		p.described(".test .example.com false")
		p.Accepted(p.put("test", "closed"))
		p.described(".example.com true")
		p.Accepted(p.put("example.com", "closed"))
		p.described(" false")

		p.Refused(p.put("exa_mple.com", ""), 400, "InvalidDomain", "No handle could be under exa_mple.com")
		p.Refused(p.put("example.local", ""), 400, "InvalidDomain", "No handle could be under example.local")
		p.Refused(p.put(".com", ""), 400, "InvalidDomain", "com is a top-level domain: handles under it are other people's")
		p.Refused(p.put("example.com", "some"), 400, "InvalidRequest",
			`Expected one of "open", "invite" or "closed" (got "some") at $.invitePolicy`)
		p.Refused(p.remove("example.org", true), 400, "DomainNotFound", "There is no such domain")

		p.Refused(p.remove(".Example.com", false), 400, "DomainInUse", "1 account has a handle under it, which would no longer resolve")
		p.Accepted(p.put("example.com", "open"))
		p.Accepted(p.signUp("bob.example.com", ""))
		p.Refused(p.remove("example.com", false), 400, "DomainInUse", "2 accounts have handles under it, which would no longer resolve")
		p.Empty(p.remove(".Example.com", true))
		p.Refused(p.remove("test", true), 400, "LastDomain", "It is the last domain, and the server needs one")
		p.Refused(p.remove("example.com", true), 400, "DomainNotFound", "There is no such domain")
		p.Refused(p.signUp("carol.example.com", ""), 400, "UnsupportedDomain", "Not a supported handle domain")

		want := "12:00:00 domain_removed by admin from 127.0.0.1: example.com, where 2 accounts had handles\n" +
			"12:00:00 domain_changed by admin from 127.0.0.1: example.com, open\n" +
			"12:00:00 domain_changed by admin from 127.0.0.1: example.com, closed\n" +
			"12:00:00 domain_changed by admin from 127.0.0.1: test, closed\n" +
			"12:00:00 domain_changed by admin from 127.0.0.1: example.com, invite\n" +
			"12:00:00 domain_changed by admin from 127.0.0.1: example.com, closed\n" +
			"12:00:00 domain_added by admin from 127.0.0.1: example.com, open\n"
		if diff := cmp.Diff(want, p.recorded()); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	})
}

// recorded is the audit log of what concerns no account, the newest first.
func (p place) recorded() string {
	p.Helper()
	entries, err := p.DB.Audit(p.Context(), "", 100)
	p.Check(err)
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "%s %s by %s from %s: %s\n", e.At.UTC().Format("15:04:05"), e.Event, e.Actor, e.Address, e.Detail)
	}
	return b.String()
}

// Who may sign up says the domain of the handle; the checks come in the order that
// clients know.
func TestSignUpByPolicy(t *testing.T) {
	for _, required := range []bool{false, true} {
		t.Run(fmt.Sprint("invites required ", required), func(t *testing.T) {
			p := newPlace(t, func(o *servertest.Options) { o.InviteRequired = required })
			p.Accepted(p.put("open.test", "open"))
			p.Accepted(p.put("invite.test", "invite"))
			p.Accepted(p.put("closed.test", "closed"))
			p.Accepted(p.put("test", ""))
			p.Invite("a-code", 10, "admin")
			uses := func(want int) {
				t.Helper()
				i, err := p.DB.Invite(t.Context(), "a-code")
				p.Check(err)
				if i.Spent != want {
					t.Errorf("the code was used %d times, want %d", i.Spent, want)
				}
			}
			const noCode, unsupported = "No invite code provided", "Not a supported handle domain"
			p.Accepted(p.signUp("alice.open.test", ""))
			p.Accepted(p.signUp("bob.open.test", "a-code"))
			uses(1)
			p.Refused(p.signUp("carol.open.test", "no-code"), 400, "InvalidInviteCode", "Provided invite code not available")
			p.Refused(p.signUp("Alice.INVITE.test", ""), 400, "InvalidInviteCode", noCode)
			p.Accepted(p.signUp("Alice.INVITE.test", "a-code"))
			uses(2)
			p.Refused(p.signUp("alice.closed.test", ""), 400, "UnsupportedDomain", unsupported)
			p.Refused(p.signUp("alice.closed.test", "a-code"), 400, "UnsupportedDomain", unsupported)
			uses(2)
			if required {
				p.Refused(p.signUp("alice.test", ""), 400, "InvalidInviteCode", noCode)
				p.Refused(p.signUp("alice.example.com", ""), 400, "InvalidInviteCode", noCode)
			} else {
				p.Accepted(p.signUp("alice.test", ""))
				p.Refused(p.signUp("alice.example.com", ""), 400, "UnsupportedDomain", unsupported)
			}
			p.Refused(p.signUp("alice.example.com", "a-code"), 400, "UnsupportedDomain", unsupported)

			// A missing code comes before the address, and that before the handle.
			create := func(body string) servertest.Answer { return p.Post("com.atproto.server.createAccount", body) }
			p.Refused(create(`{"handle":"x.invite.test"}`), 400, "InvalidInviteCode", noCode)
			p.Refused(create(`{"handle":"x.invite.test","inviteCode":"a-code"}`), 400, "InvalidRequest", "Email is required")
			p.Refused(create(`{"handle":"x.open.test"}`), 400, "InvalidRequest", "Email is required")
			p.Refused(create(`{"handle":"x.closed.test"}`), 400, "InvalidRequest", "Email is required")
			p.Refused(create(`{"handle":"x.closed.test","email":"x@example.com"}`), 400, "UnsupportedDomain", unsupported)
			p.Refused(create(`{"handle":"x.open.test","email":"x@example.com"}`), 400, "InvalidHandle", "Handle too short")
			p.Refused(create(`{"handle":"coon.closed.test","email":"x@example.com"}`), 400, "InvalidHandle", "Inappropriate language in handle")
		})
	}
}

// Who brings a DID follows the domain too, and the settings where the handle is its
// owner's.
func TestSignUpWithOwnDID(t *testing.T) {
	p := newPlace(t, invited)
	p.Accepted(p.put("open.test", "open"))
	p.Accepted(p.put("closed.test", "closed"))
	p.Invite("a-code", 10, "admin")
	n := 0
	come := func(handle, code string) servertest.Answer {
		t.Helper()
		n++
		did := fmt.Sprintf("did:web:mover%d.example", n)
		key := p.NewIdentity(syntax.DID(did))
		p.Internet.Point("mover.example.com", syntax.DID(did))
		token := p.ServiceToken(syntax.DID(did), key, "com.atproto.server.createAccount", 60e9)
		return p.Post("com.atproto.server.createAccount",
			fmt.Sprintf(`{"handle":%q,"did":%q,"email":"m%d@example.com","inviteCode":%q}`, handle, did, n, code), token)
	}
	p.Accepted(come("mover.open.test", ""))
	p.Refused(come("moved.test", ""), 400, "InvalidInviteCode", "No invite code provided")
	p.Accepted(come("moved.test", "a-code"))
	p.Refused(come("mover.example.com", ""), 400, "InvalidInviteCode", "No invite code provided")
	p.Accepted(come("mover.example.com", "a-code"))
	p.Refused(come("mover.closed.test", "a-code"), 400, "UnsupportedDomain", "Not a supported handle domain")
}

// Codes are earned where some domain asks for them.
func TestEarningCodes(t *testing.T) {
	p := newPlace(t, func(o *servertest.Options) { o.Config.InviteEarning.Interval = 1e9 })
	u := p.SignUp("alice")
	p.Advance(10e9)
	codes := func(want int) {
		t.Helper()
		var out struct{ Codes []any }
		p.Accepted(p.Get("com.atproto.server.getAccountInviteCodes", u.Access)).Decode(t, &out)
		if len(out.Codes) != want {
			t.Errorf("%d codes, want %d", len(out.Codes), want)
		}
	}
	codes(0)
	p.Accepted(p.put("example.com", "invite"))
	codes(5)
}

// Nobody moves to a closed domain but by the operator, and who is there stays.
func TestClosedDomain(t *testing.T) {
	p := newPlace(t)
	p.Accepted(p.put("example.com", ""))
	alice, bob := p.SignUp("alice"), p.SignUp("bob")
	p.Empty(p.moves(alice, "alice.example.com"))
	p.Accepted(p.put("example.com", "closed"))
	p.resolved("alice.example.com", alice)
	p.Empty(p.moves(alice, "Alice.example.com"))
	p.Refused(p.moves(bob, "bob.example.com"), 400, "UnsupportedDomain", "Not a supported handle domain")
	p.Refused(p.moves(bob, "alice.example.com"), 400, "UnsupportedDomain", "Not a supported handle domain")
	p.Refused(p.moves(bob, "x.example.com"), 400, "UnsupportedDomain", "Not a supported handle domain")
	p.Empty(p.gives(bob, "bob.example.com"))
	p.Empty(p.moves(bob, "bob.example.com"))
	p.Empty(p.moves(bob, "bob.test"))
	p.Refused(p.moves(bob, "bob.example.com"), 400, "UnsupportedDomain", "Not a supported handle domain")
	if asked := p.Internet.Asked(); len(asked) > 0 {
		t.Errorf("asked elsewhere for %v", asked)
	}
}

// DESIGN §10, updateHandle into an invite-only domain: for accounts that were invited, and
// by the operator. Who is there changes from one name to another.
func TestDesignUpdateHandleIntoAnInviteOnlyDomain(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		p.Accepted(p.put("club.example.com", "invite"))
		p.Accepted(p.put("annex.club.example.com", "open"))
		p.Accepted(p.put("early.example.com", "open"))
		p.Invite("one-use", 1, "admin")
		alice, bob := p.SignUp("alice"), p.SignUpWith("bob", "one-use")
		early := p.SignUp("early")
		p.Empty(p.moves(early, "early.early.example.com"))
		p.Accepted(p.put("early.example.com", "invite"))

		const refused = "Handles under this domain are for accounts that signed up with an invite code"
		p.Refused(p.moves(alice, "alice.club.example.com"), 400, "UnsupportedDomain", refused)
		p.Refused(p.moves(alice, "bob.club.example.com"), 400, "UnsupportedDomain", refused) // taken or not
		// Not by way of an open one under it either.
		p.Empty(p.moves(alice, "alice.annex.club.example.com"))
		p.Refused(p.moves(alice, "alice.club.example.com"), 400, "UnsupportedDomain", refused)
		p.resolved("alice.annex.club.example.com", alice)
		if got := p.Recorded(alice.DID); strings.Contains(got, "alice.club.example.com") {
			t.Errorf("record\n%s", got)
		}

		p.Empty(p.moves(bob, "bob.club.example.com"))
		p.Empty(p.moves(bob, "bob.test"))
		p.Empty(p.moves(bob, "rob.club.example.com"))

		p.Empty(p.gives(alice, "alice.club.example.com"))
		p.Empty(p.moves(alice, "alicia.club.example.com"))
		p.Empty(p.moves(alice, "alice.test"))
		p.Refused(p.moves(alice, "alicia.club.example.com"), 400, "UnsupportedDomain", refused)

		p.Empty(p.moves(early, "bird.early.example.com"))
		p.Empty(p.moves(early, "early.test"))
		p.Refused(p.moves(early, "bird.early.example.com"), 400, "UnsupportedDomain", refused)
		if asked := p.Internet.Asked(); len(asked) > 0 {
			t.Errorf("asked elsewhere for %v", asked)
		}
	})
}

// A handle under a domain that was removed means what the rest of the world says of
// it.
func TestRemovedDomain(t *testing.T) {
	p := newPlace(t, func(o *servertest.Options) { o.HandleDomains = []string{".test", ".example.com"} })
	alice, bob := p.SignUp("alice"), p.SignUp("bob")
	p.Empty(p.moves(alice, "alice.example.com"))
	p.Empty(p.gives(bob, "example.com"))
	p.resolved("example.com", bob)
	p.Refused(p.remove("example.com", false), 400, "DomainInUse", "2 accounts have handles under it, which would no longer resolve")
	p.Empty(p.remove("example.com", true))
	p.Refused(p.resolve("alice.example.com"), 400, "InvalidRequest", "Unable to resolve handle")
	p.Refused(p.resolve("example.com"), 400, "InvalidRequest", "Unable to resolve handle")
	p.Refused(p.resolve("nobody.example.com"), 400, "InvalidRequest", "Unable to resolve handle")
	p.Refused(p.moves(alice, "alice.example.com"), 400, "InvalidRequest", "External handle did not resolve to DID")
	p.Internet.Point("alice.example.com", alice.DID)
	p.resolved("alice.example.com", alice)
	p.Empty(p.moves(alice, "alice.example.com"))
	p.Internet.Point("bob.example.com", bob.DID)
	p.Empty(p.moves(bob, "bob.example.com"))

	p.Accepted(p.put("example.com", ""))
	p.resolved("bob.example.com", bob)
	p.Refused(p.resolve("nobody.example.com"), 400, "HandleNotFound", "Unable to resolve handle")
}

// A handle that goes back to what it was, when its change fails, is in use too.
func TestRemoveDuringChangeOfHandle(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		p.Accepted(p.put("example.com", ""))
		alice := p.SignUp("alice")
		p.Empty(p.moves(alice, "alice.example.com"))
		p.PLC.Spoil(servertest.Says("POST", 500, "{}"))
		if a := p.moves(alice, "alicia.test"); a.Status == 200 {
			t.Fatal("changed without a directory")
		}
		p.Write(func(tx *db.Tx) error {
			return tx.PutHandleChange(t.Context(), db.HandleChange{DID: alice.DID, Before: "alice.example.com", Holder: "x", LeaseUntil: p.Now()})
		})
		p.Refused(p.remove("example.com", false), 400, "DomainInUse", "1 account has a handle under it, which would no longer resolve")
	})
}

// The server's own name is nobody's to take, and the operator's to give.
func TestRootAsHandle(t *testing.T) {
	p := newPlace(t, func(o *servertest.Options) {
		o.HandleDomains, o.Config.Hostname = []string{".example.com", ".test"}, "portico.example.com"
	})
	alice, bob := p.SignUp("alice"), p.SignUp("bob")
	for _, root := range []string{"example.com", "portico.example.com"} {
		if root == "example.com" {
			p.Refused(p.signUp(root, ""), 400, "UnsupportedDomain", "Not a supported handle domain")
			p.Refused(p.moves(alice, root), 400, "InvalidRequest", "External handle did not resolve to DID")
		} else {
			p.Refused(p.signUp(root, ""), 400, "HandleNotAvailable", "Reserved handle")
			p.Refused(p.moves(alice, root), 400, "HandleNotAvailable", "Reserved handle")
		}
		p.Refused(p.resolve(root), 400, "HandleNotFound", "Unable to resolve handle")
		before := len(p.Internet.Asked())
		p.Empty(p.gives(alice, strings.ToUpper(root)))
		p.resolved(root, alice)
		p.Refused(p.gives(bob, root), 400, "HandleNotAvailable", "Handle already taken: "+root)
		if asked := p.Internet.Asked(); len(asked) > before {
			t.Errorf("asked elsewhere for %v", asked[before:])
		}
	}
	// Once given, it is kept without asking anybody.
	p.Empty(p.gives(bob, "example.com"))
	p.Empty(p.moves(bob, "example.com"))
	p.Refused(p.signUp("pds.example.com", ""), 400, "HandleNotAvailable", "Reserved handle")
	p.Refused(p.signUp("test", ""), 400, "InvalidRequest", `Invalid handle (got "test") at $.handle`)
}

// Of domains within each other, a handle belongs to the longest.
func TestNestedDomains(t *testing.T) {
	p := newPlace(t, func(o *servertest.Options) { o.HandleDomains = []string{".example.com", ".users.example.com"} })
	p.Accepted(p.put("users.example.com", "invite"))
	p.Refused(p.signUp("alice.users.example.com", ""), 400, "InvalidInviteCode", "No invite code provided")
	p.Accepted(p.put("users.example.com", "open"))
	p.Accepted(p.signUp("alice.users.example.com", ""))
	p.Accepted(p.signUp("alice.example.com", ""))
	p.Refused(p.signUp("alice.other.example.com", ""), 400, "InvalidHandle", "Invalid characters in handle")
	p.Refused(p.signUp("users.example.com", ""), 400, "HandleNotAvailable", "Reserved handle")
	p.Refused(p.remove("example.com", false), 400, "DomainInUse", "1 account has a handle under it, which would no longer resolve")
	p.Empty(p.remove("users.example.com", true))
	p.Refused(p.resolve("alice.users.example.com"), 400, "InvalidRequest", "Unable to resolve handle")
	p.Accepted(p.resolve("alice.example.com"))
}

// Several servers on one database: what one decides, the others know soon, and no
// sign-up slips by meanwhile.
func TestDomainsOfSeveralServers(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		other := newPlace(t, func(o *servertest.Options) { o.DB, o.Clock = p.DB, p.Clock })
		p.Accepted(p.put("example.com", "open"))
		other.described(".test false")
		p.Advance(domain.MaxAge)
		other.described(".test .example.com false")
		p.Accepted(other.signUp("alice.example.com", ""))

		p.Accepted(p.put("example.com", "invite"))
		other.Refused(other.signUp("bob.example.com", ""), 400, "InvalidInviteCode", "No invite code provided")
		p.Accepted(p.put("example.com", "closed"))
		other.Refused(other.signUp("bob.example.com", ""), 400, "UnsupportedDomain", "Not a supported handle domain")
		carol := other.SignUp("carol")
		other.Refused(other.moves(carol, "carol.example.com"), 400, "UnsupportedDomain", "Not a supported handle domain")
		p.Empty(p.remove("example.com", true))
		other.Refused(other.signUp("bob.example.com", ""), 400, "UnsupportedDomain", "Not a supported handle domain")
		other.Refused(other.gives(carol, "carol.example.com"), 400, "UnsupportedDomain", "Not a supported handle domain")
		for name := range map[string]bool{"bob": true, "carol": true} {
			if err := p.DB.Available(t.Context(), syntax.Handle(name+".example.com"), ""); err != nil {
				t.Error(err)
			}
		}
		p.Advance(domain.MaxAge)
		other.described(".test false")
	})
}

// Everything at once: nothing fails but by what holds at the moment, and where a
// domain was removed in peace nobody has a handle.
func TestRaceDomains(t *testing.T) {
	places(t, func(t *testing.T, p place) {
		admin := "alt.portico.operator."
		var all sync.WaitGroup
		ask := func(verb, method, body, header string, allowed ...string) {
			a, err := p.Try(verb, method, body, header)
			if err != nil {
				t.Error(err)
				return
			}
			if a.Status == 200 {
				return
			}
			for _, name := range allowed {
				if strings.HasPrefix(a.Outcome(), "400 "+name+" ") {
					return
				}
			}
			t.Errorf("%s %s: %s", method, body, a.Outcome())
		}
		const rounds = 8
		for worker := range 3 {
			all.Go(func() {
				for round := range rounds {
					ask("POST", "com.atproto.server.createAccount", signUpAs(fmt.Sprintf("user%d-%d.example.com", worker, round), ""), "",
						"UnsupportedDomain", "InvalidInviteCode")
					ask("GET", "com.atproto.server.describeServer", "", "")
				}
			})
		}
		for _, policy := range []string{"open", "closed"} {
			all.Go(func() {
				for range rounds {
					ask("POST", admin+"putDomain", `{"domain":"example.com","invitePolicy":"`+policy+`"}`, servertest.Admin)
					ask("GET", admin+"listDomains", "", servertest.Admin)
					ask("POST", admin+"removeDomain", `{"domain":"example.com"}`, servertest.Admin, "DomainInUse", "DomainNotFound")
				}
			})
		}
		all.Wait()
		have, err := p.DB.HandlesAt(t.Context(), "example.com")
		p.Check(err)
		var out struct{ Domains []struct{ Domain string } }
		p.Accepted(p.Get("listDomains", servertest.Admin)).Decode(t, &out)
		if len(out.Domains) == 1 && have > 0 {
			t.Errorf("%d accounts have handles under a domain that is gone", have)
		}
	})
}
