package xrpc

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// inside answers requests in this process.
type inside func(w http.ResponseWriter, r *http.Request)

func (f inside) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	f(w, r)
	if w.Code == 0 {
		return nil, errLine
	}
	if err := r.Context().Err(); err != nil {
		return nil, err // whoever asked was gone before the answer
	}
	return w.Result(), nil
}

var errLine = errors.New("the line is dead")

// breakLine is an answer that never comes.
func breakLine(w http.ResponseWriter) { w.(*httptest.ResponseRecorder).Code = 0 }

func refuse(w http.ResponseWriter, status int, name string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":%q,"message":"said the host"}`, name)
}

// jwt is a token that says when it was issued and expires.
func jwt(name string, iat, exp time.Time) string {
	claims := fmt.Sprintf(`{"jti":%q,"iat":%d,"exp":%d}`, name, iat.Unix(), exp.Unix())
	return "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s"
}

// hostOfSessions takes the access token of the latest refresh, and the refresh token with it.
type hostOfSessions struct {
	t  *testing.T
	mu sync.Mutex
	// answers, when they are set, come in the place of its own
	answerRefresh, answerCall func(w http.ResponseWriter, r *http.Request) (done bool)

	access, refresh string
	life            time.Duration // of access tokens; 0: they do not tell
	log             []string      // what was asked
	bodies          []string
}

func (h *hostOfSessions) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// asked returns what was asked since the last time.
func (h *hostOfSessions) asked() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := strings.Join(h.log, ", ")
	h.log = nil
	return all
}

func (h *hostOfSessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := strings.TrimPrefix(r.URL.Path, "/xrpc/com.")
	h.note("%s", method[strings.LastIndexByte(method, '.')+1:])
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	h.bodies = append(h.bodies, string(body))
	h.mu.Unlock()
	switch {
	case err != nil:
		refuse(w, 400, "BadRequestError")
	case method == "atproto.server.refreshSession":
		if h.answerRefresh != nil && h.answerRefresh(w, r) {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if token != h.refresh {
			refuse(w, 400, "ExpiredToken")
			return
		}
		h.access, h.refresh = h.access+"'", h.refresh+"'"
		if h.life != 0 {
			h.access = jwt(h.access, time.Now(), time.Now().Add(h.life))
		}
		fmt.Fprintf(w, `{"accessJwt":%q,"refreshJwt":%q,"did":"did:plc:alice","handle":"alice.test"}`, h.access, h.refresh)
	case method == "atproto.server.deleteSession":
		if token != h.refresh {
			refuse(w, 400, "ExpiredToken")
		}
	default:
		if h.answerCall != nil && h.answerCall(w, r) {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if token != h.access {
			refuse(w, 400, "ExpiredToken")
			return
		}
		io.WriteString(w, `{"size":1,"type":"x"}`)
	}
}

// signedIn returns a host with a session on it whose access token is that of before.
func signedIn(t *testing.T, access string, keep func(context.Context, Tokens) error) (*hostOfSessions, *Session) {
	h := &hostOfSessions{t: t, access: "A", refresh: "R"}
	c := Client{Host: "https://pds.test", HTTP: &http.Client{Transport: inside(h.ServeHTTP)}}
	s, err := NewSession(c, Tokens{"did:plc:alice", access, "R"}, keep)
	if err != nil {
		t.Fatal(err)
	}
	return h, s
}

func (h *hostOfSessions) expect(want string) {
	h.t.Helper()
	if got := h.asked(); got != want {
		h.t.Errorf("the host was asked %s, want %s", got, want)
	}
}

func TestSessionIsRefreshed(t *testing.T) {
	var h *hostOfSessions
	h, s := signedIn(t, "old", func(_ context.Context, tokens Tokens) error {
		h.note("keep %s %s", tokens.Access, tokens.Refresh)
		return nil
	})
	c := toyClient{s.Client()}
	for range 2 {
		if _, err := c.Fail(t.Context(), &FailParams{}); err != nil {
			t.Fatal(err)
		}
	}
	h.expect("fail, refreshSession, keep A' R', fail, fail")
	if err := s.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.expect("refreshSession, keep A'' R''")
	// The JSON of the tokens is that of createSession.
	if got := string(must(json.Marshal(s.Tokens()))); got != `{"did":"did:plc:alice","accessJwt":"A''","refreshJwt":"R''"}` {
		t.Error(got)
	}
}

// However many calls meet a token that has expired, there is one refresh.
func TestRacingCallsOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := signedIn(t, "old", nil)
		h.answerRefresh = func(http.ResponseWriter, *http.Request) bool { time.Sleep(time.Second); return false }
		c := toyClient{s.Client()}
		var all sync.WaitGroup
		// The first to notice gives up, and so do others; the refresh goes on.
		for i := range 50 {
			ctx, cancel := context.WithCancel(t.Context())
			all.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				start := time.Now()
				_, err := c.Fail(ctx, &FailParams{})
				waited := time.Since(start)
				if i%5 == 0 {
					if !errors.Is(err, context.Canceled) || waited > time.Second/2 {
						t.Errorf("call %d: %v after %v", i, err, waited)
					}
				} else if err != nil || waited < time.Second/2 {
					t.Errorf("call %d: %v after %v", i, err, waited)
				}
			})
			if i%5 == 0 {
				time.AfterFunc(500*time.Millisecond, cancel)
			}
			t.Cleanup(cancel)
		}
		all.Wait()
		if got := strings.Count(h.asked(), "refreshSession"); got != 1 {
			t.Errorf("%d refreshes", got)
		}
	})
}

