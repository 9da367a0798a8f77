package handover

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var names = []string{"server", "metrics"}

// given is what a child of TestMain says it was started with.
const asChild = "HANDOVER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asChild) != "" {
		tell()
		return
	}
	os.Exit(m.Run())
}

// tell prints what this process received, twice, and what its own child inherits.
func tell() {
	if os.Getenv("LISTEN_PID") == "self" {
		os.Setenv("LISTEN_PID", fmt.Sprint(os.Getpid()))
	}
	for range 2 {
		r, err := Receive(names...)
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Println(r.Activated, strings.Join(r.Left(), ","))
		for _, name := range r.Left() {
			defer r.Take(name).Close()
		}
	}
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "LISTEN_") {
			fmt.Println("left:", variable)
		}
	}
	// Descriptors of sockets that a child has.
	out, err := exec.Command("sh", "-c", "ls -l /proc/self/fd | grep -c socket:").Output()
	fmt.Println("inherited:", strings.TrimSpace(string(out)), err)
}

func listen(t *testing.T, network, address string) interface{ File() (*os.File, error) } {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(interface{ File() (*os.File, error) })
}

// What systemd hands over is taken once, and is nobody's who did not take it.
func TestReceiveFromSystemd(t *testing.T) {
	one, two := listen(t, "tcp", "127.0.0.1:0"), listen(t, "tcp", "127.0.0.1:0")
	local := listen(t, "unix", filepath.Join(t.TempDir(), "socket"))
	conn, err := net.Dial("tcp", one.(net.Listener).Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const nothing = "inherited: 0 exit status 1\n" // grep's, for no line
	for _, tt := range []struct {
		name    string
		environ []string
		files   []interface{ File() (*os.File, error) }
		want    string
	}{
		{"named", []string{"LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=metrics:server"}, []interface{ File() (*os.File, error) }{one, two}, "true metrics,server\nfalse \n" + nothing},
		{"without a name", []string{"LISTEN_PID=self", "LISTEN_FDS=1"}, []interface{ File() (*os.File, error) }{one}, "true server\nfalse \n" + nothing},
		{"none", nil, nil, "false \nfalse \n" + nothing},
		{"another's", []string{"LISTEN_PID=1", "LISTEN_FDS=1"}, nil, "false \nfalse \n" + nothing},
		{"unknown name", []string{"LISTEN_PID=self", "LISTEN_FDS=1", "LISTEN_FDNAMES=portico.socket"}, []interface{ File() (*os.File, error) }{one},
			"error: take the sockets of systemd: \"portico.socket\" is no name of a socket: say FileDescriptorName=server, or one of server, metrics\nfalse \n" + nothing},
		{"twice", []string{"LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=server:server"}, []interface{ File() (*os.File, error) }{one, two},
			"error: take the sockets of systemd: there are two sockets for server\nfalse \n" + nothing},
		{"too few names", []string{"LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=server"}, nil,
			"error: take the sockets of systemd: LISTEN_FDNAMES has 1 names, and there are 2 sockets: say FileDescriptorName= for each\nfalse \n" + nothing},
		{"no number", []string{"LISTEN_PID=self", "LISTEN_FDS=-1"}, nil, "error: take the sockets of systemd: LISTEN_FDS is \"-1\", not a number of sockets\nfalse \n" + nothing},
		{"not of TCP", []string{"LISTEN_PID=self", "LISTEN_FDS=1"}, []interface{ File() (*os.File, error) }{local},
			"error: take the sockets of systemd: server: a socket of unix is not served, only those of TCP are\nfalse \n" + nothing},
		{"no listener", []string{"LISTEN_PID=self", "LISTEN_FDS=1"}, []interface{ File() (*os.File, error) }{conn.(*net.TCPConn)},
			"error: take the sockets of systemd: server: descriptor 3 is no socket that listens\nfalse \n" + nothing},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(append(os.Environ(), asChild+"=1"), tt.environ...)
			for _, s := range tt.files {
				f, err := s.File()
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			}
			out, err := cmd.CombinedOutput()
			if err != nil || string(out) != tt.want {
				t.Errorf("%v:\n%s\nwant\n%s", err, out, tt.want)
			}
		})
	}
}

func TestListensAt(t *testing.T) {
	loopback := listen(t, "tcp", "127.0.0.1:0").(*net.TCPListener)
	all := listen(t, "tcp", ":0").(*net.TCPListener)
	port := func(l *net.TCPListener) int { return l.Addr().(*net.TCPAddr).Port }
	for _, tt := range []struct {
		l    *net.TCPListener
		host string
		port int
		want bool
	}{
		{loopback, "127.0.0.1", port(loopback), true},
		{loopback, "127.0.0.1", 0, true},
		{loopback, "127.0.0.1", port(loopback) + 1, false},
		{loopback, "127.0.0.2", port(loopback), false},
		{loopback, "::1", port(loopback), false},
		{loopback, "", port(loopback), false},
		{all, "", port(all), true},
		{all, "0.0.0.0", port(all), true},
		{all, "::", port(all), true},
		{all, "", port(all) + 1, false},
		{all, "127.0.0.1", port(all), false},
	} {
		if got := ListensAt(tt.l, tt.host, tt.port); got != tt.want {
			t.Errorf("%v listens at %q %d: %v", tt.l.Addr(), tt.host, tt.port, got)
		}
	}
}
