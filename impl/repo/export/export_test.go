package export

// Idle waits until nothing is read from the database.
func (e *Exports) Idle() {
	e.readers.Wait()
}

// Kept is what is kept for clients: archives, bytes, and how much memory.
func (e *Exports) Kept() (archives int, bytes, memory int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.total.archives, e.total.bytes, e.memory
}