// A refresh that is refused ends the session: for all who wait, and for who comes later.
func TestSessionIsOver(t *testing.T) {
	for _, tt := range []struct {
		status int
		name   string
		over   bool
	}{
		{400, "ExpiredToken", true},
		{400, "InvalidToken", true},
		{401, "AccountTakedown", true},
		{500, "InternalServerError", false},
		{400, "InvalidRequest", false},
		{429, "RateLimitExceeded", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := signedIn(t, "old", func(context.Context, Tokens) error { t.Error("tokens to keep"); return nil })
				h.answerRefresh = func(w http.ResponseWriter, _ *http.Request) bool {
					time.Sleep(time.Second)
					refuse(w, tt.status, tt.name)
					return true
				}
				c := toyClient{s.Client()}
				var all sync.WaitGroup
				for range 5 {
					all.Go(func() {
						_, err := c.Fail(t.Context(), &FailParams{})
						x, _ := errors.AsType[*Error](err)
						if errors.Is(err, ErrSignIn) != tt.over || x == nil || x.Name != tt.name || x.Status != tt.status {
							t.Errorf("waiting: %v", err)
						}
					})
				}
				all.Wait()
				h.asked()
				_, err := c.Fail(t.Context(), &FailParams{})
				want := "fail, refreshSession"
				if tt.over {
					want = ""
				}
				if h.expect(want); errors.Is(err, ErrSignIn) != tt.over || err == nil {
					t.Errorf("later: %v", err)
				}
			})
		})
	}
}

// What the network does to a refresh is no reason to sign in again.
func TestSessionSurvivesTheNetwork(t *testing.T) {
	h, s := signedIn(t, "old", nil)
	down := true
	h.answerRefresh = func(w http.ResponseWriter, _ *http.Request) bool {
		if down {
			breakLine(w)
		}
		return down
	}
	c := toyClient{s.Client()}
	_, err := c.Fail(t.Context(), &FailParams{})
	if errors.Is(err, ErrSignIn) || !errors.Is(err, errLine) || !strings.HasPrefix(err.Error(), "call com.example.toy.fail: refresh session: call com.atproto.server.refreshSession: ") {
		t.Error(err)
	}
	down = false
	if _, err := c.Fail(t.Context(), &FailParams{}); err != nil {
		t.Error(err)
	}
	h.expect("fail, refreshSession, fail, refreshSession, fail")
}

// A host that goes on and on about expired tokens is asked for one new token a minute.
func TestHostThatAlwaysSaysExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := signedIn(t, "old", nil)
		status := 400
		h.answerCall = func(w http.ResponseWriter, _ *http.Request) bool { refuse(w, status, "ExpiredToken"); return true }
		c := toyClient{s.Client()}
		for _, want := range []string{"fail, refreshSession, fail", "fail", "fail"} {
			_, err := c.Fail(t.Context(), &FailParams{})
			if x, ok := err.(*Error); !ok || x.Name != "ExpiredToken" {
				t.Error(err)
			}
			h.expect(want)
		}
		time.Sleep(time.Minute)
		status = 401
		_, _ = c.Fail(t.Context(), &FailParams{})
		h.expect("fail, refreshSession, fail")
		// Other names are no reason, whatever the status.
		h.answerCall = func(w http.ResponseWriter, _ *http.Request) bool {
			refuse(w, 401, "AuthenticationRequired")
			return true
		}
		time.Sleep(time.Hour)
		_, _ = c.Fail(t.Context(), &FailParams{})
		h.expect("fail")
		// A call has one refreshed, however long that takes.
		now := time.Now()
		leaping := s.Client()
		leaping.Clock.Now = func() time.Time { now = now.Add(time.Hour); return now }
		h.answerCall = func(w http.ResponseWriter, _ *http.Request) bool { refuse(w, 400, "ExpiredToken"); return true }
		other := must(NewSession(leaping, s.Tokens(), nil)).Client()
		if _, err := (&toyClient{other}).Fail(t.Context(), &FailParams{}); err == nil {
			t.Error("no error")
		}
		h.expect("fail, refreshSession, fail")
		// It is no reason where it is the method's own word.
		mailed := toyPing
		mailed.Errors = []string{"ExpiredToken"}
		if _, err := Do[None, None](t.Context(), &c.Client, &mailed, nil); err == nil {
			t.Error("no error")
		}
		h.expect("ping")
	})
}

