package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"portico/cmd/portico/launch"
)

// A machine knows what else this one did: the processor time that none of the processes
// here has used, and the time that was given to other virtual machines.
type machine struct {
	ours   func() []*launch.Process
	before usage
	rounds []elsewhere
}

type usage struct{ all, idle, stolen, ours time.Duration }

// elsewhere are shares of what the processors could have done in a round.
type elsewhere struct{ others, stolen float64 }

// much is from where on a round is marked.
const much = 0.15

func (m *machine) usage() (u usage, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	var t [8]time.Duration // user nice system idle iowait irq softirq steal
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]); err != nil {
		return u, fmt.Errorf("/proc/stat: %w", err)
	}
	const tick = time.Second / 100
	for _, d := range t {
		u.all += d * tick
	}
	u.idle, u.stolen = (t[3]+t[4])*tick, t[7]*tick
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	u.ours = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	for _, p := range m.ours() {
		cpu, err := p.CPU()
		if err != nil {
			return u, err
		}
		u.ours += cpu
	}
	return u, nil
}

func (m *machine) begin() (err error) {
	m.before, err = m.usage()
	return err
}

func (m *machine) end() error {
	now, err := m.usage()
	if err != nil {
		return err
	}
	all, stolen := float64(now.all-m.before.all), float64(now.stolen-m.before.stolen)
	busy := all - stolen - float64(now.idle-m.before.idle)
	m.rounds = append(m.rounds, elsewhere{max(0, busy-float64(now.ours-m.before.ours)) / all, stolen / all})
	return nil
}

// String tells of every round.
func (m *machine) String() string {
	var b strings.Builder
	b.WriteString("What else the machine did, as shares of its processors:")
	marked := false
	for i, e := range m.rounds {
		mark := ""
		if e.others+e.stolen > much {
			mark, marked = "*", true
		}
		fmt.Fprintf(&b, " round %d%s: others %.0f %%, stolen %.0f %%;", i+1, mark, 100*e.others, 100*e.stolen)
	}
	text := strings.TrimSuffix(b.String(), ";") + ".\n"
	if marked {
		text += fmt.Sprintf("* Others had more than %.0f %%. Ratios are of one round each and suffer less than times do.\n", 100*much)
	}
	return text
}
