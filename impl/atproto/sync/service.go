// Package sync is com.atproto.sync: what relays and others read of repositories.
//
// Each method is a file that reads like its paragraph of the protocol. Whose repository
// is given to whom is availability.go, who may call what policy.go.
package sync

import (
	api "portico/api/atproto/sync"
	"portico/db"
)

// Service is the behaviour of com.atproto.sync. It is safe for concurrent use.
type Service struct {
	DB *db.DB
}

var _ api.Service = (*Service)(nil)
