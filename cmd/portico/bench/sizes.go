package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"portico/cmd/portico/launch"
	"portico/impl/account/token"
)

// A size is how many accounts a server has, with how many posts each.
type size struct {
	accounts, records int
	picture           int // bytes of the picture that each shows in a profile; 0: there are no profiles
}

func (s size) String() string { return fmt.Sprintf("%dx%d", s.accounts, s.records) }

// sizesOf reads sizes such as "1x1000,100x10".
func sizesOf(text string) (all []size, err error) {
	for word := range strings.SplitSeq(text, ",") {
		var s size
		if _, err := fmt.Sscanf(word, "%dx%d", &s.accounts, &s.records); err != nil || s.accounts < 1 || s.records < 0 {
			return nil, fmt.Errorf("-seed takes accounts and records such as 1x1000,100x10, not %q", word)
		}
		all = append(all, s)
	}
	return all, nil
}

// ofSizes measures servers of the sizes that -seed names, or makes the database of one.
func ofSizes(ctx context.Context, binary, dir string, env []string, pattern *regexp.Regexp) error {
	all, err := sizesOf(*sizes)
	if err != nil {
		return err
	}
	if *into == "" {
		return runSizes(ctx, binary, dir, env, all, pattern)
	}
	if len(all) != 1 {
		return errors.New("-into takes one size")
	}
	server, seeding, _, err := seededServer(ctx, binary, *into, env, all[0])
	if err != nil {
		return err
	}
	fmt.Printf("%v in %s after %.1f s; serve it with\n", all[0], *into, seeding.Seconds())
	for _, v := range env {
		fmt.Println("  " + v)
	}
	return server.Stop()
}

// seededServer makes the database in dir as large as s says, and starts a server on it. It
// returns how long the seeding and the start took.
func seededServer(ctx context.Context, binary, dir string, env []string, s size) (_ *launch.Server, seeding, start time.Duration, err error) {
	// A server that starts with an empty folder leaves what one that was in use has.
	server, err := launch.StartServer(ctx, binary, dir, env...)
	if err == nil {
		err = server.Stop()
	}
	if err != nil {
		return nil, 0, 0, err
	}
	began := time.Now()
	if err := seed(ctx, dir, s); err != nil {
		return nil, 0, 0, err
	}
	seeding = time.Since(began)
	began = time.Now()
	server, err = launch.StartServer(ctx, binary, dir, env...)
	return server, seeding, time.Since(began), err
}

// runSizes measures what requests cost on servers of some sizes, and what those take.
func runSizes(ctx context.Context, binary, dir string, env []string, sizes []size, pattern *regexp.Regexp) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for i, s := range sizes {
		data := filepath.Join(dir, s.String())
		server, seeding, start, err := seededServer(ctx, binary, data, env, s)
		if err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
		err = func() error {
			defer server.Kill()
			bytes, err := sizeOf(data)
			if err != nil {
				return err
			}
			idle, err := server.PeakMemory()
			if err != nil {
				return err
			}
			c := newClient(server.URL, *workers)
			c.useSeeded(s)
			targets := c.sizeTargets(server.Process)
			head, line := "accounts x records\tseeding\tbytes/record\tstart\tmemory", fmt.Sprintf("%v\t%.1f s\t%d\t%v\t%d MB",
				s, seeding.Seconds(), bytes/int64(max(1, s.accounts*s.records)), start.Round(time.Millisecond), idle>>20)
			for _, r := range targets {
				if !pattern.MatchString(r.name) {
					continue
				}
				if _, err = r.targets[0].run(max(1, r.requests/10), r.workers); err != nil { // to warm up
					return err
				}
				took, err := r.targets[0].run(r.requests, r.workers)
				if err != nil {
					return err
				}
				head += "\t" + r.name
				line += "\t" + show(took.each())
			}
			peak, err := server.PeakMemory()
			if err != nil {
				return err
			}
			if i == 0 {
				fmt.Fprintln(w, head+"\tmemory after\t")
			}
			fmt.Fprintf(w, "%s\t%d MB\t\n", line, peak>>20)
			return server.Stop()
		}()
		if err != nil {
			return fmt.Errorf("%v: %w", s, err)
		}
		if err := os.RemoveAll(data); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (c *client) sizeTargets(p *launch.Process) (all []*row) {
	add := func(name string, requests int, do func(worker int) error) {
		r := &row{name: name, requests: scaled(requests), workers: *workers}
		r.add(ofServer, p, do)
		all = append(all, r)
	}
	add("createRecord", 2000, c.createRecord)
	add("putRecord", 1000, c.putRecord)
	add("applyWrites, 10", 500, c.applyWrites)
	add("getBlocks", 20, c.getBlocks)
	add("deleteRecord", 1000, c.deleteRecord)
	add("getRecord", 2000, c.getRecord)
	add("listRecords, 50", 1000, c.listRecords)
	add("checkAccountStatus", 1000, c.checkAccountStatus)
	return all
}

// useSeeded lets each worker have sessions of seeded accounts: of different ones as far
// as there are enough.
func (c *client) useSeeded(s size) {
	issuer := &token.Issuer{Secret: []byte(secret), ServiceDID: "did:web:bench.example.com", Now: time.Now, Rand: rand.Reader}
	for worker := range c.accounts {
		c.accounts[worker].list = nil
		for n := worker % s.accounts; n < s.accounts && len(c.accounts[worker].list) < 1000; n += *workers {
			did := seededDID(n)
			c.accounts[worker].list = append(c.accounts[worker].list, &account{
				DID: did.String(), Access: issuer.Access(did, token.Access, time.Now()),
			})
		}
	}
}

// sizeOf is how many bytes the files in a folder have.
func sizeOf(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
