package resolve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/net/dns/dnsmessage"
)

// An internet is a DNS server and an HTTPS host of any name. 127.0.0.2 is the
// world, and 127.0.0.1 is at home.
type internet struct {
	world, home string   // host and port each
	handles     *Handles // asks this internet

	mu      sync.Mutex
	texts   func(name string) []string        // TXT records
	address func(name string, nth int) string // at the nth look
	serve   http.HandlerFunc                  // of every host
	lookups map[string]int                    // of addresses, by name
	visits  []string                          // hosts that were asked for at home
}

// set changes what is there, under the eyes of the servers.
func (n *internet) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func newInternet(t *testing.T) *internet {
	t.Helper()
	n := &internet{
		texts: func(string) []string { return nil }, serve: http.NotFound, lookups: map[string]int{},
		address: func(string, int) string { return "127.0.0.2" },
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go n.answer(conn)

	world := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		serve := n.serve
		n.mu.Unlock()
		serve(w, r)
	}))
	world.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that DNS was faster than
	world.Listener.Close()
	if world.Listener, err = net.Listen("tcp", "127.0.0.2:0"); err != nil {
		t.Fatal(err)
	}
	world.StartTLS()
	t.Cleanup(world.Close)
	n.world = world.Listener.Addr().String()
	home := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.visits = append(n.visits, r.Host)
		fmt.Fprint(w, "did:plc:secret")
	}))
	t.Cleanup(home.Close)
	n.home = home.Listener.Addr().String()

	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, conn.LocalAddr().String())
	}}
	client := newClient(newDialer(func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.2") }, resolver))
	transport := client.Transport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // names are not what this is about
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		// Port 443 is not for tests to listen at.
		if host, ok := strings.CutSuffix(address, ":443"); ok {
			_, port, _ := net.SplitHostPort(n.world)
			address = net.JoinHostPort(host, port)
		}
		return dial(ctx, network, address)
	}
	t.Cleanup(transport.CloseIdleConnections)
	n.handles = &Handles{Client: client, TXT: resolver.LookupTXT, Timeout: 5 * time.Second}
	return n
}

// answer is the DNS server.
func (n *internet) answer(conn net.PacketConn) {
	buf := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		header := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 0}
		n.mu.Lock()
		switch q.Type {
		case dnsmessage.TypeTXT:
			for _, text := range n.texts(q.Name.String()) {
				m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.TXTResource{TXT: strings.Split(text, "|")}})
			}
		case dnsmessage.TypeA:
			n.lookups[q.Name.String()]++
			a := netip.MustParseAddr(n.address(q.Name.String(), n.lookups[q.Name.String()])).As4()
			m.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: a}}}
		}
		n.mu.Unlock()
		if len(m.Answers) == 0 && q.Type == dnsmessage.TypeTXT {
			m.RCode = dnsmessage.RCodeNameError
		}
		if out, err := m.Pack(); err == nil {
			conn.WriteTo(out, from)
		}
	}
}

func TestResolveHandleLive(t *testing.T) {
	says := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "alice.example.com" || r.URL.Path != "/.well-known/atproto-did" {
				t.Errorf("asked %s for %s", r.Host, r.URL.Path)
			}
			fmt.Fprint(w, body)
		}
	}
	for _, tt := range []struct {
		name  string
		texts []string
		serve http.HandlerFunc
		want  syntax.DID
	}{
		{"one record", []string{"did=did:plc:dns"}, http.NotFound, "did:plc:dns"},
		{"one record in chunks, among others", []string{"v=spf1", "did=did:|plc:dns"}, http.NotFound, "did:plc:dns"},
		{"several records", []string{"did=did:plc:a", "did=did:plc:b"}, http.NotFound, ""},
		{"several records, and a host", []string{"did=did:plc:a", "did=did:plc:b"}, says("did:plc:web"), "did:plc:web"},
		{"no record, and a host", nil, says("did:plc:web\n"), "did:plc:web"},
		{"nothing", nil, http.NotFound, ""},
		{"a page", nil, says("<!doctype html>"), ""},
		{"without end", nil, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "did:plc:")
			for range 1 << 10 {
				if _, err := w.Write([]byte(strings.Repeat("a", 1<<10))); err != nil {
					return
				}
			}
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newInternet(t)
			n.set(func() {
				n.serve = tt.serve
				n.texts = func(name string) []string {
					if name != "_atproto.alice.example.com." {
						t.Errorf("asked for %s", name)
					}
					return tt.texts
				}
			})
			got, err := n.handles.ResolveHandle(t.Context(), "Alice.example.com")
			if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrNotFound) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// A host that does not come to an end costs no more than the timeout.
func TestResolveHandleOfSlowHost(t *testing.T) {
	n := newInternet(t)
	n.handles.Timeout = 50 * time.Millisecond
	// The host must not end its answer when the client leaves: the end could still arrive.
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	n.set(func() {
		n.serve = func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "did:plc:slow")
			w.(http.Flusher).Flush()
			<-ended
		}
	})
	if did, err := n.handles.ResolveHandle(t.Context(), "alice.example.com"); !errors.Is(err, ErrNotFound) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %q, %v", did, err)
	}
}

// No way leads inside: not an address that a name has, nor one that it has only at
// the second look, nor one that a host sends us to.
func TestResolveHandleInside(t *testing.T) {
	inside := func(string, int) string { return "127.0.0.1" }
	for _, tt := range []struct {
		name    string
		address func(name string, nth int) string
		serve   func(n *internet) http.HandlerFunc
	}{
		{"name of an inner address", inside, nil},
		{"rebinding", func(_ string, nth int) string {
			// Whoever looks the name up to check it, and connects by name, gets here.
			return map[bool]string{true: "127.0.0.2", false: "127.0.0.1"}[nth == 1]
		}, func(n *internet) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				// The first connection is to the world; a second one to the same name is not.
				w.Header().Set("Connection", "close")
				http.Redirect(w, r, "https://alice.example.com:"+port(n.home)+"/.well-known/atproto-did", http.StatusFound)
			}
		}},
		{"redirect to an inner address", nil, func(n *internet) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://"+n.home+"/", http.StatusFound)
			}
		}},
		{"redirect to a name of an inner address", func(name string, _ int) string {
			return map[bool]string{true: "127.0.0.1", false: "127.0.0.2"}[strings.HasPrefix(name, "inside.")]
		}, func(n *internet) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://inside.example.com:"+port(n.home)+"/", http.StatusFound)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newInternet(t)
			n.set(func() {
				if tt.address != nil {
					n.address = tt.address
				}
				if tt.serve != nil {
					n.serve = tt.serve(n)
				}
			})
			did, err := n.handles.ResolveHandle(t.Context(), "alice.example.com")
			if !errors.Is(err, ErrNotFound) || !errors.Is(err, ErrForbiddenAddress) {
				t.Errorf("got %q, %v", did, err)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if len(n.visits) > 0 {
				t.Errorf("asked at home: %v", n.visits)
			}
		})
	}
	// The world redirects within itself as it likes.
	n := newInternet(t)
	n.set(func() {
		n.serve = func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "alice.example.com" {
				http.Redirect(w, r, "https://www.example.com/did", http.StatusMovedPermanently)
				return
			}
			fmt.Fprint(w, "did:plc:moved")
		}
	})
	if did, err := n.handles.ResolveHandle(t.Context(), "alice.example.com"); did != "did:plc:moved" {
		t.Errorf("got %q, %v", did, err)
	}
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}
