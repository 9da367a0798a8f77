package xrpc

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// dial sends a request as it is, and nothing else.
func dial(t *testing.T, url, request string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func answerOf(t *testing.T, conn net.Conn) (int, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// DESIGN §10, "cut-off requests": a body of which a part is missing is 400.
func TestDesignCutOffRequests(t *testing.T) {
	url, log := serveToy(t, Options{})
	const aborted = `{"error":"BadRequestError","message":"request aborted"}`
	gz := compressed("gzip", `{"name":"a"}`)
	for _, tt := range []struct{ name, request string }{
		{"JSON", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Length: 100\n\n{\"na"},
		{"chunks", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Type: application/json\nTransfer-Encoding: chunked\n\n4\n{\"na\n"},
		{"compressed", "POST /xrpc/com.example.toy.echo HTTP/1.1\nHost: x\nContent-Type: application/json\nContent-Encoding: gzip\nContent-Length: 100\n\n" + gz},
		{"stream", "POST /xrpc/com.example.toy.upload HTTP/1.1\nHost: x\nAuthorization: Bearer good\nContent-Type: a/b\nContent-Length: 100\n\nabc"},
		{"compressed stream", "POST /xrpc/com.example.toy.upload HTTP/1.1\nHost: x\nAuthorization: Bearer good\nContent-Type: a/b\nContent-Encoding: gzip\nContent-Length: 100\n\n" + gz},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t, url, tt.request)
			conn.CloseWrite()
			if status, body := answerOf(t, conn); status != 400 || body != aborted {
				t.Errorf("got %d %s", status, body)
			}
		})
	}
	if text := log.String(); strings.Contains(text, "status=5") || strings.Contains(text, "status=499") {
		t.Errorf("log: %s", text)
	}
}

// DESIGN §10, "cut-off requests": who has sent all of a request and says that no other
// follows is answered.
func TestDesignHalfClosedConnectionIsAnswered(t *testing.T) {
	e, log := newToy(t, Options{})
	connections := make(chan context.Context, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections <- r.Context()
		e.ServeHTTP(w, r)
	}))
	defer srv.Close()
	waiting, goOn = make(chan struct{}), make(chan struct{})
	conn := dial(t, srv.URL, "GET /xrpc/com.example.toy.fail?how=wait HTTP/1.1\nHost: x\n\n")
	conn.CloseWrite()
	<-waiting
	<-(<-connections).Done() // the server has seen it
	close(goOn)
	if status, body := answerOf(t, conn); status != 200 || body != `{"size":0,"type":"waited"}` {
		t.Errorf("got %d %s", status, body)
	}
	log.wait(t, "status=200")
}

// What was given up by somebody else is nobody's error.
func TestCanceledIsNo500(t *testing.T) {
	url, log := serveToy(t, Options{})
	resp, body := do(t, url, "GET /xrpc/com.example.toy.fail?how=canceled", "")
	if want := failure("NotEnoughResources", "Not Enough Resources"); resp.StatusCode != 503 || body != want {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	if text := log.wait(t, "status=503"); strings.Contains(text, "level=ERROR") {
		t.Errorf("log: %s", text)
	}
}

// What callers bring about, be it by being many, is no error in the log.
func TestBusyIsNoErrorInTheLog(t *testing.T) {
	url, log := serveToy(t, Options{})
	do(t, url, "GET /xrpc/com.example.toy.fail?how=busy", "")
	if text := log.wait(t, "status=503"); strings.Contains(text, "level=ERROR") {
		t.Errorf("log: %s", text)
	}
	do(t, url, "GET /xrpc/com.example.toy.fail?how=upstream", "")
	if text := log.wait(t, "status=502"); !strings.Contains(text, "level=ERROR") {
		t.Errorf("log: %s", text)
	}
}

// A client that reads none of its answer is given up, whatever kind of answer it is.
func TestReaderThatReadsNothing(t *testing.T) {
	for _, ask := range []string{"toy.download?how=endless", "toy.fail?how=large"} {
		t.Run(ask, func(t *testing.T) {
			url, log := serveToy(t, Options{WriteTime: 20 * time.Millisecond})
			dial(t, url, "GET /xrpc/com.example."+ask+" HTTP/1.1\nHost: x\n\n")
			if text := log.wait(t, "status=499"); strings.Contains(text, "level=ERROR") {
				t.Errorf("log: %s", text)
			}
		})
	}
}

// deadlines is a connection that remembers by when what was to be written.
type deadlines struct {
	*httptest.ResponseRecorder
	wrote []int
	ends  []time.Time
}

func (d *deadlines) SetWriteDeadline(end time.Time) error {
	d.wrote, d.ends = append(d.wrote, d.Body.Len()), append(d.ends, end)
	return nil
}

// A client that reads slowly gets all: its time begins anew with each piece.
func TestReaderThatReadsSlowly(t *testing.T) {
	e, _ := newToy(t, Options{WriteTime: time.Hour})
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	began := time.Now()
	e.ServeHTTP(w, httptest.NewRequest("GET", "/xrpc/com.example.toy.fail?how=large", nil))
	if n := w.Body.Len(); n < 16<<20 {
		t.Fatalf("answer of %d bytes", n)
	}
	if len(w.ends) < 1024 {
		t.Fatalf("%d pieces", len(w.ends))
	}
	for i := 1; i < len(w.ends); i++ {
		if w.ends[i].Before(w.ends[i-1]) || w.ends[i].Before(began.Add(time.Hour)) || w.wrote[i]-w.wrote[i-1] > 16<<10 {
			t.Fatalf("%d bytes until %v", w.wrote[i]-w.wrote[i-1], w.ends[i])
		}
	}
}
