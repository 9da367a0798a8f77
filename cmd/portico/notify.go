package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A manager is what has started this process, as a unit of systemd is, and wants to be told
// how it is doing (sd_notify). All methods do nothing where there is none.
//
// Ours because the package daemon of go-systemd looks for NOTIFY_SOCKET in the environment at
// every message, where the programs find it that the server starts.
type manager struct {
	socket   string        // "" for no manager
	watchdog time.Duration // that long without a word, and it ends the process; 0: never
	log      *slog.Logger
}

const (
	notifySocket = "NOTIFY_SOCKET"
	watchdogTime = "WATCHDOG_USEC"
	watchdogPID  = "WATCHDOG_PID"

	notifyPatience = 5 * time.Second // for a manager that takes no messages
	extendEvery    = 10 * time.Second
	extension      = time.Minute
	statusEvery    = 10 * time.Second // at most
)

// newManager is the manager that environ tells of. From then on no program that this
// process starts hears of it, but those that get its environ.
func newManager(environ []string, log *slog.Logger) (*manager, error) {
	given := map[string]string{}
	for _, v := range environ {
		if name, value, _ := strings.Cut(v, "="); name == notifySocket || name == watchdogTime || name == watchdogPID {
			given[name] = value
		}
	}
	for _, name := range []string{notifySocket, watchdogTime, watchdogPID} {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("unset %s: %w", name, err)
		}
	}
	m := &manager{socket: given[notifySocket], log: log}
	if m.socket == "" {
		return m, nil
	}
	// Beside these there are sockets of virtual machines, which containers have for their whole.
	if m.socket[0] != '/' && m.socket[0] != '@' {
		return nil, unfit(fmt.Errorf("NOTIFY_SOCKET is %q, not the path of a socket", m.socket))
	}
	if pid := given[watchdogPID]; pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return m, nil // it watches another
	}
	if v := given[watchdogTime]; v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n <= 0 || n > int64(24*time.Hour/time.Microsecond) {
			return nil, unfit(fmt.Errorf("WATCHDOG_USEC is %q, not a number of microseconds", v))
		}
		m.watchdog = time.Duration(n) * time.Microsecond
	}
	return m, nil
}

// follows reports whether there is a manager, which takes another process for the server
// when it is told so.
func (m *manager) follows() bool { return m.socket != "" }

// environ is for a process that takes the place of this one.
func (m *manager) environ() []string {
	if m.socket == "" {
		return nil
	}
	v := []string{notifySocket + "=" + m.socket}
	if m.watchdog > 0 {
		v = append(v, fmt.Sprintf("%s=%d", watchdogTime, m.watchdog.Microseconds()))
	}
	return v
}

// tell sends one message. The server goes on without a manager that takes none.
func (m *manager) tell(lines ...string) {
	if m.socket == "" {
		return
	}
	if err := m.send(strings.Join(lines, "\n")); err != nil {
		m.log.Warn("the service manager takes no message", "message", lines[0], "error", err)
	}
}

func (m *manager) send(message string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(notifyPatience)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(message))
	return err
}

func statusLine(status string) string { return "STATUS=" + strings.ReplaceAll(status, "\n", " ") }

// ready says that the server serves, at the start or again after a reload.
func (m *manager) ready(status string) { m.tell("READY=1", statusLine(status)) }

// reloading says that settings are being read again; ready has to follow, whatever came of it.
func (m *manager) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		m.log.Warn("read the clock", "error", err)
		return
	}
	m.tell("RELOADING=1", fmt.Sprintf("MONOTONIC_USEC=%d", now.Nano()/1000))
}

// stopping says that the server ends, and what it waits for.
func (m *manager) stopping(status string) { m.tell("STOPPING=1", statusLine(status)) }

// follow says that pid is the server from now on, which then speaks for itself.
func (m *manager) follow(pid int) { m.tell(fmt.Sprintf("MAINPID=%d", pid)) }

// extend asks for more time than the manager gives a start or a stop, again and again, until
// done is called.
func (m *manager) extend(status string) (done func()) {
	if m.socket == "" {
		return func() {}
	}
	more := fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extension.Microseconds())
	m.tell(more, statusLine(status))
	return background(context.Background(), func(ctx context.Context) {
		for wait(ctx, extendEvery); ctx.Err() == nil; wait(ctx, extendEvery) {
			m.tell(more)
		}
	})
}

// watch tells what status says whenever that has changed, and that the process is alive as
// long as stuck is nil, until ctx is done.
func (m *manager) watch(ctx context.Context, status func() string, stuck func() error) {
	if m.socket == "" {
		return
	}
	every := statusEvery
	if m.watchdog > 0 {
		every = min(every, m.watchdog/2)
	}
	said, warned := "", false
	for ; ctx.Err() == nil; wait(ctx, every) {
		if s := status(); s != said {
			m.tell(statusLine(s))
			said = s
		}
		if m.watchdog == 0 {
			continue
		}
		if err := stuck(); err == nil {
			m.tell("WATCHDOG=1")
		} else if !warned {
			m.log.Error("the server is stuck, and waits to be started again", "error", err)
			warned = true
		}
	}
}

// status is what the server does, in a line.
func (p *parts) status() string {
	if p.health.failing() {
		return "serves " + p.publicURL + ", but the database takes no writes: see the log"
	}
	return "serves " + p.publicURL
}
