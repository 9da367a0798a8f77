package account

import (
	"context"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
)

// A DIDError says what of a DID does not fit an account that lives here. Its
// message is for clients.
type DIDError struct{ Message string }

func (e *DIDError) Error() string { return e.Message }

// What Verify finds wrong, in the order in which it looks.
var (
	ErrUnresolved  = &DIDError{"Could not resolve DID"}
	ErrRotationKey = &DIDError{"Server rotation key not included in PLC DID data"}
	ErrEndpoint    = &DIDError{"DID document atproto_pds service endpoint does not match PDS public url"}
	ErrSigningKey  = &DIDError{"DID document verification method does not match expected signing key"}
)

// A Verifier finds out whether the DIDs of accounts name this server. It asks the
// network, so it is never called inside a transaction.
type Verifier struct {
	Accounts *Accounts
	// Directory is asked for did:plc; *plc.Client is one.
	Directory interface {
		Data(ctx context.Context, did syntax.DID) (plc.Data, error)
	}
	// Documents is asked for other DIDs, and past its cache; *resolve.Cache is one.
	Documents Documents
}

// Verify returns nil when the DID of an account is under this server's control
// and names it with the account's key. It returns a *DIDError when the DID says
// something else, a *plc.Error when the directory does not say, and db.ErrNotFound
// when there is no such account. It asks the network every time, but about accounts that
// are held in quarantine.
func (v *Verifier) Verify(ctx context.Context, did syntax.DID) error {
	known := &v.Accounts.validity
	state, at := known.state(), v.Accounts.Now()
	key, err := v.Accounts.DB.SigningKey(ctx, did, KeyPurpose)
	if err == nil {
		if did.Method() == "plc" {
			err = v.verifyPLC(ctx, did, key.Public)
		} else {
			err = v.verifyDocument(ctx, did, key.Public, true)
		}
	}
	if err != nil {
		known.forget(did)
		return fmt.Errorf("verify %s: %w", did, err)
	}
	known.keep(did, key.Public, at, state)
	return nil
}

// FoundValid reports whether this process has found by [Verifier.Verify], at most 30 seconds
// ago, that the DID of an account is valid with a signing key, and has not changed the DID
// since. It is for telling, not for deciding: elsewhere the DID may have been changed.
func (v *Verifier) FoundValid(did syntax.DID, key string) bool {
	return v.Accounts.validity.has(did, key, v.Accounts.Now())
}

// VerifyKnown is Verify by the document of the DID as it was read last, within the day:
// it asks the network only for one that is not known yet, and not who controls a DID.
func (v *Verifier) VerifyKnown(ctx context.Context, did syntax.DID) error {
	key, err := v.Accounts.DB.SigningKey(ctx, did, KeyPurpose)
	if err == nil {
		if _, none := v.Accounts.heldGenesis(ctx, did); none == nil {
			err = v.verifyPLC(ctx, did, key.Public)
		} else {
			err = v.verifyDocument(ctx, did, key.Public, false)
		}
	}
	if err != nil {
		return fmt.Errorf("verify %s: %w", did, err)
	}
	return nil
}

// data is what the directory says of a DID, or will say once an account is released that is
// held in quarantine: of one such nobody is asked.
func (v *Verifier) data(ctx context.Context, did syntax.DID) (plc.Data, error) {
	genesis, err := v.Accounts.heldGenesis(ctx, did)
	if err == nil {
		data, _ := genesis.Data()
		return data, nil
	}
	if !errors.Is(err, db.ErrNotFound) {
		return plc.Data{}, err
	}
	return v.Directory.Data(ctx, did)
}

func (v *Verifier) verifyPLC(ctx context.Context, did syntax.DID, key string) error {
	data, err := v.data(ctx, did)
	if err != nil {
		return err
	}
	ours, err := v.Accounts.Controls(data)
	if err != nil {
		return err
	}
	switch {
	case !ours:
		return ErrRotationKey
	case !v.Accounts.serves(ctx, data.Services["atproto_pds"].Endpoint):
		return ErrEndpoint
	case data.VerificationMethods["atproto"] != key:
		return ErrSigningKey
	}
	return nil
}

func (v *Verifier) verifyDocument(ctx context.Context, did syntax.DID, key string, fresh bool) error {
	doc, err := v.Documents.Resolve(ctx, did, fresh)
	if err != nil {
		return errors.Join(ErrUnresolved, err)
	}
	if !v.Accounts.serves(ctx, doc.PDS()) {
		return ErrEndpoint
	}
	for _, k := range doc.Keys {
		if k.ID == "#atproto" || k.ID == did.String()+"#atproto" {
			if "did:key:"+k.Multibase == key {
				return nil
			}
			break
		}
	}
	return ErrSigningKey
}

// mayBeOurs reports whether the DID, as it is now, may be that of an account which lives
// here and nowhere else: its document has this server for its PDS, under whatever name it
// ever had and be it by a service of an odd type, or this server can change it. The latter is
// all that there is to see of a name that was given to the server after the backup from which
// it was restored. An error means that nobody could tell.
func (v *Verifier) mayBeOurs(ctx context.Context, did syntax.DID) (bool, error) {
	doc, err := v.Documents.Resolve(ctx, did, true)
	if err != nil {
		return false, err
	}
	if here := v.Accounts.Host(ctx).Here(doc.ServiceEndpoint("atproto_pds", "")); here || did.Method() != "plc" {
		return here, nil
	}
	data, err := v.Directory.Data(ctx, did)
	if err != nil {
		return false, err
	}
	return v.Accounts.Controls(data)
}
