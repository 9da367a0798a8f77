package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// controlName is the name of the descriptor over which two processes talk.
const controlName = "control"

// What two processes say to each other. The newer one says prepared, and failed or serving;
// the older one released, and connection for each.
const (
	saidPrepared   = 'p'
	saidReleased   = 'r'
	saidServing    = 's'
	saidFailed     = 'f'
	saidConnection = 'c'
)

// maxMessage bounds a message in bytes: what is said comes from a program that may be broken.
const maxMessage = 64 << 10

// sendTimeout is how long the other process may take to make room for a message: it does
// nothing else meanwhile than to read, so one that takes longer does nothing at all.
const sendTimeout = 5 * time.Second

// A message is a kind, a length of four bytes, and JSON; a connection's has a descriptor.
type message struct {
	kind byte
	text []byte
	fd   int // -1: none
}

// A wire takes messages to another process, and brings those of that.
type wire struct {
	conn     *net.UnixConn
	patience time.Duration // for the other process to make room
	mu       sync.Mutex    // held by who sends
}

// wirePair is a wire, and the descriptor of its other end, for a child.
func wirePair() (*wire, int, error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, -1, fmt.Errorf("make a pair of sockets: %w", err)
	}
	w, err := newWire(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
	}
	return w, fds[1], err
}

// newWire is the wire of a descriptor, which it closes.
func newWire(fd int) (*wire, error) {
	f := os.NewFile(uintptr(fd), controlName)
	if f == nil {
		return nil, fmt.Errorf("descriptor %d is none", fd)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("descriptor %d is no socket between processes", fd), c.Close())
	}
	return &wire{conn: conn, patience: sendTimeout}, nil
}

// send sends v, with the descriptor fd unless that is -1. After an error the other process
// hears nothing more: it may have half a message.
func (w *wire) send(kind byte, v any, fd int) (err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(text)))
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.patience)); err != nil {
		return err
	}
	n, _, err := w.conn.WriteMsgUnix(b, rights, nil)
	if err == nil && n < len(b) {
		_, err = w.conn.Write(b[n:])
	}
	if err == nil {
		_, err = w.conn.Write(text)
	}
	return err
}

// receive waits for a message. The error is io.EOF when the other end is gone.
func (w *wire) receive() (m message, err error) {
	m.fd = -1
	defer func() {
		if err != nil && m.fd >= 0 {
			_ = unix.Close(m.fd)
		}
	}()
	var head [5]byte
	rights := make([]byte, unix.CmsgSpace(4))
	n, had, _, _, err := w.conn.ReadMsgUnix(head[:], rights)
	if err != nil {
		return m, err
	}
	if n == 0 {
		return m, io.EOF
	}
	if m.fd, err = descriptor(rights[:had]); err != nil {
		return m, err
	}
	if _, err := io.ReadFull(w.conn, head[n:]); err != nil {
		return m, err
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxMessage {
		return m, fmt.Errorf("a message of %d bytes", size)
	}
	m.kind, m.text = head[0], make([]byte, size)
	_, err = io.ReadFull(w.conn, m.text)
	return m, err
}

// descriptor is the one that came with a message, -1 for none. No child inherits it: Go's
// runtime receives descriptors so.
func descriptor(rights []byte) (int, error) {
	if len(rights) == 0 {
		return -1, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) == 0 {
		return -1, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) == 0 {
		return -1, err
	}
	return fds[0], nil
}

func (w *wire) close() { _ = w.conn.Close() }
