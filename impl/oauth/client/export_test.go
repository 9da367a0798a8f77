package client

// Kept is how many documents are kept, and how many bytes they are counted as.
func Kept(c *Clients) (entries, bytes int) {
	c.documents.mu.Lock()
	defer c.documents.mu.Unlock()
	return c.documents.kept.Len(), c.documents.bytes
}
