package blob_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/blob"
)

// cpu is how much of the processor this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The life of a blob of 100 kB on disk; cpu-ms/op is what counts, for the rest is the
// disk's waiting.
func BenchmarkDisk(b *testing.B) {
	body := make([]byte, 100<<10)
	rand.Read(body)
	for _, of := range []string{"upload", "upload and make permanent", "open and read"} {
		b.Run(of, func(b *testing.B) {
			d, _ := openDisk(b, blob.Bounds{})
			up, err := d.Upload(b.Context(), alice, bytes.NewReader(body), 1<<20, "a/b")
			if err == nil {
				err = d.MakePermanent(b.Context(), alice, up.Key, up.CID)
			}
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			start := cpu(b)
			for b.Loop() {
				if of == "open and read" {
					r, _, err := d.Open(b.Context(), blob.PermanentName(alice, up.CID))
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, r)
					r.Close()
					continue
				}
				up, err := d.Upload(b.Context(), alice, bytes.NewReader(body), 1<<20, "a/b")
				if err == nil && of != "upload" {
					err = d.MakePermanent(b.Context(), alice, up.Key, up.CID)
				}
				if err == nil {
					err = d.Remove(b.Context(), blob.TemporaryName(alice, up.Key))
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// A blob is never in memory whole: what an upload allocates does not grow with it.
func TestDiskUploadIsNotInMemory(t *testing.T) {
	d, _ := openDisk(t, blob.Bounds{})
	const size = 64 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	up, err := d.Upload(t.Context(), alice, io.LimitReader(zeroes{}, size), size, "a/b")
	if err == nil {
		err = d.Put(t.Context(), alice, up.CID, io.LimitReader(zeroes{}, size), size)
	}
	runtime.ReadMemStats(&after)
	if err != nil || up.Size != size {
		t.Fatalf("%+v, %v", up, err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated for a blob of %d, twice", used, size)
	}
}

// Whatever a name is, the file it leads to is in the folder of its area and account.
func FuzzName(f *testing.F) {
	f.Add(byte(0), alice.String(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")
	f.Add(byte(1), alice.String(), strings.Repeat("a", 52))
	f.Add(byte(1), "../"+alice.String(), strings.Repeat("a", 52))
	f.Add(byte(3), "did:web:a", "../../../etc/passwd")
	f.Add(byte(2), "did:plc:..", "..")
	d, err := blob.OpenDisk(f.TempDir(), "", blob.Bounds{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, area byte, did, key string) {
		name := blob.Name{Area: blob.Area(area % 4), DID: syntax.DID(did), Key: key}
		path, err := d.Path(name)
		if err != nil {
			return
		}
		if want := d.Dir(name.Area) + "/" + did + "/" + key; path != want || strings.Count(did+key, "/") > 0 || did == ".." || key == ".." {
			t.Errorf("%q: %q, want %q", name, path, want)
		}
	})
}
