package bsky_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"portico/impl/account/token"
	"portico/impl/servertest"
)

// What the preferences are that have a rule of their own, and one that has none.
const (
	born1990 = `{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"1990-05-05T00:00:00.000Z"}`
	adult    = `{"$type":"app.bsky.actor.defs#adultContentPref","enabled":true}`
	grown    = `{"isOverAge13":true,"isOverAge16":true,"isOverAge18":true,"$type":"app.bsky.actor.defs#declaredAgePref"}`
)

func list(preferences ...string) string {
	return `{"preferences":[` + strings.Join(preferences, ",") + `]}`
}

// has checks what getPreferences answers, byte for byte.
func has(s *servertest.Server, credentials string, preferences ...string) {
	s.Helper()
	if got := s.Accepted(s.Get("getPreferences", credentials)).Body; got != list(preferences...) {
		s.Errorf("got\n%s, want\n%s", got, list(preferences...))
	}
}

// Each preference comes back as it was sent and in its place: with fields that the lexicon
// does not name, and types that it does not know. One type may be there several times.
func TestPreferencesComeBack(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice, bob := s.SignUp("alice"), s.SignUp("bob")
		before, err := s.DB.LastEvent(t.Context())
		s.Check(err)
		has(s, alice.Access)
		all := []string{
			`{"$type":"app.bsky.actor.defs#savedFeedsPrefV2","items":[{"id":"a","type":"feed","value":"at://x","pinned":true,"later":[1,null]}]}`,
			`{ "later": "<&>` + "\u2028" + `\u0000\ud83d\ude00", "$type" : "app.bsky.actor.defs#adultContentPref", "enabled": false }`,
			`{"$type":"app.bsky.labs.future","ratio":1.50,"huge":12345678901234567890,"deep":{"$type":"x","a":[{}]}}`,
			`{"$type":"app.bsky.actor.defs#contentLabelPref","label":"nsfw","visibility":"hide"}`,
			`{"$type":"app.bsky.actor.defs#contentLabelPref","label":"gore","visibility":"a later word"}`,
			`{"$type":"app.bsky"}`,
			`{"$type":"app.bsky.#"}`,
			`{"$type":"app.bsky.actor.defs#adultContentPref"}`,
		}
		s.Empty(s.Post("putPreferences", list(all...), alice.Access))
		has(s, alice.Access, all...)
		has(s, bob.Access)

		// A put takes the place of all, and nobody hears of it.
		s.Empty(s.Post("putPreferences", list(adult), alice.Access))
		has(s, alice.Access, adult)
		s.Empty(s.Post("putPreferences", list(), alice.Access))
		has(s, alice.Access)
		if last, err := s.DB.LastEvent(t.Context()); err != nil || last != before {
			t.Errorf("the last event is %d, was %d, %v", last, before, err)
		}
	}, inActor)
}

// What was sent in another encoding is stored as UTF-8, and what is none as its readers
// would read it.
func TestPreferencesAreText(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	s.Empty(s.Post("putPreferences", list(`{"$type":"app.bsky.x","text":"`+"\xff"+`"}`), alice.Access))
	has(s, alice.Access, `{"$type":"app.bsky.x","text":"�"}`)
}

// An app password neither sees the personal details nor changes them, and puts the rest.
func TestAppPasswordsLeavePersonalDetails(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		feed := `{"$type":"app.bsky.actor.defs#feedViewPref","feed":"home"}`
		s.Empty(s.Post("putPreferences", list(adult, born1990, feed), alice.Access))
		has(s, alice.Access, adult, born1990, feed, grown)
		for _, scope := range []token.Scope{token.AppPass, token.AppPassPrivileged} {
			app := s.Scoped(alice, scope)
			has(s, app, adult, feed, grown)
			s.Empty(s.Post("putPreferences", list(feed), app))
			has(s, app, feed, grown)
			has(s, alice.Access, born1990, feed, grown)
			s.Refused(s.Post("putPreferences", list(born1990, adult, born1990), app), 400, "InvalidRequest",
				"Do not have authorization to set preferences: app.bsky.actor.defs#personalDetailsPref, app.bsky.actor.defs#personalDetailsPref")
			s.Empty(s.Post("putPreferences", list(), app))
			has(s, app, grown)
			has(s, alice.Access, born1990, grown)
			s.Empty(s.Post("putPreferences", list(adult, born1990, feed), alice.Access))
		}
		s.Empty(s.Post("putPreferences", list(), alice.Access))
		has(s, alice.Access)
	}, inActor)
}

