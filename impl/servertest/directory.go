package servertest

import (
	"cmp"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/directory"
	"portico/impl/identity/plc"
)

// A Directory is the PLC directory of a server. Its Client reaches it whatever fault
// there is for the server.
type Directory struct {
	*plc.Client

	mu    sync.Mutex
	fault Fault
	asked []string
}

// A Fault stands in for the directory where it returns true: then it has answered.
type Fault func(w http.ResponseWriter, r *http.Request) bool

// newDirectory also returns the URL for those who are to suffer its faults.
func newDirectory(t testing.TB, now func() time.Time, log *slog.Logger) (d *Directory, url string) {
	sound := directory.New(directory.NewMemory(), now, "test", log)
	honest := httptest.NewServer(sound)
	t.Cleanup(honest.Close)
	d = &Directory{Client: &plc.Client{URL: honest.URL, Timeout: time.Minute}}
	between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(r.URL.Path[1:], "/")
		d.mu.Lock()
		d.asked = append(d.asked, strings.TrimSpace(r.Method+" "+path))
		fault := d.fault
		d.mu.Unlock()
		if fault == nil || !fault(w, r) {
			sound.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(between.Close)
	return d, between.URL
}

// Spoil puts a fault between the server and the directory; nil ends it.
func (d *Directory) Spoil(fault Fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

// Asked are the requests that the server made since the last call, as "GET log/last":
// verb and path behind the DID.
func (d *Directory) Asked() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	asked := d.asked
	d.asked = nil
	return asked
}

// Says is a fault that answers the requests of one verb, all for "".
func Says(verb string, status int, body string) Fault {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != cmp.Or(verb, r.Method) {
			return false
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// HangsUp is a fault that gives no answer.
func HangsUp(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }

// ChangeDID posts an operation that the server's key signs to the directory, behind
// the server's back.
func (s *Server) ChangeDID(did syntax.DID, change func(*plc.Data)) {
	s.Helper()
	s.post(did, func(last plc.Operation) (plc.Operation, error) { return plc.Update(last, change) })
}

// Tombstone ends a DID behind the server's back.
func (s *Server) Tombstone(did syntax.DID) {
	s.Helper()
	s.post(did, plc.NewTombstone)
}

func (s *Server) post(did syntax.DID, next func(plc.Operation) (plc.Operation, error)) {
	s.Helper()
	last, err := s.PLC.Last(s.Context(), did)
	s.Check(err)
	op, err := next(last)
	s.Check(err)
	s.Check(s.Server.Accounts.Sign(op, last))
	s.Check(s.PLC.Submit(s.Context(), did, op))
}
