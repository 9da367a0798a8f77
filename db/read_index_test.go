package db

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Nobody gets the answer to a question that was asked before they came.
func TestReadIndex(t *testing.T) {
	var asked, running atomic.Int64
	x := readIndex{ask: func(context.Context) (position, error) {
		if running.Add(1) != 1 {
			t.Error("two questions at a time")
		}
		defer running.Add(-1)
		n := asked.Add(1)
		return position{place: strconv.FormatInt(n, 10), mark: []byte("mark")}, nil
	}}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 200 {
				before := asked.Load()
				p, err := x.position(t.Context())
				if n, _ := strconv.ParseInt(p.place, 10, 64); err != nil || n <= before {
					t.Errorf("answer to question %s, %v, when %d had been asked", p.place, err, before)
				}
			}
		})
	}
	all.Wait()
	x.settle()
	if _, err := x.position(t.Context()); err == nil {
		t.Error("asked after the end")
	}
}

// A primary that does not answer is not waited for as long the second time.
func TestReadIndexUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		x := readIndex{ask: func(ctx context.Context) (position, error) {
			if away.Load() {
				<-ctx.Done()
				return position{}, ctx.Err()
			}
			return position{place: "0/1", mark: []byte("mark")}, nil
		}}
		if _, err := x.position(t.Context()); err != nil {
			t.Fatal(err)
		}
		away.Store(true)
		for _, want := range []time.Duration{time.Second, 100 * time.Millisecond} {
			began := time.Now()
			p, err := x.position(t.Context())
			if took := time.Since(began); !errors.Is(err, errUnanswered) || took != want || string(p.mark) != "mark" || p.place != "" {
				t.Errorf("%+v, %v after %v, want none after %v", p, err, took, want)
			}
		}
		away.Store(false)
		time.Sleep(6 * time.Second) // until the questions have ended
		if p, err := x.position(t.Context()); err != nil || p.place != "0/1" {
			t.Errorf("%+v, %v of a primary that is back", p, err)
		}
		x.settle()
	})
}