// What a type is nobody can hide: of a key that is there twice the last one counts, as for
// whoever reads the list, and keys differ by case.
func TestPersonalDetailsInDisguise(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	app := s.Scoped(alice, token.AppPass)
	const forbidden = "Do not have authorization to set preferences: app.bsky.actor.defs#personalDetailsPref"
	for _, disguised := range []string{
		`{"$type":"app.bsky.x","$type":"app.bsky.actor.defs#personalDetailsPref"}`,
		`{"\u0024type":"app.bsky.actor.defs\u0023personalDetailsPref"}`,
		`{"$type":"app.bsky.actor.defs#personalDetailsPref","$TYPE":"app.bsky.x"}`,
	} {
		s.Refused(s.Post("putPreferences", list(disguised), app), 400, "InvalidRequest", forbidden)
		s.Refused(s.Post("putPreferences", `{"preferences":[],"preferences":[`+disguised+`]}`, app), 400, "InvalidRequest", forbidden)
	}
	other := `{"$type":"app.bsky.actor.defs#personalDetailsPref","$type":"app.bsky.x","$TYPE":"app.bsky.actor.defs#personalDetailsPref","birthDate":"1990-05-05T00:00:00Z"}`
	s.Empty(s.Post("putPreferences", `{"preferences":[`+born1990+`],"preferences":[`+other+`]}`, app))
	has(s, app, other)
}

// The declared age is made of the first birth date when it is asked for, in full years.
func TestDeclaredAge(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	details := func(birthDate string) string {
		return `{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"` + birthDate + `"}`
	}
	age := func(over13, over16, over18 bool) string {
		return fmt.Sprintf(`{"isOverAge13":%t,"isOverAge16":%t,"isOverAge18":%t,"$type":"app.bsky.actor.defs#declaredAgePref"}`, over13, over16, over18)
	}
	for _, tt := range []struct {
		name        string
		today, born string
		want        string
	}{
		{"13 today", "2026-03-01", "2013-03-01T23:59:59.999Z", age(true, false, false)},
		{"13 tomorrow", "2026-03-01", "2013-03-02T00:00:00.000Z", age(false, false, false)},
		{"13 next month", "2026-03-01", "2013-04-01T00:00:00Z", age(false, false, false)},
		{"the day is the server's", "2026-03-01", "2013-03-01T23:00:00-02:00", age(false, false, false)},
		{"16 last month", "2026-03-01", "2010-02-28T00:00:00Z", age(true, true, false)},
		{"18 today", "2026-03-01", "2008-03-01T00:00:00Z", age(true, true, true)},
		{"18 tomorrow", "2026-03-01", "2008-03-02T00:00:00Z", age(true, true, false)},
		{"leapling, 18 in a year without the day", "2026-03-01", "2008-02-29T00:00:00Z", age(true, true, true)},
		{"not born yet", "2026-03-01", "2027-01-01T00:00:00Z", age(false, false, false)},
		{"long ago", "2026-03-01", "1900-01-01T00:00:00Z", age(true, true, true)},
		{"leapling, on the last day before", "2030-02-28", "2012-02-29T00:00:00Z", age(true, true, false)},
		{"leapling, on the day after", "2030-03-01", "2012-02-29T00:00:00Z", age(true, true, true)},
		{"leapling, the day before in a year with the day", "2032-02-28", "2016-02-29T00:00:00Z", age(true, false, false)},
		{"leapling, in a year with the day", "2032-02-29", "2016-02-29T00:00:00Z", age(true, true, false)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			today, err := time.Parse(time.DateOnly, tt.today)
			s.Check(err)
			s.Advance(today.Add(12 * time.Hour).Sub(s.Now()))
			access := s.Scoped(alice, token.Access)
			s.Empty(s.Post("putPreferences", list(details(tt.born)), access))
			has(s, access, details(tt.born), tt.want)
			has(s, s.Scoped(alice, token.AppPass), tt.want)
		})
	}
	s.TB = t
	access := s.Scoped(alice, token.Access)
	young := details("2031-01-01T00:00:00Z")
	// The first of several counts; without a date there is no age. What a client declares is
	// taken and forgotten.
	s.Empty(s.Post("putPreferences", list(young, born1990), access))
	has(s, access, young, born1990, age(false, false, false))
	none := `{"$type":"app.bsky.actor.defs#personalDetailsPref"}`
	s.Empty(s.Post("putPreferences", list(none, born1990), access))
	has(s, access, none, born1990)
	s.Empty(s.Post("putPreferences", list(grown, adult, grown), access))
	has(s, access, adult)
}

