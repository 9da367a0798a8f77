// Package compare sends one script of requests to the reference PDS and to
// Portico and holds every difference in their answers against a list. It does
// the same with random requests to a server that was generated from lexicons
// and to the reference's own, and a list of their differences. It needs npm,
// and Node on machines for which npm has no package of it; make compare runs
// it.
package compare
