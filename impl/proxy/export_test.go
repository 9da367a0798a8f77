package proxy

// UnderWay is how many requests of all callers are counted as not over yet.
func (p *Proxy) UnderWay() int {
	n := 0
	for _, kind := range []*counters{&p.callers.accounts, &p.callers.addresses} {
		kind.mu.Lock()
		for _, c := range kind.by {
			n += c.under
		}
		kind.mu.Unlock()
	}
	return n
}
