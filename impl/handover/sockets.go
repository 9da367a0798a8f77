// Package handover lets one process of a server take over from another without a client
// that notices.
//
// The sockets are handed over, not opened anew: who connects meanwhile waits in the queue of
// the socket, which lives as long as any process has it. Two sockets at one address
// (SO_REUSEPORT) have two queues, and who waits in that of the process that ends is sent
// away. Connections between two requests are handed over too, so that nobody's request
// meets a connection that is just being closed.
//
// Ours because modules for this (tableflip and its like) hand over listening sockets alone,
// and begin to serve beside the old process; a database in a file has room for one.
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

// variable names what a process before this one has handed over: names and descriptors,
// such as "control:3,server:4".
const variable = "_PORTICO_HANDOVER"

// firstFD is the first descriptor that is handed over, here and by systemd.
const firstFD = 3

// Received is what a process was started with.
type Received struct {
	// From is the process that is to be taken over from, nil for none.
	From *Predecessor
	// Activated says that the sockets are from systemd, or who speaks as it does.
	Activated bool

	sockets map[string]*net.TCPListener
}

// Receive takes what this process was started with, by what the environment says: the
// process before it, or systemd (LISTEN_FDS). It takes it away from the environment too, so
// that no other process believes to have it, and a second call returns nothing. Sockets
// have one of names; systemd may leave out the name of a single one, which is the first of
// them.
func Receive(names ...string) (*Received, error) {
	handed, ok := os.LookupEnv(variable)
	activated, err := fromSystemd(os.Getpid(), names)
	for _, name := range []string{variable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"} {
		_ = os.Unsetenv(name) // fails for names that are none
	}
	if ok {
		r, err := fromProcess(handed, names)
		if err != nil {
			return nil, fmt.Errorf("take what the process before has handed over: %w", err)
		}
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take the sockets of systemd: %w", err)
	}
	return activated, nil
}

// Refuse tells the process before this one, if there is one, why this one does not take over.
// It is for those that end before they come to Receive.
func Refuse(reason error) {
	handed, _ := os.LookupEnv(variable)
	if r, err := fromProcess(handed, nil); err == nil && r.From != nil {
		r.From.Failed(reason)
	}
}

// fromSystemd takes what sd_listen_fds(3) tells of.
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

// fromProcess takes what a process of this package has handed over.
func fromProcess(handed string, names []string) (*Received, error) {
	r := &Received{sockets: map[string]*net.TCPListener{}}
	var err error
	for pair := range strings.FieldsFuncSeq(handed, func(r rune) bool { return r == ',' }) {
		name, number, _ := strings.Cut(pair, ":")
		fd, wrong := strconv.Atoi(number)
		if wrong != nil || fd < firstFD {
			err = errors.Join(err, fmt.Errorf("%s is %q", variable, handed))
			break
		}
		unix.CloseOnExec(fd)
		switch {
		case name == controlName:
			var from *Predecessor
			if from, wrong = newPredecessor(fd); wrong == nil {
				r.From = from
			}
			err = errors.Join(err, wrong)
		case slices.Contains(names, name):
			err = errors.Join(err, r.add(name, fd))
		default:
			_ = unix.Close(fd) // of a version that had more
		}
	}
	if err != nil {
		r.Close()
		if r.From != nil {
			r.From.Close()
		}
		return nil, err
	}
	return r, nil
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