// Nobody but a session with the account's own password, and the moderation service, learns
// a birth date.
func TestWhoReadsABirthDate(t *testing.T) {
	s := newServer(t)
	alice, bob := s.SignUp("alice"), s.SignUp("bob")
	s.Empty(s.Post("putPreferences", list(born1990), alice.Access))
	ask := "getPreferences?did=" + alice.DID.String()
	for _, tt := range []struct{ who, credentials, want string }{
		{"alice", alice.Access, list(born1990, grown)},
		{"alice by an app password", s.Scoped(alice, token.AppPass), list(grown)},
		{"alice by a privileged app password", s.Scoped(alice, token.AppPassPrivileged), list(grown)},
		{"alice, taken down", s.Scoped(alice, token.Takendown), list(grown)},
		{"bob", bob.Access, list()}, // the parameter is not for him: these are his own
	} {
		if got := s.Accepted(s.Get(ask, tt.credentials)).Body; got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.who, got, tt.want)
		}
	}
	const method = "app.bsky.actor.getPreferences"
	for _, moderator := range []string{
		s.ServiceToken(servertest.ModService, s.ModKey, method, time.Minute),
		s.ServiceToken(servertest.ModService+"#atproto_labeler", s.LabelKey, method, time.Minute),
	} {
		if got := s.Accepted(s.Get(ask, moderator)).Body; got != list(born1990, grown) {
			t.Errorf("the moderation service: got %s", got)
		}
		for _, bad := range []string{"", "?did=", "?did=alice.test", "?did=" + alice.DID.String() + "&did=" + bob.DID.String()} {
			s.Refused(s.Get("getPreferences"+bad, moderator), 400, "InvalidRequest", "Invalid or missing did parameter")
		}
		s.Refused(s.Get("getPreferences?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", moderator), 400, "NotFound", "Repo not found")
		// It sees, and sets nothing.
		s.Refused(s.Post("putPreferences?did="+alice.DID.String(), list(), moderator), 400, "InvalidToken", "Token could not be verified")
	}
	const stranger = "did:web:stranger.example"
	key := s.NewIdentity(stranger)
	for who, credentials := range map[string]string{
		"a stranger's service":               s.ServiceToken(stranger, key, method, time.Minute),
		"one that says to be the moderators": s.ServiceToken(servertest.ModService, key, method, time.Minute),
		"the moderators' for another method": s.ServiceToken(servertest.ModService, s.ModKey, "app.bsky.actor.putPreferences", time.Minute),
		"the moderators' for another server": s.ServiceTokenFor("did:web:other.example", servertest.ModService, s.ModKey, method, time.Minute),
		"an old one of the moderators":       s.ServiceToken(servertest.ModService, s.ModKey, method, -time.Minute),
		"the moderators' for any method":     s.ServiceToken(servertest.ModService, s.ModKey, "", time.Minute),
	} {
		if a := s.Get(ask, credentials); a.Status < 400 || strings.Contains(a.Body, "1990") {
			t.Errorf("%s: %d %s", who, a.Status, a.Body)
		}
	}
	// Nor does a log have it.
	if strings.Contains(s.Logged.String(), "1990") {
		t.Error("the birth date is in the log")
	}
}

