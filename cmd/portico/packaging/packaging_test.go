//go:build packaging

package packaging

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"portico/cmd/portico/launch"
)

// binary is the portico binary under test.
var binary string

func TestMain(m *testing.M) {
	launch.RunTests(m, &binary, func() (err error) {
		binary, err = filepath.Abs(binary)
		return err
	})
}

// run runs a program of the system, which must end well, and returns what it printed on
// stdout and on standard error.
func run(t *testing.T, program string, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := try(t, program, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", program, strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout, stderr
}

// try is run of a program that may fail.
func try(t *testing.T, program string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%v; make packaging needs it", err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = launch.Environ()
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}
