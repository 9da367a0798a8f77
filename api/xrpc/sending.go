package xrpc

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"sync"
)

// NewBody returns a body for a client to send: what r has from where it stands, which is
// read as it goes out and never held. The client closes r if it can be closed. Its size is
// told to the host if r is a file, a buffer or any other reader that knows it.
//
// A client that has to call again, because a session was refreshed or the host was busy (see
// [Retry]), rewinds r: so it has to be an [io.Seeker], as files and [bytes.Reader] are.
// Without, such a call fails with what the host answered.
func NewBody(r io.Reader, contentType string) *Body {
	b := &Body{ContentType: contentType, Size: sizeOf(r)}
	switch v := r.(type) {
	case io.ReadCloser:
		b.ReadCloser = v
	case io.ReadSeeker:
		b.ReadCloser = unclosed{v}
	default:
		b.ReadCloser = io.NopCloser(r)
	}
	return b
}

// unclosed is an io.NopCloser that can be rewound.
type unclosed struct{ io.ReadSeeker }

func (unclosed) Close() error { return nil }

// sizeOf is how much r has left, -1 if nobody knows.
func sizeOf(r io.Reader) int64 {
	if known, ok := r.(interface{ Len() int }); ok {
		return int64(known.Len())
	}
	if s, ok := r.(io.Seeker); ok {
		at, err := s.Seek(0, io.SeekCurrent)
		end, failed := s.Seek(0, io.SeekEnd)
		_, lost := s.Seek(at, io.SeekStart)
		if err == nil && failed == nil && lost == nil && end >= at {
			return end - at
		}
	}
	return -1
}

// sending is the body of a call, of which the transport reads one attempt after the other.
// It may go on reading, and close, after it has returned the answer.
type sending struct {
	contentType string
	size        int64
	data        []byte // JSON; nil: it is a stream
	stream      io.ReadCloser
	start       int64 // of a stream that can be rewound
	seeker      io.Seeker

	mu     sync.Mutex // guards what follows
	opened bool
	last   *attempt // of a stream that can be rewound
	all    bool     // there will be no other attempt
}

var errNoBody = errors.New("no body given")

// newSending takes what a method is called with; nil: it has no body.
func newSending(input any) (*sending, error) {
	switch v := input.(type) {
	case nil:
		return nil, nil
	case *Body:
		if v == nil || v.ReadCloser == nil {
			return nil, errNoBody
		}
		s := &sending{contentType: v.ContentType, size: v.Size, stream: v.ReadCloser}
		if seeker, ok := v.ReadCloser.(io.Seeker); ok {
			if at, err := seeker.Seek(0, io.SeekCurrent); err == nil {
				s.seeker, s.start = seeker, at
			}
		}
		return s, nil
	}
	if n, ok := input.(Normalizer); ok {
		n.Normalize()
	}
	var b bytes.Buffer // not pooled: the transport may read it after Do returns
	if err := encodeJSON(&b, input); err != nil {
		return nil, err
	}
	return &sending{contentType: "application/json", size: int64(b.Len()), data: b.Bytes()}, nil
}

// repeats reports whether s can be sent more than once.
func (s *sending) repeats() bool { return s == nil || s.data != nil || s.seeker != nil }

// put makes s the body of r.
func (s *sending) put(r *http.Request) error {
	if s == nil {
		return nil
	}
	r.ContentLength = s.size
	r.Header.Set("Content-Type", s.contentType)
	if s.repeats() {
		r.GetBody = s.open // of a connection that was closed before the host saw the request
	}
	var err error
	r.Body, err = s.open()
	return err
}

// open returns the body from its start.
func (s *sending) open() (io.ReadCloser, error) {
	if s.data != nil {
		return io.NopCloser(bytes.NewReader(s.data)), nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = true
	if s.seeker == nil {
		return s.stream, nil
	}
	if s.last != nil {
		s.last.end()
	}
	if _, err := s.seeker.Seek(s.start, io.SeekStart); err != nil {
		return nil, err
	}
	s.last = &attempt{of: s}
	return s.last, nil
}

// done says that there will be no other attempt. The stream is closed when the transport
// closes the last one.
func (s *sending) done() {
	if s == nil || s.stream == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = true
	if !s.opened || s.last != nil && s.last.closed {
		_ = s.stream.Close() // was only read
	}
}

// attempt reads a stream that another attempt may read from its start again: then it has
// nothing more.
type attempt struct {
	of     *sending
	closed bool // guarded by of.mu

	mu    sync.Mutex // held while it reads
	ended bool
}

var errAttempt = errors.New("the body is sent again")

// Read implements io.Reader.
func (a *attempt) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return 0, errAttempt
	}
	return a.of.stream.Read(p)
}

// end returns when nobody reads any more.
func (a *attempt) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}

// Close leaves the stream for other attempts, if there will be any. It does not wait for
// Read, which the transport may be in.
func (a *attempt) Close() error {
	s := a.of
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	if s.all && s.last == a {
		return s.stream.Close()
	}
	return nil
}
