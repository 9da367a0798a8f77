package xrpc

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/andybalholm/brotli"
	"github.com/labstack/echo/v4"
)

// Buffers are used again unless they have grown large: one big request must not
// keep its memory for good.
const keepBuffer = 64 << 10

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func getBuffer() *bytes.Buffer { return buffers.Get().(*bytes.Buffer) }

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= keepBuffer {
		b.Reset()
		buffers.Put(b)
	}
}

var errTooLarge = &Error{Status: http.StatusRequestEntityTooLarge, Name: "PayloadTooLargeError", Message: "request entity too large", own: true}

func unsupported(message string) *Error {
	return &Error{Status: http.StatusUnsupportedMediaType, Name: "UnsupportedMediaTypeError", Message: message}
}

// readBody reads the body into input: a *Body, a pointer to a generated type, or
// nil when the method takes none.
func (s *Server) readBody(ctx context.Context, c *Call, e echo.Context, m *Media, maxBody int64, input any) error {
	r := c.Request
	if m == nil {
		if err := refuseBody(r); err != nil {
			return err
		}
		c.body.stop()
		return nil
	}
	if r.ContentLength == 0 && r.Header["Content-Length"] == nil && len(r.TransferEncoding) == 0 {
		return InvalidRequest("A request body is expected but none was provided")
	}
	header := r.Header.Get("Content-Type")
	typ, ok := mediaType(header)
	if !ok {
		return InvalidRequest("Request encoding (Content-Type) required but not provided")
	}
	if !encodingAccepts(m.Encoding, typ) {
		return InvalidRequest("Wrong request encoding (Content-Type): " + typ)
	}
	if m.Schema == nil {
		decoded, err := decompress(r)
		if err != nil {
			return err
		}
		size := r.ContentLength
		if isCompressed(r) {
			size = -1
		}
		if size > maxBody {
			return errTooLarge
		}
		*input.(*Body) = Body{ReadCloser: &upload{r: decoded, left: maxBody, clock: c.body}, ContentType: header, Size: size}
		return nil
	}
	if err := readJSON(ctx, r, header, maxBody, m.Schema, input); err != nil {
		return err
	}
	c.body.stop()
	return nil
}

// A bodyClock ends reading from a client after some time, so that nobody holds a
// connection by sending nothing. It holds for the rest of a body that nobody wants,
// too, but not for the next request.
type bodyClock struct {
	connection *http.ResponseController // nil: there is no body
	time       time.Duration
}

func (s *Server) bodyClock(e echo.Context) bodyClock {
	if r := e.Request(); r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return bodyClock{}
	}
	return bodyClock{http.NewResponseController(e.Response()), s.o.BodyTime}
}

// start gives the client its time. Connections that know no deadlines are those of
// tests.
func (b bodyClock) start() {
	if b.connection != nil {
		_ = b.connection.SetReadDeadline(time.Now().Add(b.time))
	}
}

// stop is for when the whole body was read: to answer may take longer.
func (b bodyClock) stop() {
	if b.connection != nil {
		_ = b.connection.SetReadDeadline(time.Time{})
	}
}

func refuseBody(r *http.Request) error {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	var one [1]byte
	switch n, err := io.ReadFull(r.Body, one[:]); {
	case n > 0:
		return InvalidRequest("A request body was provided when none was expected")
	case err != io.EOF:
		return &Error{Status: http.StatusBadRequest, Message: "Failed to process unexpected request body", Cause: err}
	}
	return nil
}

