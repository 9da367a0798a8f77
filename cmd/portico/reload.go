package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"

	"portico/api/xrpc"
	"portico/impl/identity/handle"
	"portico/impl/logging"
)

// serverLog is the log of a server.
type serverLog struct {
	*slog.Logger
	level   slog.LevelVar
	notices logging.Notices // its latest warnings
	file    *logging.File   // nil: standard error
	flush   func()
	close   func()
}

func openLog(s *settings) (*serverLog, error) {
	l := &serverLog{}
	l.level.Set(s.LogLevel)
	var to io.Writer = os.Stderr
	if s.LogFile != "" {
		var err error
		if l.file, err = logging.OpenFile(s.LogFile); err != nil {
			return nil, unfit(fmt.Errorf("PORTICO_LOG_FILE: %w", err))
		}
		to = l.file
	}
	log, flush, end := logging.New(to, &l.level, s.LogFormat == "json")
	l.Logger, l.flush = l.notices.Keep(log), flush
	l.close = func() {
		end()
		if l.file != nil {
			_ = l.file.Close() // nowhere is left to tell of it
		}
	}
	return l, nil
}

// reopen goes on in the file that is at the path of the log now. Lines from before are in the
// other one.
func (l *serverLog) reopen() {
	if l.file == nil {
		return
	}
	l.flush()
	if err := l.file.Reopen(); err != nil {
		l.Warn("the log goes on in the file from before", "error", err)
	}
}

// hangups does what SIGHUP asks for, once for all that come meanwhile. From its start on the
// process survives SIGHUP, also where there is nothing to reload yet, or any more.
type hangups struct {
	signals chan os.Signal // of 1
	done    chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	reload func() // nil: there is nothing to reload
	missed bool   // SIGHUP came before there was
}

// watchHangups opens the log anew at SIGHUP until stop is called.
func watchHangups(log *serverLog) *hangups {
	h := &hangups{signals: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(h.signals, syscall.SIGHUP)
	h.running.Go(func() {
		for {
			select {
			case <-h.signals:
				log.reopen()
				h.do()
			case <-h.done:
				return
			}
		}
	})
	return h
}

func (h *hangups) do() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.missed = h.reload == nil; !h.missed {
		h.reload()
	}
}

// serve has f done at SIGHUP too, and soon where one came already. nil: nothing more, also
// not any longer when it returns.
func (h *hangups) serve(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reload = f
	if f != nil && h.missed {
		select {
		case h.signals <- syscall.SIGHUP:
		default: // there is another
		}
	}
	h.missed = false
}

// stop waits for what is done at the moment. SIGHUP ends the process then.
func (h *hangups) stop() {
	signal.Stop(h.signals)
	close(h.done)
	h.running.Wait()
}

// reloader lets other settings take the place of those in force.
type reloader struct {
	from    configuration
	live    *live
	log     *serverLog
	makers  []func(*inForce) error // of handlers
	changed []func()               // told after each reload
	limiter func(*settings) (xrpc.Limiter, error)
}

// newReloader has the settings of a start in force.
func newReloader(c configuration, s *settings, log *serverLog, limiter func(*settings) (xrpc.Limiter, error)) (*reloader, error) {
	r := &reloader{from: c, live: new(live), log: log, limiter: limiter}
	now, err := r.prepare(s)
	if err != nil {
		return nil, err
	}
	r.live.current.Store(now)
	return r, nil
}

// make has a part of what is in force made by f, now and after each reload. It is for the
// time before the server serves.
func (r *reloader) make(f func(*inForce) error) error {
	r.makers = append(r.makers, f)
	return f(r.live.now())
}

// prepare makes what the settings come to.
func (r *reloader) prepare(s *settings) (next *inForce, err error) {
	next = &inForce{settings: s, reserved: handle.Reserved(s.ReservedHandles, s.UnreservedHandles)}
	next.callers = xrpc.Callers{BypassKey: string(s.RateLimitBypassKey), BypassIPs: s.RateLimitBypassIPs, TrustedProxies: s.TrustedProxies}
	if s.RateLimits {
		if next.callers.Limiter, err = r.limiter(s); err != nil {
			return nil, err
		}
	}
	if next.sender, err = sender(s, r.log.Logger); err != nil {
		return nil, err
	}
	for _, f := range r.makers {
		if err := f(next); err != nil {
			return nil, err
		}
	}
	return next, nil
}

