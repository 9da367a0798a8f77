package account

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"portico/db"
	"portico/impl/identity/plc"
)

// plc looks at what the directory says about a did:plc.
func (n *inspection) plc(ctx context.Context) error {
	last, err := n.Directory.Last(ctx, n.did)
	if err != nil {
		// A 404 without a word comes from something in between.
		if failed, ok := errors.AsType[*plc.Error](err); ok && errors.Is(err, plc.ErrNotFound) && failed.Message != "" {
			n.add(DIDNotFound, nil, "The directory does not know the DID. Is PDS_DID_PLC_URL the directory that it was made in?")
			return nil
		}
		n.unreachable("The directory", err)
		return nil
	}
	d, ok := last.Data()
	if !ok {
		n.add(DIDTombstoned, nil, "The DID was ended with a tombstone, which a stronger rotation key can take back for 72 hours.")
		return nil
	}
	if !n.Accounts.Named(ctx, d) {
		// What else it says is the business of the other server then.
		n.add(DIDEndpoint, nil, "%s This is not changed unasked: if it is to be here, its owner has to move it back.", elsewhere(d.Services["atproto_pds"].Endpoint))
		return nil
	}
	own, err := n.Accounts.RotationKey()
	if err != nil {
		return err
	}
	ours, err := n.Accounts.Controls(d)
	if err != nil {
		return err
	}
	if !ours {
		n.add(DIDRotationKey, nil, "The rotation keys of the DID do not include that of this server, %s, so this server cannot change "+
			"the DID. Its owner has to add the key with one of theirs.", own)
	}
	if wanted, got := n.wanted(ctx), d.Services["atproto_pds"].Endpoint; got != wanted {
		var mend func(context.Context) error
		if ours {
			mend = n.mendEndpoint
		}
		n.add(DIDEndpoint, mend, "The DID names this server as %s, and is to name it as %s.", got, wanted)
	}
	if err := n.oldKey(ctx, d); err != nil {
		return err
	}
	if n.key != nil && d.VerificationMethods["atproto"] != n.key.Public {
		var mend func(context.Context) error
		if ours && n.private != nil {
			mend = n.mendKey
		}
		n.add(DIDSigningKey, mend, "The DID names %s as the signing key of the account, which is %s.",
			cmp.Or(d.VerificationMethods["atproto"], "nothing"), n.key.Public)
	}
	if h := n.account.Handle; h != "" && d.Handle() != h.String() && !n.changing {
		var mend func(context.Context) error
		if ours && !n.found(HandleUnresolved) {
			mend = n.mendHandle
		}
		n.add(DIDHandle, mend, "The DID names %s as the handle of the account, which is %s.", cmp.Or(d.Handle(), "nothing"), h)
	}
	return nil
}

// oldKey looks whether the DID has been left with the old rotation key of this server, when
// the others were given that of today.
func (n *inspection) oldKey(ctx context.Context, d plc.Data) error {
	key, err := n.Accounts.RotationKey()
	if err != nil {
		return err
	}
	old, err := n.Accounts.OldRotationKey()
	if err != nil || old == "" || !slices.Contains(d.RotationKeys, old) || slices.Contains(d.RotationKeys, key) {
		return err
	}
	given, err := n.Accounts.accountKeys(ctx)
	if err != nil || !slices.Contains(given, key) {
		return err
	}
	retired := !slices.Contains(given, old)
	if !retired {
		row, err := n.Accounts.DB.DIDMove(ctx, n.did)
		if errors.Is(err, db.ErrNotFound) || err == nil && row.State != db.DIDLeft || len(d.RotationKeys) >= MaxRotationKeys {
			return nil // its turn comes, or there is no room before the end
		}
		if err != nil {
			return err
		}
	}
	n.add(DIDRotationKey, func(ctx context.Context) error {
		err := n.update(ctx, n.did, n.here(ctx), func(d *plc.Data) { d.RotationKeys = WithKey(d.RotationKeys, old, key, retired) })
		if err != nil {
			return err
		}
		return n.record(ctx, DIDRotationKey)
	}, "The DID has the old rotation key of this server, %s, and not that of today, %s.", old, key)
	return nil
}

func (n *inspection) found(name string) bool {
	return slices.ContainsFunc(n.findings, func(f Finding) bool { return f.Name == name })
}
