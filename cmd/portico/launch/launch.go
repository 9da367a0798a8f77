// Package launch starts built binaries as an operator would, for tests that look
// at them from outside. Nothing in it knows what is inside of the server.
package launch

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Patience is how long a start or a stop may take on a busy machine.
const Patience = 3 * time.Minute

// Binary is the path of the portico binary to test: PORTICO_BINARY, or else one
// that it builds in dir the way make build does.
func Binary(ctx context.Context, dir string) (string, error) {
	if path := os.Getenv("PORTICO_BINARY"); path != "" {
		return path, nil
	}
	path := filepath.Join(dir, "portico")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "portico/cmd/portico")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build portico: %w\n%s", err, out)
	}
	return path, nil
}

// RunTests is a TestMain: it sets binary to the path of Binary, calls prepare unless it is
// nil, runs the tests and ends with their status.
func RunTests(m interface{ Run() int }, binary *string, prepare func() error) {
	flag.Parse() // what is wrong with flags is said before anything is built
	os.Exit(runTests(m, binary, prepare))
}

func runTests(m interface{ Run() int }, binary *string, prepare func() error) int {
	dir, err := os.MkdirTemp("", "portico-tests")
	if err == nil {
		defer os.RemoveAll(dir)
		*binary, err = Binary(context.Background(), dir)
	}
	if err == nil && prepare != nil {
		err = prepare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// FreePort is a TCP port of loopback that nobody listened on a moment ago. It is none of
// those that systems give to whoever asks for any, so that it stays free while others
// connect and listen.
func FreePort() (int, error) {
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return l.Addr().(*net.TCPAddr).Port, l.Close()
	}
}

// Process is a program that was started and answers.
type Process struct {
	cmd  *exec.Cmd
	log  log
	done chan struct{}
	err  error // of Wait, once done is closed
}

// Start starts path with args and waits until a GET of ready is answered with
// 200. env is added to an environment without any setting of portico's. An
// error has what the program wrote.
func Start(ctx context.Context, ready, dir string, env []string, path string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.Command(path, args...), done: make(chan struct{})}
	p.cmd.Dir = dir
	p.cmd.Env = append(Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(path), err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := p.answers(ctx, ready); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start %s: %w; it wrote\n%s", filepath.Base(path), err, p.Log())
	}
	return p, nil
}

// Environ is the environment without any setting of portico's.
func Environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PDS_") || strings.HasPrefix(v, "PORTICO_")
	})
}

func (p *Process) answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("%s answers %s", url, resp.Status)
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop asks the program to end, and waits until it has. It is an error when the
// program had ended by itself, takes too long, or ends with another status than 0.
func (p *Process) Stop() error {
	select {
	case <-p.done:
		return fmt.Errorf("the program ended (%v) before it was asked to; it wrote\n%s", p.cmd.ProcessState, p.Log())
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(Patience):
		p.Kill()
		return fmt.Errorf("the program did not stop; it wrote\n%s", p.Log())
	}
	if p.err != nil {
		return fmt.Errorf("the program ended: %w; it wrote\n%s", p.err, p.Log())
	}
	return nil
}

// Kill ends the program in the middle of whatever it does and waits until it is
// gone.
func (p *Process) Kill() {
	p.cmd.Process.Kill() // fails when it has ended, which is what is wanted
	<-p.done
}

// PID is its number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Log is what the program wrote so far.
func (p *Process) Log() string { return p.log.String() }

// CPU is the processor time, user and system, that the threads of the program have used so
// far. Those of Go's programs hardly ever end. It reads /proc, which only Linux has.
func (p *Process) CPU() (sum time.Duration, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err == nil && threads == nil {
		err = fmt.Errorf("no threads in /proc/%d/task", p.cmd.Process.Pid)
	}
	for _, path := range threads {
		stat, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // it ended just now
			continue
		}
		if err != nil {
			return 0, err
		}
		spent, _, _ := strings.Cut(string(stat), " ")
		n, err := strconv.ParseInt(spent, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("unexpected %s: %q", path, stat)
		}
		sum += time.Duration(n)
	}
	return sum, err
}

// PeakMemory is the most bytes of memory that the program has had so far.
func (p *Process) PeakMemory() (int64, error) { return p.Memory("VmHWM") }

// Memory is a size in bytes that /proc/PID/status has, such as VmRSS. Only Linux has it.
func (p *Process) Memory(name string) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if size, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(size), "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no %s in /proc/%d/status", name, p.cmd.Process.Pid)
}

// log may be read while it is written.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Server is a running portico on a port of its own.
type Server struct {
	*Process
	URL       string
	Directory string // URL of its embedded PLC directory, which need not be in use
	Data      string // its data folder

	binary string
	env    []string
}

// StartServer starts the portico binary with its data in the folder data and env
// on top of the development defaults. Ports that env does not set are free ones.
func StartServer(ctx context.Context, binary, data string, env ...string) (*Server, error) {
	port, err := portOf(env, "PDS_PORT")
	if err != nil {
		return nil, err
	}
	plc, err := portOf(env, "PORTICO_PLC_PORT")
	if err != nil {
		return nil, err
	}
	s := &Server{
		URL:       "http://localhost:" + port,
		Directory: "http://localhost:" + plc,
		Data:      data,
		binary:    binary,
		env:       append([]string{"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + data, "PDS_PORT=" + port, "PORTICO_PLC_PORT=" + plc}, env...),
	}
	return s.Again(ctx)
}

// Again starts a server that has ended once more: on its data, at its URLs.
func (s *Server) Again(ctx context.Context) (*Server, error) {
	again := *s
	var err error
	if again.Process, err = Start(ctx, s.URL+"/xrpc/_health", "", s.env, s.binary, "serve"); err != nil {
		return nil, err
	}
	return &again, nil
}

func portOf(env []string, name string) (string, error) {
	for _, v := range env {
		if port, ok := strings.CutPrefix(v, name+"="); ok {
			return port, nil
		}
	}
	port, err := FreePort()
	return fmt.Sprint(port), err
}
