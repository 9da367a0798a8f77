// Package adopt takes the data directory of a stopped reference PDS over: what its clients,
// relays and operator had there they have here, under the same names, with the same
// numbers. The directory is only read.
//
// An adoption can be broken off anywhere and run again: accounts, credentials, invites and
// events are written anew in one transaction each, repositories one by one in a transaction
// each, and blobs are files that appear whole. Until all of it is checked the database has a
// name that no server opens.
package adopt

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account/token"
	"portico/impl/blob"
	"portico/impl/identity/plc"
	"portico/impl/keyring"
)

// An Adoption takes one directory over. Its fields are set before its first use.
type Adoption struct {
	Source *reference.Source
	Layout reference.Layout
	// Target is the database that is filled: a new one, or one that an adoption of the same
	// directory began.
	Target *db.DB
	// Folder is the data directory of Target, which has the mark of the adoption, and its
	// report in the end.
	Folder string
	Keys   *keyring.Ring
	// Tokens are issued with the secret of the source: ids of refresh tokens are hashed by it.
	Tokens *token.Issuer
	// Blobs takes the files, nil: they stay in the bucket that both servers use.
	Blobs *blob.Disk
	How   Blobs
	// Bucket is read in the end when it is where blobs stay. Nil: they are not looked at, and
	// the report says so.
	Bucket *blob.S3
	// Directory is asked what the did:plc say, at a bounded rate. Nil: nothing is asked, and
	// the report says so.
	Directory interface {
		Data(ctx context.Context, did syntax.DID) (plc.Data, error)
	}
	Rotation atcrypto.PrivateKey
	Endpoint string        // public URL
	Window   time.Duration // how old events may be that are taken; 0: all are
	// DeleteAfterMin is how long deactivated accounts that wait for their deletion have at
	// least, from now.
	DeleteAfterMin time.Duration
	// Confirm is asked whether to go on although the DIDs of some accounts lack this server's
	// rotation key or the account's key. With none it is nobody that is asked about: their
	// DIDs were not looked at. Nil says no.
	Confirm func(unmanaged []syntax.DID) bool
	// Found is what the caller found before.
	Found []Finding
	// SkipBroken finishes the deletion of accounts whose store is gone.
	SkipBroken bool
	Progress   func(Progress)
	Now        func() time.Time
	Rand       io.Reader
	Log        *slog.Logger

	mu     sync.Mutex
	report *Report
	lost   *lostBlobs // by the last call of blobs
}

// Blobs is what becomes of the files of blobs.
type Blobs string

const (
	CopyBlobs  Blobs = "copy"  // as copies, which share their bytes with the old ones where the file system can
	LinkBlobs  Blobs = "link"  // as second names of the same files
	LeaveBlobs Blobs = "leave" // they stay, and are read there
)

// Progress is how far a part of an adoption has come.
type Progress struct {
	Part        string // "accounts", "repositories", "events", "blobs", "checks", "blobs in the bucket", "identities"
	Done, Total int64
}

// A Finding is something about the directory that its operator should know.
type Finding struct {
	Name string     `json:"name"` // "store-missing", …
	DID  syntax.DID `json:"did,omitempty"`
	// Grave says that nothing is adopted unless it is mended, or waived by the option that
	// Text names.
	Grave bool   `json:"grave"`
	Text  string `json:"text"`
}

// A Count compares what the source has with what is here.
type Count struct {
	Of      string `json:"of"` // "accounts", "app passwords", …
	Source  int64  `json:"source"`
	Dropped int64  `json:"dropped"`           // not taken over
	Why     string `json:"why,omitempty"`     // they were dropped
	Adopted int64  `json:"adopted,omitempty"` // 0 in a dry run
}

// A Report says what an adoption found and did.
type Report struct {
	Edition  string    `json:"edition"` // "0.4.173 to 0.5.35", by its migrations
	Counts   []Count   `json:"counts"`
	Findings []Finding `json:"findings"`
	// Unmanaged are the active accounts whose did:plc lacks the server's rotation key or
	// the account's signing key.
	Unmanaged []syntax.DID `json:"unmanaged"`
	LastEvent int64        `json:"lastEvent"`
}

// Refused reports whether something grave was found.
func (r *Report) Refused() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Grave })
}
