package importer

import "github.com/bluesky-social/indigo/atproto/syntax"

// Waiting is how many imports of an account there are.
func (i *Importer) Waiting(did syntax.DID) int {
	i.queue.mu.Lock()
	defer i.queue.mu.Unlock()
	if t := i.queue.accounts[did]; t != nil {
		return t.imports
	}
	return 0
}
