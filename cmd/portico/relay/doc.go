// Package relay lets indigo's relay and tap read the built binary while it is written to,
// moved, restarted and killed, and looks into their logs: they are the strict readers of
// the network. It builds them from the Go module proxy, once; make relay runs it.
package relay
