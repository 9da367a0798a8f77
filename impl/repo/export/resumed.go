package export

import (
	"errors"
	"hash/maphash"
	"io"
)

// errChanged says that an archive could not be gone on with: it was made again, of another
// state.
var errChanged = errors.New("the repository has changed while it was read")

// resumed is the writer of an archive that may be made twice, when the database that it was
// made from has gone: of the second one it writes what the first had not come to.
type resumed struct {
	to      io.Writer
	written int64
	sum     maphash.Hash // of what was written
	left    int64        // of this, to come again
	again   maphash.Hash // of what has come again
}

// begin says that the archive begins.
func (w *resumed) begin() {
	w.left = w.written
	w.again.SetSeed(w.sum.Seed())
}

func (w *resumed) Write(p []byte) (int, error) {
	known := int(min(w.left, int64(len(p))))
	if known > 0 {
		w.again.Write(p[:known])
		if w.left -= int64(known); w.left == 0 && w.again.Sum64() != w.sum.Sum64() {
			return 0, errChanged
		}
	}
	n, err := w.to.Write(p[known:])
	w.written += int64(n)
	w.sum.Write(p[known : known+n])
	return known + n, err
}
