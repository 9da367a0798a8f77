// Package xrpctest helps to test policies.
package xrpctest

import (
	"fmt"
	"strings"

	"portico/api/xrpc"
)

// Access renders who may call what, how often and with how much, one line a
// method, for a golden file in which every change of a policy shows.
func Access(routes []xrpc.Route) string {
	var b strings.Builder
	for _, r := range routes {
		fmt.Fprintf(&b, "%s %s: %s", r.Kind, r.NSID, r.Auth)
		if r.MaxBody > 0 {
			fmt.Fprintf(&b, "; %d bytes", r.MaxBody)
		}
		for _, l := range r.Limits {
			by := "key"
			if l.ByIP {
				by = "address"
			}
			fmt.Fprintf(&b, "; %d in %v by %s", l.Points, l.Per, by)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
