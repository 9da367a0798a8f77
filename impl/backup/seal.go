package backup

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"golang.org/x/crypto/chacha20poly1305"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// A Key seals what nobody else is to read, and signs manifests.
type Key struct {
	name    string // tells keys apart, and nothing about this one
	sealing []byte
	signing []byte
}

// NewKey returns the key that is made of KeySize random bytes.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("%w: it is not %d bytes long", ErrKey, KeySize)
	}
	derive := func(purpose string, size int) []byte {
		b, err := hkdf.Key(sha256.New, secret, nil, "portico backup "+purpose, size)
		if err != nil {
			panic("backup: " + err.Error()) // so few bytes are never too many
		}
		return b
	}
	return &Key{name: hex.EncodeToString(derive("key id", 8)), sealing: derive("sealing key", 32), signing: derive("signing key", 32)}, nil
}

// LogValue keeps keys out of logs.
func (*Key) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// String keeps keys out of everything else that prints.
func (*Key) String() string { return "REDACTED" }

// GoString is String.
func (*Key) GoString() string { return "REDACTED" }

func (k *Key) sign(text []byte) []byte {
	h := hmac.New(sha256.New, k.signing)
	h.Write([]byte("manifest\x00"))
	h.Write(text)
	return h.Sum(nil)
}

// A sealed file is: magic, a salt of 32 bytes, and chunks. Of the key, the salt and the
// place of the file a key for this file alone is made, so that a chunk's nonce need be no
// more than its number, with a last byte of 1 in the last chunk: none can be left out, put
// elsewhere or added. Each chunk has chunkSize bytes and a tag, the last one as many as are
// left, which are none only where the file is empty.
const (
	magic     = "portico sealed 1\n"
	saltSize  = 32
	headSize  = len(magic) + saltSize
	chunkSize = 64 << 10
)

func (k *Key) aead(salt []byte, place string) (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, k.sealing, salt, "portico backup file "+place, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	return chacha20poly1305.NewX(secret)
}

// A chunkNonce is the nonce of a chunk of one file.
type chunkNonce struct {
	b      [chacha20poly1305.NonceSizeX]byte
	number uint64
}

func (n *chunkNonce) next(last bool) []byte {
	binary.BigEndian.PutUint64(n.b[len(n.b)-9:], n.number)
	n.number++
	n.b[len(n.b)-1] = 0
	if last {
		n.b[len(n.b)-1] = 1
	}
	return n.b[:]
}

// sealer seals what is written to it. Close ends the file, and not the writer below.
type sealer struct {
	w     io.Writer
	aead  cipher.AEAD
	nonce chunkNonce
	plain []byte // the chunk that grows: the last one, for all that is known
	out   []byte
}

// seal returns a writer that seals for a place.
func (k *Key) seal(w io.Writer, place string) (io.WriteCloser, error) {
	head := append([]byte(magic), make([]byte, saltSize)...)
	rand.Read(head[len(magic):])
	aead, err := k.aead(head[len(magic):], place)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	return &sealer{w: w, aead: aead, plain: make([]byte, 0, chunkSize)}, nil
}

func (s *sealer) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if len(s.plain) == chunkSize {
			if err := s.flush(false); err != nil {
				return written, err
			}
		}
		n := min(len(p), chunkSize-len(s.plain))
		s.plain = append(s.plain, p[:n]...)
		p, written = p[n:], written+n
	}
	return written, nil
}

func (s *sealer) flush(last bool) error {
	s.out = s.aead.Seal(s.out[:0], s.nonce.next(last), s.plain, nil)
	s.plain = s.plain[:0]
	_, err := s.w.Write(s.out)
	return err
}

func (s *sealer) Close() error { return s.flush(true) }

// opener opens what was sealed. Nothing is given that was not proved.
type opener struct {
	r      io.Reader
	aead   cipher.AEAD
	nonce  chunkNonce
	sealed []byte // a chunk and the first byte after it, if there is one
	held   int    // bytes of the next chunk that were read already
	buffer []byte
	plain  []byte // not given yet
	err    error
}

// open returns a reader of what was sealed for a place. Errors are ErrDamaged and those of r.
func (k *Key) open(r io.Reader, place string) (io.Reader, error) {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, cutOff(err)
	}
	if !bytes.HasPrefix(head, []byte(magic)) {
		return nil, fmt.Errorf("%w: it is not sealed", ErrDamaged)
	}
	aead, err := k.aead(head[len(magic):], place)
	if err != nil {
		return nil, err
	}
	return &opener{r: r, aead: aead, sealed: make([]byte, chunkSize+aead.Overhead()+1), buffer: make([]byte, 0, chunkSize)}, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut off", ErrDamaged)
	}
	return err
}

func (o *opener) Read(p []byte) (int, error) {
	for len(o.plain) == 0 {
		if o.err != nil {
			return 0, o.err
		}
		o.plain, o.err = o.chunk()
	}
	n := copy(p, o.plain)
	o.plain = o.plain[n:]
	return n, nil
}

// chunk reads the next chunk; with the last one comes io.EOF.
func (o *opener) chunk() ([]byte, error) {
	n, err := io.ReadFull(o.r, o.sealed[o.held:])
	n += o.held
	var last error
	switch {
	case err == nil: // there is a chunk after it
		n--
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		last = io.EOF
	default:
		return nil, err
	}
	first := o.nonce.number == 0
	plain, err := o.aead.Open(o.buffer[:0], o.nonce.next(last != nil), o.sealed[:n], nil)
	if err != nil || len(plain) == 0 && !first {
		return nil, fmt.Errorf("%w: its bytes are not those that were sealed", ErrDamaged)
	}
	o.sealed[0], o.held = o.sealed[len(o.sealed)-1], 1
	return plain, last
}
