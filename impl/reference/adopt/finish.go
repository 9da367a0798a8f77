package adopt

import (
	"context"
	"errors"

	"portico/db"
)

// ErrFinished says that a database was not adopted, or that its adoption is finished.
var ErrFinished = errors.New("no adoption is under way")

// secretsAtATime is how many secrets are deleted in one transaction.
const secretsAtATime = 1000

// Finish ends the way back: what accounts had on the old server in the form that only that
// one can use is deleted, so that an export has no passwords and sessions from there any
// more, and the standstill of deletions ends. It returns how many secrets there were, and
// ErrFinished where there is nothing to finish. Broken off, it goes on when it is called
// again.
//
// Within two hours of the adoption, clients that lost the last answer of the old server to
// a refresh are signed out by it.
func Finish(ctx context.Context, d *db.DB) (secrets int64, err error) {
	_, err = d.Meta(ctx, sourceValue)
	if errors.Is(err, db.ErrNotFound) {
		return 0, ErrFinished
	}
	if err != nil {
		return 0, err
	}
	for {
		var n int64
		err := d.Write(ctx, func(tx *db.Tx) (err error) {
			if n, err = tx.DeleteAdoptedSecrets(ctx, secretsAtATime); err != nil || n == secretsAtATime {
				return err
			}
			return tx.DeleteMeta(ctx, sourceValue)
		})
		if err != nil {
			return secrets, err
		}
		if secrets += n; n < secretsAtATime {
			return secrets, nil
		}
	}
}
