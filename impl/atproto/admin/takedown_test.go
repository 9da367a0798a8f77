package admin_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"portico/db"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
	"portico/impl/servertest"
)

// subject is a request about an account.
func (f *fixture) subject(u user, more string) answer {
	f.Helper()
	return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"`+u.DID.String()+`"}`+more+`}`)
}

func TestTakedown(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	app := f.Accepted(f.Post("com.atproto.server.createAppPassword", `{"name":"phone"}`, alice.Access)).Text(t, "password")
	f.Invite("hers", 1, alice.DID.String())
	f.hears("#account active=false status=takendown\n", func() {
		got := f.Accepted(f.subject(alice, `,"takedown":{"applied":true,"ref":"case 7"}`)).Body
		want := `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + alice.DID.String() + `"},"takedown":{"applied":true,"ref":"case 7"}}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	if a := f.Account(alice.DID); a.TakedownRef == nil || *a.TakedownRef != "case 7" {
		t.Errorf("ref %v", a.TakedownRef)
	}
	// It cannot sign in or go on, its codes are worth nothing, and its name stays its own.
	f.Refused(f.TrySignIn("alice.test", goodPassword), 401, "AccountTakedown", "Account has been taken down")
	f.Refused(f.TrySignIn("alice.test", app), 401, "AuthenticationRequired", "Invalid identifier or password")
	f.Refused(f.Post("com.atproto.server.refreshSession", "", alice.Refresh), 401, "AccountTakedown", "Account has been taken down")
	f.Refused(f.Post("com.atproto.server.createAppPassword", `{"name":"x"}`, alice.Access), 401, "AccountTakedown", "Account has been taken down")
	f.Refused(f.Get("com.atproto.server.getSession", alice.Access), 400, "InvalidRequest",
		"Could not find user info for account: "+alice.DID.String())
	if err := f.DB.InviteAvailable(t.Context(), "hers"); err != db.ErrInviteUnavailable {
		t.Errorf("code of a taken-down account: %v", err)
	}
	f.Refused(f.Post("com.atproto.server.createAccount", `{"handle":"alice.test","email":"new@example.com","password":"`+goodPassword+`"}`), 400,
		"HandleNotAvailable", "Handle already taken: alice.test")
	narrow := f.Accepted(f.Post("com.atproto.server.createSession", `{"identifier":"alice.test","password":"`+goodPassword+`","allowTakendown":true}`))
	if m := narrow.Fields(t); m["active"] != false || m["status"] != "takendown" {
		t.Errorf("session %v", m)
	}

	// Once more, without a reason: the time stands for it.
	f.Advance(time.Second)
	f.Accepted(f.subject(alice, `,"takedown":{"applied":true}`))
	if a := f.Account(alice.DID); a.TakedownRef == nil || *a.TakedownRef != "2026-03-01T12:00:01.000Z" {
		t.Errorf("ref %v", *a.TakedownRef)
	}

	f.hears("#account active=true\n", func() { f.Accepted(f.subject(alice, `,"takedown":{"applied":false}`)) })
	if a := f.Account(alice.DID); a.TakedownRef != nil {
		t.Errorf("ref %v", *a.TakedownRef)
	}
	// What the takedown ended stays ended; what lives on by itself works again.
	f.Refused(f.Post("com.atproto.server.refreshSession", "", alice.Refresh), 400, "ExpiredToken", "Token has been revoked")
	f.Accepted(f.Get("com.atproto.server.getSession", alice.Access))
	f.Accepted(f.TrySignIn("alice.test", app))
	if err := f.DB.InviteAvailable(t.Context(), "hers"); err != nil {
		t.Errorf("code of a restored account: %v", err)
	}
	f.Refused(f.Post("com.atproto.server.refreshSession", "", "Bearer "+narrow.Text(t, "refreshJwt")), 400, "ExpiredToken", "Token has been revoked")
	const want = "12:00:01 takedown_lifted by admin from 127.0.0.1: \n" +
		"12:00:01 taken_down by admin from 127.0.0.1: 2026-03-01T12:00:01.000Z\n" +
		"12:00:00 signed_in by DID from 127.0.0.1: while taken down\n" +
		"12:00:00 sign_in_failed by stranger from 127.0.0.1: wrong password\n" +
		"12:00:00 sign_in_failed by DID from 127.0.0.1: taken down\n" +
		"12:00:00 taken_down by admin from 127.0.0.1: case 7\n"
	if got := f.Recorded(alice.DID); !strings.Contains(got, want) {
		t.Errorf("record\n%swant\n%s", got, want)
	}
}

// Row 36 of the differences: lifting a takedown, or one that is not there, revokes
// nothing.
func TestDesign36LiftingATakedownRevokesNothing(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	f.hears("#account active=true\n", func() { f.Accepted(f.subject(alice, `,"takedown":{"applied":false}`)) })
	f.Accepted(f.Post("com.atproto.server.refreshSession", "", alice.Refresh))
}

func TestDeactivation(t *testing.T) {
	f := newFixture(t)
	alice := f.SignUp("alice")
	f.Advance(time.Second)
	f.hears("#account active=false status=deactivated\n", func() { f.Accepted(f.subject(alice, `,"deactivated":{"applied":true}`)) })
	if a := f.Account(alice.DID); a.DeactivatedAt == nil || a.DeleteAfter != nil {
		t.Errorf("account %+v", a)
	}
	f.Accepted(f.Get("com.atproto.server.getSession", alice.Access)) // tokens stay
	f.hears("#account active=true\n#identity handle=alice.test\n#sync\n", func() {
		f.Accepted(f.subject(alice, `,"deactivated":{"applied":false}`))
	})
	if a := f.Account(alice.DID); a.DeactivatedAt != nil {
		t.Errorf("account %+v", a)
	}
	f.Refused(f.subject(alice, `,"takedown":{"applied":true},"deactivated":{"applied":false}`), 400, "InvalidRequest",
		"Cannot activate and takedown an account at the same time")
	// Both at once: taken down counts for more.
	f.hears("#account active=false status=takendown\n#account active=false status=takendown\n", func() {
		f.Accepted(f.subject(alice, `,"takedown":{"applied":true},"deactivated":{"applied":true}`))
	})
	f.Refused(f.subject(alice, `,"deactivated":{"applied":false}`), 400, "AccountNotFound", "user not found")
	f.hears("#account active=false status=deactivated\n#account active=true\n#identity handle=alice.test\n#sync\n", func() {
		f.Accepted(f.subject(alice, `,"takedown":{"applied":false},"deactivated":{"applied":false}`))
	})
	// An account whose DID names another server is not switched on here.
	if err := f.DB.Write(t.Context(), func(tx *db.Tx) error {
		key, err := tx.SigningKey(t.Context(), alice.DID, "atproto")
		if err != nil {
			return err
		}
		key.Public = "did:key:another"
		return tx.PutSigningKey(t.Context(), *key)
	}); err != nil {
		t.Fatal(err)
	}
	f.Refused(f.subject(alice, `,"deactivated":{"applied":false}`), 400, "InvalidRequest",
		"DID document verification method does not match expected signing key")
}

func TestSubjects(t *testing.T) {
	f := newFixture(t)
	alice, nobody := f.SignUp("alice"), user{DID: unknown}
	// Asked for nothing, it says again how the account is.
	f.hears("#account active=true\n", func() { f.Accepted(f.subject(alice, "")) })
	const deleted = "#account active=false status=deleted\n"
	f.hears(deleted, func() { f.Accepted(f.subject(nobody, "")) })
	f.hears(deleted, func() { f.Accepted(f.subject(nobody, `,"takedown":{"applied":true}`)) })
	f.hears(deleted, func() { f.Accepted(f.subject(nobody, `,"takedown":{"applied":false}`)) })
	f.Refused(f.subject(nobody, `,"deactivated":{"applied":true}`), 400, "InvalidRequest", "Account not found")
	f.Refused(f.subject(nobody, `,"deactivated":{"applied":false}`), 400, "AccountNotFound", "user not found")

	record := func(did, more string) answer {
		return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.repo.strongRef","uri":"at://`+did+`/app.bsky.feed.post/abc","cid":"`+cid+`"}`+more+`}`)
	}
	blob := func(did, more string) answer {
		return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":"`+did+`","cid":"`+cid+`"}`+more+`}`)
	}
	f.hears("", func() {
		for _, more := range []string{"", `,"takedown":{"applied":true}`, `,"takedown":{"applied":false}`, `,"deactivated":{"applied":true}`} {
			f.Accepted(record(alice.DID.String(), more))
			f.Accepted(blob(alice.DID.String(), more))
		}
		f.Refused(record(unknown, `,"takedown":{"applied":true}`), 400, "NotFound", "Repo not found")
		f.Refused(record("alice.test", `,"takedown":{"applied":true}`), 400, "NotFound", "Repo not found")
		f.Refused(blob(unknown, `,"takedown":{"applied":true}`), 400, "NotFound", "Repo not found")
		f.Refused(f.do("updateSubjectStatus", `{"subject":{"$type":"com.example.thing"},"takedown":{"applied":true}}`), 400,
			"InvalidRequest", "Invalid subject (com.example.thing)")
		f.Refused(f.do("updateSubjectStatus", `{"subject":{"did":"`+unknown+`"}}`), 400, "InvalidRequest",
			`Expected an object which includes the "$type" property value type (got {"did": ...}) at $.subject`)
	})
	if a := f.Account(alice.DID); !a.Active() {
		t.Errorf("account %+v", a)
	}
}

