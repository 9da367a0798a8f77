// Package handover has the sockets that a process was started with.
package handover

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstFD is the first descriptor that is handed over, here and by systemd.
const firstFD = 3

// Received is what a process was started with.
type Received struct {
	// Activated says that the sockets are from systemd, or who speaks as it does.
	Activated bool

	sockets map[string]*net.TCPListener
}

// Receive takes what this process was started with, by what the environment says, as
// sd_listen_fds(3) does. It takes it away from the environment too, so that no other process
// believes to have it, and a second call returns nothing. Sockets have one of names; systemd
// may leave out the name of a single one, which is the first of them.
func Receive(names ...string) (*Received, error) {
	r, err := fromSystemd(os.Getpid(), names)
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		_ = os.Unsetenv(name) // fails for names that are none
	}
	if err != nil {
		return nil, fmt.Errorf("take the sockets of systemd: %w", err)
	}
	return r, nil
}

// fromSystemd takes what is for the process pid.
func fromSystemd(pid int, names []string) (*Received, error) {
	r := &Received{sockets: map[string]*net.TCPListener{}}
	if os.Getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return r, nil // they are another's
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 0 || n > 1000 {
		return r, fmt.Errorf("LISTEN_FDS is %q, not a number of sockets", os.Getenv("LISTEN_FDS"))
	}
	if n == 0 {
		return r, nil
	}
	r.Activated = true
	given := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	if n == 1 && given[0] == "" {
		given[0] = names[0]
	}
	if len(given) != n {
		return r, fmt.Errorf("LISTEN_FDNAMES has %d names, and there are %d sockets: say FileDescriptorName= for each", len(given), n)
	}
	for _, name := range given {
		if !slices.Contains(names, name) {
			err = errors.Join(err, fmt.Errorf("%q is no name of a socket: say FileDescriptorName=%s, or one of %s", name, names[0], strings.Join(names, ", ")))
		}
	}
	for i, name := range given {
		unix.CloseOnExec(firstFD + i)
		err = errors.Join(err, r.add(name, firstFD+i))
	}
	if err != nil {
		r.Close()
	}
	return r, err
}

// add takes the listening socket fd, which it closes.
func (r *Received) add(name string, fd int) error {
	f := os.NewFile(uintptr(fd), name)
	if f == nil {
		return fmt.Errorf("%s: descriptor %d is none", name, fd)
	}
	defer f.Close()
	if r.sockets[name] != nil {
		return fmt.Errorf("there are two sockets for %s", name)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil || listening == 0 {
		return fmt.Errorf("%s: descriptor %d is no socket that listens", name, fd)
	}
	l, err := net.FileListener(f)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return errors.Join(fmt.Errorf("%s: a socket of %s is not served, only those of TCP are", name, l.Addr().Network()), l.Close())
	}
	r.sockets[name] = tcp
	return nil
}

// Take returns the socket of a name, nil for none, which is the caller's from then on.
func (r *Received) Take(name string) *net.TCPListener {
	l := r.sockets[name]
	delete(r.sockets, name)
	return l
}

// Left are the names of the sockets that nobody has taken, sorted.
func (r *Received) Left() []string { return slices.Sorted(maps.Keys(r.sockets)) }

// Close closes the sockets that nobody has taken.
func (r *Received) Close() {
	for _, l := range r.sockets {
		_ = l.Close()
	}
	clear(r.sockets)
}

// ListensAt reports whether l is what net.Listen makes of a host, which may be empty or an
// IP address, and a port, of which 0 is any.
func ListensAt(l *net.TCPListener, host string, port int) bool {
	at := l.Addr().(*net.TCPAddr)
	want := net.ParseIP(host)
	if host == "" || want.IsUnspecified() {
		return at.IP.IsUnspecified() && (port == 0 || at.Port == port)
	}
	return at.IP.Equal(want) && (port == 0 || at.Port == port)
}
