// Package compare sends one script of requests to the reference PDS and to
// Portico and holds every difference in their answers against a list. It needs
// npm, and Node on machines for which npm has no package of it; make compare
// runs it.
package compare
