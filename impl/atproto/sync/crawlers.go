package sync

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	api "portico/api/atproto/sync"
	"portico/api/xrpc"
)

const (
	// noticeEvery is how often crawlers are told at most.
	noticeEvery = 20 * time.Minute
	// noticeTimeout is for one of them.
	noticeTimeout = 10 * time.Second
)

// Crawlers are the relays that are told that there is something to read here. One
// goroutine at a time may call its methods.
type Crawlers struct {
	// Hosts returns the base URLs of those that are told at the moment.
	Hosts func() []string
	// Hostname is the name that this server goes by now, "" as long as nobody is to look
	// for it under any.
	Hostname func(ctx context.Context) string
	HTTP     *http.Client
	Now      func() time.Time
	Log      *slog.Logger

	last  time.Time
	name  string // that they were told then
	under sync.WaitGroup
}

// Notify tells all of them, unless they were told the same name within 20 minutes, and does
// not wait for their answers, which end with ctx. One that cannot be told is told of a
// later event.
func (c *Crawlers) Notify(ctx context.Context) {
	hosts := c.Hosts()
	if len(hosts) == 0 {
		return
	}
	now, name := c.Now(), c.Hostname(ctx)
	if name == "" || name == c.name && now.Sub(c.last) < noticeEvery {
		return
	}
	c.last, c.name = now, name
	for _, host := range hosts {
		c.under.Go(func() { c.notify(ctx, host, name) })
	}
}

func (c *Crawlers) notify(ctx context.Context, host, name string) {
	ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	client := api.Client{Client: xrpc.Client{Host: host, HTTP: c.HTTP}}
	if err := client.RequestCrawl(ctx, &api.RequestCrawlInput{Hostname: name}); err != nil && ctx.Err() != context.Canceled {
		c.Log.WarnContext(ctx, "crawler was not told of new events", "crawler", host, "error", err)
	}
}

// Wait waits until all that was begun has ended.
func (c *Crawlers) Wait() { c.under.Wait() }
