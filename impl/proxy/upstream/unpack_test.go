package upstream

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"net/url"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"github.com/andybalholm/brotli"
)

func packed(t testing.TB, name string, text io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch name {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "deflate":
		w = zlib.NewWriter(&b)
	default:
		w = brotli.NewWriterOptions(&b, brotli.WriterOptions{Quality: 5, LGWin: 24})
	}
	if _, err := io.Copy(w, text); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

// blanks are so many bytes of nothing.
func blanks(n int64) io.Reader { return io.LimitReader(endless{}, n) }

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// What unpacks to more than may be is refused, and what does not is there to its last byte.
func TestUnpackedSize(t *testing.T) {
	for _, name := range []string{"gzip", "deflate", "br"} {
		for _, tt := range []struct {
			size int64
			ok   bool
		}{{256 << 10, true}, {256<<10 + 1, false}, {3 << 20, false}} {
			text, err := unpack(packed(t, name, blanks(tt.size)), []string{name}, 256<<10)
			if (err == nil) != tt.ok || tt.ok && int64(len(text)) != tt.size {
				t.Errorf("%s of %d: %d bytes, %v", name, tt.size, len(text), err)
			}
		}
	}
}

// Forty answers at a time that unpack to far more than may be, and want the largest
// windows that there are, take little memory.
func TestBombs(t *testing.T) {
	bomb := packed(t, "br", blanks(4<<20))
	if len(bomb) > maxRefusal {
		t.Fatal(len(bomb))
	}
	c := New(Options{})
	debug.FreeOSMemory()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			if _, err := c.unpack(bomb, []string{"br"}, maxRefusal); err == nil {
				t.Error("unpacked")
			}
		})
	}
	all.Wait()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapSys) - int64(before.HeapSys); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
}

// Whatever a host sends as an error, it is read within its bounds, and what it says comes
// from the two fields.
func FuzzRefusal(f *testing.F) {
	const said1 = `{"error":"A","message":"b"}`
	f.Add("", []byte(said1))
	f.Add("identity, ,", []byte(`{"error":1,"message":{"error":"x"}}`))
	f.Add("gzip", packed(f, "gzip", strings.NewReader(said1)))
	f.Add("deflate", packed(f, "deflate", strings.NewReader(said1)))
	f.Add("br", packed(f, "br", strings.NewReader(said1)))
	f.Add("gzip,BR", packed(f, "br", bytes.NewReader(packed(f, "gzip", strings.NewReader(said1)))))
	f.Add("br", packed(f, "br", blanks(1<<20)))
	f.Add("zstd", []byte("x"))
	f.Fuzz(func(t *testing.T, encodings string, body []byte) {
		if len(body) > maxRefusal {
			return
		}
		text, err := unpack(body, []string{encodings}, maxRefusal)
		if err != nil {
			if text != nil {
				t.Error("a part of it")
			}
			return
		}
		if len(text) > maxRefusal {
			t.Errorf("%d bytes", len(text))
		}
		name, message := said(text)
		if len(name)+len(message) > 3*len(text) { // a byte that is none of UTF-8 becomes three
			t.Errorf("%q, %q of %q", name, message, text)
		}
		if r := (&Refused{Status: 400, Name: name, Message: message}).Error(); len(r) > 5000 {
			t.Errorf("%d bytes for the log", len(r))
		}
	})
}

// Whatever a URL is, a request goes to the host that it names and to no other, and path and
// query are its own.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"https://host.example/xrpc/a.b?c=%2f", "http://host/xrpc", "https://a:b@host/x", "https://host\\@evil/x", "https://host:443/x#y", "https://[::1]/x", "//host/x",
		"https:host/x", "https://host//x", "https://host/x y", "HTTPS://HOST/x?", "https://host?x", "https://h%6fst/x",
	} {
		f.Add(seed)
	}
	c := New(Options{Private: true})
	f.Fuzz(func(t *testing.T, text string) {
		got, err := c.parse(text)
		if err != nil {
			return
		}
		uri := got.url.RequestURI()
		if !strings.HasPrefix(uri, "/") || !strings.HasSuffix(text, uri) || strings.ContainsAny(uri, " \r\n\t\x00") {
			t.Errorf("%q asks for %q", text, uri)
		}
		if got.url.User != nil || got.url.Hostname() == "" {
			t.Errorf("%q goes to %q", text, got.url.Host)
		}
		// What others take it for, if they do at all.
		if u, err := url.Parse(text); err == nil && u.Host != got.url.Host {
			t.Errorf("%q goes to %q, not to %q", text, got.url.Host, u.Host)
		}
	})
}
