package main

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Whoever is asked is a server that hands over: the signal is the end of others.
func TestHandsOver(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer cmd.Process.Kill()
	if _, err := askForHandover(t.Context(), t.TempDir(), cmd.Process.Pid); err == nil || !strings.Contains(err.Error(), "SIGUSR2 would end it") {
		t.Errorf("of another program: %v", err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other program: %v", err)
	}

	// Programs in Go have a handler for each signal.
	dir := t.TempDir()
	if err := handsOver(os.Getpid()); err == nil || !strings.Contains(err.Error(), "no server that hands over") {
		t.Errorf("of a process without the mark: %v", err)
	}
	mark, err := markHandovers(dir)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := readHandover(dir); result != nil || err != nil {
		t.Errorf("before any handover: %+v, %v", result, err)
	}
	if err := handsOver(os.Getpid()); err != nil {
		t.Error(err)
	}
	r := &running{settings: &settings{DataDirectory: dir}, log: slog.New(slog.DiscardHandler), manager: &manager{}}
	r.tell(&handoverResult{From: 1})
	if err := handsOver(os.Getpid()); err != nil {
		t.Errorf("once the file is another one: %v", err)
	}
	if err := mark.Close(); err != nil {
		t.Fatal(err)
	}
	if err := handsOver(os.Getpid()); err == nil {
		t.Error("without the mark again")
	}
}

// Whoever has started a server may end all of it when that process ends.
func TestHandoverRefused(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	r := &running{settings: &settings{DataDirectory: dir}, log: slog.New(slog.DiscardHandler), manager: &manager{}, program: program}
	over, err := r.handOver(t.Context(), nil)
	if over || err == nil || !strings.Contains(err.Error(), "--handover") {
		t.Errorf("over %v, %v", over, err)
	}
	if result, err := readHandover(dir); err != nil || result == nil || !strings.Contains(result.Error, "--handover") {
		t.Errorf("it says %+v, %v", result, err)
	}
	// Nor does one that cannot know which program it is.
	nameless := &running{settings: r.settings, log: r.log, manager: &manager{}, mayEnd: true}
	if over, err := nameless.handOver(t.Context(), nil); over || err == nil || !strings.Contains(err.Error(), "there is no /proc") {
		t.Errorf("over %v, %v", over, err)
	}
	// By systemd, or where it was said, it comes as far as to start the program.
	for _, r := range []*running{
		{settings: r.settings, log: r.log, manager: &manager{socket: "@nobody"}, program: program},
		{settings: r.settings, log: r.log, manager: &manager{}, program: program, mayEnd: true},
	} {
		if over, err := r.handOver(t.Context(), nil); over || err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("over %v, %v", over, err)
		}
	}
}
