package db

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// Beside its pool a process that writes has two connections to Postgres: one of its own, on
// which it sees whether the database answers and tells the others what is new, and one on
// which it listens to them.

// What processes LISTEN to.
const (
	mailChannel  = "portico_mail"
	eventChannel = "portico_event"
)

const (
	askEvery    = time.Second      // whether the database answers
	askPatience = 3 * time.Second  // with one try
	awayAfter   = 10 * time.Second // of no answer; see Config.Away
	// tellEvery bounds how often others are told: Postgres has those who notify commit one
	// after the other.
	tellEvery = 10 * time.Millisecond

	listenPatience = 5 * time.Second
	// listenAgain is between two tries to listen, and askListening how long nothing may be heard
	// until it is looked whether the connection is still one.
	listenAgain  = 2 * time.Second
	askListening = 10 * time.Second
)

// An aside is what a process has beside its pool. It is safe for concurrent use.
type aside struct {
	config *pgx.ConnConfig // does not go through the link
	link   *link           // cut while the database is away
	log    *slog.Logger
	name   string        // of this process, which need not hear itself
	away   time.Duration // of no answer until the link is cut

	mails, events atomic.Bool // others are to be told of some
	told          chan struct{}

	mu      sync.Mutex
	failure error // of the last try, nil while the database answers
}

// tell has the other processes look for mails and events. It waits for nobody.
func (a *aside) tell(mails, events bool) {
	if a == nil || !mails && !events {
		return
	}
	if mails {
		a.mails.Store(true)
	}
	if events {
		a.events.Store(true)
	}
	wake(a.told)
}

// answers is an error while the database does not answer.
func (a *aside) answers() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failure
}

// run asks the database again and again whether it is there, and tells the others what is
// new, until ctx is done. When there was no answer for too long it cuts the link: who waits
// for an answer waits in vain, and who asks then would.
func (a *aside) run(ctx context.Context) {
	var conn *pgx.Conn
	var since time.Time // of the first try that failed
	tries := 0
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), askPatience)
		defer cancel()
		if tries == 0 && (a.mails.Load() || a.events.Load()) { // as those who end soon have often
			_ = a.try(ending, &conn, askPatience)
		}
		if conn != nil {
			conn.Close(ending)
		}
	}()
	every := time.NewTicker(askEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-a.told:
		}
		began := time.Now()
		patience := min(askPatience, a.away/2)
		if tries > 0 {
			patience = min(patience, max(a.away-time.Since(since), a.away/10))
		}
		err := a.try(ctx, &conn, patience)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if tries > 0 {
				a.log.InfoContext(ctx, "the database answers again", slog.Int64("took_ms", time.Since(since).Milliseconds()))
			}
			a.set(nil, false)
			tries = 0
			pause(ctx, tellEvery)
			continue
		}
		if tries++; tries == 1 {
			since = began
			a.log.WarnContext(ctx, "the database does not answer", slog.Any("error", err))
		}
		// One try that was late says little: this process may have been asleep.
		gone := tries > 1 && time.Since(since) >= a.away
		if gone && a.link.broken() == nil {
			a.log.ErrorContext(ctx, "the database is away: nothing is asked of it until it answers", slog.Any("error", err))
		}
		a.set(fmt.Errorf("%w: no answer since %s: %w", ErrUnavailable, since.UTC().Format(time.RFC3339), err), gone)
		pause(ctx, min(askEvery, a.away/10))
	}
}

// set makes failure what is known, and cuts the link if the database is gone.
func (a *aside) set(failure error, gone bool) {
	a.mu.Lock()
	a.failure = failure
	a.mu.Unlock()
	switch broken := a.link.broken() != nil; {
	case gone && !broken:
		a.link.cut(failure)
	case failure == nil && broken:
		a.link.cut(nil)
	}
}

