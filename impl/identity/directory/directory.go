// Package directory is a PLC directory: the HTTP interface and the rules of
// acceptance of the public one, over any [Store]. It makes a development server
// whole without the network. What it takes, the public directory takes too.
package directory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"portico/impl/identity/plc"
)

const (
	maxBody   = 100 << 10
	maxExport = 1000
)

// Server serves a directory. It is safe for concurrent use; of two operations on
// the same predecessor that arrive together, the Store takes one.
type Server struct {
	store   Store
	now     func() time.Time
	version string
	log     *slog.Logger
	mux     *http.ServeMux
}

// New returns a directory that keeps its operations in store. The clock decides
// about the recovery window and the limits, and stamps what is accepted.
func New(store Store, now func() time.Time, version string, log *slog.Logger) *Server {
	s := &Server{store: store, now: now, version: version, log: log, mux: http.NewServeMux()}
	s.handle("GET /_health", s.health)
	s.handle("GET /export", s.export)
	s.handle("GET /{did}", s.document)
	s.handle("GET /{did}/data", s.data)
	s.handle("GET /{did}/log", s.operations)
	s.handle("GET /{did}/log/audit", s.audit)
	s.handle("GET /{did}/log/last", s.last)
	s.handle("POST /{did}", s.submit)
	s.handle("/", func(http.ResponseWriter, *http.Request) error {
		return &refusal{http.StatusNotFound, "Not Found"}
	})
	return s
}

// ServeHTTP answers one request of the directory's interface.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	if r.Method == http.MethodOptions {
		w.Header().Set("Access-Control-Allow-Methods", "GET,HEAD,POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// A refusal is an answer that is not 200.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return r.message }

func refuse(format string, args ...any) error {
	return &refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func (s *Server) handle(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		var answer *refusal
		if !errors.As(err, &answer) {
			s.log.ErrorContext(r.Context(), "directory request", "path", r.URL.Path, "error", err)
			answer = &refusal{http.StatusInternalServerError, "Internal Server Error"}
		}
		writeJSON(w, answer.status, "application/json; charset=utf-8", map[string]string{"message": answer.message})
	})
}

