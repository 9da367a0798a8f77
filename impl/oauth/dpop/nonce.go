package dpop

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// period is how long a nonce is the one to hand out.
const period = time.Minute

// Nonces are what this server gives clients to put into proofs: all clients the same, another
// every minute, each good for two to three minutes. It is safe for concurrent use.
//
// What is signed with a nonce was signed after somebody asked this server for it. So a process
// that forgets which proofs were used when it ends has to have nonces of its own: a secret that
// is new each time, or made from one with something that is.
type Nonces struct {
	secret []byte
	now    func() time.Time
	last   atomic.Pointer[nonces]
}

// nonces are those of a moment.
type nonces struct {
	count int64 // minutes since 1970
	good  [3]string
}

// NewNonces makes them of a secret: with the same one every process takes those of the others.
func NewNonces(secret []byte, now func() time.Time) *Nonces {
	return &Nonces{secret: append([]byte(nil), secret...), now: now}
}

// Next is the one to hand out now.
func (n *Nonces) Next() string { return n.current().good[2] }

// Good says whether one may still be used.
func (n *Nonces) Good(nonce string) bool {
	_, good := n.until(nonce)
	return good
}

// until also says when a nonce ends to be good, a while later for the sake of other processes
// whose clocks are behind.
func (n *Nonces) until(nonce string) (time.Time, bool) {
	c := n.current()
	for i, good := range c.good {
		if nonce == good {
			// The one before the current is good until this minute ends.
			return time.Unix((c.count+int64(i)+1)*int64(period/time.Second), 0).Add(skew), true
		}
	}
	return time.Time{}, false
}

// skew is how far the clocks of processes may be apart.
const skew = 30 * time.Second

func (n *Nonces) current() *nonces {
	count := n.now().Unix() / int64(period/time.Second)
	if c := n.last.Load(); c != nil && c.count == count {
		return c
	}
	c := &nonces{count: count}
	for i := range c.good {
		c.good[i] = n.of(count - 1 + int64(i))
	}
	n.last.Store(c)
	return c
}

func (n *Nonces) of(count int64) string {
	h := hmac.New(sha256.New, n.secret)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(count)))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
