package xrpc

import (
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

	"github.com/labstack/echo/v4"

	"portico/api/brotli"
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

// What is streamed is refused under other names than JSON.
var (
	errStreamTooLarge = &Error{Status: http.StatusRequestEntityTooLarge, Message: "request entity too large", own: true}
	errStreamCoding   = &Error{Status: http.StatusUnsupportedMediaType, Message: "unsupported content-encoding"}
)

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
	if m.Schema == nil && r.ContentLength > maxBody {
		return errStreamTooLarge
	}
	how, err := decoderFor(r)
	if err != nil && m.Schema == nil {
		return errStreamCoding.Because(err)
	}
	if err != nil {
		return err
	}
	if r.ContentLength > maxBody {
		return errTooLarge
	}
	if m.Schema == nil {
		*input.(*Body), err = s.openBody(ctx, c, how, maxBody)
		return err
	}
	return s.readJSON(ctx, c, header, how, maxBody, m.Schema, input)
}

// openBody returns the body for a handler to read, decoded if how is not nil.
func (s *Server) openBody(ctx context.Context, c *Call, how *decoder, maxBody int64) (Body, error) {
	sent := &upload{r: sent{c.Request.Body}, left: maxBody, clock: c.body}
	body := Body{ReadCloser: sent, ContentType: c.Request.Header.Get("Content-Type"), Size: c.Request.ContentLength}
	if how == nil {
		return body, nil
	}
	file, err := spool(sent)
	if err != nil {
		return Body{}, err
	}
	c.atEnd = append(c.atEnd, func() { file.Close() })
	decoded, done, err := s.decoding.open(ctx, how, file, maxBody+1)
	if err != nil {
		return Body{}, err
	}
	c.atEnd = append(c.atEnd, done)
	body.ReadCloser, body.Size = &upload{r: decoded, left: maxBody}, -1
	return body, nil
}

// A bodyClock ends reading from a client after some time, so that nobody holds a
// connection by sending nothing. It holds for the rest of a body that nobody wants,
// too, but not for the next request.
type bodyClock struct {
	connection http.ResponseWriter // nil: there is no body
	time       time.Duration
}

func (s *Server) bodyClock(r *http.Request, w http.ResponseWriter) bodyClock {
	if r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return bodyClock{}
	}
	return bodyClock{w, s.o.BodyTime}
}

// start gives the client its time. Connections that know no deadlines are those of
// tests.
func (b bodyClock) start() {
	if b.connection != nil {
		_ = http.NewResponseController(b.connection).SetReadDeadline(time.Now().Add(b.time))
	}
}

// stop is for when the whole body was read: to answer may take longer.
func (b bodyClock) stop() {
	if b.connection != nil {
		_ = http.NewResponseController(b.connection).SetReadDeadline(time.Time{})
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

func (s *Server) readJSON(
	ctx context.Context, c *Call, header string, how *decoder, maxBody int64, schema *Schema, input any,
) error {
	charset := strings.ToLower(parameter(header, "charset"))
	decode, ok := charsets[charset]
	if !ok {
		return unsupported(`unsupported charset "` + strings.ToUpper(charset) + `"`)
	}
	b := getBuffer()
	// It goes back when the call has ended: the handler may want what was sent.
	defer func() { c.atEnd = append(c.atEnd, func() { putBuffer(b) }) }()
	// What the client announces is not had yet: no memory is taken for it, but for a
	// small body, so that reading the end does not grow the buffer again.
	if n := c.Request.ContentLength; n > 0 && n <= bytes.MinRead {
		b.Grow(int(n) + bytes.MinRead)
	}
	if err := readAll(b, sent{c.Request.Body}, maxBody); err != nil {
		return err
	}
	c.body.stop()
	if how != nil {
		decoded, done, err := s.decoding.open(ctx, how, bytes.NewReader(b.Bytes()), maxBody+1)
		if err != nil {
			return err
		}
		packed := b
		defer putBuffer(packed)
		b = getBuffer()
		err = readAll(b, decoded, maxBody)
		done()
		if err != nil {
			return err
		}
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
	switch err := Unmarshal(schema, data, input).(type) {
	case nil:
		c.sent = data
		// What describes the body describes what it is now.
		c.Request.Header.Del("Content-Encoding")
		if decode != nil {
			c.Request.Header.Set("Content-Type", "application/json")
		}
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

// readAll reads r, of which there may be max bytes.
func readAll(b *bytes.Buffer, r io.Reader, max int64) error {
	if _, err := b.ReadFrom(io.LimitReader(r, max+1)); err != nil {
		return readFailure(err)
	}
	if int64(b.Len()) > max {
		return errTooLarge
	}
	return nil
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

// sent is a body as the client sends it.
type sent struct{ r io.Reader }

// errCut says that a client has sent less than it announced, and that no more will come.
var errCut = errors.New("request aborted")

func (s sent) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = errCut
	}
	return n, err
}

// readFailure answers for a body that could not be read or decoded.
func readFailure(err error) error {
	message := ""
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &Error{Status: http.StatusRequestTimeout, Name: "RequestTimeout", Message: "Request Timeout", Cause: err, own: true}
	case errors.Is(err, context.Canceled):
		return err // not by the client
	case errors.Is(err, errCut):
		return &Error{Status: http.StatusBadRequest, Name: "BadRequestError", Message: err.Error(), own: true}
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, zlib.ErrHeader):
		message = "incorrect header check"
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zlib.ErrChecksum):
		message = "incorrect data check"
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		message = "unexpected end of file"
	case err == brotli.ErrBroken:
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
		return 0, errStreamTooLarge
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
		return n - 1, errStreamTooLarge
	}
	if err != nil && err != io.EOF {
		err = readFailure(err)
	}
	return n, err
}

// Close does nothing: the server closes the body of a request.
func (u *upload) Close() error { return nil }
