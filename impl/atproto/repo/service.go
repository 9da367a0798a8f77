// Package repo is com.atproto.repo.
//
// Nothing can be written to accounts yet, so that none of its methods is served, see
// not_served.go.
package repo

import api "portico/api/atproto/repo"

// Service is the behaviour of com.atproto.repo. It is safe for concurrent use.
type Service struct{}

var _ api.Service = (*Service)(nil)

// Policy says who may call each method of com.atproto.repo.
type Policy struct{}

var _ api.Policy = Policy{}