// reload reads the settings anew. Where anything is wrong with them, all of it is said in the
// log and nothing is changed.
func (r *reloader) reload() {
	old := r.live.settings()
	wanted, next, err := r.read(old)
	var problems settingsError
	if errors.As(err, &problems) {
		for _, p := range problems {
			r.log.Error(p.variable + " " + p.text)
		}
		err = fmt.Errorf("%d settings must be mended first", len(problems))
	}
	var now *inForce
	if err == nil {
		now, err = r.prepare(next)
	}
	if err != nil {
		r.log.Error("settings were not reloaded, those from before hold", "error", err)
		return
	}
	// What is said is said at the level that shows more.
	r.log.level.Set(min(old.LogLevel, next.LogLevel))
	for _, warning := range next.Warnings {
		if !slices.Contains(old.Warnings, warning) {
			r.log.Warn(warning)
		}
	}
	changed, left := differences(old, next), needRestart(old, wanted)
	for _, v := range changed {
		r.log.Info(v.is())
	}
	for _, v := range left {
		r.log.Warn("needs a restart: " + v.is())
	}
	if r.from.EnvFile == "" {
		r.log.Warn("settings were read at SIGHUP, but those of the environment cannot change while the server runs: name a file with --env-file")
	}
	r.log.Info("settings reloaded", "changed", len(changed), "need a restart", len(left))
	r.log.level.Set(next.LogLevel)
	r.live.current.Store(now)
	for _, f := range r.changed {
		f()
	}
}

// read returns what a start would have now, and of that what may take the place of old.
func (r *reloader) read(old *settings) (wanted, next *settings, err error) {
	given, warnings, err := r.from.gather()
	if err != nil {
		return nil, nil, err
	}
	if wanted, err = interpret(given, warnings); err != nil {
		return nil, nil, err
	}
	if err := wanted.keepSecrets(old); err != nil {
		return nil, nil, err
	}
	for row := range settingRows {
		if row.store == nil || row.reload {
			continue
		}
		delete(given, row.name)
		if was, ok := old.given[row.name]; ok {
			given[row.name] = was
		}
	}
	if next, err = interpret(given, warnings); err != nil {
		return nil, nil, err
	}
	return wanted, next, next.keepSecrets(old)
}

// keepSecrets completes settings of a reload with what is in the secrets file. Those that only
// a restart changes are taken from old.
func (s *settings) keepSecrets(old *settings) error {
	s.SecretsFile, s.SecretsMade = old.SecretsFile, old.SecretsMade
	var file map[string]string
	for i := range s.values {
		v := &s.values[i]
		if v.from != "secrets file" {
			continue
		}
		was := old.valueOf(v.name)
		if v.row.reload || was.from != v.from {
			if file == nil {
				var err error
				if file, err = readSecrets(old.secretsPath()); err != nil {
					return fmt.Errorf("read secrets: %w", err)
				}
			}
			if file[v.name] == "" {
				return settingsError{{v.name, "is neither set nor in " + old.secretsPath()}}
			}
			v.whole = secret(file[v.name])
		} else {
			v.whole = was.whole
		}
		if err := v.row.store(s, string(v.whole)); err != nil {
			return settingsError{{v.name, "in " + old.secretsPath() + " " + err.Error()}}
		}
	}
	return nil
}

// valueOf is what a row of the table came to.
func (s *settings) valueOf(name string) settingValue {
	for _, v := range s.values {
		if v.name == name {
			return v
		}
	}
	return settingValue{}
}

// differences are the values of next that old has otherwise.
func differences(old, next *settings) []settingValue {
	var changed []settingValue
	for _, v := range next.values {
		if v.row.store != nil && v.whole != old.valueOf(v.name).whole {
			changed = append(changed, v)
		}
	}
	return changed
}

// needRestart are the values of wanted that old has otherwise, and that SIGHUP does not take
// up.
func needRestart(old, wanted *settings) []settingValue {
	return slices.DeleteFunc(differences(old, wanted), func(v settingValue) bool { return v.row.reload })
}

// is says what a setting is now, of a secret only that it is another.
func (v settingValue) is() string {
	shown := v.shown()
	switch {
	case v.row.secret && shown.Value == "-":
		return v.name + " is not set any more"
	case v.row.secret:
		return v.name + " is another secret now"
	case shown.Value == "-":
		return v.name + " is now unset"
	default:
		return v.name + " is now " + printable(shown.Value)
	}
}

// keptLimiter opens what counts requests when it is first asked for: limits that are switched
// off and on again count on. stop ends it.
func keptLimiter(ctx context.Context, log *slog.Logger) (open func(*settings) (xrpc.Limiter, error), stop func() error) {
	var kept xrpc.Limiter
	end := func() error { return nil }
	open = func(s *settings) (xrpc.Limiter, error) {
		if kept != nil {
			return kept, nil
		}
		l, stop, err := openLimiter(ctx, s, log)
		if err == nil {
			kept, end = l, stop
		}
		return l, err
	}
	return open, func() error { return end() }
}