// An account in another state: what it has it may see, and change unless it is taken down.
func TestPreferencesByState(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	moderator := s.ServiceToken(servertest.ModService, s.ModKey, "app.bsky.actor.getPreferences", time.Minute)
	s.Deactivate(alice.DID)
	s.Empty(s.Post("putPreferences", list(adult), alice.Access))
	has(s, alice.Access, adult)
	s.TakeDown(alice.DID)
	has(s, alice.Access, adult)
	s.Refused(s.Post("putPreferences", list(), alice.Access), 401, "AccountTakedown", "Account has been taken down")
	s.Accepted(s.Get("getPreferences?did="+alice.DID.String(), moderator))
	s.Remove(alice.DID)
	s.Refused(s.Get("getPreferences", alice.Access), 400, "NotFound", "Repo not found")
	s.Refused(s.Post("putPreferences", list(), alice.Access), 403, "AccountNotFound", "Account not found")
	s.Refused(s.Get("getPreferences?did="+alice.DID.String(), moderator), 400, "NotFound", "Repo not found")
}

func TestPutPreferencesRefuses(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	s.Empty(s.Post("putPreferences", list(adult), alice.Access))
	for _, tt := range []struct{ name, body, message string }{
		{"no list", `{}`, `Missing required key "preferences" at $`},
		{"no type", list(`{"x":1}`), `Expected an object which includes the "$type" property value type (got {"x": ...}) at $.preferences[0]`},
		{"type of another kind", list(adult, `{"$type":5}`), `Expected string value type (got 5) at $.preferences[1].$type`},
		{"field of another kind", list(`{"$type":"app.bsky.actor.defs#adultContentPref","enabled":"no"}`), `Expected boolean value type (got "no") at $.preferences[0].enabled`},
		{"no date", list(`{"$type":"app.bsky.actor.defs#personalDetailsPref","birthDate":"2009"}`), `Invalid datetime (got "2009") at $.preferences[0].birthDate`},
		{"fraction", list(`{"$type":"app.bsky.actor.defs#savedFeedsPref","pinned":[],"saved":[],"timelineIndex":1.5}`), `Expected integer value type (got 1.5) at $.preferences[0].timelineIndex`},
		{"another namespace", list(adult, `{"$type":"com.example.x"}`), `Some preferences are not in the app.bsky namespace`},
		{"beside the namespace", list(`{"$type":"app.bskyx"}`), `Some preferences are not in the app.bsky namespace`},
		{"another case", list(`{"$type":"APP.bsky.x"}`), `Some preferences are not in the app.bsky namespace`},
		{"empty type", list(`{"$type":""}`), `Some preferences are not in the app.bsky namespace`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.TB = t
			s.Refused(s.Post("putPreferences", tt.body, alice.Access), 400, "InvalidRequest", tt.message)
		})
	}
	s.TB = t
	// The namespace comes before what an app password may set.
	s.Refused(s.Post("putPreferences", list(born1990, `{"$type":"com.example.x"}`), s.Scoped(alice, token.AppPass)), 400, "InvalidRequest",
		"Some preferences are not in the app.bsky namespace")
	s.Refused(s.Post("putPreferences", list(`{"$type":"app.bsky.x","text":"`+strings.Repeat("x", 150<<10)+`"}`), alice.Access), 413,
		"PayloadTooLargeError", "request entity too large")
	has(s, alice.Access, adult) // none of it left a trace
}

