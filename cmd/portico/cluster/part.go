package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"portico/cmd/portico/launch"
)

// A part is a program of the cluster, which may be killed and started again. Its methods
// may be called at any time, by whoever is the only one to do so for that part.
type part struct {
	name string
	dir  string // of the cluster
	path string
	args []string
	env  []string
	user *syscall.Credential // nil: as whoever started the cluster
	// ready says whether it does its work.
	ready func(context.Context) error
	// postgres is the folder of the database that it runs, if it is a Patroni's.
	postgres string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended
}

// start starts the program, and waits until it is ready.
func (p *part) start(ctx context.Context) error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, done := exec.Command(p.path, p.args...), make(chan struct{})
	cmd.Env = append(launch.Environ(), p.env...)
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = log, log
	// A session of its own: an interrupt at the terminal is for who started the cluster.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: p.user}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	pid := p.pidFile()
	if err := os.WriteFile(pid, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	go func() {
		cmd.Wait()
		os.Remove(pid)
		close(done)
	}()
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, launch.Patience)
	defer cancel()
	for {
		if err = p.ready(ctx); err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("%s ended (%v); its log ends with\n%s", p.name, cmd.ProcessState, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its log ends with\n%s", p.name, err, p.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// kill ends the program in the midst of whatever it does, with the Postgres that it runs,
// and waits until they are gone.
func (p *part) kill() {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	cmd.Process.Kill() // fails when it has ended, which is what is wanted
	<-done
	if pid := p.postmaster(); pid != 0 {
		syscall.Kill(pid, syscall.SIGKILL)
		for syscall.Kill(pid, 0) == nil && p.postmaster() == pid {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// freeze stops the program where it is, until thaw.
func (p *part) freeze() error { return p.signal(syscall.SIGSTOP) }
func (p *part) thaw() error   { return p.signal(syscall.SIGCONT) }

func (p *part) signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Signal(s)
}

// ended is closed when the program has ended.
func (p *part) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// postmaster is the process of the Postgres that a Patroni runs, 0: none.
func (p *part) postmaster() int {
	if p.postgres == "" {
		return 0
	}
	text, err := os.ReadFile(filepath.Join(p.postgres, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	// The file outlives a process that was killed, and the number may be somebody else's.
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err != nil || at != p.postgres {
		return 0
	}
	return pid
}

func (p *part) pidFile() string { return filepath.Join(p.dir, "run", p.name) }
func (p *part) log() string     { return filepath.Join(p.dir, "log", p.name) }

// tail is the end of the log.
func (p *part) tail() string {
	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}
