package password

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// ErrBusy says that more hashes are waited for than there are places, and that the caller is not one of those whose turn
// comes: others want fewer of them. It should try again in some seconds.
var ErrBusy = errors.New("too many passwords to hash")

// Config of a [Hasher]. The zero value of every field but Rand means its default.
type Config struct {
	Rand   io.Reader // source of salts
	Params Params    // cost of new hashes; default DefaultParams

	Concurrency int // hashes computed at a time; default the number of usable cores
	Memory      int // KiB that all running hashes may take together; default and at most Concurrency hashes of the greatest usual cost
	Queue       int // callers that may wait for their turn; default 32 for each that is served
}

// Hasher computes hashes, a limited number at a time. Callers beyond it wait until their context ends, and are served in
// turn by where they are (see [Caller]), so that many from one place hold up nobody elsewhere. When the queue is full, the
// youngest of the place that wants the most get [ErrBusy]. It may be used concurrently.
//
// Hashes are computed in areas of memory outside of Go's heap, so that the garbage collector
// has nothing to do with them: one for each that runs, made when it is needed, kept for the next
// ones, and given back to the system when none has needed it for a minute. What an area
// keeps until then would make guesses at the last password cheap for who can read the memory
// of the process; it is not wiped, which takes a tenth of the time of a hash, because
// such a reader finds passwords of the last requests there in clear.
type Hasher struct {
	random io.Reader
	params Params
	decoy  argonHash

	// Memory is handed out in shares of at least 1/Concurrency, so it limits both.
	total, share int64

	mu      sync.Mutex
	free    int64
	queue   queue
	running int
	done    int64
	refused int64

	areas *areas
}

// NewHasher returns a Hasher. Memory smaller than one hash is raised to one hash.
func NewHasher(c Config) *Hasher {
	c.Params = cmp.Or(c.Params, DefaultParams)
	if c.Concurrency <= 0 {
		c.Concurrency = runtime.GOMAXPROCS(0)
	}
	each := int(max(c.Params.area(), scryptMemory))
	if most := c.Concurrency * each; c.Memory <= 0 || c.Memory > most {
		c.Memory = most
	}
	c.Memory = max(c.Memory, each)
	c.Concurrency = min(c.Concurrency, c.Memory/each)
	if c.Queue <= 0 {
		c.Queue = queueEach * c.Concurrency
	}
	return &Hasher{
		random: c.Rand,
		params: c.Params,
		decoy:  decoy(c.Params),
		total:  int64(c.Memory),
		share:  int64(c.Memory / c.Concurrency),
		free:   int64(c.Memory),
		queue:  newQueue(c.Queue),
		areas:  newAreas(each, mapMemory, unmapMemory),
	}
}

// Memory is how many bytes the areas of running hashes and those that are kept take at most.
// A stored hash that is dearer than all of it takes what it says, for as long as it is computed.
func (h *Hasher) Memory() int64 { return h.total << 10 }

// Load is how much a [Hasher] has to do.
type Load struct {
	Running, Waiting int   // callers, now
	Done, Refused    int64 // callers that have had their turn, and that got ErrBusy
}

// Load returns it.
func (h *Hasher) Load() Load {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Load{h.running, len(h.queue.known.waiters) + len(h.queue.unknown.waiters), h.done, h.refused}
}

// run calls f, with an area of at least cost KiB, when it is the caller's turn and there is
// room for that.
func (h *Hasher) run(ctx context.Context, who Caller, cost uint32, f func(area)) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait to hash a password: %w", err)
	}
	// A hash dearer than the whole budget, made under other settings, still verifies: alone.
	w := &waiter{Caller: who, weight: min(max(int64(cost), h.share), h.total), turn: make(chan error, 1)}
	h.mu.Lock()
	if lost := h.queue.add(w); lost != nil {
		h.refused++
		lost.turn <- ErrBusy
	}
	h.deal()
	h.mu.Unlock()
	var err error
	select {
	case err = <-w.turn:
	case <-ctx.Done():
		h.mu.Lock()
		waited := h.queue.remove(w)
		h.mu.Unlock()
		if waited {
			return fmt.Errorf("wait to hash a password: %w", ctx.Err())
		}
		err = <-w.turn // it came just now
	}
	if err != nil {
		return err
	}
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.free += w.weight
		h.running--
		h.done++
		h.deal()
	}()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait to hash a password: %w", err)
	}
	a, err := h.areas.take(int(cost))
	if err != nil {
		return err
	}
	defer h.areas.give(a)
	f(a)
	return nil
}

// deal gives turns while there is memory for the next one.
func (h *Hasher) deal() {
	for {
		w := h.queue.next()
		if w == nil || w.weight > h.free {
			return
		}
		h.queue.take(w)
		h.free -= w.weight
		h.running++
		w.turn <- nil
	}
}

// Hash returns a new hash of password in its stored form. It returns ErrBusy, the context's error, or the error of Rand.
func (h *Hasher) Hash(ctx context.Context, who Caller, password string) (string, error) {
	var made argonHash
	var failed error
	err := h.run(ctx, who, h.params.area(), func(a area) { made, failed = newArgonHash(a, h.random, h.params, password) })
	if err := cmp.Or(err, failed); err != nil {
		return "", err
	}
	return made.String(), nil
}

// Verify reports whether password is the one that stored was made from. An account without a password has the empty
// stored form, which no password matches, after as much work as any. It returns ErrBusy, the context's error or ErrFormat.
func (h *Hasher) Verify(ctx context.Context, who Caller, stored, password string) (bool, error) {
	if stored == "" {
		return false, h.VerifyNothing(ctx, who, password)
	}
	known, err := parse(stored)
	if err != nil {
		return false, err
	}
	var ok bool
	err = h.run(ctx, who, known.cost(), func(a area) { ok = known.matches(a, password) })
	return ok, err
}

// VerifyNothing does the work of Verify for an account that does not exist, so that the time of the answer does not tell
// which accounts do. It returns ErrBusy or the context's error, as Verify would.
func (h *Hasher) VerifyNothing(ctx context.Context, who Caller, password string) error {
	return h.run(ctx, who, h.decoy.cost(), func(a area) { h.decoy.matches(a, password) })
}

// NeedsRehash reports whether stored should be replaced, now that the password is known, because it is of an older kind or
// another cost than Hash would give it.
func (h *Hasher) NeedsRehash(stored string) bool {
	a, ok := parseArgonHash(stored)
	return !ok || a.params != h.params || len(a.salt) != saltBytes || len(a.key) != keyBytes
}

// Dearer reports whether it costs more to verify stored than what Hash makes: more memory, or more time. Scrypt hashes, which
// all cost the same, do not count as such. The error is ErrFormat.
func (h *Hasher) Dearer(stored string) (bool, error) {
	known, err := parse(stored)
	if err != nil {
		return false, err
	}
	a, ok := known.(argonHash)
	return ok && (a.cost() > h.params.area() || a.params.work() > h.params.work()), nil
}

// ImportedAppHash returns the form in which the reference stores an app password of an account. It is the same each time,
// so imported app passwords are looked up by it. It returns ErrBusy or the context's error.
func (h *Hasher) ImportedAppHash(ctx context.Context, who Caller, did, text string) (string, error) {
	var s scryptHash
	if err := h.run(ctx, who, scryptMemory, func(a area) { s = newScryptHash(a, importedAppSalt(did), text) }); err != nil {
		return "", err
	}
	return s.String(), nil
}