// Contract §9.6: what an account has is bounded, and the bound is as large as a request: who
// moves here brings along what there is, and nobody honest meets it.
func TestProxy6PreferencesAreBounded(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	var words []string
	for n := range 1400 {
		words = append(words, fmt.Sprintf(`{"id":"3laaaaaaaaa%04d","value":"a word of mine %d","targets":["content","tag"],"actorTarget":"all"}`, n, n))
	}
	muted := `{"$type":"app.bsky.actor.defs#mutedWordsPref","items":[` + strings.Join(words, ",") + `]}`
	s.Empty(s.Post("putPreferences", list(muted, adult), alice.Access))
	has(s, alice.Access, muted, adult)

	// Two sessions cannot have more in sum than one can.
	large := func(kind string, size int) string {
		return `{"$type":"` + kind + `","text":"` + strings.Repeat("x", size-len(kind)-22) + `"}`
	}
	details := large("app.bsky.actor.defs#personalDetailsPref", 100_000)
	s.Empty(s.Post("putPreferences", list(details), alice.Access))
	app := s.Scoped(alice, token.AppPass)
	fits := large("app.bsky.x", 53_600)
	s.Empty(s.Post("putPreferences", list(fits), app))
	s.Refused(s.Post("putPreferences", list(large("app.bsky.x", 53_601)), app), 400, "InvalidRequest",
		"Preferences are too large (maximum 153600 bytes, got 153601)")
	has(s, alice.Access, details, fits)

	// A small body that unpacks to more than that is refused as well.
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, list(large("app.bsky.x", 200_000)))
	s.Check(z.Close())
	s.Refused(s.Post("putPreferences", packed.String(), app, "Content-Encoding: gzip"), 413, "PayloadTooLargeError", "request entity too large")
}

// Sessions that put at the same time: one list of those remains, and the personal details,
// which only one of them sets, are there once.
func TestPreferencesRace(t *testing.T) {
	servertest.Engines(t, func(t *testing.T, s *servertest.Server) {
		alice := s.SignUp("alice")
		s.Empty(s.Post("putPreferences", list(born1990), alice.Access))
		var all sync.WaitGroup
		sent := map[string]bool{}
		for n := range 12 {
			who, given := s.Scoped(alice, token.AppPass), []string{fmt.Sprintf(`{"$type":"app.bsky.x","n":%d}`, n)}
			want := []string{born1990, given[0]}
			if n%3 == 0 {
				who, given = alice.Access, want
			}
			sent[list(append(want, grown)...)] = true
			all.Go(func() {
				a, err := s.Try(http.MethodPost, "putPreferences", list(given...), who)
				if err != nil || a.Status != 200 {
					t.Errorf("%d %s, %v", a.Status, a.Body, err)
				}
			})
		}
		all.Wait()
		if got := s.Accepted(s.Get("getPreferences", alice.Access)).Body; !sent[got] {
			t.Errorf("got %s", got)
		}
	}, inActor)
}

// Whose header names another service than the app view has that one's preferences.
func TestGetPreferencesElsewhere(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	s.Empty(s.Post("putPreferences", list(adult), alice.Access))
	other := s.NewUpstream("did:web:other.example", "bsky_appview")
	other.Says(servertest.Answers(200, `{"preferences":[{"$type":"com.example.theirs"}]}`, "Set-Cookie", "a=b"))
	a := s.Accepted(s.Get("getPreferences", alice.Access, "Atproto-Proxy: did:web:other.example#bsky_appview", "Accept-Encoding: gzip, zstd"))
	if a.Body != `{"preferences":[{"$type":"com.example.theirs"}]}` || a.Header.Get("Set-Cookie") != "" || a.Header.Get("Cache-Control") != "private" {
		t.Errorf("answer %v %s", a.Header, a.Body)
	}
	asked := other.Asked()
	if len(asked) != 1 || asked[0].URL.Path != "/xrpc/app.bsky.actor.getPreferences" || asked[0].Header.Get("Accept-Encoding") != "identity;q=1,gzip;q=0.3" ||
		tokenOf(t, asked[0]) != (said{alice.DID.String(), "did:web:other.example", "app.bsky.actor.getPreferences"}) {
		t.Errorf("asked %v", asked)
	}
	s.Accepted(s.Get("getPreferences", s.Scoped(alice, token.AppPass), "Atproto-Proxy: did:web:other.example#bsky_appview"))
	other.Says(servertest.Answers(418, `{"error":"Teapot","message":"short and stout"}`))
	s.Refused(s.Get("getPreferences", alice.Access, "Atproto-Proxy: did:web:other.example#bsky_appview"), 418, "Teapot", "short and stout")
	other.Asked()

	// The app view's own name stands for this server, any other service of its DID does not.
	a = s.Accepted(s.Get("getPreferences", alice.Access, "Atproto-Proxy: did:web:appview.example#bsky_appview"))
	if a.Body != list(adult) {
		t.Errorf("answer %s", a.Body)
	}
	s.Refused(s.Get("getPreferences", alice.Access, "Atproto-Proxy: did:web:appview.example#atproto_labeler"), 400, "InvalidRequest",
		"could not resolve proxy did service url")
	s.Refused(s.Get("getPreferences", alice.Access, "Atproto-Proxy: did:web:appview.example"), 400, "InvalidRequest",
		"no service id specified in proxy header")
	s.Refused(s.Get("getPreferences", "", "Atproto-Proxy: did:web:appview.example"), 401, "AuthMissing", "Authentication Required")

	// Moderators see what is here alone, and who is taken down nothing elsewhere.
	moderator := s.ServiceToken(servertest.ModService, s.ModKey, "app.bsky.actor.getPreferences", time.Minute)
	s.Refused(s.Get("getPreferences?did="+alice.DID.String(), moderator, "Atproto-Proxy: did:web:other.example#bsky_appview"), 400, "InvalidRequest",
		"Moderator requests cannot be proxied to other app views")
	s.TakeDown(alice.DID)
	for _, credentials := range []string{alice.Access, s.Scoped(alice, token.Takendown)} {
		s.Refused(s.Get("getPreferences", credentials, "Atproto-Proxy: did:web:other.example#bsky_appview"), 401, "AccountTakedown", "Account has been taken down")
	}
	if asked := append(other.Asked(), s.AppView.Asked()...); len(asked) != 0 {
		t.Errorf("asked %v", asked)
	}
}

