package account

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/repo"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// maxLooks is how often a repository is looked through that is written to meanwhile.
const maxLooks = 5

// A repoFault is what is wrong with a repository.
type repoFault struct {
	name, what string          // "": nothing
	whole      *store.Contents // of the tree over which another commit mends it; nil if there is none
	rev        syntax.TID      // that another commit follows; empty if anything may be next
}

// inspectRepo looks whether the repository of did has a commit, signed with the
// did:key public, unless that is empty, and a tree, all of it. Errors are those of the
// database alone.
func inspectRepo(ctx context.Context, r store.Reader, did syntax.DID, public string) (f repoFault, err error) {
	for look := 1; ; look++ {
		row, err := repoRow(ctx, r, did)
		if err == nil {
			f, err = repoFaultOf(ctx, r, did, row, public)
		}
		if err != nil || f.name == "" || look == maxLooks {
			return f, err
		}
		// A commit in the midst of the walk is no damage.
		now, err := repoRow(ctx, r, did)
		if err != nil || row == nil && now == nil || row != nil && now != nil && bytes.Equal(row.CommitCID, now.CommitCID) {
			return f, err
		}
	}
}

// repoRow returns the row of a repository, or nil if there is none.
func repoRow(ctx context.Context, r store.Reader, did syntax.DID) (*db.Repo, error) {
	row, err := r.Repo(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return row, err
}

func repoFaultOf(ctx context.Context, r store.Reader, did syntax.DID, row *db.Repo, public string) (f repoFault, err error) {
	root := tree.Empty
	if row == nil {
		f.name, f.what = RepoMissing, "The account has no repository."
		top, err := store.Top(ctx, r, did)
		if err == nil {
			root = top
		} else if !errors.Is(err, db.ErrNotFound) {
			return f, err
		}
	} else {
		f.name, f.what = commitFault(did, row, public)
		root = store.Root(row)
		if _, bad := syntax.ParseTID(row.Rev); bad == nil {
			f.rev = syntax.TID(row.Rev)
		}
	}
	// Only a commit says that a tree is all there is.
	sure := f.name == "" || f.name == RepoSignature
	contents, fault, err := walkTree(ctx, r, did, root)
	if err != nil {
		return f, err
	}
	if (fault == nil || root == tree.Empty) && (sure || len(contents.Spare) == 0) {
		f.whole = &contents // of the empty tree nothing can be lost
	}
	switch {
	case !sure:
	case fault != nil:
		f.name, f.what = RepoDamaged, "A node of the repository's tree is missing or damaged."
	case len(contents.Spare) > 0:
		f.name, f.what = RepoDamaged, "There are nodes beside the repository's tree."
	case contents.Nodes != row.Nodes || contents.Records != row.Records:
		f.name, f.what = RepoDamaged, "The repository has not as many nodes and records as were counted."
	}
	return f, nil
}

// commitFault says what is wrong with the last commit of a repository.
func commitFault(did syntax.DID, row *db.Repo, public string) (name, what string) {
	if len(row.CommitBlock) == 0 {
		return RepoDamaged, "The commit of the repository is missing."
	}
	block, bad := store.LastCommit(row)
	var commit *repo.Commit
	if bad == nil {
		commit, bad = repo.ParseCommit(block.Data)
	}
	if bad != nil || commit.DID != did || commit.Rev.String() > row.Rev || commit.Data != store.CID(row.DataCID) {
		return RepoDamaged, "The commit of the repository is damaged."
	}
	// One that was imported is stored as it came, under a later rev.
	if commit.Rev.String() != row.Rev {
		return RepoSignature, "The commit of the repository was imported from another server."
	}
	if public == "" {
		return "", ""
	}
	key, bad := atcrypto.ParsePublicDIDKey(public)
	if bad == nil {
		bad = commit.Verify(key)
	}
	if bad != nil {
		return RepoSignature, "The commit of the repository is not signed with the account's signing key."
	}
	return "", ""
}

// walkTree goes through a stored tree, as far as its nodes are to be had, and returns the
// first thing that is wrong with them. It reads no records.
func walkTree(ctx context.Context, r store.Reader, did syntax.DID, root tree.Root) (c store.Contents, fault, err error) {
	c, err = store.Walk(ctx, r, did, root, tree.Visitor{
		Fault: func(_ tree.Place, _ string, err error) error {
			fault = cmp.Or(fault, err)
			return nil
		},
	})
	c.Root = root
	return c, fault, err
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
	case fault.whole == nil:
		n.add(fault.name, nil, "%s Restore the account from a backup, or let its owner import the repository again.", fault.what)
	case n.private == nil:
		n.add(fault.name, nil, "%s Its tree can be signed anew as soon as the signing key is there.", fault.what)
	case fault.whole.Root == tree.Empty:
		n.add(fault.name, n.mendRepo, "%s It is empty, so repairing makes it anew.", fault.what)
	default:
		n.add(fault.name, n.mendRepo, "%s Its tree is whole, so repairing signs that anew.", fault.what)
	}
	return nil
}

// mendRepo makes a new commit over the tree, unless that is not needed any more, and
// tells the network.
func (n *inspection) mendRepo(ctx context.Context) error {
	a := n.Accounts
	return a.DB.WriteAlone(ctx, func(tx *db.Tx) error {
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
		if fault.whole == nil {
			return errors.New("tree of the repository is not whole any more")
		}
		key, err := a.Keys.SigningKey(KeyPurpose, n.did.String(), row.Sealed)
		if err != nil {
			return fmt.Errorf("open signing key: %w", err)
		}
		if err := audit.Record(ctx, tx, a.Now(), n.did, audit.Repaired, fault.name); err != nil {
			return err
		}
		said, err := a.putRepo(ctx, tx, acct, key, fault)
		if err != nil {
			return err
		}
		return tx.AppendEvents(ctx, Events(n.did, said...)...)
	})
}

// signAnew makes a new commit with the signing key that an account, which tx has
// locked, got, and returns what the network is to be told. What is damaged is left as it
// is, for [Identities.Repair].
func (a *Accounts) signAnew(ctx context.Context, tx *db.Tx, acct *db.Account, key db.SigningKey) ([]event.Event, error) {
	row, err := tx.LockRepo(ctx, acct.DID)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signed, err := a.signOver(ctx, tx, acct.DID, row, key)
	if err != nil || signed == nil {
		return nil, err
	}
	return newCommit(acct, signed), nil
}

// signOver makes a new commit with key over the tree that row, which tx has locked, says
// did has, if the last one was signed with another. It returns nil where it was not, and
// where the commit is damaged.
func (a *Accounts) signOver(ctx context.Context, tx *db.Tx, did syntax.DID, row *db.Repo, key db.SigningKey) (*repo.Signed, error) {
	if name, _ := commitFault(did, row, key.Public); name != RepoSignature {
		return nil, nil
	}
	private, err := a.Keys.SigningKey(KeyPurpose, did.String(), key.Sealed)
	if err != nil {
		return nil, fmt.Errorf("open signing key: %w", err)
	}
	return store.SignAnew(ctx, tx, did, row, private, a.Now())
}