// Where the token tells when it expires, nobody has to be refused.
func TestSessionIsRefreshedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		call := func(c Client) {
			t.Helper()
			if _, err := (&toyClient{c}).Fail(t.Context(), &FailParams{}); err != nil {
				t.Error(err)
			}
		}
		h, s := signedIn(t, jwt("A", time.Now(), time.Now().Add(2*time.Hour)), nil)
		h.access, h.life = s.Tokens().Access, 2*time.Hour
		call(s.Client())
		time.Sleep(2*time.Hour - 31*time.Second)
		call(s.Client())
		h.expect("fail, fail")
		time.Sleep(time.Second)
		call(s.Client())
		h.expect("refreshSession, fail")
		time.Sleep(2*time.Hour - 31*time.Second)
		call(s.Client())
		h.expect("fail")
		time.Sleep(time.Second)
		call(s.Client())
		h.expect("refreshSession, fail")

		// A clock that is hours ahead costs one refresh, not one for each call.
		c := s.Client()
		c.Clock.Now = func() time.Time { return time.Now().Add(5 * time.Hour) }
		ahead := must(NewSession(c, s.Tokens(), nil))
		call(ahead.Client())
		call(ahead.Client())
		h.expect("refreshSession, fail, fail")
		// Nor does a host whose tokens live for a moment.
		h.life = 10 * time.Second
		if err := ahead.Refresh(t.Context()); err != nil {
			t.Error(err)
		}
		call(ahead.Client())
		call(ahead.Client())
		h.expect("refreshSession, fail, fail")
		// A refresh token is enough to begin with.
		call(must(NewSession(c, Tokens{DID: "did:plc:alice", Refresh: ahead.Tokens().Refresh}, nil)).Client())
		h.expect("refreshSession, fail")
	})
}

// No call is made with tokens that are not kept.
func TestTokensThatCannotBeKept(t *testing.T) {
	full := errors.New("disk full")
	failing := full
	var h *hostOfSessions
	h, s := signedIn(t, "old", func(_ context.Context, tokens Tokens) error { h.note("keep %s", tokens.Access); return failing })
	c := toyClient{s.Client()}
	for range 2 {
		if _, err := c.Fail(t.Context(), &FailParams{}); !errors.Is(err, full) {
			t.Error(err)
		}
	}
	failing = nil
	if _, err := c.Fail(t.Context(), &FailParams{}); err != nil {
		t.Error(err)
	}
	h.expect("fail, refreshSession, keep A', keep A', keep A', fail")
}

func TestRefreshWithAWrongAnswer(t *testing.T) {
	for name, answer := range map[string]string{
		"the host answers for did:plc:mallory, not for did:plc:alice":    `{"accessJwt":"SECRET","refreshJwt":"SECRET","did":"did:plc:mallory"}`,
		"the host answers tokens that are none":                          `{"accessJwt":"SECRET\r\nX: y","refreshJwt":"SECRET","did":"did:plc:alice"}`,
		"string too small (minimum 1, got 0) at $.accessJwt":             `{"accessJwt":"","refreshJwt":"SECRET","did":"did:plc:alice"}`,
		`Missing required key "refreshJwt" at $`:                         `{"accessJwt":"SECRET","did":"did:plc:alice"}`,
		"answer of com.atproto.server.refreshSession has more than 5242": `{"accessJwt":"SECRET","did":"` + strings.Repeat("x", 6<<20),
	} {
		h, s := signedIn(t, "old", func(context.Context, Tokens) error { t.Error("tokens to keep"); return nil })
		h.answerRefresh = func(w http.ResponseWriter, _ *http.Request) bool { io.WriteString(w, answer); return true }
		_, err := (&toyClient{s.Client()}).Fail(t.Context(), &FailParams{})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "SECRET") || errors.Is(err, ErrSignIn) {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.Tokens().Refresh; got != "R" {
			t.Errorf("%s: refresh token %s", name, got)
		}
	}
}

