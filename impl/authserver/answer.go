package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/budget"
	"portico/impl/oauth/client"
	"portico/impl/oauth/dpop"
	"portico/impl/oauth/grant"
	"portico/impl/oauth/permissionset"
)

// A refusal is an answer that is an error (RFC 6749 §5.2).
type refusal struct {
	status            int
	name, description string
	challenge         bool          // WWW-Authenticate says it too
	wait              time.Duration // Retry-After
}

func (e *refusal) Error() string { return e.name + ": " + e.description }

func refuse(name, description string) error {
	return &refusal{status: http.StatusBadRequest, name: name, description: description}
}

func invalidRequest(description string) error { return refuse("invalid_request", description) }
func invalidGrant(description string) error   { return refuse("invalid_grant", description) }
func invalidScope(description string) error   { return refuse("invalid_scope", description) }

// Outcomes are the names of errors that the endpoints answer; others are "other".
var Outcomes = []string{
	"ok", "invalid_client", "invalid_client_id", "invalid_client_metadata", "invalid_dpop_proof", "invalid_grant",
	"invalid_redirect_uri", "invalid_request", "invalid_scope", "invalid_token", "server_error", "temporarily_unavailable",
	"unauthorized_client", "unsupported_response_type", "use_dpop_nonce", "other",
}

// refused is the answer to an error. What is the server's own fault tells nothing.
func refused(err error) *refusal {
	if e, ok := errors.AsType[*refusal](err); ok {
		return e
	}
	if e, ok := errors.AsType[*dpop.Error](err); ok {
		// Clients try again with the nonce of the answer where it is 400 here.
		if e.Name == "use_dpop_nonce" {
			return &refusal{status: http.StatusBadRequest, name: e.Name, description: e.Description}
		}
		return &refusal{status: http.StatusUnauthorized, name: e.Name, description: e.Description, challenge: true}
	}
	if e, ok := errors.AsType[*client.Error](err); ok {
		return &refusal{status: e.Status, name: e.Name, description: e.Description}
	}
	if e, ok := errors.AsType[*grant.Error](err); ok {
		return &refusal{status: http.StatusBadRequest, name: e.Name, description: e.Description}
	}
	if e, ok := errors.AsType[*budget.Spent](err); ok {
		return &refusal{
			status: http.StatusTooManyRequests, name: "temporarily_unavailable", description: "Too many requests from this address", wait: e.Wait,
		}
	}
	if e, ok := errors.AsType[*permissionset.Error](err); ok {
		return &refusal{status: http.StatusBadRequest, name: "invalid_scope", description: e.Reason}
	}
	if errors.Is(err, permissionset.ErrBusy) {
		return &refusal{status: http.StatusServiceUnavailable, name: "temporarily_unavailable", description: "The server is too busy just now", wait: 10 * time.Second}
	}
	if errors.Is(err, dpop.ErrFull) {
		return &refusal{status: http.StatusServiceUnavailable, name: "temporarily_unavailable", description: "The server is too busy just now", wait: time.Minute}
	}
	if errors.Is(err, grant.ErrMany) {
		return &refusal{
			status: http.StatusTooManyRequests, name: "temporarily_unavailable", description: "Too many authorization requests are under way from this address",
			wait: grant.RequestLasts,
		}
	}
	if e, ok := errors.AsType[*xrpc.Error](err); ok && e.Status >= 400 && e.Status < 500 {
		return &refusal{status: e.Status, name: "invalid_request", description: e.Message} // of reading the body
	}
	if errors.Is(err, db.ErrUnavailable) {
		return &refusal{status: http.StatusServiceUnavailable, name: "temporarily_unavailable", description: "The server is not available just now", wait: 5 * time.Second}
	}
	return &refusal{status: http.StatusInternalServerError, name: "server_error", description: "Server error"}
}

// endpoint is one that clients post forms to. Its errors are written here, and its answers may
// be kept by nobody. Every one of them has the nonce for the next proof.
func (s *server) endpoint(name string, do func(*http.Request, form) (status int, body any, err error)) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache")
		h.Set("DPoP-Nonce", s.Proofs.Nonces.Next())
		h.Set("Access-Control-Expose-Headers", "DPoP-Nonce")
		if r.Method != http.MethodPost {
			h.Set("Allow", "POST, OPTIONS")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		sent, err := readForm(r)
		var status int
		var body any
		if err == nil {
			status, body, err = do(r, sent)
		}
		outcome := "ok"
		if err != nil {
			e := refused(err)
			if outcome = e.name; e.status == http.StatusInternalServerError || errors.Is(err, db.ErrUnavailable) {
				s.fault(r, name, err)
			}
			status, body = e.status, struct {
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}{e.name, e.description}
			if e.challenge {
				h.Set("WWW-Authenticate", dpop.Challenge(e.name, e.description))
				h.Set("Access-Control-Expose-Headers", "DPoP-Nonce, WWW-Authenticate")
			}
			if e.wait > 0 {
				h.Set("Retry-After", strconv.Itoa(int(math.Ceil(e.wait.Seconds()))))
			}
		}
		if s.Answered != nil {
			if !slices.Contains(Outcomes, outcome) {
				outcome = "other"
			}
			s.Answered(name, outcome)
		}
		text, err := json.Marshal(body)
		if err != nil {
			panic(err) // there is nothing in it that does not encode
		}
		h.Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(text) // who does not read it is gone
	}
}

// fault logs what went wrong here.
func (s *server) fault(r *http.Request, endpoint string, err error) {
	attrs := []slog.Attr{slog.String("endpoint", endpoint), slog.String("cause", err.Error())}
	if c := xrpc.CallFrom(r.Context()); c != nil {
		attrs = append(attrs, slog.String("request", c.ID()))
	}
	level := slog.LevelError
	if errors.Is(err, context.Canceled) {
		level = slog.LevelInfo
	}
	s.Log.LogAttrs(r.Context(), level, "oauth", attrs...)
}

// quoted is what a client sent, as an answer repeats it to its developer.
func quoted(text string) string {
	const most = 200
	if len(text) > most {
		n := most
		for !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n] + "…"
	}
	return `"` + text + `"`
}
