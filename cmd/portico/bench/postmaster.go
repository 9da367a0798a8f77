package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// A postmaster is a Postgres server on this machine, with all its processes.
type postmaster struct {
	pid  int
	data string // its folder
}

// postmasterOf finds the server of a URL that dbtest gave.
func postmasterOf(database string) (*postmaster, error) {
	u, err := url.Parse(database)
	if err != nil {
		return nil, err
	}
	p := &postmaster{data: filepath.Join(u.Query().Get("host"), "data")}
	text, err := os.ReadFile(filepath.Join(p.data, "postmaster.pid"))
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	p.pid, err = strconv.Atoi(first)
	return p, err
}

// CPU is the processor time of all its processes, also of those that have ended. It is
// counted in ticks of 10 ms for each.
func (p *postmaster) CPU() (sum time.Duration, err error) {
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, path := range all {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) { // it ended just now
			continue
		}
		if err != nil {
			return 0, err
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return 0, err
		}
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from the state on
		if len(fields) < 15 {
			return 0, fmt.Errorf("unexpected %s: %q", path, text)
		}
		own := pid == p.pid
		if !own && fields[1] != strconv.Itoa(p.pid) {
			continue
		}
		times := fields[11:13] // user, system
		if own {
			times = fields[11:15] // and those of its children that have ended
		}
		for _, text := range times {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("unexpected %s: %w", path, err)
			}
			sum += time.Duration(n) * (time.Second / 100)
		}
	}
	return sum, nil
}

// Log is nothing that a test of a server would miss.
func (p *postmaster) Log() string { return "" }

// databaseSize is how many bytes a database of Postgres has.
func databaseSize(ctx context.Context, url string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&n)
	return n, err
}
