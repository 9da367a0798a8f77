package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"portico/cmd/portico/launch"
)

// A row is one kind of work, which several programs are given in the same way.
type row struct {
	name     string
	requests int       // of each target, in all rounds together
	workers  int       // connections
	goal     float64   // how often the floor's time the server's may be; 0 for no goal
	targets  []*target // the server's is the first
}

// A target is a program that does the work of a row.
type target struct {
	who     string // "server", "floor" or "peer"
	process program
	do      func(worker int) error
	below   func() (time.Duration, error)   // the processor time of what the program asks, a database; may be nil
	beside  func() (stop func(), err error) // what goes on meanwhile; may be nil
	samples []sample                        // of each round one
}

// A program is one that is measured, or some that are as one.
type program interface {
	CPU() (time.Duration, error) // user and system
	Log() string                 // what it wrote
}

// programs are some that do the same work.
type programs []*launch.Process

func (all programs) CPU() (sum time.Duration, err error) {
	for _, p := range all {
		cpu, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += cpu
	}
	return sum, nil
}

func (all programs) Log() string {
	var text strings.Builder
	for _, p := range all {
		text.WriteString(p.Log())
	}
	return text.String()
}

// A sample is what some requests took.
type sample struct {
	requests int
	cpu      time.Duration   // of the program
	below    time.Duration   // of what it asks
	wall     time.Duration   // until all were answered
	took     []time.Duration // until each was answered
}

func (s *sample) add(more sample) {
	s.requests, s.cpu, s.below, s.wall = s.requests+more.requests, s.cpu+more.cpu, s.below+more.below, s.wall+more.wall
	s.took = append(s.took, more.took...)
}

func (s sample) each() float64    { return float64(s.cpu) / float64(s.requests) }
func (s sample) beneath() float64 { return float64(s.below) / float64(s.requests) }
func (s sample) rate() float64    { return float64(s.requests) / s.wall.Seconds() }
func (s sample) median() float64  { return s.within(50) }
func (s sample) p99() float64     { return s.within(99) }

// within is the time, in nanoseconds, until so many of a hundred requests were answered.
func (s sample) within(percent int) float64 {
	slices.Sort(s.took)
	return float64(s.took[(percent*len(s.took)+99)/100-1])
}

func (r *row) add(who string, process program, do func(worker int) error) *target {
	t := &target{who: who, process: process, do: do}
	r.targets = append(r.targets, t)
	return t
}

// of is the target of a program, or nil.
func (r *row) of(who string) *target {
	i := slices.IndexFunc(r.targets, func(t *target) bool { return t.who == who })
	if i < 0 {
		return nil
	}
	return r.targets[i]
}

// warmUp lets every target do some requests. A peer that can't do them is left out, and
// that is said by note.
func (r *row) warmUp(note func(error)) error {
	var failed error
	r.targets = slices.DeleteFunc(r.targets, func(t *target) bool {
		_, err := t.run(max(1, r.requests / *rounds / 10), r.workers)
		if err != nil && t.who != "peer" {
			failed = errors.Join(failed, fmt.Errorf("%s of the %s: %w; it wrote\n%s", r.name, t.who, err, t.process.Log()))
		} else if err != nil {
			note(fmt.Errorf("%s is not asked of the peer: %w", r.name, err))
		}
		return err != nil
	})
	return failed
}

// turns is how often the targets of a row take turns within a round: what the machine does
// for a while it does to all of them.
const turns = 4

// measure lets every target do its part of a round, beginning with another one each time.
func (r *row) measure(round int) error {
	sum := make([]sample, len(r.targets))
	for turn := range turns {
		n := r.requests / *rounds * (turn+1) / turns - r.requests / *rounds * turn / turns
		for i := range r.targets {
			i = (i + round + turn) % len(r.targets)
			t := r.targets[i]
			s, err := t.run(n, r.workers)
			if err != nil {
				return fmt.Errorf("%s of the %s in round %d: %w; it wrote\n%s", r.name, t.who, round+1, err, t.process.Log())
			}
			sum[i].add(s)
		}
	}
	for i, t := range r.targets {
		t.samples = append(t.samples, sum[i])
	}
	return nil
}

// run does n requests.
func (t *target) run(n, workers int) (s sample, err error) {
	if t.beside != nil {
		stop, err := t.beside()
		if err != nil {
			return s, err
		}
		defer stop()
	}
	before, below, err := t.spent()
	if err != nil {
		return s, err
	}
	began := time.Now()
	took := make([][]time.Duration, workers)
	err = spread(n, workers, func(worker int) error {
		began := time.Now()
		err := t.do(worker)
		took[worker] = append(took[worker], time.Since(began))
		return err
	})
	if err != nil {
		return s, err
	}
	wall := time.Since(began)
	after, belowAfter, err := t.spent()
	return sample{n, after - before, belowAfter - below, wall, slices.Concat(took...)}, err
}

// spent is the processor time so far, of the program and of what it asks.
func (t *target) spent() (cpu, below time.Duration, err error) {
	if cpu, err = t.process.CPU(); err == nil && t.below != nil {
		below, err = t.below()
	}
	return cpu, below, err
}

// share calls do n times, spread over the workers, until one fails.
func share(n int, do func(worker int) error) error { return spread(n, *workers, do) }

func spread(n, workers int, do func(worker int) error) error {
	errs := make([]error, workers)
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for errs[i] == nil && left.Add(-1) >= 0 {
				if errs[i] = do(i); errs[i] != nil {
					left.Store(0)
				}
			}
		})
	}
	all.Wait()
	return cmp.Or(errs...) // one says enough
}

// A figure is what the rounds gave for one figure.
type figure struct{ median, least, most float64 }

func figureOf(values []float64) figure {
	slices.Sort(values)
	n := len(values)
	return figure{(values[(n-1)/2] + values[n/2]) / 2, values[0], values[n-1]}
}

// figure is the median over the rounds, and the spread, of what a sample says.
func (t *target) figure(of func(sample) float64) figure {
	var values []float64
	for _, s := range t.samples {
		values = append(values, of(s))
	}
	return figureOf(values)
}

// over compares t with another target round by round: what the machine does to one round
// it does to both.
func (t *target) over(other *target, of func(sample) float64) figure {
	var values []float64
	for i, s := range t.samples {
		values = append(values, of(s)/cmp.Or(of(other.samples[i]), 1))
	}
	return figureOf(values)
}
