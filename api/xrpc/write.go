package xrpc

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/andybalholm/brotli"
	fastgzip "github.com/klauspost/compress/gzip"
	"github.com/labstack/echo/v4"
)

const jsonType = "application/json; charset=utf-8"

// writePiece is how much of an answer a client is waited for at a time.
const writePiece = 16 << 10

// answerWriter gives a client time for each piece of an answer: one that reads slowly gets
// all of it, one that reads nothing does not hold its memory and its connection for ever.
type answerWriter struct {
	http.ResponseWriter
	time   time.Duration // for each piece
	timed  bool          // the next piece goes with the header, which was given its time just now
	failed error         // of the first write that did
}

// begin takes back the time of the connection's last answer, which the word that a body may
// come would not be given.
func (w *answerWriter) begin() {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Time{})
}

// wait gives the client its time. Connections that know no deadlines are those of tests.
func (w *answerWriter) wait() {
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.time))
}

func (w *answerWriter) WriteHeader(status int) {
	w.wait() // an answer without a body is written when the handler has returned
	w.ResponseWriter.WriteHeader(status)
}

func (w *answerWriter) Write(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		if !w.timed {
			w.wait()
		}
		w.timed = false
		var n int
		n, err = w.ResponseWriter.Write(p[:min(len(p), writePiece)])
		written, p = written+n, p[n:]
	}
	if w.failed == nil {
		w.failed = err
	}
	return written, err
}

