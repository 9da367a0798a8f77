package answer

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/account/auth"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/importer"
	"portico/impl/repo/tree"
)

// importAgain is how long an import that finds too many others is best put off.
const importAgain = 30 * time.Second

// Import is the answer to an import that failed. What is wrong with an archive is its
// sender's to mend.
func Import(err error) error {
	if unparsed, ok := errors.AsType[*importer.RecordError](err); ok {
		return xrpc.InvalidRequest(fmt.Sprintf("Could not parse record at '%s'", unparsed.Path)).Because(err)
	}
	for _, known := range []struct {
		err     error
		message string
	}{
		{importer.ErrRoots, "expected one root"},
		{importer.ErrNoCommit, "The CAR does not have the commit that is its root"},
		{importer.ErrFutureRev, "The rev of the commit is in the future"},
		{importer.ErrTooMany, "The repository of an active account can't be changed that much at once: deactivate the account first"},
		{importer.ErrQuota, "Account has as many records as this server allows"},
		{car.ErrFormat, "The body is not a CAR of version 1"},
		{car.ErrHash, "A block of the CAR does not match its CID"},
		{repo.ErrCommit, "The root of the CAR is not a commit"},
		{tree.ErrMissing, "The CAR does not have the whole repository"},
		{tree.ErrPath, "The repository has a record under a path that no record can have"},
		{tree.ErrNode, "The CAR has a tree that is not a repository's"},
		{tree.ErrTooWide, "The tree of the repository has a node with too many records"},
		{account.ErrTakenDown, "Account has been taken down"},
		{account.ErrMoving, "The account is on its way between two hosts"},
		{db.ErrStale, "The repository was written to meanwhile"},
	} {
		if errors.Is(err, known.err) {
			return xrpc.InvalidRequest(known.message).Because(err)
		}
	}
	switch {
	case errors.Is(err, db.ErrNotFound):
		return auth.AccountNotFound() // deleted since the token was checked
	case errors.Is(err, importer.ErrBusy), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return xrpc.NotEnoughResources(importAgain).Because(err)
	}
	return err
}
