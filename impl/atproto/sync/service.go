// Package sync is com.atproto.sync.
//
// There is no repository to be read yet but the first commit of each account, so that
// none of its methods is served, see not_served.go.
package sync

import api "portico/api/atproto/sync"

// Service is the behaviour of com.atproto.sync. It is safe for concurrent use.
type Service struct{}

var _ api.Service = (*Service)(nil)

// Policy says who may call each method of com.atproto.sync.
type Policy struct{}

var _ api.Policy = Policy{}
