package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
)

// maxEmpty is how many blocks a repository may have that is looked through for
// records: its tree, and a commit for each signing key that it had.
const maxEmpty = 1000

// A repoFault is what is wrong with a repository.
type repoFault struct {
	name, what string // "": nothing
	empty      bool   // it has no records, so that another commit mends it
	rev        syntax.TID
}

// repoReader is a *db.DB or a *db.Tx.
type repoReader interface {
	Repo(ctx context.Context, did syntax.DID) (*db.Repo, error)
	RepoBlock(ctx context.Context, did syntax.DID, cid string) ([]byte, error)
	RepoBlocks(ctx context.Context, did syntax.DID) ([]db.Block, error)
}

// inspectRepo looks whether the repository of did has a commit, signed with the
// did:key public, unless that is empty, and a tree. Errors are those of the
// database alone.
func inspectRepo(ctx context.Context, r repoReader, did syntax.DID, public string) (f repoFault, err error) {
	row, err := r.Repo(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		f.name, f.what = RepoMissing, "The account has no repository."
		f.empty, err = withoutRecords(ctx, r, did, "")
		return f, err
	}
	if err != nil {
		return f, err
	}
	f.rev = syntax.TID(row.Rev)
	if _, err := syntax.ParseTID(row.Rev); err != nil {
		f.rev = "" // anything follows it
	}
	f.name, f.what, err = rootFault(ctx, r, did, row, public)
	if err != nil || f.name == "" {
		return f, err
	}
	if row.Blocks <= maxEmpty {
		f.empty, err = withoutRecords(ctx, r, did, row.Root)
	}
	return f, err
}

// rootFault says what is wrong with the root of a repository.
func rootFault(ctx context.Context, r repoReader, did syntax.DID, row *db.Repo, public string) (name, what string, err error) {
	block, err := r.RepoBlock(ctx, did, row.Root)
	if errors.Is(err, db.ErrNotFound) {
		return RepoDamaged, "The commit of the repository is missing.", nil
	}
	if err != nil {
		return "", "", err
	}
	commit, bad := repo.ParseCommit(block)
	if bad != nil || commit.CID.String() != row.Root || commit.DID != did || commit.Rev.String() != row.Rev {
		return RepoDamaged, "The commit of the repository is damaged.", nil
	}
	tree, err := r.RepoBlock(ctx, did, commit.Data.String())
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return "", "", err
	}
	if err != nil || dagcbor.Sum(dagcbor.CodecDAGCBOR, tree) != commit.Data {
		return RepoDamaged, "The root of the repository's tree is missing or damaged.", nil
	}
	if public == "" {
		return "", "", nil
	}
	key, bad := atcrypto.ParsePublicDIDKey(public)
	if bad == nil {
		bad = commit.Verify(key)
	}
	if bad != nil {
		return RepoSignature, "The commit of the repository is not signed with the account's signing key.", nil
	}
	return "", "", nil
}

// withoutRecords reports whether a repository has no blocks but the empty tree,
// commits over that, and a root that may be damaged.
func withoutRecords(ctx context.Context, r repoReader, did syntax.DID, root string) (bool, error) {
	blocks, err := r.RepoBlocks(ctx, did)
	if err != nil {
		return false, err
	}
	for _, b := range blocks {
		if b.CID == repo.EmptyTree.String() {
			continue
		}
		commit, err := repo.ParseCommit(b.Data)
		if err != nil && b.CID != root || err == nil && !commit.Empty() {
			return false, nil
		}
	}
	return true, nil
}

func (n *inspection) repo(ctx context.Context) error {
	public := ""
	if n.key != nil {
		public = n.key.Public
	}
	fault, err := inspectRepo(ctx, n.Accounts.DB, n.did, public)
	switch {
	case err != nil || fault.name == "":
		return err
	case !fault.empty:
		n.add(fault.name, nil, "%s Restore the account from a backup, or let its owner import the repository again.", fault.what)
	case n.private == nil:
		n.add(fault.name, nil, "%s It is empty, so it can be made anew as soon as the signing key is there.", fault.what)
	default:
		n.add(fault.name, n.mendRepo, "%s It is empty, so repairing makes it anew.", fault.what)
	}
	return nil
}

// mendRepo makes a new commit over the empty tree, unless that is not needed any
// more, and tells the network.
func (n *inspection) mendRepo(ctx context.Context) error {
	a := n.Accounts
	return a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, n.did)
		if err != nil {
			return err
		}
		row, err := tx.SigningKey(ctx, n.did, KeyPurpose)
		if err != nil {
			return err
		}
		fault, err := inspectRepo(ctx, tx, n.did, row.Public)
		if err != nil || fault.name == "" {
			return err
		}
		if !fault.empty {
			return errors.New("repository is not empty any more")
		}
		key, err := a.Keys.SigningKey(KeyPurpose, n.did.String(), row.Sealed)
		if err != nil {
			return fmt.Errorf("open signing key: %w", err)
		}
		if err := audit.Record(ctx, tx, a.Now(), n.did, audit.Repaired, fault.name); err != nil {
			return err
		}
		said, err := a.putEmptyRepo(ctx, tx, acct, key, fault)
		if err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(n.did, said...)...)
	})
}

// signAnew makes a new commit with the signing key that an account, which tx has
// locked, got, and returns what the network is to be told. A repository with
// records keeps the commit that it has until the next one is made.
func (a *Accounts) signAnew(ctx context.Context, tx *db.Tx, acct *db.Account, key db.SigningKey) ([]event.Event, error) {
	fault, err := inspectRepo(ctx, tx, acct.DID, key.Public)
	if err != nil || fault.name != RepoSignature || !fault.empty {
		return nil, err
	}
	private, err := a.Keys.SigningKey(KeyPurpose, acct.DID.String(), key.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open signing key: %w", err)
	}
	return a.putEmptyRepo(ctx, tx, acct, private, fault)
}
