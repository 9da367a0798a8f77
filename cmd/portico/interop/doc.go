// Package interop runs the clients that people have against the built binary, once
// with its embedded PLC directory and once with the real one. It needs npm, and
// Node on machines for which npm has no package of it; make interop runs it.
package interop