// DESIGN, small ones: fields of a subject that the lexicon does not know are not echoed,
// of a takedown neither.
func TestDesignSmallOnesUpdateSubjectStatusEchoesNoUnknownFields(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		a := f.Accepted(f.do("updateSubjectStatus", `{"more":1,"subject":{"more":{"deep":[1]},"$type":"com.atproto.admin.defs#repoRef","did":"`+alice.DID.String()+
			`"},"takedown":{"applied":true,"ref":"case","more":"text"}}`))
		want := `{"subject":{"$type":"com.atproto.admin.defs#repoRef","did":"` + alice.DID.String() + `"},"takedown":{"applied":true,"ref":"case"}}`
		if got := strings.TrimSpace(a.Body); got != want {
			t.Errorf("answer %s, want %s", got, want)
		}
	})
}

// A blob that is taken down is given to nobody, comes back neither with another upload
// nor with another record, and is there again when that is lifted.
func TestBlobTakedown(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		alice := f.SignUp("alice")
		const text = "Content-Type: text/plain"
		b := servertest.TextBlob("offending")
		f.Accepted(f.Post("com.atproto.repo.uploadBlob", "offending", text, alice.Access))
		f.Mention(alice.DID, "com.example.thing/1", b)
		get := func() answer {
			return f.Get("com.atproto.sync.getBlob?did=" + alice.DID.String() + "&cid=" + b.CID)
		}
		subject := `{"$type":"com.atproto.admin.defs#repoBlobRef","did":"` + alice.DID.String() + `","cid":"` + b.CID + `"}`
		status := func(want string) {
			t.Helper()
			a := f.Accepted(f.Get("getSubjectStatus?did="+alice.DID.String()+"&blob="+b.CID, servertest.Admin))
			if a.Body != `{"subject":`+subject+`,"takedown":`+want+`}` {
				t.Errorf("status %s, want %s", a.Body, want)
			}
		}
		f.Accepted(get())
		status(`{"applied":false}`)
		for range 2 {
			f.Accepted(f.do("updateSubjectStatus", `{"subject":`+subject+`,"takedown":{"applied":true,"ref":"case 17"}}`))
			status(`{"applied":true,"ref":"case 17"}`)
			f.Refused(get(), 400, "InvalidRequest", "Blob not found")
		}
		f.Refused(f.Post("com.atproto.repo.uploadBlob", "offending", text, alice.Access), 400, "InvalidRequest", "Blob has been takendown, cannot re-upload")
		f.Refused(f.Post("com.atproto.repo.createRecord", `{"repo":"`+alice.DID.String()+`","collection":"com.example.thing","record":{"b":{"$type":"blob","ref":{"$link":"`+
			b.CID+`"},"mimeType":"text/plain","size":9}}}`, alice.Access), 400, "BlobNotFound", "Could not find blob: "+b.CID)
		for range 2 {
			f.Accepted(f.do("updateSubjectStatus", `{"subject":`+subject+`,"takedown":{"applied":false}}`))
			status(`{"applied":false}`)
			f.Accepted(get())
		}
		f.Refused(f.Get("getSubjectStatus?blob="+b.CID, servertest.Admin), 400, "InvalidRequest", "Must provide a did to request blob state")
		f.Refused(f.Get("getSubjectStatus?did="+alice.DID.String()+"&blob="+cid, servertest.Admin), 400, "NotFound", "Subject not found")
	})
}

