// Package relay lets indigo's relay and tap read the built binary while it is written to,
// moved, restarted and killed, after it was adopted from the reference PDS, and while it
// gets another host name, and looks into their logs: they are the strict readers of the
// network. It builds them from the Go module proxy, once; make relay runs it. What is about
// host names needs Linux, with unshare and ip, and npm for the reference.
package relay
