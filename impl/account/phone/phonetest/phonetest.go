// Package phonetest is a verification service for tests: a server that speaks the HTTP
// interface of Twilio Verify, as far as Portico uses it.
package phonetest

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync"
	"testing"
)

// What the service is configured with.
const (
	AccountSID = "AC0123456789abcdef0123456789abcdef"
	AuthToken  = "a token that nobody may see"
	ServiceSID = "VA0123456789abcdef0123456789abcdef"
)

// maxChecks is how often a code may be guessed at.
const maxChecks = 5

// Service is a running verification service.
type Service struct {
	URL string // without a slash at the end

	mu      sync.Mutex
	pending map[string]*verification
	sent    []string
	checked int
	fault   http.HandlerFunc
}

type verification struct {
	code   string
	checks int
}

// New starts a service that runs until the test ends.
func New(t testing.TB) *Service {
	t.Helper()
	s := &Service{pending: map[string]*verification{}}
	routes := http.NewServeMux()
	routes.HandleFunc("POST /v2/Services/{service}/Verifications", s.guarded(s.send))
	routes.HandleFunc("POST /v2/Services/{service}/VerificationCheck", s.guarded(s.check))
	h := httptest.NewServer(routes)
	t.Cleanup(h.Close)
	s.URL = h.URL + "/v2"
	return s
}

// Spoil puts a fault in the place of all answers; nil ends it.
func (s *Service) Spoil(fault http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Code is the code that is good for a number, "" when there is none.
func (s *Service) Code(number string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.pending[number]; v != nil {
		return v.code
	}
	return ""
}

// Sent are the numbers that codes were sent to, in order.
func (s *Service) Sent() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.sent...)
}

// Checked is how often a code was asked about.
func (s *Service) Checked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checked
}

// Refuses is a fault that answers with an error as the service words it.
func Refuses(status, code int, message string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { refuse(w, status, code, message) }
}

func refuse(w http.ResponseWriter, status, code int, message string) {
	answer(w, status, map[string]any{
		"code": code, "message": message, "more_info": fmt.Sprint("https://www.twilio.com/docs/errors/", code), "status": status,
	})
}

func answer(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// guarded asks who calls, and for which service.
func (s *Service) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		name, token, _ := r.BasicAuth()
		switch {
		case fault != nil:
			fault(w, r)
		case name != AccountSID || subtle.ConstantTimeCompare([]byte(token), []byte(AuthToken)) == 0:
			refuse(w, http.StatusUnauthorized, 20003, "Authenticate")
		case r.PathValue("service") != ServiceSID:
			refuse(w, http.StatusNotFound, 20404, "The requested resource "+r.URL.Path+" was not found")
		default:
			next(w, r)
		}
	}
}

var e164 = regexp.MustCompile(`^\+[1-9]\d{6,14}$`)

func (s *Service) send(w http.ResponseWriter, r *http.Request) {
	to := r.PostFormValue("To")
	if r.PostFormValue("Channel") != "sms" {
		refuse(w, http.StatusBadRequest, 60200, "Invalid parameter `Channel`: "+r.PostFormValue("Channel"))
		return
	}
	if !e164.MatchString(to) {
		refuse(w, http.StatusBadRequest, 60200, "Invalid parameter `To`: "+to)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent = append(s.sent, to)
	if s.pending[to] == nil { // another text has the same code
		s.pending[to] = &verification{code: fmt.Sprintf("%06d", 271828*len(s.sent)%1000000)}
	}
	answer(w, http.StatusCreated, status(to, "pending", false))
}

func (s *Service) check(w http.ResponseWriter, r *http.Request) {
	to, code := r.PostFormValue("To"), r.PostFormValue("Code")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked++
	v := s.pending[to]
	if v == nil {
		refuse(w, http.StatusNotFound, 20404, "The requested resource "+r.URL.Path+" was not found")
		return
	}
	if v.checks++; v.checks > maxChecks {
		refuse(w, http.StatusTooManyRequests, 60202, "Max check attempts reached")
		return
	}
	if code != v.code {
		answer(w, http.StatusOK, status(to, "pending", false))
		return
	}
	delete(s.pending, to)
	answer(w, http.StatusOK, status(to, "approved", true))
}

func status(to, status string, valid bool) map[string]any {
	return map[string]any{
		"sid": "VE0123456789abcdef0123456789abcdef", "service_sid": ServiceSID, "account_sid": AccountSID,
		"to": to, "channel": "sms", "status": status, "valid": valid,
	}
}
