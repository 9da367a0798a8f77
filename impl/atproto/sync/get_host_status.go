package sync

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	api "portico/api/atproto/sync"
)

// GetHostStatus tells of this host alone: it reads from no other.
func (s *Service) GetHostStatus(ctx context.Context, p *api.GetHostStatusParams) (*api.GetHostStatusOutput, error) {
	if !strings.EqualFold(p.Hostname, s.Hostname) {
		return nil, api.ErrGetHostStatusHostNotFound.New(http.StatusBadRequest, "Host not found")
	}
	seq, err := s.DB.LastEvent(ctx)
	if err != nil {
		return nil, err
	}
	accounts, err := s.accounts.count(s.Now(), func() (int64, error) { return s.DB.CountShown(ctx) })
	if err != nil {
		return nil, err
	}
	return &api.GetHostStatusOutput{
		Hostname: s.Hostname, Seq: new(seq), AccountCount: new(accounts), Status: new(api.HostStatusActive),
	}, nil
}

// accountCount keeps the number of accounts for a minute: to count them is to read an
// index from one end to the other, and anybody may ask.
type accountCount struct {
	mu sync.Mutex
	n  int64
	at time.Time
}

func (c *accountCount) count(now time.Time, count func() (int64, error)) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.at) < time.Minute {
		return c.n, nil
	}
	n, err := count()
	if err == nil {
		c.n, c.at = n, now
	}
	return n, err
}
