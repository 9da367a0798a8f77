package blob_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
)

// What a backup takes is there under the same names, whatever becomes of the first store.
func TestTake(t *testing.T) {
	for name, links := range map[string]bool{"links": true, "copies": false} {
		t.Run(name, func(t *testing.T) {
			from, _ := openDisk(t, blob.Bounds{})
			to, root := openDisk(t, blob.Bounds{})
			to.OnStep(func(step, path string) error {
				if step == "link" && !links {
					return &os.LinkError{Op: "link", New: path, Err: syscall.EXDEV}
				}
				return nil
			})
			check := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			want := func(text string) blob.Want {
				return blob.Want{CID: dagcbor.Sum(dagcbor.CodecRaw, []byte(text)), Size: int64(len(text))}
			}
			put := func(text string) blob.Want {
				w := want(text)
				check(from.Put(t.Context(), alice, w.CID, strings.NewReader(text), w.Size))
				return w
			}
			path := func(d *blob.Disk, n blob.Name) string {
				p, err := d.Path(n)
				check(err)
				return p
			}
			kept, hidden, short := put("kept"), put("taken down"), put("cut short")
			check(from.Quarantine(t.Context(), alice, hidden.CID))
			check(os.Truncate(path(from, blob.PermanentName(alice, short.CID)), 3))
			up, err := from.Upload(t.Context(), alice, strings.NewReader("temporary"), 100, "a/b")
			check(err)
			temporary := blob.Want{CID: up.CID, Size: up.Size, Key: up.Key}
			up, err = from.Upload(t.Context(), alice, strings.NewReader("made permanent"), 100, "a/b")
			check(err)
			check(from.MakePermanent(t.Context(), alice, up.Key, up.CID))
			check(from.Remove(t.Context(), blob.TemporaryName(alice, up.Key)))
			late := blob.Want{CID: up.CID, Size: up.Size, Key: up.Key}

			for range 2 { // the second time all is there
				missing, err := to.Take(t.Context(), from, alice, []blob.Want{kept, want("never here"), hidden, temporary, short, late})
				check(err)
				if diff := cmp.Diff([]blob.Want{want("never here"), short}, missing); diff != "" {
					t.Error(diff)
				}
			}
			one, err := os.Stat(path(from, blob.PermanentName(alice, kept.CID)))
			check(err)
			two, err := os.Stat(path(to, blob.PermanentName(alice, kept.CID)))
			check(err)
			if os.SameFile(one, two) != links {
				t.Errorf("one file: %v", !links)
			}
			check(from.RemoveAccount(t.Context(), alice))
			for n, text := range map[blob.Name]string{
				blob.PermanentName(alice, kept.CID): "kept", blob.QuarantineName(alice, hidden.CID): "taken down",
				blob.TemporaryName(alice, temporary.Key): "temporary", blob.PermanentName(alice, late.CID): "made permanent",
			} {
				r, _, err := to.Open(t.Context(), n)
				check(err)
				got, err := io.ReadAll(r)
				check(errors.Join(err, r.Close()))
				if !bytes.Equal(got, []byte(text)) {
					t.Errorf("%s is %q", n, got)
				}
			}
			if left, err := os.ReadDir(root + "/partial/" + alice.String()); len(left) > 0 {
				t.Errorf("left over: %v, %v", left, err)
			}
			if _, err := to.Take(t.Context(), from, "did:../..", nil); !errors.Is(err, blob.ErrName) {
				t.Errorf("of a DID that is none: %v", err)
			}
		})
	}
}
