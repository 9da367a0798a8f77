// Package sync is com.atproto.sync: what relays and others read of repositories.
//
// Each method is a file that reads like its paragraph of the protocol. Whose repository
// is given to whom is availability.go, who may call what policy.go.
package sync

import (
	"time"

	api "portico/api/atproto/sync"
	"portico/db"
	"portico/impl/blob/rows"
	"portico/impl/repo/export"
	"portico/impl/repo/firehose"
	"portico/impl/repo/tree"
)

// Service is the behaviour of com.atproto.sync. It is safe for concurrent use.
type Service struct {
	DB    *db.DB
	Blobs *rows.Blobs
	// Exports makes the archives of repositories.
	Exports *export.Exports
	Nodes   *tree.Cache // may be nil

	Firehose *firehose.Firehose
	// Hostname is the public name of this host, as relays know it: with a port where that
	// is not the ordinary one.
	Hostname string
	Now      func() time.Time

	accounts accountCount
}

var _ api.Service = (*Service)(nil)
