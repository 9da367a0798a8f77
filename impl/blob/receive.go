package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// A hasher makes the CID of what is written to it.
type hasher struct{ hash.Hash }

func newHash() hasher { return hasher{sha256.New()} }

func (h hasher) cid() dagcbor.CID {
	c := dagcbor.CID{0x01, dagcbor.CodecRaw, 0x12, sha256.Size}
	h.Sum(c[:4])
	return c
}

var buffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// receive writes r to w while it hashes and counts it, and keeps its first bytes for
// the look at its type. More than limit bytes are ErrTooLarge, errors of r ErrBody.
func receive(ctx context.Context, w io.Writer, r io.Reader, limit int64) (cid dagcbor.CID, size int64, head []byte, err error) {
	buf := buffers.Get().(*[64 << 10]byte)
	defer buffers.Put(buf)
	h := newHash()
	for {
		if err := ctx.Err(); err != nil {
			return cid, size, nil, err
		}
		n, rerr := r.Read(buf[:])
		if n > 0 {
			if size += int64(n); size > limit {
				return cid, size, nil, ErrTooLarge
			}
			if room := headSize - len(head); room > 0 {
				head = append(head, buf[:min(n, room)]...)
			}
			h.Write(buf[:n])
			if _, err := w.Write(buf[:n]); err != nil {
				return cid, size, nil, full(err)
			}
		}
		if rerr == io.EOF {
			return h.cid(), size, head, nil
		}
		if rerr != nil {
			return cid, size, nil, fmt.Errorf("%w: %w", ErrBody, rerr)
		}
	}
}

// full makes an error of a full disk ErrFull, which also is what it was.
func full(err error) error {
	if !errors.Is(err, ErrFull) && (errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// Bounds limit what uploads under way take: files that nobody has asked to keep yet.
// What they hold is given back when an upload ends, however it ends.
type Bounds struct {
	// Bytes of all uploads under way together; 0 is 1 GiB. One upload alone may
	// always be as large as its limit.
	Bytes int64
	// PerAccount is how many uploads of one account may be under way; 0 is 16.
	PerAccount int
	// Sending is how many may be on their way to an S3 store; 0 is 64. Asking is how many other
	// requests may wait for it to answer; 0 is 256. Those beyond wait a second: then ErrBusy.
	Sending, Asking int
}

// places are for those who wait for an S3 store, so that one that hangs holds no more than
// so many, and others are told at once.
type places chan struct{}

// placeWait is how long a place is waited for.
const placeWait = time.Second

// take waits for a place, which the caller gives back with leave: ErrBusy.
func (p places) take(ctx context.Context) error {
	select {
	case p <- struct{}{}:
		return nil
	default:
	}
	t := time.NewTimer(placeWait)
	defer t.Stop()
	select {
	case p <- struct{}{}:
		return nil
	case <-t.C:
		return fmt.Errorf("%w: the store does not answer %d others", ErrBusy, cap(p))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p places) leave() { <-p }

// underWay counts uploads under way. Its zero value is ready for use.
type underWay struct {
	mu       sync.Mutex
	all      int
	bytes    int64
	accounts map[syntax.DID]int
}

// start lets an upload of did begin, or not: ErrBusy. The caller calls done.
func (u *underWay) start(did syntax.DID, b Bounds) (*share, error) {
	most := b.PerAccount
	if most == 0 {
		most = 16
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.accounts[did] >= most {
		return nil, ErrBusy
	}
	if u.accounts == nil {
		u.accounts = make(map[syntax.DID]int)
	}
	u.accounts[did]++
	u.all++
	return &share{of: u, did: did, most: max(b.Bytes, 0)}, nil
}

// A share is what one upload takes of what all may.
type share struct {
	of    *underWay
	did   syntax.DID
	most  int64
	bytes int64
}

// Write takes what was written into account.
func (s *share) Write(p []byte) (int, error) {
	most := s.most
	if most == 0 {
		most = 1 << 30
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.bytes+int64(len(p)) > most && s.of.all > 1 {
		return 0, ErrBusy
	}
	s.of.bytes += int64(len(p))
	s.bytes += int64(len(p))
	return len(p), nil
}

func (s *share) done() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.all--
	s.of.bytes -= s.bytes
	if s.of.accounts[s.did]--; s.of.accounts[s.did] == 0 {
		delete(s.of.accounts, s.did)
	}
}
