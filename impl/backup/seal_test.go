package backup

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func testKey(t testing.TB, b byte) *Key {
	t.Helper()
	k, err := NewKey(bytes.Repeat([]byte{b}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealed(t testing.TB, k *Key, place string, plain []byte, step int) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := k.seal(&out, place)
	if err != nil {
		t.Fatal(err)
	}
	for rest := plain; len(rest) > 0; {
		n := min(step, len(rest))
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(k *Key, place string, r io.Reader) ([]byte, error) {
	o, err := k.open(r, place)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(o)
}

func TestSealSizes(t *testing.T) {
	k := testKey(t, 'k')
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 2 * chunkSize, 3*chunkSize + 7} {
		plain := make([]byte, size)
		rand.Read(plain)
		for _, step := range []int{1000, chunkSize, 5 * chunkSize} {
			text := sealed(t, k, "here", plain, step)
			for name, r := range map[string]io.Reader{
				"at once": bytes.NewReader(text), "in halves": iotest.HalfReader(bytes.NewReader(text)), "with the end": iotest.DataErrReader(bytes.NewReader(text)),
			} {
				if got, err := open(k, "here", r); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes by %d, %s: %d bytes, %v", size, step, name, len(got), err)
				}
			}
			chunks := max(1, (size+chunkSize-1)/chunkSize)
			if len(text) != headSize+size+16*chunks {
				t.Errorf("%d bytes become %d", size, len(text))
			}
		}
	}
}

// Nothing that was changed, cut off, put together anew, or sealed for elsewhere is opened.
func TestSealRefuses(t *testing.T) {
	k := testKey(t, 'k')
	plain := make([]byte, 3*chunkSize)
	rand.Read(plain)
	text := sealed(t, k, "here", plain, chunkSize)
	chunk := func(i int) []byte { return text[headSize+i*(chunkSize+16) : headSize+(i+1)*(chunkSize+16)] }
	head := text[:headSize]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	changed := bytes.Clone(text)
	changed[headSize+5] ^= 1
	salt := bytes.Clone(text)
	salt[headSize-1] ^= 1
	empty := sealed(t, k, "here", nil, 1)
	for name, text := range map[string][]byte{
		"nothing": nil, "half a head": text[:headSize/2], "a head alone": head, "a byte less": text[:len(text)-1], "a byte more": append(bytes.Clone(text), 0),
		"a byte changed": changed, "another salt": salt, "a chunk less": text[:len(text)-chunkSize-16], "not sealed": plain,
		"first chunk left out": join(head, chunk(1), chunk(2)), "chunks turned round": join(head, chunk(1), chunk(0), chunk(2)),
		"a chunk twice": join(head, chunk(0), chunk(0), chunk(1), chunk(2)), "the end of another": join(text, empty[headSize:]),
	} {
		got, err := open(k, "here", bytes.NewReader(text))
		if !errors.Is(err, ErrDamaged) || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for name, of := range map[string]struct {
		key   *Key
		place string
	}{"another key": {testKey(t, 'x'), "here"}, "another place": {k, "there"}} {
		if got, err := open(of.key, of.place, bytes.NewReader(text)); !errors.Is(err, ErrDamaged) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if bytes.Equal(sealed(t, k, "here", plain, chunkSize)[headSize:], text[headSize:]) {
		t.Error("the same bytes are sealed alike")
	}
	if got, err := open(k, "here", io.MultiReader(bytes.NewReader(text[:headSize+100]), iotest.ErrReader(io.ErrClosedPipe))); !errors.Is(err, io.ErrClosedPipe) || len(got) > 0 {
		t.Errorf("a reader that fails: %d bytes, %v", len(got), err)
	}
	if _, err := NewKey(make([]byte, 31)); !errors.Is(err, ErrKey) {
		t.Errorf("a short key: %v", err)
	}
}

// Whatever is opened was sealed.
func FuzzOpen(f *testing.F) {
	k := testKey(f, 'k')
	f.Add([]byte("hello"), 3, byte(1), 0)
	f.Add(make([]byte, chunkSize+1), headSize+chunkSize, byte(0x80), 7)
	f.Fuzz(func(t *testing.T, plain []byte, at int, flip byte, cut int) {
		text := sealed(t, k, "here", plain, 1000)
		changed := bytes.Clone(text)
		if at >= 0 && at < len(changed) {
			changed[at] ^= flip
		}
		if cut > 0 && cut < len(changed) {
			changed = changed[:len(changed)-cut]
		}
		got, err := open(k, "here", bytes.NewReader(changed))
		if bytes.Equal(text, changed) != (err == nil) || !bytes.HasPrefix(plain, got) {
			t.Errorf("%d bytes of %d, %v", len(got), len(plain), err)
		}
		if _, err := open(k, "here", bytes.NewReader(plain)); err == nil {
			t.Error("what was not sealed is opened")
		}
	})
}

// Whatever a manifest says, what is read of it has the names of this package alone, and
// says so again.
func FuzzManifest(f *testing.F) {
	const name = "20260131T040000Z-aaaaaaaaaa"
	m := Manifest{Format: format, Version: version, Snapshot: name, Engine: "sqlite", Parts: []Part{
		{Name: Database, Size: 3, Stored: 3, SHA256: string(bytes.Repeat([]byte("00"), 32))}, {Name: Blobs, SHA256: string(bytes.Repeat([]byte("00"), 32))},
	}}
	text, err := m.encode(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"manifest":{"parts":[{"name":"../x"}]}}`))
	k := testKey(f, 'k')
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := decode(text, name, k); err == nil {
			t.Error("it is taken without a signature")
		}
		m, err := decode(text, name, nil)
		if err != nil {
			return
		}
		for _, p := range m.Parts {
			if err := checkName(partPath(m.Snapshot, p.Name)); err != nil || p.Size < 0 || p.Stored < 0 {
				t.Errorf("%+v: %v", p, err)
			}
		}
		again, err := m.encode(k)
		if err == nil {
			_, err = decode(again, name, k)
		}
		if err != nil {
			t.Errorf("written and read again: %v", err)
		}
	})
}

// Lines of the list of blobs, too.
func FuzzLine(f *testing.F) {
	f.Add("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa bafkreihjs6x5dds7npqaj7azhlwszebjdzukwldvtgtckogjgw37zjvlb4 10 -")
	f.Add("did:web:.. ../../etc/passwd 10 taken-down")
	f.Fuzz(func(t *testing.T, line string) {
		r, err := parseLine(line)
		if err != nil {
			return
		}
		if err := checkName(blobPath(r.DID, r.CID)); err != nil || r.Size < 0 {
			t.Errorf("%q: %v", line, err)
		}
		if again, err := parseLine(r.line()[:len(r.line())-1]); err != nil || again != r {
			t.Errorf("%q: %v, %v", line, again, err)
		}
	})
}

func TestKeep(t *testing.T) {
	names := func(times ...string) (all []string) {
		for _, at := range times {
			all = append(all, at+"0000Z-aaaaaaaaaa")
		}
		return all
	}
	for _, tt := range []struct {
		name string
		keep Keep
		have []string
		want []string
	}{
		{"all", Keep{}, names("20260101T01", "20260101T02"), names("20260101T01", "20260101T02")},
		{"the latest always", Keep{Weeks: 0, Hours: 1}, names("20260101T01", "20260101T02"), names("20260101T02")},
		{"hours that have one", Keep{Hours: 2}, names("20260101T01", "20260101T05", "20260103T02"), names("20260101T05", "20260103T02")},
		{"days", Keep{Days: 2}, names("20260101T01", "20260101T05", "20260103T02", "20260103T04"), names("20260101T05", "20260103T04")},
		{"weeks over a year's end", Keep{Weeks: 2}, names("20251228T01", "20251229T05", "20260101T02", "20260104T04"), names("20251228T01", "20260104T04")},
		{"together", Keep{Hours: 1, Days: 2, Weeks: 3}, names("20251214T00", "20251221T00", "20251228T00", "20260103T05", "20260104T04", "20260104T05"), names("20251221T00", "20251228T00", "20260103T05", "20260104T05")},
		{"none there", Keep{Days: 1}, nil, nil},
	} {
		kept := tt.keep.kept(tt.have)
		var got []string
		for _, name := range tt.have {
			if kept[name] {
				got = append(got, name)
			}
		}
		if len(got) != len(tt.want) || len(kept) != len(got) {
			t.Errorf("%s: %v", tt.name, got)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
			}
		}
	}
	if n := newName(time.Date(2026, 1, 31, 4, 0, 0, 0, time.FixedZone("", 3600))); !snapshotName.MatchString(n) || n[:16] != "20260131T030000Z" {
		t.Errorf("name %s", n)
	}
}
