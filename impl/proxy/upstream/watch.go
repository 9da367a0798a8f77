package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

var (
	errLate     = errors.New("no header in time")
	errSilent   = errors.New("silent for too long")
	errTooLarge = errors.New("body is too large")
	errEnded    = errors.New("the request has ended")
)

// A watch ends a request whose host keeps us waiting. The time that we keep it waiting
// does not count.
type watch struct {
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	timer  *time.Timer
	within time.Duration
	why    error // what the request is ended for when the timer fires
}

// newWatch ends the request of cancel with errLate when it was not told of a header
// within that time.
func newWatch(cancel context.CancelCauseFunc, within time.Duration) *watch {
	w := &watch{cancel: cancel, within: within, why: errLate}
	w.timer = time.AfterFunc(within, w.fire)
	return w
}

func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel(w.why)
}

// header says that the header is there: from now on only silence counts, between start
// and stop.
func (w *watch) header(within time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
	w.within, w.why = within, errSilent
}

// start gives the host its time anew, and stop holds the clock. Those of why count.
func (w *watch) start(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == why {
		w.timer.Reset(w.within)
	}
}

func (w *watch) stop(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == why {
		w.timer.Stop()
	}
}

// An upload is the body of a client's request, as the transport reads it. While the
// client is slow the host is not late; what the client sent it has to take.
type upload struct {
	watch *watch
	turn  chan struct{} // has one while somebody uses the rest
	body  io.Reader
	err   error // of the body, other than io.EOF
	over  bool
}

func (u *upload) Read(p []byte) (int, error) {
	u.turn <- struct{}{}
	defer func() { <-u.turn }()
	if u.over {
		return 0, errEnded
	}
	u.watch.stop(errLate)
	defer u.watch.start(errLate)
	n, err := u.body.Read(p)
	if err != nil && err != io.EOF {
		u.err = err
	}
	return n, err
}

// Close is for the transport. The body is the caller's.
func (u *upload) Close() error { return nil }

// end waits until nobody reads the client's body any more: the transport does so in the
// background, where a host answers before it has read all, and a server may not be read
// from when it has answered. It returns what reading failed with.
func (u *upload) end() error {
	if u == nil {
		return nil
	}
	u.turn <- struct{}{}
	defer func() { <-u.turn }()
	u.over = true
	return u.err
}

// A download is the body of an answer, within its bounds.
type download struct {
	body   io.ReadCloser
	left   int64
	watch  *watch
	ctx    context.Context // of this request, for what ended it
	upload *upload
	err    error
}

func (d *download) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if int64(len(p)) > d.left+1 {
		p = p[:d.left+1]
	}
	d.watch.start(errSilent)
	n, err := d.body.Read(p)
	d.watch.stop(errSilent)
	if d.left -= int64(n); d.left < 0 {
		n, err = n-1, errTooLarge
	}
	switch {
	case err == io.EOF:
		d.err = err
	case err != nil:
		if cause := context.Cause(d.ctx); cause != nil {
			err = cause
		}
		d.err = fmt.Errorf("read answer of upstream service: %w", err)
	}
	return n, d.err
}

func (d *download) Close() error {
	d.watch.stop(errSilent)
	err := d.body.Close()
	d.watch.cancel(errEnded)
	d.upload.end()
	return err
}
