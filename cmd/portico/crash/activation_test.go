//go:build crash

package crash

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// activated starts the server as systemd does with sockets, by name.
func activated(t *testing.T, env []string, names string, sockets ...*os.File) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	// The number of the process is known to itself alone.
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `LISTEN_PID=$$ exec "$0" serve`, binary)
	cmd.Env = append(append(launch.Environ(), env...), fmt.Sprint("LISTEN_FDS=", len(sockets)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = sockets
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

// Where systemd holds the sockets, a restart refuses nobody: those who come between two
// processes wait until there is one.
func TestRestartWithSocketsOfSystemd(t *testing.T) {
	const clients = 200
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	env := []string{"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + t.TempDir(), "PDS_PORT=" + port, "PORTICO_PLC_PORT=0"}
	for round := range 2 {
		began := time.Now()
		conns := make([]net.Conn, clients)
		for i := range conns {
			if conns[i], err = net.Dial("tcp", l.Addr().String()); err != nil {
				t.Fatal(err)
			}
			defer conns[i].Close()
			if _, err := fmt.Fprintf(conns[i], "GET /xrpc/_health HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
		}
		cmd, out := activated(t, env, "server", socket)
		for i, conn := range conns {
			_ = conn.SetReadDeadline(time.Now().Add(launch.Patience))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				t.Fatalf("client %d: %v, %v; the server wrote\n%s", i, resp, err, out)
			}
			conn.Close()
		}
		t.Logf("start %d: %d clients that waited have their answers %v after the first connected", round+1, clients, time.Since(began).Round(time.Millisecond))
		if err := errors.Join(cmd.Process.Signal(os.Interrupt), cmd.Wait()); err != nil {
			t.Fatalf("stop: %v\n%s", err, out)
		}
	}
}

// Sockets that the settings do not name would be served by nobody.
func TestSocketsOfSystemdThatNobodyAsksFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	free, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, tt := range []struct{ port, name, want string }{
		{fmt.Sprint(free), "server", `systemd has ` + l.Addr().String() + ` for the socket "server", and the settings (PDS_PORT, PORTICO_BIND) have 127.0.0.1:` + fmt.Sprint(free) + ": make them agree"},
		{fmt.Sprint(free), "metrics", "systemd has sockets that no setting asks for: metrics"},
		{port, "portico.socket", `"portico.socket" is no name of a socket: say FileDescriptorName=server`},
	} {
		data := filepath.Join(t.TempDir(), "data")
		cmd, out := activated(t, []string{"PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY=" + data, "PDS_PORT=" + tt.port, "PORTICO_PLC_PORT=0"}, tt.name, socket)
		err := cmd.Wait()
		if cmd.ProcessState.ExitCode() != 78 || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%s at %s: %v\n%s", tt.name, tt.port, err, out)
		}
		if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s at %s: it made %s (%v)", tt.name, tt.port, data, err)
		}
	}
}