// While the bucket does not answer a takedown says so. The blob is given to nobody from then on,
// and asking again moves its file.
func TestBlobTakedownWithoutTheBucket(t *testing.T) {
	engines(t, func(t *testing.T, f *fixture) {
		bucket := blobtest.StartS3(t)
		for _, n := range f.Nodes() {
			n.Blobs.Store = servertest.Must(blob.OpenS3(blob.S3Config{
				Bucket: bucket.Bucket, Region: "us-east-1", Endpoint: bucket.URL, ForcePathStyle: true,
				AccessKeyID: "key", SecretAccessKey: "secret", Spool: t.TempDir(),
			}))
		}
		alice := f.SignUp("alice")
		b := servertest.TextBlob("offending")
		f.Accepted(f.Post("com.atproto.repo.uploadBlob", "offending", "Content-Type: text/plain", alice.Access))
		f.Mention(alice.DID, "com.example.thing/1", b)
		get := func() answer {
			return f.Get("com.atproto.sync.getBlob?did=" + alice.DID.String() + "&cid=" + b.CID)
		}
		set := func(applied string) answer {
			return f.do("updateSubjectStatus", `{"subject":{"$type":"com.atproto.admin.defs#repoBlobRef","did":"`+alice.DID.String()+
				`","cid":"`+b.CID+`"},"takedown":{"applied":`+applied+`}}`)
		}
		away := func(a answer) {
			t.Helper()
			f.Refused(a, 503, "NotEnoughResources", "The store of blobs does not answer, please try again later.")
		}
		lie := func(want string) {
			t.Helper()
			if keys := bucket.Keys(); len(keys) != 1 || keys[0] != want {
				t.Errorf("keys %q, want %q", keys, want)
			}
		}
		served, aside := "blocks/"+alice.DID.String()+"/"+b.CID, "quarantine/"+alice.DID.String()+"/"+b.CID
		var gone atomic.Bool
		bucket.Fail = func(w http.ResponseWriter, _ *http.Request) bool {
			if gone.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			return gone.Load()
		}
		f.Accepted(get())
		gone.Store(true)
		away(set("true"))
		lie(served)
		gone.Store(false)
		f.Refused(get(), 400, "InvalidRequest", "Blob not found")
		f.Accepted(set("true"))
		lie(aside)
		gone.Store(true)
		away(set("false"))
		gone.Store(false)
		lie(aside)
		f.Refused(get(), 400, "InvalidRequest", "Blob not found")
		f.Accepted(set("false"))
		lie(served)
		f.Accepted(get())
	})
}