func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	b, err := marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"message":"Internal Server Error"}`)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(b) // a client that has hung up
}

// marshal encodes without escapes for HTML, which nobody else makes either.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func ok(w http.ResponseWriter, v any) error {
	writeJSON(w, http.StatusOK, "application/json; charset=utf-8", v)
	return nil
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.store.ExportAfterSeq(r.Context(), 0, 1); err != nil {
		s.log.ErrorContext(r.Context(), "directory health", "error", err)
		writeJSON(w, http.StatusServiceUnavailable, "application/json; charset=utf-8",
			map[string]string{"version": s.version, "error": "Service Unavailable"})
		return nil
	}
	return ok(w, map[string]string{"version": s.version})
}

// live returns the operations of the request's DID that count. It is not empty.
func (s *Server) live(ctx context.Context, did string) ([]Entry, error) {
	entries, err := s.store.Log(ctx, did)
	if err != nil {
		return nil, err
	}
	live := liveEntries(entries)
	if len(live) == 0 {
		return nil, &refusal{http.StatusNotFound, "DID not registered: " + did}
	}
	return live, nil
}

func (s *Server) state(r *http.Request) (plc.Operation, plc.Data, error) {
	did := r.PathValue("did")
	live, err := s.live(r.Context(), did)
	if err != nil {
		return nil, plc.Data{}, err
	}
	op, err := plc.Parse(live[len(live)-1].Operation)
	if err != nil {
		return nil, plc.Data{}, fmt.Errorf("stored operation of %s: %w", did, err)
	}
	d, there := op.Data()
	if !there {
		return nil, plc.Data{}, &refusal{http.StatusNotFound, "DID not available: " + did}
	}
	return op, d, nil
}

func (s *Server) document(w http.ResponseWriter, r *http.Request) error {
	op, _, err := s.state(r)
	if err != nil {
		return err
	}
	// A stored operation's DID is well-formed: it is the hash of a genesis.
	doc := plc.Document(didOf(r), op)
	writeJSON(w, http.StatusOK, "application/did+ld+json; charset=utf-8", doc)
	return nil
}

func (s *Server) data(w http.ResponseWriter, r *http.Request) error {
	_, d, err := s.state(r)
	if err != nil {
		return err
	}
	return ok(w, struct {
		DID string `json:"did"`
		plc.Data
	}{r.PathValue("did"), d})
}

func (s *Server) operations(w http.ResponseWriter, r *http.Request) error {
	live, err := s.live(r.Context(), r.PathValue("did"))
	if err != nil {
		return err
	}
	ops := make([]json.RawMessage, len(live))
	for i, e := range live {
		ops[i] = e.Operation
	}
	return ok(w, ops)
}

func (s *Server) last(w http.ResponseWriter, r *http.Request) error {
	live, err := s.live(r.Context(), r.PathValue("did"))
	if err != nil {
		return err
	}
	return ok(w, live[len(live)-1].Operation)
}

// timestamp is a time as JavaScript writes it.
type timestamp time.Time

func (t timestamp) MarshalText() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z"), nil
}

type exported struct {
	DID       string          `json:"did"`
	Operation json.RawMessage `json:"operation"`
	CID       string          `json:"cid"`
	Nullified bool            `json:"nullified"`
	CreatedAt timestamp       `json:"createdAt"`
}

type sequenced struct {
	Type      string          `json:"type"`
	DID       string          `json:"did"`
	Operation json.RawMessage `json:"operation"`
	CID       string          `json:"cid"`
	CreatedAt timestamp       `json:"createdAt"`
	Seq       int64           `json:"seq"`
}

func (e Entry) exported() exported {
	return exported{e.DID, e.Operation, e.CID, e.Nullified, timestamp(e.CreatedAt)}
}

func (s *Server) audit(w http.ResponseWriter, r *http.Request) error {
	did := r.PathValue("did")
	entries, err := s.store.Log(r.Context(), did)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return &refusal{http.StatusNotFound, "DID not registered: " + did}
	}
	out := make([]exported, len(entries))
	for i, e := range entries {
		out[i] = e.exported()
	}
	return ok(w, out)
}

var integer = regexp.MustCompile(`^[0-9]+$`)

func (s *Server) export(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	count := maxExport
	if text := query.Get("count"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return refuse("Invalid count parameter")
		}
		count = min(n, maxExport)
	}
	var (
		entries []Entry
		err     error
		after   = query.Get("after")
		bySeq   = integer.MatchString(after)
	)
	if bySeq {
		seq, parseErr := strconv.ParseInt(after, 10, 64)
		if parseErr != nil {
			return refuse("Invalid after parameter")
		}
		entries, err = s.store.ExportAfterSeq(r.Context(), seq, count)
	} else {
		var since time.Time
		if after != "" {
			if since, err = time.Parse(time.RFC3339, after); err != nil {
				return refuse("Invalid after parameter")
			}
		}
		entries, err = s.store.ExportAfterTime(r.Context(), since, count)
	}
	if err != nil {
		return err
	}
	var lines [][]byte
	for _, e := range entries {
		var v any = e.exported()
		if bySeq {
			v = sequenced{"sequenced_op", e.DID, e.Operation, e.CID, timestamp(e.CreatedAt), e.Seq}
		}
		line, err := marshal(v)
		if err != nil {
			return fmt.Errorf("stored operation of %s: %w", e.DID, err)
		}
		lines = append(lines, line)
	}
	w.Header().Set("Content-Type", "application/jsonlines")
	_, _ = w.Write(bytes.Join(lines, []byte("\n"))) // a client that has hung up
	return nil
}

func (s *Server) submit(w http.ResponseWriter, r *http.Request) error {
	did := r.PathValue("did")
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &refusal{http.StatusRequestEntityTooLarge, "request entity too large"}
	}
	if err != nil {
		return refuse("request aborted")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil {
		return refuse("Body is not valid JSON")
	}
	op, err := plc.Parse(compact.Bytes())
	if err != nil {
		return refuse("Not a valid operation: %s", compact.Bytes())
	}
	if err := checkIncoming(op, compact.Bytes()); err != nil {
		return err
	}
	entries, err := s.store.Log(r.Context(), did)
	if err != nil {
		return err
	}
	next, err := place(did, entries, op, compact.Bytes(), s.now())
	if err != nil {
		return err
	}
	if next.repeated {
		// Cannot be told from a mistake by the public directory either.
		return refuse("Operations not correctly ordered")
	}
	err = s.store.Append(r.Context(), next.entry, next.nullified, next.head)
	if errors.Is(err, ErrConflict) {
		return &refusal{http.StatusConflict, "Proposed prev does not match the most recent operation: " + next.head}
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, "OK") // a client that has hung up
	return nil
}
