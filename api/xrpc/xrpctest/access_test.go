package xrpctest

import (
	"testing"
	"time"

	"portico/api/xrpc"
)

func TestAccess(t *testing.T) {
	got := Access([]xrpc.Route{
		{NSID: "a.b.c", Kind: xrpc.Query, Auth: "public"},
		{NSID: "a.b.d", Kind: xrpc.Procedure, Auth: "full", MaxBody: 100, Limits: []xrpc.RouteLimit{
			{Points: 5, Per: time.Hour, ByIP: true}, {Points: 6, Per: time.Minute},
		}},
	})
	const want = `query a.b.c: public
procedure a.b.d: full; 100 bytes; 5 in 1h0m0s by address; 6 in 1m0s by key
`
	if got != want {
		t.Errorf("got %s", got)
	}
}