// Whatever is sent again is sent whole, and what cannot be is not.
func TestSessionSendsBodiesAgain(t *testing.T) {
	h, s := signedIn(t, "old", nil)
	c := toyClient{s.Client()}
	skip := strings.NewReader("--image")
	_, _ = skip.Seek(2, io.SeekStart)
	if _, err := c.Upload(t.Context(), NewBody(skip, "image/png")); err != nil {
		t.Error(err)
	}
	if got := strings.Join(h.bodies, "|"); got != "image||image" {
		t.Errorf("bodies %s", got)
	}
	h.expect("upload, refreshSession, upload")

	h, s = signedIn(t, "old", nil)
	c = toyClient{s.Client()}
	once := func() *Body { return NewBody(io.MultiReader(strings.NewReader("image")), "image/png") }
	if _, err := c.Upload(t.Context(), once()); err == nil || err.Error() != `400 ExpiredToken "said the host"` {
		t.Error(err)
	}
	h.expect("upload, refreshSession")
	if _, err := c.Upload(t.Context(), once()); err != nil { // the session is good again
		t.Error(err)
	}
	h.expect("upload")
}

// Tokens are for one host, and nobody reads them anywhere.
func TestTokensAreSecret(t *testing.T) {
	h, s := signedIn(t, "THE SECRET", nil)
	c := toyClient{s.Client()}
	c.Host = "https://mallory.test"
	c.HTTP = &http.Client{Transport: inside(func(http.ResponseWriter, *http.Request) { t.Error("another host was asked") })}
	if _, err := c.Fail(t.Context(), &FailParams{}); err == nil || err.Error() != "call com.example.toy.fail: authorize: the session is one of https://pds.test, not of https://mallory.test" {
		t.Error(err)
	}
	var log bytes.Buffer
	for _, l := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(l).Info("x", "session", s, "tokens", s.Tokens(), "client", s.Client())
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&log, verb+verb+verb+verb, s, s.Tokens(), s.Client(), &c)
	}
	if strings.Contains(log.String(), "SECRET") {
		t.Error(log.String())
	}
	// Nor do they come back by way of an error of the host.
	h.answerCall = func(w http.ResponseWriter, r *http.Request) bool {
		refuse(w, 401, "Refused "+r.Header.Get("Authorization"))
		return true
	}
	_, err := (&toyClient{s.Client()}).Fail(t.Context(), &FailParams{})
	if errorText(err) != `401 Refused Bearer REDACTED "said the host"` {
		t.Error(err)
	}
	for _, tokens := range []Tokens{{}, {"did:plc:alice", "a", ""}, {"alice", "a", "r"}, {"did:plc:alice", "SECRET\n", "r"}, {"did:plc:alice", "a", "SECRET\x00"}} {
		if _, err := NewSession(Client{}, tokens, nil); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Error(tokens, err)
		}
	}
}

// The refresh is no call that options or headers are for.
func TestRefreshIsWithoutOptions(t *testing.T) {
	h, s := signedIn(t, "old", nil)
	c := s.Client()
	c.Header = http.Header{"atproto-proxy": {"did:web:a.test#x"}, "X-Ratelimit-Bypass": {"key"}}
	s = must(NewSession(c.With(SetHeader("X-Trace", "1")), s.Tokens(), nil))
	var refreshed, called http.Header
	h.answerRefresh = func(_ http.ResponseWriter, r *http.Request) bool { refreshed = r.Header; return false }
	h.answerCall = func(_ http.ResponseWriter, r *http.Request) bool { called = r.Header; return false }
	var answer http.Header
	c = s.Client()
	c = c.With(AcceptLabelers(Labeler{DID: "did:plc:l"}), AnswerHeader(&answer))
	if _, err := (&toyClient{c}).Fail(t.Context(), &FailParams{}); err != nil {
		t.Fatal(err)
	}
	if called.Get("Atproto-Proxy") == "" || called.Get("Atproto-Accept-Labelers") == "" || called.Get("X-Trace") != "1" || called.Get("X-Ratelimit-Bypass") != "key" {
		t.Errorf("call with %v", called)
	}
	delete(refreshed, "X-Ratelimit-Bypass")
	if len(refreshed) != 2 || refreshed.Get("Authorization") != "Bearer R" || refreshed.Get("Accept") != "*/*" {
		t.Errorf("refresh with %v", refreshed)
	}
}

func TestSignOut(t *testing.T) {
	h, s := signedIn(t, "A", nil)
	c := s.Client()
	for _, m := range []Method{refreshSession, deleteSession} {
		if _, err := Do[None, None](t.Context(), &c, &m, nil); err == nil || !strings.Contains(err.Error(), " by Session.") {
			t.Errorf("%s: %v", m.NSID, err)
		}
	}
	h.expect("")
	if err := s.SignOut(t.Context()); err != nil {
		t.Error(err)
	}
	h.expect("deleteSession")
	_, err := (&toyClient{c}).Fail(t.Context(), &FailParams{})
	if !errors.Is(err, ErrSignIn) || !errors.Is(s.Refresh(t.Context()), ErrSignIn) || !errors.Is(s.SignOut(t.Context()), ErrSignIn) {
		t.Error(err)
	}
	h.expect("")
}
