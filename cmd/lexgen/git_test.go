package main

import (
	"archive/tar"
	"crypto/sha1"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"portico/cmd/internal/curl"
)

// The commands that the tests need and a machine with no more than Go and make lacks
// are this program under other names. A git that is there is used.
func TestMain(m *testing.M) {
	commands := map[string]func(){"curl": curl.Main}
	// In the command itself, what is found is the command.
	if _, err := exec.LookPath("git"); err != nil || filepath.Base(os.Args[0]) == "git" {
		commands["git"] = gitCommand
	}
	testscript.Main(m, commands)
}

// gitCommand is a git whose repositories have one commit: a copy of all files in .git/commit.
// It knows what lexgen asks of git, and how tests make a repository.
func gitCommand() {
	if err := gitOfOneCommit(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "git:", err)
		os.Exit(128)
	}
}

func gitOfOneCommit(args []string) error {
	dir := "."
	for len(args) > 2 && (args[0] == "-C" || args[0] == "-c") {
		if args[0] == "-C" {
			dir = args[1]
		}
		args = args[2:]
	}
	top, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if args[0] == "init" {
		return os.Mkdir(filepath.Join(top, ".git"), 0o777)
	}
	for {
		if info, err := os.Stat(filepath.Join(top, ".git")); err == nil && info.IsDir() {
			break
		}
		if filepath.Dir(top) == top {
			return fmt.Errorf("%s is in no repository", dir)
		}
		top = filepath.Dir(top)
	}
	commit, origin := filepath.Join(top, ".git", "commit"), filepath.Join(top, ".git", "origin")
	switch strings.Join(args, " ") {
	case "add .":
		return nil
	case "commit -q -m " + args[len(args)-1]:
		files, err := workingTree(top)
		if err != nil {
			return err
		}
		for name, text := range files {
			name = filepath.Join(commit, name)
			if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(name, text, 0o666); err != nil {
				return err
			}
		}
		return nil
	case "remote add origin " + args[len(args)-1]:
		return os.WriteFile(origin, []byte(args[len(args)-1]), 0o666)
	case "config --get remote.origin.url":
		url, err := os.ReadFile(origin)
		fmt.Println(string(url))
		return err
	case "rev-parse --show-toplevel":
		fmt.Println(top)
		return nil
	}
	committed, err := workingTree(commit)
	if err != nil {
		return err
	}
	id := fmt.Sprintf("%x", sha1.Sum([]byte(commit)))
	switch strings.Join(args, " ") {
	case "rev-parse HEAD", "rev-parse --verify --quiet --end-of-options HEAD^{commit}":
		fmt.Println(id)
		return nil
	case "status --porcelain -- .":
		now, err := workingTree(top)
		for name, text := range now {
			if string(committed[name]) != string(text) {
				fmt.Println(" M", name)
			}
		}
		return err
	case "ls-tree " + id + " -- lexicons":
		for name := range committed {
			if strings.HasPrefix(name, "lexicons/") {
				fmt.Println(name)
			}
		}
		return nil
	case "archive --format=tar " + id + " -- lexicons":
		w := tar.NewWriter(os.Stdout)
		for name, text := range committed {
			if !strings.HasPrefix(name, "lexicons/") {
				continue
			}
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o666, Size: int64(len(text))}); err != nil {
				return err
			}
			if _, err := w.Write(text); err != nil {
				return err
			}
		}
		return w.Close()
	}
	return fmt.Errorf("%q is more than this git knows", args)
}

// workingTree is every file below dir but git's own.
func workingTree(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name == ".git":
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = text
		return err
	})
	return files, err
}
