package password

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// ErrBusy says that too many hashes are being computed and waited for. The caller should try again later.
var ErrBusy = errors.New("too many passwords to hash")

// Config of a [Hasher]. The zero value of every field but Rand means its default.
type Config struct {
	Rand   io.Reader // source of salts
	Params Params    // cost of new hashes; default DefaultParams

	Concurrency int // hashes computed at a time; default the number of usable cores
	Memory      int // KiB that all running hashes may take together; default Concurrency hashes of the greatest usual cost
	Queue       int // callers that may wait for their turn; default 32 for each that is served
}

// Hasher computes hashes, a limited number at a time. Callers beyond it wait in order of arrival until their context ends;
// callers beyond the queue get [ErrBusy]. It may be used concurrently.
//
// Each hash takes its memory afresh (the libraries offer no reuse), which the garbage collector frees at its own
// pace: count on twice to three times Memory in the process. With the default cost and two at a time, 64 simultaneous
// logins were measured at 85 MB in all.
type Hasher struct {
	random io.Reader
	params Params
	decoy  argonHash

	// memory is handed out in shares of at least 1/Concurrency, so it limits both.
	memory   *semaphore.Weighted
	total    int64
	share    int64
	places   int64
	occupied atomic.Int64
}

// NewHasher returns a Hasher. Memory smaller than one hash is raised to one hash.
func NewHasher(c Config) *Hasher {
	c.Params = cmp.Or(c.Params, DefaultParams)
	if c.Concurrency <= 0 {
		c.Concurrency = runtime.GOMAXPROCS(0)
	}
	each := int(max(c.Params.Memory, scryptMemory))
	if c.Memory <= 0 {
		c.Memory = c.Concurrency * each
	}
	c.Memory = max(c.Memory, each)
	c.Concurrency = min(c.Concurrency, c.Memory/each)
	if c.Queue <= 0 {
		c.Queue = 32 * c.Concurrency
	}
	return &Hasher{
		random: c.Rand,
		params: c.Params,
		decoy:  decoy(c.Params),
		memory: semaphore.NewWeighted(int64(c.Memory)),
		total:  int64(c.Memory),
		share:  int64(c.Memory / c.Concurrency),
		places: int64(c.Concurrency + c.Queue),
	}
}

// run calls f when there is room for its memory.
func (h *Hasher) run(ctx context.Context, cost uint32, f func()) error {
	defer h.occupied.Add(-1)
	if h.occupied.Add(1) > h.places {
		return ErrBusy
	}
	// A hash dearer than the whole budget, made under other settings, still verifies: alone.
	weight := min(max(int64(cost), h.share), h.total)
	if err := h.memory.Acquire(ctx, weight); err != nil {
		return fmt.Errorf("wait to hash a password: %w", err)
	}
	defer h.memory.Release(weight)
	f()
	return nil
}

// Hash returns a new hash of password in its stored form. It returns ErrBusy, the context's error, or the error of Rand.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	var a argonHash
	var failed error
	err := h.run(ctx, h.params.Memory, func() { a, failed = newArgonHash(h.random, h.params, password) })
	if err := cmp.Or(err, failed); err != nil {
		return "", err
	}
	return a.String(), nil
}

// Verify reports whether password is the one that stored was made from. An account without a password has the empty
// stored form, which no password matches, after as much work as any. It returns ErrBusy, the context's error or ErrFormat.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (bool, error) {
	if stored == "" {
		return false, h.VerifyNothing(ctx, password)
	}
	known, err := parse(stored)
	if err != nil {
		return false, err
	}
	var ok bool
	err = h.run(ctx, known.cost(), func() { ok = known.matches(password) })
	return ok, err
}

// VerifyNothing does the work of Verify for an account that does not exist, so that the time of the answer does not tell
// which accounts do. It returns ErrBusy or the context's error, as Verify would.
func (h *Hasher) VerifyNothing(ctx context.Context, password string) error {
	return h.run(ctx, h.decoy.cost(), func() { h.decoy.matches(password) })
}

// NeedsRehash reports whether stored should be replaced, now that the password is known, because it is of an older kind or
// another cost than Hash would give it.
func (h *Hasher) NeedsRehash(stored string) bool {
	a, ok := parseArgonHash(stored)
	return !ok || a.params != h.params || len(a.salt) != saltBytes || len(a.key) != keyBytes
}

// ImportedAppHash returns the form in which the reference stores an app password of an account. It is the same each time,
// so imported app passwords are looked up by it. It returns ErrBusy or the context's error.
func (h *Hasher) ImportedAppHash(ctx context.Context, did, text string) (string, error) {
	var s scryptHash
	if err := h.run(ctx, scryptMemory, func() { s = newScryptHash(importedAppSalt(did), text) }); err != nil {
		return "", err
	}
	return s.String(), nil
}
