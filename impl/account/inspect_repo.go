package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/repo"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
	"portico/impl/repo/tree"
)

// A repoLook is what was seen of a repository.
type repoLook struct {
	*store.Verification
	row *db.Repo   // nil: there is none
	rev syntax.TID // that another commit follows; empty if anything may be next

	name, what string // what is wrong with the commit or the tree; "": nothing
	remedy     remedy // for that
	lost       string // what is wrong with the records
	index      string // what is wrong with what is kept beside them
}

// A remedy is what mends the tree or the commit of a repository.
type remedy int

const (
	restore remedy = iota // none, but a backup
	sign                  // another commit over the tree, which is whole
	rebuild               // the nodes, from the records, under the commit that there is
	prune                 // nodes that are not in the tree
	await                 // the end of an import, this one or another
)

// lookAtRepo looks whether the repository of did has a commit, signed with the did:key
// public, unless that is empty, a tree, all of its records, and beside those what they
// say. Errors are those of the database alone.
func lookAtRepo(ctx context.Context, d *db.DB, did syntax.DID, public string) (l *repoLook, err error) {
	err = d.Snapshot(ctx, func(state *db.Snapshot) error {
		row, err := repoRow(ctx, state, did)
		if err == nil {
			l, err = lookAt(ctx, state, did, row, public)
		}
		if err != nil {
			return err
		}
		unfinished, err := state.UnfinishedImport(ctx, did)
		if unfinished != "" { // the rows are neither the old repository nor the new one
			l.name, l.what, l.remedy = RepoDamaged, "An import of the repository is under way, or was broken off.", await
			l.lost, l.index = "", ""
		}
		return err
	})
	return l, err
}

// repoRow returns the row of a repository, or nil if there is none.
func repoRow(ctx context.Context, r store.Reader, did syntax.DID) (*db.Repo, error) {
	row, err := r.Repo(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil, nil
	}
	return row, err
}

func lookAt(ctx context.Context, r store.FullReader, did syntax.DID, row *db.Repo, public string) (l *repoLook, err error) {
	l = &repoLook{row: row}
	root := tree.Empty
	if row == nil {
		l.name, l.what = RepoMissing, "The account has no repository."
		top, err := store.Top(ctx, r, did)
		if err == nil {
			root = top
		} else if !errors.Is(err, db.ErrNotFound) {
			return nil, err
		}
	} else {
		l.name, l.what = commitFault(did, row, public)
		root = store.Root(row)
		if _, bad := syntax.ParseTID(row.Rev); bad == nil {
			l.rev = syntax.TID(row.Rev)
		}
	}
	if l.Verification, err = store.Verify(ctx, r, did, root, store.Wrong{}); err != nil {
		return nil, err
	}
	// Only a commit says that a tree is all there is.
	sure := l.name == "" || l.name == RepoSignature
	switch {
	case sure && l.Fault != nil:
		l.name, l.what = RepoDamaged, "A node of the repository's tree is missing or damaged."
		again, err := store.Rebuild(ctx, r, did, func(tree.Row) error { return nil })
		if err == nil && again == root {
			l.remedy = rebuild
		} else if err != nil && !errors.Is(err, tree.ErrPath) && !errors.Is(err, tree.ErrTooWide) {
			return nil, err
		}
	case sure && len(l.Spare) > 0:
		l.name, l.what, l.remedy = RepoDamaged, "There are nodes beside the repository's tree.", prune
	case l.name == "":
	case sure, len(l.Spare) == 0 && l.Extra == 0 && (l.Fault == nil || root == tree.Empty):
		l.remedy = sign // of the empty tree nothing can be lost
	}
	l.lost = l.lostRecords()
	if l.Fault == nil && (sure || l.Extra == 0) {
		l.index = l.indexFault()
	}
	return l, nil
}

// lostRecords says which records are not there as the tree has them.
func (l *repoLook) lostRecords() string {
	switch {
	case l.Lost == 0:
		return ""
	case l.Lost == 1:
		return fmt.Sprintf("The record %s is missing or damaged.", l.FirstLost)
	}
	return fmt.Sprintf("%d records are missing or damaged, the first of them %s.", l.Lost, l.FirstLost)
}

// indexFault says in what the rows beside a tree differ from it.
func (l *repoLook) indexFault() string {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if l.Extra > 0 {
		add("Records are stored that the repository's tree does not have: %d.", l.Extra)
	}
	if l.Unindexed > 0 {
		add("What records point at, or the blobs that they name, is noted otherwise than they say: of %d.", l.Unindexed)
	}
	if !slices.Equal(l.Collections, l.Listed) {
		add("The list of the repository's collections is wrong.")
	}
	if r := l.row; r != nil {
		if r.Nodes != l.Nodes || r.Records != l.Records {
			add("The repository has not as many nodes and records as were counted.")
		}
		if r.ExpectedBlobs != l.Blobs.Expected || r.ImportedBlobs != l.Blobs.Imported {
			add("The repository has not as many blobs as were counted.")
		}
	}
	return strings.Join(wrong, " ")
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
	damaged := bad != nil || commit.DID != did || commit.Data != store.CID(row.DataCID)
	if damaged || public == "" && commit.Rev.String() != row.Rev || commit.Rev.String() > row.Rev {
		return RepoDamaged, "The commit of the repository is damaged."
	}
	if public == "" {
		return "", ""
	}
	key, bad := atcrypto.ParsePublicDIDKey(public)
	if bad == nil {
		bad = commit.Verify(key)
	}
	// One that was imported is stored as it came, under the rev of its import.
	switch {
	case bad != nil:
		return RepoSignature, "The commit of the repository is not signed with the account's signing key."
	case commit.Rev.String() != row.Rev:
		return RepoDamaged, "The commit of the repository is damaged."
	}
	return "", ""
}

func (n *inspection) repo(ctx context.Context) error {
	public := ""
	if n.key != nil {
		public = n.key.Public
	}
	l, err := lookAtRepo(ctx, n.Accounts.DB, n.did, public)
	if err != nil {
		return err
	}
	n.look = l
	mend := func(name string) func(context.Context) error {
		return func(ctx context.Context) error { return n.mendRepo(ctx, name) }
	}
	switch {
	case l.name == "":
	case l.remedy == restore:
		n.add(l.name, nil, "%s Restore the account from a backup, or let its owner import the repository again.", l.what)
	case l.remedy == await:
		n.add(l.name, nil, "%s Look again later; if it was broken off, let its owner import the repository again, or restore the account from a backup.", l.what)
	case l.remedy == rebuild:
		n.add(l.name, mend(l.name), "%s Its records make the same tree, so repairing makes it anew from them.", l.what)
	case l.remedy == prune:
		n.add(l.name, mend(l.name), "%s Repairing removes them.", l.what)
	case n.private == nil:
		n.add(l.name, nil, "%s Its tree can be signed anew as soon as the signing key is there.", l.what)
	case l.Root == tree.Empty:
		n.add(l.name, mend(l.name), "%s It is empty, so repairing makes it anew.", l.what)
	default:
		n.add(l.name, mend(l.name), "%s Its tree is whole, so repairing signs that anew.", l.what)
	}
	if l.lost != "" {
		n.add(RepoRecords, nil, "%s Restore the account from a backup, or let its owner import the repository again, or write or delete those records.", l.lost)
	}
	if l.index != "" {
		n.add(RepoIndex, mend(RepoIndex), "%s Repairing makes it what the signed tree and the records say.", l.index)
	}
	return nil
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