func readJSON(ctx context.Context, r *http.Request, header string, maxBody int64, s *Schema, input any) error {
	charset := strings.ToLower(parameter(header, "charset"))
	decode, ok := charsets[charset]
	if !ok {
		return unsupported(`unsupported charset "` + strings.ToUpper(charset) + `"`)
	}
	body, err := decompress(r)
	if err != nil {
		return err
	}
	if r.ContentLength > maxBody && !isCompressed(r) {
		return errTooLarge
	}
	b := getBuffer()
	defer putBuffer(b)
	if n := r.ContentLength; n > 0 && n <= maxBody {
		b.Grow(int(n) + bytes.MinRead) // so that reading the end does not grow it again
	}
	if _, err := b.ReadFrom(io.LimitReader(body, maxBody+1)); err != nil {
		return readFailure(ctx, err)
	}
	if int64(b.Len()) > maxBody {
		return errTooLarge
	}
	data := b.Bytes()
	if decode != nil {
		data = decode(data)
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if len(data) == 0 {
		data = []byte("{}")
	}
	if start := skipSpace(data, 0); start < len(data) && data[start] != '{' && data[start] != '[' {
		r, _ := utf8.DecodeRune(data[start:])
		return syntaxError("Unexpected token '" + string(r) + "', the body is not a JSON object")
	}
	switch err := Unmarshal(s, data, input).(type) {
	case nil:
		return nil
	case *SyntaxError:
		return syntaxError(err.Error())
	case *Issue:
		return InvalidRequest(err.Error())
	default:
		if err == errProto {
			return InvalidRequest("Invalid key: __proto__")
		}
		return err // table and type disagree: a mistake of ours
	}
}

func syntaxError(text string) *Error {
	return &Error{Status: http.StatusBadRequest, Name: "SyntaxError", Message: text}
}

// mediaType returns the type/subtype that a Content-Type begins with, spelled as
// it is. Without a slash it is none.
func mediaType(header string) (string, bool) {
	typ, _, _ := strings.Cut(header, ";")
	return strings.Trim(typ, " \t"), strings.Contains(typ, "/")
}

// parameter returns a parameter of a Content-Type, "" when absent.
func parameter(header, name string) string {
	_, rest, _ := strings.Cut(header, ";")
	for part := range strings.SplitSeq(rest, ";") {
		key, value, _ := strings.Cut(part, "=")
		if strings.EqualFold(strings.Trim(key, " \t"), name) {
			return strings.Trim(value, " \t\"")
		}
	}
	return ""
}

// encodingAccepts compares a media type with a lexicon's encoding, which may be a
// list with wildcards. Case does not count (the reference is stricter).
func encodingAccepts(encoding, typ string) bool {
	if strings.EqualFold(encoding, typ) {
		return true
	}
	for part := range strings.SplitSeq(encoding, ",") {
		if accepts([]string{strings.ToLower(strings.TrimSpace(part))}, strings.ToLower(typ)) {
			return true
		}
	}
	return false
}

// charsets decode a body to UTF-8; nil: it is. Other charsets are refused.
var charsets = map[string]func([]byte) []byte{
	"":         nil,
	"utf-8":    nil,
	"utf-16":   func(b []byte) []byte { return fromUTF16(b, bytes.HasPrefix(b, []byte("\xfe\xff"))) },
	"utf-16le": func(b []byte) []byte { return fromUTF16(b, false) },
	"utf-16be": func(b []byte) []byte { return fromUTF16(b, true) },
}

func fromUTF16(b []byte, big bool) []byte {
	low, high := 0, 1
	if big {
		low, high = 1, 0
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = uint16(b[2*i+low]) | uint16(b[2*i+high])<<8
	}
	return []byte(string(utf16.Decode(units)))
}

func contentEncoding(r *http.Request) string {
	return strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
}

func isCompressed(r *http.Request) bool {
	e := contentEncoding(r)
	return e != "" && e != "identity"
}

// decompress returns the body, decoded for its Content-Encoding.
func decompress(r *http.Request) (io.Reader, error) {
	switch encoding := contentEncoding(r); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		b := bufio.NewReader(r.Body)
		if magic, _ := b.Peek(2); len(magic) > 0 && !strings.HasPrefix("\x1f\x8b", string(magic)) {
			return nil, readFailure(r.Context(), gzip.ErrHeader) // however short it is
		}
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, readFailure(r.Context(), err)
		}
		return z, nil
	case "deflate":
		z, err := zlib.NewReader(r.Body)
		if err != nil {
			return nil, readFailure(r.Context(), err)
		}
		return z, nil
	case "br":
		return &broken{brotli.NewReader(r.Body)}, nil
	default:
		return nil, unsupported(`unsupported content encoding "` + encoding + `"`)
	}
}

// broken marks errors of a brotli reader, which have no type to know them by.
type broken struct{ r io.Reader }

var errBrotli = errors.New("Decompression failed") //lint:ignore ST1005 sent as is

func (b *broken) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF && strings.HasPrefix(err.Error(), "brotli: ") {
		err = errBrotli
	}
	return n, err
}

// readFailure answers for a body that could not be read or decompressed.
func readFailure(ctx context.Context, err error) error {
	message := ""
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // which ends ctx, too
		return &Error{Status: http.StatusRequestTimeout, Name: "RequestTimeout", Message: "Request Timeout", Cause: err, own: true}
	case ctx.Err() != nil:
		return err
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, zlib.ErrHeader):
		message = "incorrect header check"
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zlib.ErrChecksum):
		message = "incorrect data check"
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		message = "unexpected end of file"
	case err == errBrotli:
		message = err.Error()
	default:
		message = "request body could not be read"
	}
	return &Error{Status: http.StatusBadRequest, Name: "Error", Message: message, Cause: err, own: true}
}

// upload is a streamed request body. Reading beyond the limit fails with the 413
// that a handler may return as it is, and what cannot be decompressed with a 400.
type upload struct {
	r     io.Reader
	left  int64
	clock bodyClock
}

func (u *upload) Read(p []byte) (int, error) {
	if u.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > u.left+1 {
		p = p[:u.left+1]
	}
	u.clock.start()
	n, err := u.r.Read(p)
	if err == io.EOF {
		u.clock.stop()
	}
	if u.left -= int64(n); u.left < 0 {
		return n - 1, errTooLarge
	}
	if err != nil && err != io.EOF {
		err = readFailure(context.Background(), err)
	}
	return n, err
}

// Close does nothing: the server closes the body of a request.
func (u *upload) Close() error { return nil }
