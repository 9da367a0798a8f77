package blob_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"portico/impl/blob"
	"portico/impl/blob/blobtest"
)

func s3Config(t testing.TB, server *blobtest.S3) blob.S3Config {
	return blob.S3Config{
		Bucket:          server.Bucket,
		Region:          "us-east-1",
		Endpoint:        server.URL,
		ForcePathStyle:  true,
		AccessKeyID:     "key",
		SecretAccessKey: "secret",
		Spool:           t.TempDir(),
	}
}

func openS3(t testing.TB, config blob.S3Config) *blob.S3 {
	t.Helper()
	s, err := blob.OpenS3(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestS3(t *testing.T) {
	blobtest.Run(t, func(t *testing.T, bounds blob.Bounds) blob.Store {
		config := s3Config(t, blobtest.StartS3(t))
		config.Bounds = bounds
		return openS3(t, config)
	})
}

// The keys are those of the reference (contract/repo-sync.md §6.2).
func TestS3HasTheReferencesKeys(t *testing.T) {
	server := blobtest.StartS3(t)
	s := openS3(t, s3Config(t, server))
	var ups []blob.Upload
	for _, body := range []string{"waits", "kept", "down"} {
		up, err := s.Upload(t.Context(), blobtest.Bob, strings.NewReader(body), 100, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if ups = append(ups, up); body != "waits" {
			if err := errors.Join(s.MakePermanent(t.Context(), blobtest.Bob, up.Key, up.CID), s.Remove(t.Context(), blob.TemporaryName(blobtest.Bob, up.Key))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Quarantine(t.Context(), blobtest.Bob, ups[2].CID); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"blocks/did:web:bob.example.com%3A8443/" + ups[1].CID.String(),
		"quarantine/did:web:bob.example.com%3A8443/" + ups[2].CID.String(),
		"tmp/did:web:bob.example.com%3A8443/" + ups[0].Key,
	}
	if diff := cmp.Diff(want, server.Keys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

// A store that does not answer in time is ErrTimeout, and an upload that may have
// arrived all the same is removed.
func TestS3TimesOut(t *testing.T) {
	server := blobtest.StartS3(t)
	config := s3Config(t, server)
	up, err := openS3(t, config).Upload(t.Context(), alice, strings.NewReader("there"), 100, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	config.UploadTimeout = 50 * time.Millisecond
	s := openS3(t, config)
	var hang atomic.Value // the method that hangs
	hang.Store("")
	server.Fail = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == hang.Load() {
			io.Copy(io.Discard, r.Body) // only then does the server see the client go
			<-r.Context().Done()
			return true
		}
		return false
	}
	before := server.Keys()
	for _, tt := range []struct {
		method, name string
		call         func(ctx context.Context) error
	}{
		{"PUT", "upload", func(ctx context.Context) error {
			_, err := s.Upload(ctx, alice, strings.NewReader("late"), 100, "a/b")
			return err
		}},
		{"PUT", "make permanent", func(ctx context.Context) error { return s.MakePermanent(ctx, alice, up.Key, up.CID) }},
		{"PUT", "put", func(ctx context.Context) error { return s.Put(ctx, alice, up.CID, strings.NewReader("there"), 5) }},
		{"GET", "open", func(ctx context.Context) error {
			_, _, err := s.Open(ctx, blob.TemporaryName(alice, up.Key))
			return err
		}},
		{"HEAD", "stat", func(ctx context.Context) error {
			_, err := s.Stat(ctx, blob.TemporaryName(alice, up.Key))
			return err
		}},
		{"HEAD", "check", s.Check},
		{"DELETE", "remove", func(ctx context.Context) error { return s.Remove(ctx, blob.TemporaryName(alice, up.Key)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			hang.Store(tt.method)
			defer hang.Store("")
			if err := tt.call(t.Context()); !errors.Is(err, blob.ErrTimeout) {
				t.Errorf("%v; want ErrTimeout", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := tt.call(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, blob.ErrTimeout) {
				t.Errorf("a caller who went: %v", err)
			}
		})
	}
	if got := server.Keys(); !slices.Equal(got, before) {
		t.Errorf("keys: %q, want %q", got, before)
	}
}

// A store that breaks connections, or has errors of its own for everything, is ErrAway, soon: a
// request is made so often and no more, and leaves nothing behind.
func TestS3IsAway(t *testing.T) {
	for name, fail := range map[string]func(w http.ResponseWriter){
		"broken connections": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"500":                func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"slow down": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
		},
		"forbidden": func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
	} {
		t.Run(name, func(t *testing.T) {
			server := blobtest.StartS3(t)
			config := s3Config(t, server)
			s := openS3(t, config)
			up, err := s.Upload(t.Context(), alice, strings.NewReader("there"), 100, "a/b")
			if err != nil {
				t.Fatal(err)
			}
			var asked atomic.Int64
			server.Fail = func(w http.ResponseWriter, r *http.Request) bool {
				asked.Add(1)
				io.Copy(io.Discard, r.Body)
				fail(w)
				return true
			}
			for what, call := range map[string]func() error{
				"upload": func() error {
					_, err := s.Upload(t.Context(), alice, strings.NewReader("late"), 100, "a/b")
					return err
				},
				"make permanent": func() error { return s.MakePermanent(t.Context(), alice, up.Key, up.CID) },
				"open": func() error {
					_, _, err := s.Open(t.Context(), blob.TemporaryName(alice, up.Key))
					return err
				},
				"stat": func() error {
					_, err := s.Stat(t.Context(), blob.TemporaryName(alice, up.Key))
					return err
				},
			} {
				asked.Store(0)
				if err := call(); !errors.Is(err, blob.ErrAway) || errors.Is(err, blob.ErrTimeout) {
					t.Errorf("%s: %v; want ErrAway", what, err)
				}
				// An upload is also removed; the client repeats what broke once by itself.
				if n := asked.Load(); n > 12 {
					t.Errorf("%s: the store was asked %d times", what, n)
				}
			}
			server.Fail = nil
			if keys := server.Keys(); len(keys) != 1 {
				t.Errorf("keys %q", keys)
			}
			if files, err := os.ReadDir(config.Spool); err != nil || len(files) != 0 {
				t.Errorf("in the spool: %v, %v", files, err)
			}
		})
	}
}

// However many upload to a store that hangs, so many wait for it; others are told soon. When it
// answers, all is well.
func TestS3Hangs(t *testing.T) {
	server := blobtest.StartS3(t)
	config := s3Config(t, server)
	config.Bounds = blob.Bounds{Sending: 5, Asking: 5, PerAccount: 1000}
	s := openS3(t, config)
	release := make(chan struct{})
	var waiting, most atomic.Int64
	server.Fail = func(_ http.ResponseWriter, r *http.Request) bool {
		n := waiting.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release
		waiting.Add(-1)
		return false
	}
	const uploads = 200
	outcomes := make(chan error, uploads)
	for range uploads {
		go func() {
			_, err := s.Upload(t.Context(), alice, strings.NewReader("there"), 100, "a/b")
			outcomes <- err
		}()
	}
	for n := range uploads - 5 {
		if err := <-outcomes; !errors.Is(err, blob.ErrBusy) {
			t.Fatalf("upload %d: %v; want ErrBusy", n, err)
		}
	}
	close(release)
	for range 5 {
		if err := <-outcomes; err != nil {
			t.Error(err)
		}
	}
	if n := most.Load(); n != 5 {
		t.Errorf("%d waited for the store, want 5", n)
	}
	if _, err := s.Upload(t.Context(), alice, strings.NewReader("there"), 100, "a/b"); err != nil {
		t.Error(err)
	}
}

// A store that stops in the middle of a blob is ErrTimeout, too.
func TestS3StopsInTheMiddle(t *testing.T) {
	t.Parallel()
	server := blobtest.StartS3(t)
	config := s3Config(t, server)
	config.RequestTimeout = 3 * time.Second // in which the beginning must come
	s := openS3(t, config)
	server.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Length", "1000")
		w.Header().Set("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
		w.Write([]byte("the beginning"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	r, f, err := s.Open(t.Context(), blob.TemporaryName(alice, strings.Repeat("a", 52)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if !errors.Is(err, blob.ErrTimeout) || string(got) != "the beginning" || f.Size != 1000 {
		t.Errorf("%q, %+v, %v", got, f, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// An upload in parts that fails leaves no parts, and nothing on disk.
func TestS3UploadInPartsFails(t *testing.T) {
	server := blobtest.StartS3(t)
	config := s3Config(t, server)
	s := openS3(t, config)
	server.Fail = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Query().Get("partNumber") != "2" {
			return false
		}
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
		return true
	}
	_, err := s.Upload(t.Context(), alice, io.LimitReader(zeroes{}, 40<<20), 64<<20, "a/b")
	if err == nil || errors.Is(err, blob.ErrBody) {
		t.Errorf("upload: %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells a secret: %v", err)
	}
	if server.UnderWay() != 0 || len(server.Keys()) != 0 {
		t.Errorf("%d uploads under way, keys %q", server.UnderWay(), server.Keys())
	}
	if left, err := os.ReadDir(config.Spool); err != nil || len(left) != 0 {
		t.Errorf("left on disk: %v, %v", left, err)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestS3Config(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config blob.S3Config
		want   string
	}{
		{"endpoint without scheme", blob.S3Config{Endpoint: "s3.example.com"}, `blob store: "s3.example.com" is no endpoint: give http:// or https:// and a host`},
		{"endpoint with a path", blob.S3Config{Endpoint: "https://s3.example.com/bucket"}, `blob store: "https://s3.example.com/bucket" is no endpoint: give http:// or https:// and a host`},
		{"no bucket", blob.S3Config{}, `blob store: bucket "": Bucket name cannot be empty`},
		{"a bucket that leads elsewhere", blob.S3Config{Bucket: "../b"}, `blob store: bucket "../b": Bucket name cannot contain path separators`},
		{"half a key", blob.S3Config{Bucket: "blobs", AccessKeyID: "a"}, "blob store: an access key's id and its secret belong together"},
		{"the other half", blob.S3Config{Bucket: "blobs", SecretAccessKey: "a"}, "blob store: an access key's id and its secret belong together"},
		{"Amazon's", blob.S3Config{Bucket: "blobs", Region: "eu-west-1"}, ""},
		{"another's", blob.S3Config{Bucket: "blobs", Endpoint: "https://s3.example.com/", AccessKeyID: "a", SecretAccessKey: "b"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if _, err := blob.OpenS3(tt.config); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	server := blobtest.StartS3(t)
	config := s3Config(t, server)
	if err := openS3(t, config).Check(t.Context()); err != nil {
		t.Error(err)
	}
	config.Bucket = "another"
	if err := openS3(t, config).Check(t.Context()); err == nil || err.Error() != "bucket another: no such bucket" {
		t.Errorf("check: %v", err)
	}
	if _, err := openS3(t, config).Upload(t.Context(), alice, strings.NewReader("x"), 1, "a/b"); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("upload without a bucket: %v", err)
	}
}

// A bucket that can be read may be one that nothing can be written to, or removed from.
func TestS3CheckWrites(t *testing.T) {
	server := blobtest.StartS3(t)
	store := openS3(t, s3Config(t, server))
	if err := store.CheckWrites(t.Context()); err != nil || len(server.Keys()) != 0 {
		t.Errorf("%v; %v is left", err, server.Keys())
	}
	for _, tt := range []struct{ method, want string }{
		{http.MethodPut, "write to bucket blobs: Access Denied."},
		{http.MethodDelete, "remove tmp/is-it-writable from bucket blobs: Access Denied."},
	} {
		server.Fail = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != tt.method {
				return false
			}
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
			return true
		}
		if err := store.CheckWrites(t.Context()); err == nil || err.Error() != tt.want {
			t.Errorf("%s refused: %v", tt.method, err)
		}
	}
	// What is left of a try is no blob's, and the next try takes it away.
	server.Fail = nil
	for f, err := range store.Files(t.Context(), "") {
		t.Errorf("a file %v %v", f, err)
	}
	if err := store.CheckWrites(t.Context()); err != nil || len(server.Keys()) != 0 {
		t.Errorf("%v; %v is left", err, server.Keys())
	}
}
