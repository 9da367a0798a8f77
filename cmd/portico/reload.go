package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

// explainHangups says in the log what SIGHUP does, which is nothing, until stop is
// called.
func explainHangups(log *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-hangups:
				log.Warn("SIGHUP changes nothing: settings are read at the start, and the log is no file to be opened again; restart for other settings")
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(hangups); close(done) }
}
