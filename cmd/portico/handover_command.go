package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v3"

	"portico/db"
)

// handoverName is the file of a data directory that says how the last handover went.
const handoverName = "portico.handover"

// handoverResult is what a process says of its handover when that is over.
type handoverResult struct {
	At      time.Time     `json:"at"`
	From    int           `json:"from"`              // the process that says so
	To      int           `json:"to,omitzero"`       // the one that serves; 0: the former
	Version string        `json:"version,omitempty"` // of the program that was handed over to, or that serves
	Pause   time.Duration `json:"pauseNanoseconds"`
	Error   string        `json:"error,omitempty"` // why it is not the newer program that serves
}

// tell writes result down for whoever has asked for the handover.
func (r *running) tell(result *handoverResult) {
	result.At = time.Now()
	path := filepath.Join(r.settings.DataDirectory, handoverName)
	text, err := json.Marshal(result)
	if err == nil {
		err = os.WriteFile(path+".new", append(text, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		r.log.Warn("what became of the handover could not be written down", "error", err)
	}
}

// markHandovers has this process hold the file open as long as the mark is: it hands over.
// The file has nothing in it yet where there was no handover.
func markHandovers(dir string) (mark io.Closer, err error) {
	f, err := os.OpenFile(filepath.Join(dir, handoverName), os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("say that this process hands over: %w", err)
	}
	return f, nil
}

// handsOver is an error unless process pid is a server that hands over. To others the signal
// may be deadly, and it says nothing to servers that were built before there were handovers.
func handsOver(pid int) error {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	var status []byte
	if err == nil {
		status, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	}
	switch {
	case errors.Is(syscall.Kill(pid, 0), syscall.ESRCH):
		return fail(statusNotFound, "there is no process %d", pid)
	case err != nil:
		return fmt.Errorf("look whether process %d hands over: %w", pid, err)
	case !catches(string(status), syscall.SIGUSR2):
		return fmt.Errorf("process %d is no server: SIGUSR2 would end it", pid)
	}
	for _, f := range open {
		// By another one since, where there was a handover.
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name()))
		if err == nil && filepath.Base(strings.TrimSuffix(path, " (deleted)")) == handoverName {
			return nil
		}
	}
	return fmt.Errorf("process %d is no server that hands over: it does not serve yet, or it is of a version that could not; restart it", pid)
}

// catches reports whether a process whose /proc/PID/status is status has a handler for s.
func catches(status string, s syscall.Signal) bool {
	for line := range strings.Lines(status) {
		if set, ok := strings.CutPrefix(line, "SigCgt:"); ok {
			caught, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && caught>>(s-1)&1 == 1
		}
	}
	return false
}

// readHandover is the result in a data directory, nil for none.
func readHandover(dir string) (*handoverResult, error) {
	text, err := os.ReadFile(filepath.Join(dir, handoverName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what became of the handover: %w", err)
	}
	if len(text) == 0 {
		return nil, nil
	}
	r := new(handoverResult)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read what became of the handover: %w", err)
	}
	return r, nil
}

// handoverPatience is more than a handover takes at most, which is for an upgrade of a large
// database, and what that failed for undone.
const handoverPatience = 30 * time.Minute

func handoverCommand(config func(*cli.Command) configuration, envFile cli.Flag, stdout io.Writer) *cli.Command {
	return &cli.Command{
		Name:  "handover",
		Usage: "have a running server replaced by the program that is installed by now",
		Description: `Asks the server of this machine that has the data directory, by SIGUSR2, to start
the program at its path with its arguments, and to hand over to it: the sockets,
the connections, and the database. Nobody who connects meanwhile is refused, and
nobody who waits is cut off: they wait until the newer process serves.
Where that fails the server goes on, or starts its own version again.

A server hands over where it is a unit of systemd with Type=notify, or was started
with --handover. One of a version without handovers is not asked: restart it.

The server is found by its data directory (the environment, --env-file), on
Postgres by --pid alone. It waits until the handover is over and says who
serves.

Ends with
  0  the newer process serves
  1  it does not, and why
  3  there is no server`,
		Flags: []cli.Flag{envFile, jsonFlag(), &cli.IntFlag{Name: "pid", Usage: "the server is process `NUMBER`"}},
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return usage("handover takes no arguments, not even %q", c.Args().First())
			}
			s, err := config(c).read()
			if err := unusable(s, err); err != nil {
				return &failure{statusUsage, err}
			}
			pid := c.Int("pid")
			if pid == 0 {
				if s.DatabaseURL != "" {
					return usage("which process serves is not known where the database is not a file: say --pid")
				}
				if pid, err = db.Holder(s.DataDirectory); err != nil {
					return err
				}
			}
			if pid <= 0 {
				return fail(statusNotFound, "no server runs on %s", s.DataDirectory)
			}
			result, err := askForHandover(ctx, s.DataDirectory, pid)
			if err != nil {
				return err
			}
			switch {
			case result.Error != "" && result.To == 0:
				return fail(statusFailed, "%s", result.Error)
			case result.Error != "":
				return fail(statusFailed, "%s. The version before serves again, as process %d; nobody was accepted for %v", result.Error, result.To, result.Pause.Round(time.Millisecond))
			case c.Bool("json"):
				err = (&console{out: stdout}).printJSON(result)
			default:
				_, err = fmt.Fprintf(stdout, "process %d, version %s, has taken over from process %d; nobody was accepted for %v\n",
					result.To, result.Version, result.From, result.Pause.Round(time.Millisecond))
			}
			return err
		},
	}
}

// askForHandover asks process pid, and waits for what becomes of it.
func askForHandover(ctx context.Context, dir string, pid int) (*handoverResult, error) {
	before, err := readHandover(dir)
	if err != nil {
		return nil, err
	}
	if err := handsOver(pid); err != nil {
		return nil, err
	}
	if err := syscall.Kill(pid, syscall.SIGUSR2); errors.Is(err, syscall.ESRCH) {
		return nil, fail(statusNotFound, "there is no process %d", pid)
	} else if err != nil {
		return nil, fmt.Errorf("ask process %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, handoverPatience)
	defer cancel()
	for {
		gone := syscall.Kill(pid, 0) != nil
		now, err := readHandover(dir)
		switch {
		case err != nil:
			return nil, err
		case now != nil && now.From == pid && (before == nil || !now.At.Equal(before.At)):
			return now, nil
		case gone:
			if holder, err := db.Holder(dir); err == nil && holder > 0 {
				return nil, fmt.Errorf("process %d has ended, and process %d has the data: how that came only the log says, since %s could not be written", pid, holder, handoverName)
			}
			return nil, fmt.Errorf("process %d has ended without a word: its log says why", pid)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for process %d: %w", pid, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
