package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/audit"
	"portico/impl/repo/importer"
	"portico/impl/repo/store"
)

// ErrImportUnfinished says that the rows of a repository are not whole, because an import
// of it was broken off.
var ErrImportUnfinished = errors.New("import of the repository is not finished")

// FinishImport makes what was imported the repository of did: it is the Finish of an
// [importer.Importer].
//
// Of a deactivated account the commit is stored as it was received, and signed here at
// the activation. An active one gets a commit of its own at once, and the network is told;
// unless nothing has changed: then there is no commit. Where the commit is of another DID,
// or one that this server once signed, there is a new one at once, too: what is stored is
// always a commit of the account, and no two have one rev.
//
// It returns ErrTakenDown, ErrMoving for one that leaves, or db.ErrNotFound.
func (a *Accounts) FinishImport(ctx context.Context, tx *db.Tx, did syntax.DID, now time.Time, i importer.Imported) error {
	acct, err := tx.LockAccount(ctx, did)
	if err != nil {
		return err
	}
	if acct.TakenDown() {
		return ErrTakenDown
	}
	row, err := tx.LockRepo(ctx, did)
	if err != nil {
		return err
	}
	if !acct.Deactivated() && !i.Changed {
		return nil
	}
	if acct.Deactivated() {
		if err := notLeaving(ctx, tx, did); err != nil {
			return err
		}
	}
	if err := audit.Record(ctx, tx, now, did, audit.RepositoryImported, i.Commit.CID.String()); err != nil {
		return err
	}
	stored, err := tx.SigningKey(ctx, did, KeyPurpose)
	if err != nil {
		return err
	}
	before := row.CommitCID
	row.DataCID, row.Layer, row.Nodes, row.Records = i.Root.CID[:], i.Root.Layer, i.Nodes, i.Records
	public, err := atcrypto.ParsePublicDIDKey(stored.Public)
	if err != nil {
		return fmt.Errorf("signing key of %s: %w", did, err)
	}
	if acct.Deactivated() && i.Parsed.DID == did && i.Parsed.Verify(public) != nil {
		row.CommitCID, row.CommitBlock, row.Rev = i.Commit.CID[:], i.Commit.Data, i.Rev.String()
		return tx.UpdateRepo(ctx, did, *row, before)
	}
	private, err := a.Keys.SigningKey(KeyPurpose, did.String(), stored.Sealed)
	if err != nil {
		return fmt.Errorf("open signing key: %w", err)
	}
	row.Rev = max(row.Rev, i.Parsed.Rev.String()) // its successor is i.Rev
	signed, err := store.SignAnew(ctx, tx, did, row, private, now)
	if err != nil {
		return err
	}
	return tx.AppendEvents(ctx, Events(did, newCommit(acct, signed)...)...)
}