// try asks once, over a new connection where there is none.
func (a *aside) try(ctx context.Context, conn **pgx.Conn, patience time.Duration) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if *conn == nil {
		if *conn, err = pgx.ConnectConfig(ctx, a.config); err != nil {
			*conn = nil
			return err
		}
	}
	if err := a.ask(ctx, *conn); err != nil {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		(*conn).Close(closing)
		*conn = nil
		return err
	}
	return nil
}

// ask is answered by a database that is there, which tells the others what is to be told.
func (a *aside) ask(ctx context.Context, conn *pgx.Conn) error {
	var channels []string
	if a.mails.Swap(false) {
		channels = append(channels, mailChannel)
	}
	if a.events.Swap(false) {
		channels = append(channels, eventChannel)
	}
	// It runs as it is, also behind a pooler.
	_, err := conn.Exec(ctx, "SELECT pg_notify(channel, $1) FROM unnest($2::text[]) AS channel", pgx.QueryExecModeExec, a.name, channels)
	return err
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// listen wakes mailed and appended whenever another process has queued mails and appended
// events, until ctx ends. A lost connection costs speed only: both are looked for anyhow.
func (a *aside) listen(ctx context.Context, config *pgx.ConnConfig, mailed, appended chan<- struct{}) {
	for failed := false; ctx.Err() == nil; {
		err := a.listenOnce(ctx, config, func() {
			if failed {
				a.log.InfoContext(ctx, "listening for other processes again")
			}
			failed = false
			wake(mailed) // what was missed meanwhile
			wake(appended)
		}, func(channel string) {
			switch channel {
			case mailChannel:
				wake(mailed)
			case eventChannel:
				wake(appended)
			}
		})
		if ctx.Err() != nil {
			return
		}
		if !failed {
			failed = true
			a.log.WarnContext(ctx, "listening for other processes was interrupted", slog.Any("error", err))
		}
		pause(ctx, listenAgain)
	}
}

func (a *aside) listenOnce(ctx context.Context, config *pgx.ConnConfig, begun func(), heard func(channel string)) error {
	within := func(d time.Duration, do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return do(ctx)
	}
	var conn *pgx.Conn
	err := within(listenPatience, func(ctx context.Context) (err error) {
		if conn, err = pgx.ConnectConfig(ctx, config); err == nil {
			_, err = conn.Exec(ctx, "LISTEN "+mailChannel+"; LISTEN "+eventChannel)
		}
		return err
	})
	if conn != nil {
		defer within(time.Second, conn.Close)
	}
	if err != nil {
		return err
	}
	begun()
	for {
		err := within(askListening, func(ctx context.Context) error {
			n, err := conn.WaitForNotification(ctx)
			if err == nil && n.Payload != a.name {
				heard(n.Channel)
			}
			return err
		})
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed() {
			err = within(listenPatience, conn.Ping)
		}
		if err != nil {
			return err
		}
	}
}

// newAside is that of a pool whose connections are those of config and go through l.
func newAside(config *pgx.ConnConfig, l *link, c Config) *aside {
	own := config.Copy()
	own.DialFunc = l.through
	own.RuntimeParams["application_name"] = "portico aside"
	a := &aside{config: own, link: l, log: c.Logger, name: rand.Text(), away: c.Away, told: make(chan struct{}, 1)}
	if a.away == 0 {
		a.away = awayAfter
	}
	return a
}

// listenConfig is how Postgres is reached to listen there, nil where it cannot be.
func listenConfig(c Config, config *pgx.ConnConfig) (*pgx.ConnConfig, error) {
	var err error
	switch {
	case c.ListenURL != "":
		if config, err = driverConfig(c.ListenURL, false); err != nil {
			return nil, fmt.Errorf("to listen: %w", err)
		}
	case c.Pooled:
		return nil, nil
	default:
		config = config.Copy()
		config.DialFunc = dialer.DialContext
	}
	config.RuntimeParams["application_name"] = "portico listening"
	return config, nil
}
