// Portico is an account server for the AT Protocol: its commands, their
// configuration, and what they are wired from.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := newCommand(os.Environ(), os.Stdout, os.Stderr).Run(ctx, os.Args); err != nil {
		printError(os.Stderr, err, os.Args)
		os.Exit(exitStatus(err))
	}
}
