package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"portico/cmd/portico/launch"
)

const (
	capacityPosts   = 30
	capacityPicture = 50_000 // bytes, of the one that each account shows as its own

	activePercent = 1               // of the accounts, who use the server at the same time
	activePause   = 2 * time.Second // of each of them between two requests
)

// runCapacity measures what a machine has to have for servers with so many accounts.
func runCapacity(ctx context.Context, binary, dir string, env []string, list string, load time.Duration) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "accounts\tmade in\tdatabase\tblobs\tstart\tmemory, idle\tpeople\trequests/s\tat most took\tprocessor\tmemory, most\tbackup\t")
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return fmt.Errorf("-capacity takes numbers of accounts such as 10,1000, not %q", word)
		}
		if err := capacityOf(ctx, w, binary, filepath.Join(dir, word), env, n, load); err != nil {
			return fmt.Errorf("%d accounts: %w", n, err)
		}
	}
	return w.Flush()
}

func capacityOf(ctx context.Context, w *tabwriter.Writer, binary, dir string, env []string, n int, load time.Duration) (err error) {
	data := filepath.Join(dir, "data")
	server, seeding, start, err := seededServer(ctx, binary, data, env, size{accounts: n, records: capacityPosts, picture: capacityPicture})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	defer func() { server.Kill() }()
	database, blobs, err := sizesIn(data)
	if err != nil {
		return err
	}
	time.Sleep(settles)
	idle, err := server.Memory("VmRSS")
	if err != nil {
		return err
	}

	people := max(1, n*activePercent/100)
	*workers = people // as useSeeded divides accounts
	c := newClient(server.URL, people)
	c.useSeeded(size{accounts: n})
	before, err := server.CPU()
	if err != nil {
		return err
	}
	requests, slowest, err := c.active(load)
	if err != nil {
		return fmt.Errorf("%d people: %w; the server wrote\n%s", people, err, server.Log())
	}
	after, err := server.CPU()
	if err != nil {
		return err
	}
	most, err := server.PeakMemory()
	if err != nil {
		return err
	}

	began := time.Now()
	backup := exec.CommandContext(ctx, binary, "backup", filepath.Join(dir, "backup"))
	backup.Env = append(append(launch.Environ(), "PDS_HOSTNAME=localhost", "PDS_DATA_DIRECTORY="+data), env...)
	if out, err := backup.CombinedOutput(); err != nil {
		return fmt.Errorf("backup: %w\n%s", err, out)
	}
	fmt.Fprintf(w, "%d\t%v\t%.1f MB\t%.1f MB\t%v\t%d MB\t%d\t%.1f\t%v\t%.0f %%\t%d MB\t%v\t\n",
		n, seeding.Round(time.Second/10), float64(database)/1e6, float64(blobs)/1e6, start.Round(time.Millisecond), idle/1e6,
		people, float64(requests)/load.Seconds(), slowest.Round(time.Millisecond), 100*(after-before).Seconds()/load.Seconds(), most/1e6,
		time.Since(began).Round(time.Second/10))
	return server.Stop()
}

// active lets each worker be one person for a while, who asks for something, waits a bit,
// and asks again. Of ten requests one writes a post.
func (c *client) active(load time.Duration) (requests int64, slowest time.Duration, err error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	var count atomic.Int64
	end := time.Now().Add(load)
	asks := []func(worker int) error{
		c.getSession, c.listRecords, c.checkAccountStatus, c.getSession, c.createRecord,
		c.listRecords, c.getSession, c.listRecords, c.checkAccountStatus, c.getSession,
	}
	for worker := range c.accounts {
		c.accounts[worker].list = c.accounts[worker].list[:1]
		all.Go(func() {
			time.Sleep(rand.N(activePause))
			for n := rand.IntN(len(asks)); time.Now().Before(end); n++ {
				began := time.Now()
				failed := asks[n%len(asks)](worker)
				took := time.Since(began)
				count.Add(1)
				mu.Lock()
				slowest = max(slowest, took)
				if failed != nil {
					err = failed
				}
				mu.Unlock()
				if failed != nil {
					return
				}
				time.Sleep(activePause - took)
			}
		})
	}
	all.Wait()
	return count.Load(), slowest, err
}

// sizesIn are how many bytes the database of a data folder has, and its blobs.
func sizesIn(data string) (database, blobs int64, err error) {
	sum, err := sizeOf(data)
	if err != nil {
		return 0, 0, err
	}
	blobs, err = sizeOf(filepath.Join(data, blobFolder))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return sum - blobs, blobs, err
}

// seededPicture is a picture of so many bytes, a different one for each account.
func seededPicture(n, size int) []byte {
	picture := bytes.Repeat([]byte("picture "), (size+7)/8)[:size]
	copy(picture, "\xff\xd8\xff\xe0") // as a JPEG begins
	binary.BigEndian.PutUint64(picture[8:], uint64(n))
	return picture
}
