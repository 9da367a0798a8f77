package repo

import (
	"cmp"
	"context"
	"time"

	api "portico/api/atproto/repo"
	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/account/token"
	"portico/impl/oauth/scope"
)

// Policy says who may call each method of com.atproto.repo, and how often where the
// operator switched request limits on.
type Policy struct {
	Gate *auth.Gate
	// MaxImport is how large an archive that is imported may be, in bytes; 0 is any size.
	MaxImport int64
	// MaxBlob is how large a blob may be, in bytes; 0 is 5 MiB.
	MaxBlob int64
}

var _ api.Policy = Policy{}

// Anyone, and of an account in quarantine itself and the operator alone.

func (p Policy) DescribeRepo() xrpc.Policy[api.DescribeRepoParams] {
	return unlimited[api.DescribeRepoParams](p.Gate.Anybody(reading, auth.AnyApp))
}
func (p Policy) GetRecord() xrpc.Policy[api.GetRecordParams] {
	return unlimited[api.GetRecordParams](p.Gate.Anybody(reading, auth.AnyApp))
}
func (p Policy) ListRecords() xrpc.Policy[api.ListRecordsParams] {
	return unlimited[api.ListRecordsParams](p.Gate.Anybody(reading, auth.AnyApp))
}

// Any session, of which the method looks whether it is that of the repository's account. Of
// apps it asks for each write that they may make it.

func (p Policy) CreateRecord() xrpc.Policy[api.CreateRecordInput] {
	return writes(p.Gate, "create", largeBody, func(*api.CreateRecordInput) int { return createPoints })
}
func (p Policy) PutRecord() xrpc.Policy[api.PutRecordInput] {
	return writes(p.Gate, "create&action=update", largeBody, func(*api.PutRecordInput) int { return updatePoints })
}
func (p Policy) DeleteRecord() xrpc.Policy[api.DeleteRecordInput] {
	return writes(p.Gate, "delete", 0, func(*api.DeleteRecordInput) int { return deletePoints })
}
func (p Policy) ApplyWrites() xrpc.Policy[api.ApplyWritesInput] {
	return writes(p.Gate, "<action>", largeBody, func(in *api.ApplyWritesInput) (points int) {
		for _, w := range in.Writes {
			switch w.Value().(type) {
			case *api.ApplyWritesCreate:
				points += createPoints
			case *api.ApplyWritesUpdate:
				points += updatePoints
			default:
				points += deletePoints
			}
		}
		return points
	})
}

// What writing to a record costs an account.
const (
	createPoints = 3
	updatePoints = 2
	deletePoints = 1
)

const largeBody = 1_000_000

// writes gives each account 5000 points an hour and 35000 a day for all that it writes.
func writes[In any](gate *auth.Gate, action string, maxBody int64, points func(*In) int) xrpc.Policy[In] {
	account := func(ctx context.Context, _ *In) string { return auth.Caller(ctx).DID.String() }
	more := func(in *In) int { return max(0, points(in)-1) }
	return xrpc.Policy[In]{
		Auth: gate.Session(token.Standard, auth.AppAsked("repo:<collection>?action="+action)), MaxBody: maxBody,
		Limits: xrpc.Limits[In]{
			{Name: "repo-write", Points: 5000, Per: time.Hour, Key: account, More: more, Shared: true},
			{Name: "repo-write", Points: 35000, Per: 24 * time.Hour, Key: account, More: more, Shared: true},
		},
	}
}

// reading is what sessions read with: any.
var reading = token.Standard.With(token.Takendown)

// anySize stands for no limit.
const anySize = 1 << 50

const day = 24 * time.Hour

// Any session.

func (p Policy) ListMissingBlobs() xrpc.Policy[api.ListMissingBlobsParams] {
	return unlimited[api.ListMissingBlobsParams](p.Gate.Session(token.Standard, auth.AnyApp))
}

// Any session, and services that an account has given a token.

func (p Policy) UploadBlob() xrpc.Policy[xrpc.Body] {
	return xrpc.Policy[xrpc.Body]{
		Auth: p.Gate.Uploader(token.Standard, auth.AppAsked("blob:<content type>")), MaxBody: p.MaxBlob,
		Limits: xrpc.Limits[xrpc.Body]{{Points: 1000, Per: day}},
	}
}

// Sessions with the account password only, and apps that were given the whole repository.

func (p Policy) ImportRepo() xrpc.Policy[xrpc.Body] {
	return xrpc.Policy[xrpc.Body]{
		Auth:   p.Gate.Session(token.Full, auth.AppWith(scope.Account{Attr: "repo", Action: "manage"}), auth.NotTakenDown, auth.NotHeld),
		Limits: xrpc.GlobalLimitOnly[xrpc.Body](), MaxBody: cmp.Or(p.MaxImport, anySize),
	}
}

// unlimited has no limit of its own beside the global one.
func unlimited[In any](who xrpc.Authenticator) xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: who, Limits: xrpc.GlobalLimitOnly[In]()}
}