// Contract §9.3: putPreferences for another service reaches it, body and all.
func TestProxy3PutPreferencesElsewhere(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	other := s.NewUpstream("did:web:other.example", "bsky_appview")
	other.Says(servertest.Answers(200, ``))
	const there = "Atproto-Proxy: did:web:other.example#bsky_appview"
	// It may be what this server would not store.
	body := `{"preferences":[ {"$type":"com.example.theirs","ratio":1.5},` + born1990 + `], "more":"ä"}`
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	fmt.Fprint(z, body)
	s.Check(z.Close())
	s.Accepted(s.Post("putPreferences", body, s.Scoped(alice, token.AppPass), there))
	s.Accepted(s.Post("putPreferences", packed.String(), alice.Access, there, "Content-Encoding: gzip"))
	asked := other.Asked()
	if len(asked) != 2 {
		t.Fatalf("asked %v", asked)
	}
	for _, a := range asked {
		if string(a.Body) != body || a.Header.Get("Content-Type") != "application/json" || a.Header.Get("Content-Encoding") != "" || a.ContentLength != int64(len(body)) ||
			tokenOf(t, a) != (said{alice.DID.String(), "did:web:other.example", "app.bsky.actor.putPreferences"}) {
			t.Errorf("asked %v %s", a.Header, a.Body)
		}
	}
	has(s, alice.Access)
	other.Says(servertest.Answers(400, `{"error":"TheirError","message":"not so"}`))
	s.Refused(s.Post("putPreferences", list(), alice.Access, there), 400, "TheirError", "not so")
	s.Refused(s.Post("putPreferences", list(), alice.Access, "Atproto-Proxy: #x"), 400, "InvalidRequest", "no did specified in proxy header")
	s.Refused(s.Post("putPreferences", list(`{"x":1}`), alice.Access, there), 400, "InvalidRequest",
		`Expected an object which includes the "$type" property value type (got {"x": ...}) at $.preferences[0]`)
	s.TakeDown(alice.DID)
	s.Refused(s.Post("putPreferences", list(), alice.Access, there), 401, "AccountTakedown", "Account has been taken down")
	if asked := other.Asked(); len(asked) != 1 {
		t.Errorf("asked %d times", len(asked))
	}
}

// Preferences move by getPreferences and putPreferences alone, and count nowhere.
func TestPreferencesAreNotCounted(t *testing.T) {
	s := newServer(t)
	alice := s.SignUp("alice")
	s.Empty(s.Post("putPreferences", list(adult, born1990), alice.Access))
	if n := s.Accepted(s.Get("com.atproto.server.checkAccountStatus", alice.Access)).Fields(t)["privateStateValues"]; n != 0.0 {
		t.Errorf("privateStateValues %v", n)
	}
}
