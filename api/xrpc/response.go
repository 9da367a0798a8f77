package xrpc

import (
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"
)

// A Response is the answer of another server, which the client gets as it came. A handler
// returns it in the place of its output, as its error:
//
//	return nil, response
//
// It is no failure: the client sees its status, its header and its body, with what every
// answer has beside. The server closes Body.
type Response struct {
	Status int
	// Header is added to that of the answer.
	Header http.Header
	// Body is passed on in pieces as they come, never more than 32 KiB of it held. When
	// reading fails the connection to the client is cut, so that it does not take a part for
	// the whole.
	Body io.ReadCloser
	// Size is the length of Body in bytes, -1 if unknown. Of an answer to HEAD it is the
	// length that a GET would have.
	Size int64
}

// Error is for the log of a handler that passed a Response to somebody else.
func (r *Response) Error() string { return fmt.Sprintf("answer %d of another server", r.Status) }

// JSON is an output that a handler has as text. It returns it in the place of its output,
// as its error:
//
//	return nil, xrpc.JSON(text)
//
// The client gets it byte for byte, as it gets any output.
type JSON []byte

// Error is for the log of a handler that passed it to somebody else.
func (j JSON) Error() string { return fmt.Sprintf("answer of %d bytes", len(j)) }

// writeResponse answers with r and closes it.
func writeResponse(e echo.Context, r *Response) error {
	defer r.Body.Close()
	q, w := e.Request(), e.Response()
	h := w.Header()
	for name, values := range r.Header {
		h[name] = values
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // or net/http guessed one, text/html too
	}
	expose(h)
	addVary(h, "Accept-Encoding")
	w.WriteHeader(r.Status)
	if q.Method == http.MethodHead {
		return nil
	}
	c := CallFrom(q.Context())
	c.onlySends()
	if err := copyPieces(w, r); err != nil {
		// Whoever broke it off, nothing here did.
		if c.err = (&Error{Status: http.StatusBadGateway, Cause: err, ByCaller: true}); c.answer.failed != nil {
			c.err = ClientGone(fmt.Errorf("pass an answer on: %w", err))
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

var pieces = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// copyPieces writes the body of r to w: each piece at once where nobody knows how many follow.
func copyPieces(w *echo.Response, r *Response) error {
	piece := pieces.Get().(*[32 << 10]byte)
	defer pieces.Put(piece)
	for {
		n, err := r.Body.Read(piece[:])
		if n > 0 {
			if _, err := w.Write(piece[:n]); err != nil {
				return err
			}
			if r.Size < 0 {
				w.Flush()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
