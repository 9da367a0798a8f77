//go:build packaging

package packaging

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"portico/cmd/portico/launch"
	"portico/impl/identity/directory"
)

const (
	release = "bookworm"
	mirror  = "http://deb.debian.org/debian"

	// Where a machine finds what is outside of it.
	cacheAddress     = "127.0.0.1:3142" // of Debian's packages
	directoryAddress = "127.0.0.1:2582"
)

// bareDebian makes a Debian with nothing in it but what a package manager needs, as an
// archive that machines are unpacked from.
func bareDebian(t *testing.T) (archive string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("a bare Debian is made by root alone")
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	run(t, "debootstrap", "--variant=minbase", release, root, mirror)
	archive = filepath.Join(dir, "root.tar")
	run(t, "tar", "-C", root, "-cf", archive, ".")
	return archive
}

// A machine is a bare Debian with processes and a network of its own, in which nothing
// runs. The network is loopback; from there lead ways to Debian's packages, and to a PLC
// directory. Whatever becomes of the test, nothing of it stays: its processes end with the
// first one, and that with the test.
type machine struct {
	t       *testing.T
	root    string
	pid     string // of its first process
	fetched atomic.Int64
}

func newMachine(t *testing.T, archive string) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	run(t, "tar", "-C", m.root, "-xf", archive)
	m.write("etc/hosts", "127.0.0.1 localhost\n") // a name that Debian's installer gives each machine
	m.write("etc/apt/apt.conf.d/90packages", `Acquire::http::Proxy "http://`+cacheAddress+`";`)

	const first = `set -e
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
ip link set lo up
read -r pid rest </proc/self/stat # of /proc as it is outside
echo "$pid"
exec chroot "$1" sh -c 'while sleep 1; do :; done' # which buries what others leave`
	path, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", first, "sh", m.root)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, end, ended := make(chan error), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the signal is sent when the thread ends that started it
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		<-end
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		close(end)
		<-ended
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the machine does not start: %v", err)
	}
	m.pid = strings.TrimSpace(line)

	packages := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { m.fetched.Add(1) }}
	m.serve(cacheAddress, packages)
	m.serve(directoryAddress, directory.New(directory.NewMemory(), time.Now, "packaging", slog.New(slog.DiscardHandler)))
	return m
}

// inside calls fn in the network of the machine. Sockets that fn makes are there for good.
func (m *machine) inside(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this
		done <- func() error {
			network, err := os.Open("/proc/" + m.pid + "/ns/net")
			if err != nil {
				return err
			}
			defer network.Close()
			if err := unix.Setns(int(network.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the machine's network: %w", err)
			}
			return fn()
		}()
	}()
	return <-done
}

// serve serves h at an address of the machine, from outside.
func (m *machine) serve(address string, h http.Handler) {
	m.t.Helper()
	var l net.Listener
	err := m.inside(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(l)
	m.t.Cleanup(func() { server.Close() })
}

// dial connects to an address of the machine, which must be one of numbers.
func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.inside(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// try runs a command line in the machine as root, and returns all that it printed.
func (m *machine) try(line string, env ...string) (string, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), launch.Patience)
	defer cancel()
	args := append([]string{"--target", m.pid, "--mount", "--net", "--pid", "--root", "env", "-i", "--chdir=/",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root"}, env...)
	cmd := exec.CommandContext(ctx, "nsenter", append(args, "sh", "-c", line)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // what it left in the background may hold the pipe
	err := cmd.Run()
	return out.String(), err
}

// run is try of what must end well.
func (m *machine) run(line string, env ...string) string {
	m.t.Helper()
	out, err := m.try(line, env...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// write writes a file, by its path from the root of the machine.
func (m *machine) write(path, text string) {
	m.t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// bring copies a file to the root of the machine.
func (m *machine) bring(from, to string) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(data))
}