// ReadFrom lets the system send a file without this process seeing its bytes. The client
// has its time for each piece, as in Write.
func (w *answerWriter) ReadFrom(r io.Reader) (written int64, err error) {
	part, _ := r.(*io.LimitedReader)
	if part == nil {
		part = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	if _, ok := part.R.(*os.File); !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	for part.N > 0 && err == nil {
		w.wait()
		piece := min(part.N, writePiece)
		var n int64
		n, err = io.Copy(w.ResponseWriter, &io.LimitedReader{R: part.R, N: piece})
		written, part.N = written+n, part.N-n
		if n < piece {
			break
		}
	}
	if _, reading := errors.AsType[*fs.PathError](err); w.failed == nil && !reading {
		w.failed = err
	}
	return written, err
}

// Unwrap is for [http.ResponseController].
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// writeNothing answers 200 without a body.
func writeNothing(e echo.Context) error {
	h := e.Response().Header()
	expose(h)
	h.Set("Content-Length", "0")
	e.Response().WriteHeader(http.StatusOK)
	return nil
}

// writeOutput answers with an output of m.
func (s *Server) writeOutput(e echo.Context, m *Method, out any) error {
	b := getBuffer()
	defer putBuffer(b)
	if err := encodeOutput(b, out); err != nil {
		return fmt.Errorf("encode output of %s: %w", m.NSID, err)
	}
	return s.writeText(e, m, &prepared{text: b.Bytes()})
}

// writeText answers with the text of an output of m.
func (s *Server) writeText(e echo.Context, m *Method, p *prepared) error {
	if m.Output == nil || m.Output.Schema == nil {
		return fmt.Errorf("%s: handler returned JSON, which is not its output", m.NSID)
	}
	if s.o.CheckOutput {
		if err := m.Output.Schema.Check(p.text); err != nil {
			return fmt.Errorf("output of %s does not fit the lexicon: %w", m.NSID, err)
		}
	}
	return writeBytes(e, http.StatusOK, jsonTypes, p)
}

func writeJSON(e echo.Context, status int, v any) error {
	b := getBuffer()
	defer putBuffer(b)
	if err := encodeJSON(b, v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return writeBytes(e, status, jsonTypes, &prepared{text: b.Bytes()})
}

// longAnswer is the size in bytes from which an answer may have to wait for its client.
const longAnswer = 64 << 10

// compressFrom is the size in bytes from which answers are compressed.
const compressFrom = 1024

// writeBytes answers with the text of p: compressed if that is wanted, and worth it, or with
// 304 if the client has it. An error means that the client is gone.
func writeBytes(e echo.Context, status int, contentType []string, p *prepared) error {
	r, w := e.Request(), e.Response()
	c := CallFrom(r.Context())
	if c == nil { // a request that did not come through around
		c = new(Call)
	}
	h := w.Header()
	expose(h)
	addVary(h, "Accept-Encoding")
	body, length := p.text, p.length
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	if get && status == http.StatusOK {
		tag := p.tag
		if tag == nil {
			t, l := describe(body)
			tag, length = c.value(t), c.value(l)
		}
		h["Etag"] = tag
		if want := r.Header["If-None-Match"]; want != nil && matches(want, tag[0]) &&
			!strings.Contains(r.Header.Get("Cache-Control"), "no-cache") {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	h["Content-Type"] = contentType
	if len(body) >= compressFrom {
		if encoding := acceptedEncoding(r.Header["Accept-Encoding"], "br", "gzip", "deflate"); encoding != "" {
			b := getBuffer()
			defer putBuffer(b)
			if err := compress(b, encoding, body); err == nil {
				h.Set("Content-Encoding", encoding)
				body, length = b.Bytes(), nil
			}
		}
	}
	if length == nil {
		length = c.value(strconv.Itoa(len(body)))
	}
	h["Content-Length"] = length
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	if len(body) >= longAnswer {
		c.onlySends()
	}
	c.answer.timed = true
	if _, err := w.Write(body); err != nil {
		return ClientGone(fmt.Errorf("write answer: %w", err))
	}
	return nil
}

// writeBody streams b and closes it. When it breaks in the middle the connection is
// aborted, so that the client does not take a part for the whole.
func writeBody(e echo.Context, m *Method, b *Body) error {
	if b.ReadCloser == nil {
		return fmt.Errorf("%s: handler returned a body without a reader", m.NSID)
	}
	defer b.Close()
	r, w := e.Request(), e.Response()
	h := w.Header()
	expose(h)
	typ := b.ContentType
	if typ == "" {
		typ = m.Output.Encoding
		if strings.ContainsAny(typ, ",*") {
			typ = "application/octet-stream"
		}
	}
	h.Set("Content-Type", typ)
	encoding := ""
	if b.Compressible {
		addVary(h, "Accept-Encoding")
		encoding = acceptedEncoding(r.Header["Accept-Encoding"], "gzip")
	}
	if encoding != "" {
		h.Set("Content-Encoding", encoding)
	} else if b.Size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
	}
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	c := CallFrom(r.Context())
	c.onlySends()
	if err := copyBody(w, b, encoding != ""); err != nil {
		err = fmt.Errorf("stream %s: %w", m.NSID, err)
		if c.err = asError(err); c.answer.failed != nil {
			c.err = ClientGone(err)
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// copyBody writes b to w, as gzip if zipped.
func copyBody(w *echo.Response, b *Body, zipped bool) error {
	copy := func(w io.Writer) (n int64, err error) {
		if b.Size >= 0 {
			return io.CopyN(w, b.ReadCloser, b.Size)
		}
		return io.Copy(w, b.ReadCloser)
	}
	if !zipped {
		n, err := copy(w.Writer) // behind echo's, it can send files
		w.Size += n
		return err
	}
	z := streamers.Get().(*fastgzip.Writer)
	defer streamers.Put(z)
	z.Reset(w)
	if _, err := copy(z); err != nil {
		return err
	}
	return z.Close()
}

// streamers compress bodies that may be long, at the level that costs least: of archives
// of repositories, with the same length, two fifths of what Go's own takes.
var streamers = sync.Pool{New: func() any { w, _ := fastgzip.NewWriterLevel(nil, fastgzip.BestSpeed); return w }}

// expose lets scripts of other origins read the headers that were set, one line a
// group.
func expose(h http.Header) {
	const name = "Access-Control-Expose-Headers"
	if h["Ratelimit-Limit"] != nil {
		h.Add(name, "RateLimit-Limit, RateLimit-Reset, RateLimit-Remaining, RateLimit-Policy")
	}
	for _, key := range [...][2]string{{"Retry-After", "Retry-After"}, {"Dpop-Nonce", "DPoP-Nonce"}, {"Www-Authenticate", "WWW-Authenticate"}} {
		if h[key[0]] != nil {
			h.Add(name, key[1])
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// describe returns the entity tag of an answer and its length in digits. The tag is a weak
// one, of two checksums that processors compute in hardware. A collision costs the client
// that provoked it a stale answer, nothing else.
func describe(body []byte) (tag, length string) {
	var b [64]byte
	both := append(b[:0], `W/"`...)
	both = strconv.AppendInt(both, int64(len(body)), 16)
	both = append(both, '-')
	var sum [8]byte
	a, z := crc32.Checksum(body, castagnoli), crc32.ChecksumIEEE(body)
	for i := range 4 {
		sum[i], sum[4+i] = byte(a>>(8*i)), byte(z>>(8*i))
	}
	both = append(hex.AppendEncode(both, sum[:]), '"')
	n := len(both)
	text := string(strconv.AppendInt(both, int64(len(body)), 10)) // one for both saves an allocation
	return text[:n], text[n:]
}

// matches compares weakly.
func matches(want []string, tag string) bool {
	for _, list := range want {
		for one := range strings.SplitSeq(list, ",") {
			one = strings.TrimSpace(one)
			if one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
				return true
			}
		}
	}
	return false
}

// acceptedEncoding chooses among encodings by the client's weights and, among equals, in
// their order; "" for none.
func acceptedEncoding(accept []string, among ...string) string {
	weights := map[string]float64{}
	rest := 0.0
	for _, list := range accept {
		for part := range strings.SplitSeq(list, ",") {
			name, parameters, _ := strings.Cut(part, ";")
			weight := 1.0
			if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(parameters)), "q="); ok {
				f, err := strconv.ParseFloat(q, 64)
				if err != nil {
					f = 0
				}
				weight = f
			}
			if name = strings.ToLower(strings.TrimSpace(name)); name == "*" {
				rest = weight
			} else {
				weights[name] = weight
			}
		}
	}
	best, top := "", 0.0
	for _, name := range among {
		weight, listed := weights[name]
		if !listed {
			weight = rest
		}
		if weight > top {
			best, top = name, weight
		}
	}
	return best
}

// compressor is what the three writers have in common.
type compressor interface {
	io.WriteCloser
	Reset(io.Writer)
}

// Levels are chosen for answers that are made once and read once.
var compressors = map[string]*sync.Pool{
	"br":      {New: func() any { return brotli.NewWriterLevel(nil, 4) }},
	"gzip":    {New: func() any { w, _ := gzip.NewWriterLevel(nil, 5); return w }},
	"deflate": {New: func() any { w, _ := zlib.NewWriterLevel(nil, 5); return w }},
}

func compress(b *bytes.Buffer, encoding string, body []byte) error {
	pool := compressors[encoding]
	w := pool.Get().(compressor)
	defer pool.Put(w)
	w.Reset(b)
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.Close()
}
