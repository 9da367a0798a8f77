package handover

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// programVariable names the program that was handed over to, as it was named first.
const programVariable = "_PORTICO_PROGRAM"

// Program is the path of the program that runs, as whoever started it named it: behind that
// path may be another file by now, which is the newer one. It is to be called at the start.
func Program() (string, error) {
	if path, ok := os.LookupEnv(programVariable); ok {
		_ = os.Unsetenv(programVariable)
		return path, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the program that runs: %w", err)
	}
	// By way of a link, where there is one: to lead that elsewhere is a way to upgrade.
	named, err := exec.LookPath(os.Args[0])
	if err == nil {
		named, err = filepath.Abs(named)
	}
	if err != nil {
		return self, nil
	}
	one, err := os.Stat(named)
	if err != nil {
		return self, nil
	}
	if two, err := os.Stat(self); err != nil || !os.SameFile(one, two) {
		return self, nil
	}
	return named, nil
}

// Self is a path of the program that runs, also when its file is gone.
func Self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// Sockets are listening sockets to be handed over, by name: descriptors of their own, which
// keep the queues when nobody else does.
type Sockets map[string]int

// Keep makes descriptors of sockets, of which each may be nil.
func Keep(sockets map[string]*net.TCPListener) (Sockets, error) {
	s := Sockets{}
	for name, l := range sockets {
		if l == nil {
			continue
		}
		fd, err := duplicate(l)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("keep the socket for %s: %w", name, err)
		}
		s[name] = fd
	}
	return s, nil
}

// Close closes the descriptors.
func (s Sockets) Close() {
	for _, fd := range s {
		_ = unix.Close(fd)
	}
	clear(s)
}

// A Successor is a process that was started to take over from this one.
type Successor struct {
	PID int

	wire     *wire
	process  *os.Process
	prepared chan Prepared // has room for one, as has serving
	serving  chan Serving
	silent   chan struct{} // closed when it says nothing more
	exited   chan struct{} // closed when it has ended
	state    *os.ProcessState

	mu     sync.Mutex
	kept   []connection // that were given
	to     *Successor   // that all is handed on to; nil: none
	served bool
	reason string
}

// Start starts a program to take over the sockets, from a path that may be another one than
// it is known by. It has the arguments, the environment, and more of that, and the standard
// files of this process.
func Start(path, program string, sockets Sockets, more ...string) (*Successor, error) {
	w, control, err := wirePair()
	if err != nil {
		return nil, err
	}
	files := []uintptr{0, 1, 2, uintptr(control)}
	handed := []string{fmt.Sprint(controlName, ":", firstFD)}
	for _, name := range slices.Sorted(maps.Keys(sockets)) {
		handed = append(handed, fmt.Sprint(name, ":", len(files)))
		files = append(files, uintptr(sockets[name]))
	}
	environ := slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == variable || name == programVariable
	})
	environ = append(append(environ, more...), variable+"="+strings.Join(handed, ","), programVariable+"="+program)
	pid, err := syscall.ForkExec(path, os.Args, &syscall.ProcAttr{Env: environ, Files: files})
	_ = unix.Close(control)
	if err != nil {
		w.close()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		w.close()
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	s := &Successor{
		PID: pid, wire: w, process: process, prepared: make(chan Prepared, 1), serving: make(chan Serving, 1),
		silent: make(chan struct{}), exited: make(chan struct{}),
	}
	go s.listen()
	go func() {
		defer close(s.exited)
		s.state, _ = s.process.Wait() // which fails only for who waited before
	}()
	return s, nil
}

// listen takes what the other process says until it is gone.
func (s *Successor) listen() {
	defer close(s.silent)
	for {
		m, err := s.wire.receive()
		if err != nil {
			return
		}
		switch m.kind {
		case saidPrepared:
			offer(s.prepared, m)
		case saidServing:
			offer(s.serving, m)
		case saidFailed:
			var f failure
			if json.Unmarshal(m.text, &f) == nil {
				s.mu.Lock()
				s.reason = f.Error
				s.mu.Unlock()
			}
		}
	}
}

func offer[V any](to chan V, m message) {
	var v V
	if json.Unmarshal(m.text, &v) == nil && len(to) == 0 {
		to <- v
	}
}

// An EndError says that a process ended before it had taken over.
type EndError struct {
	PID    int
	Status int    // -1: by a signal
	Reason string // as it said
}

func (e *EndError) Error() string {
	how := fmt.Sprintf("ended with status %d", e.Status)
	if e.Status < 0 {
		how = "was killed"
	}
	return fmt.Sprintf("process %d %s: %s", e.PID, how, cmp.Or(e.Reason, "it did not say why"))
}

// Prepared waits until the process could take over. Errors are that of ctx, and an
// *EndError.
func (s *Successor) Prepared(ctx context.Context) (Prepared, error) { return await(ctx, s, s.prepared) }

// Serving waits until the process has taken over. Errors are as those of Prepared.
func (s *Successor) Serving(ctx context.Context) (Serving, error) { return await(ctx, s, s.serving) }

func await[V any](ctx context.Context, s *Successor, what <-chan V) (v V, err error) {
	select {
	case v = <-what:
		return v, nil
	case <-s.exited:
	case <-ctx.Done():
		return v, fmt.Errorf("process %d: %w", s.PID, ctx.Err())
	}
	<-s.silent // what it said before
	select {
	case v = <-what: // and it has ended since
	default:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	end := &EndError{PID: s.PID, Status: -1, Reason: s.reason}
	if s.state != nil {
		end.Status = s.state.ExitCode()
	}
	return v, end
}

// Release says that this process has let go of the database.
func (s *Successor) Release(r Released) error {
	if err := s.wire.send(saidReleased, r, -1); err != nil {
		return fmt.Errorf("tell process %d: %w", s.PID, err)
	}
	return nil
}

// Give gives it a connection. Until Served a copy is kept, for another process if this one
// fails. It is a [Give].
func (s *Successor) Give(fd int, begun bool) error {
	s.mu.Lock()
	to, served := s.to, s.served
	if to == nil && !served {
		s.kept = append(s.kept, connection{fd, begun})
	}
	s.mu.Unlock()
	switch {
	case to != nil:
		return to.Give(fd, begun)
	case served:
		defer unix.Close(fd)
	}
	s.pass(connection{fd, begun})
	return nil
}

// pass sends a connection. Where that fails the process is gone, and what is kept is for the
// next one.
func (s *Successor) pass(c connection) { _ = s.wire.send(saidConnection, c, c.fd) }

// Served is for when the process serves: what was given to it is its own alone.
func (s *Successor) Served() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = true
	for _, c := range s.kept {
		_ = unix.Close(c.fd)
	}
	s.kept = nil
}

// HandOn gives all that this process was given, and will be, to another one.
func (s *Successor) HandOn(to *Successor) {
	s.mu.Lock()
	s.to = to
	kept := s.kept
	s.kept = nil
	s.mu.Unlock()
	for _, c := range kept {
		_ = to.Give(c.fd, c.Begun) // which never fails
	}
}

// Ask asks the process to end, as a service manager does.
func (s *Successor) Ask() { _ = s.process.Signal(syscall.SIGTERM) }

// Ended is closed when the process has ended.
func (s *Successor) Ended() <-chan struct{} { return s.exited }

// Kill ends the process, and returns when it is gone.
func (s *Successor) Kill() {
	_ = s.process.Kill() // fails when it has ended
	<-s.exited
	s.wire.close()
}

// Close lets go of a process that serves: it hears no more.
func (s *Successor) Close() {
	s.Served()
	s.wire.close()
}
