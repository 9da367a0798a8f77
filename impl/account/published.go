package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
)

// Published says which server a DID names for its account now and, of a did:plc, which
// keys may change it. Both are empty for one that has ended or that nobody publishes: so
// is a did:web whose host, which only its owner can mend, does not answer. An error means
// that the directory did not.
func (i *Identities) Published(ctx context.Context, did syntax.DID) (endpoint string, rotationKeys []string, err error) {
	if did.Method() != "plc" {
		doc, err := i.Documents.Resolve(ctx, did, true)
		if err != nil {
			return "", nil, ctx.Err()
		}
		return doc.PDS(), nil, nil
	}
	last, err := i.Directory.Last(ctx, did)
	// A 404 without a word comes from something in between.
	if failed, ok := errors.AsType[*plc.Error](err); ok && errors.Is(err, plc.ErrNotFound) && failed.Message != "" {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("look up %s: %w", did, err)
	}
	d, _ := last.Data()
	return d.Services["atproto_pds"].Endpoint, d.RotationKeys, nil
}
