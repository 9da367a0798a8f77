package rows

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/blob"
	"portico/impl/repo/dagcbor"
)

var (
	// ErrNoBytes says that a blob has a row and no bytes.
	ErrNoBytes = errors.New("its bytes are missing")
	// ErrOtherBytes says that the bytes of a blob are not those that its CID names.
	ErrOtherBytes = errors.New("its bytes are not those that were uploaded")
)

// Verify reads the bytes of a blob of did and compares them with its row. It returns
// ErrNoBytes or ErrOtherBytes when something is wrong, and errors of the store.
func (b *Blobs) Verify(ctx context.Context, did syntax.DID, row *db.Blob) error {
	if len(row.CID) != len(dagcbor.CID{}) {
		return ErrOtherBytes
	}
	cid := dagcbor.CID(row.CID)
	places := []blob.Name{blob.PermanentName(did, cid)}
	switch {
	case row.TempKey != "":
		places = []blob.Name{blob.TemporaryName(did, row.TempKey)}
	case row.TakenDown(): // or on its way there
		places = append(places, blob.QuarantineName(did, cid))
	}
	err := error(ErrNoBytes)
	for _, name := range places {
		if err = b.verify(ctx, name, cid, row.Size); !errors.Is(err, ErrNoBytes) {
			return err
		}
	}
	return err
}

func (b *Blobs) verify(ctx context.Context, name blob.Name, cid dagcbor.CID, size int64) error {
	r, _, err := b.Store.Open(ctx, name)
	if errors.Is(err, blob.ErrNotFound) {
		return ErrNoBytes
	}
	if err != nil {
		return err
	}
	defer r.Close()
	sum, n, err := blob.Sum(r)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if sum != cid || n != size {
		return ErrOtherBytes
	}
	return nil
}
