//go:build packaging

package packaging

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"portico/cmd/portico/launch"
)

// instructions are the lines of the Containerfile, each with its word first.
func instructions(t *testing.T) (lines [][2]string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			word, rest, _ := strings.Cut(line, " ")
			lines = append(lines, [2]string{word, rest})
		}
	}
	return lines
}

// Nothing here builds images, so the test does what the Containerfile says with folders for
// images: it builds by the very commands, copies what is copied, and runs the image's commands
// as its user, in a root that has nothing else. That the base images are there and
// have Go and the certificates is what it takes for granted.
func TestContainerfile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("to run in another root this wants to be root")
	}
	const project = "../../.."
	build, image := t.TempDir(), t.TempDir()
	if err := os.Chmod(image, 0o755); err != nil {
		t.Fatal(err)
	}
	var base []string
	var env, command, entry, health []string
	var uid int
	volume := ""
	words := func(array string) (w []string) {
		t.Helper()
		if err := json.Unmarshal([]byte(array), &w); err != nil {
			t.Fatalf("%s: %v", array, err)
		}
		return w
	}
	for _, in := range instructions(t) {
		word, rest := in[0], in[1]
		switch final := len(base) == 2; {
		case word == "FROM":
			base = append(base, rest)
		case word == "WORKDIR" && !final, word == "ARG" && rest == "VERSION=dev", word == "EXPOSE" && rest == "2583":
		case word == "COPY" && !final:
			from := strings.Fields(rest)
			for _, path := range from[:len(from)-1] {
				if _, err := os.Stat(filepath.Join(project, path)); err != nil {
					t.Errorf("COPY %s: %v", rest, err)
				}
			}
		case word == "RUN" && !final:
			cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(rest, "/out/", build+"/"))
			cmd.Dir, cmd.Env = project, append(launch.Environ(), "VERSION=1.2.3")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("RUN %s: %v\n%s", rest, err, out)
			}
		case word == "COPY":
			match := regexp.MustCompile(`^--from=build (?:--chown=(\d+):\d+ )?(\S+) (\S+)$`).FindStringSubmatch(rest)
			if match == nil {
				t.Fatalf("COPY %s is not understood", rest)
			}
			source, target := match[2], filepath.Join(image, match[3])
			if strings.HasPrefix(source, "/out/") {
				source = filepath.Join(build, strings.TrimPrefix(source, "/out/"))
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				t.Fatal(err)
			}
			run(t, "cp", "-a", "-L", source, target)
			if match[1] != "" {
				run(t, "chown", "-R", match[1], target)
			}
		case word == "USER":
			user, _, _ := strings.Cut(rest, ":")
			var err error
			if uid, err = strconv.Atoi(user); err != nil || uid == 0 {
				t.Fatalf("USER %s: %v", rest, err)
			}
		case word == "ENV":
			env = append(env, rest)
		case word == "VOLUME":
			volume = words(rest)[0]
		case word == "HEALTHCHECK":
			_, array, ok := strings.Cut(rest, " CMD ")
			if !ok {
				t.Fatalf("HEALTHCHECK %s has no command", rest)
			}
			health = words(array)
		case word == "ENTRYPOINT":
			entry = words(rest)
		case word == "CMD":
			command = words(rest)
		default:
			t.Errorf("%s %s is not understood", word, rest)
		}
	}
	mod, err := os.ReadFile(filepath.Join(project, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(mod))[1]
	if want := []string{"docker.io/library/golang:" + version + " AS build", "scratch"}; !slices.Equal(base, want) {
		t.Errorf("from %q, want %q", base, want)
	}
	if volume != "/data" || uid == 0 {
		t.Errorf("the volume is %q, the user %d", volume, uid)
	}

	port, err := launch.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, fmt.Sprint("PDS_PORT=", port), "PORTICO_PLC_PORT=0")
	inside := func(args ...string) *exec.Cmd {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir, cmd.Env = "/", env
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: image, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
		return cmd
	}
	// The paths of the image are those of its root, where exec.Command cannot look.
	if out, err := inside(health...).CombinedOutput(); err == nil {
		t.Errorf("with no server %q says that all is well: %s", health, out)
	}
	var log safeBuffer
	server := inside(append(entry, command...)...)
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	t.Cleanup(func() { server.Process.Kill() })
	for deadline := time.Now().Add(launch.Patience); ; time.Sleep(20 * time.Millisecond) {
		out, err := inside(health...).CombinedOutput()
		if err == nil {
			if string(out) != "1.2.3\n" {
				t.Errorf("%q prints %q", health, out)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q: %v %s\n%s", health, err, out, log.String())
		}
	}
	resp, err := http.Get(fmt.Sprintf("http://localhost:%d/", port))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := os.Stat(filepath.Join(image, volume, "secrets.env")); err != nil {
		t.Errorf("the data are not in the volume: %v", err)
	}
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the stop: %v\n%s", err, log.String())
	}
}

// The compose file is one, and says what it seems to.
func TestCompose(t *testing.T) {
	dir := t.TempDir()
	text, err := os.ReadFile("../deploy/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"compose.yaml": string(text), "portico.env": "PDS_HOSTNAME=pds.example.com\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, errs := run(t, "docker-compose", "--project-directory", dir, "-f", filepath.Join(dir, "compose.yaml"), "config")
	for _, want := range []string{
		"PDS_HOSTNAME: pds.example.com", "PDS_DATA_DIRECTORY: /data", "PORTICO_TRUSTED_PROXIES: '1'", "stop_grace_period: 45s",
		"network_mode: host", "restart: unless-stopped", "read_only: true", dir + "/Caddyfile:/etc/caddy/Caddyfile:ro",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("docker-compose config has no %q:\n%s%s", want, out, errs)
		}
	}
	if errs != "" {
		t.Errorf("docker-compose says %s", errs)
	}
}
