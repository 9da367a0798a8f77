package account

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
)

// errUncontrolled says that no rotation key of a genesis is this server's any more.
var errUncontrolled = errors.New("the rotation keys of the DID do not include that of this server")

// controllable returns errUncontrolled for a genesis that makes a DID which this server could
// not change.
func (a *Accounts) controllable(genesis plc.Operation) error {
	d, _ := genesis.Data()
	ours, err := a.Controls(d)
	if err == nil && !ours {
		err = errUncontrolled
	}
	return err
}

// amend has a DID say what it is to say by now, which its genesis may not: while the account
// was in quarantine, the server may have got another rotation key or host name, and the
// move of all DIDs passed over this one. Most are fine, and the directory is not asked.
//
// It comes after the account was shown. Whatever phase of a move it sees then, the move
// looks at the DID as at any other in the phases that follow.
func (a *Accounts) amend(ctx context.Context, h *db.Quarantined) error {
	last, err := plc.Parse(h.Genesis)
	if err != nil {
		return fmt.Errorf("stored genesis: %w", err)
	}
	acct, err := a.DB.AccountByDID(ctx, h.DID)
	if err != nil {
		return err
	}
	if change, err := a.outdated(ctx, last, acct.Handle); err != nil || change == nil {
		return err
	}
	if last, err = a.Directory.Last(ctx, h.DID); err != nil {
		return fmt.Errorf("amend %s: %w", h.DID, err)
	}
	change, err := a.outdated(ctx, last, acct.Handle)
	if err != nil || change == nil {
		return err
	}
	op, err := plc.Update(last, func(d *plc.Data) { *d = *change })
	if err != nil {
		return fmt.Errorf("amend %s: %w", h.DID, err)
	}
	if err := a.Sign(op, last); err != nil {
		return fmt.Errorf("amend %s: sign operation: %w", h.DID, err)
	}
	defer a.DIDChanged(h.DID)
	if err := a.Directory.Submit(ctx, h.DID, op); err != nil {
		return fmt.Errorf("amend %s: %w", h.DID, err)
	}
	return nil
}

// outdated is what a DID is to say whose last operation says otherwise, nil where there is
// nothing to change, or its owner has moved it elsewhere or ended it.
func (a *Accounts) outdated(ctx context.Context, last plc.Operation, handle syntax.Handle) (*plc.Data, error) {
	d, ok := last.Data()
	if !ok || !a.Named(ctx, d) {
		return nil, nil
	}
	change := d
	var err error
	if change.RotationKeys, err = a.currentKeys(ctx, d.RotationKeys); err != nil {
		return nil, err
	}
	endpoint := a.Endpoint
	if a.Hosts != nil {
		endpoint = host.URL(a.Host(ctx).Wanted())
	}
	change.Services = maps.Clone(d.Services)
	change.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: endpoint}
	if handle != "" && d.Handle() != handle.String() {
		change.SetHandle(handle)
	}
	if slices.Equal(change.RotationKeys, d.RotationKeys) && maps.Equal(change.Services, d.Services) && slices.Equal(change.AlsoKnownAs, d.AlsoKnownAs) {
		return nil, nil
	}
	return &change, nil
}

// currentKeys are the rotation keys of a DID with those of this server as they are given to
// new ones. A key that was taken out of all DIDs goes, once that of today is there.
func (a *Accounts) currentKeys(ctx context.Context, keys []string) ([]string, error) {
	given, err := a.accountKeys(ctx)
	if err != nil {
		return nil, err
	}
	retired, err := a.meta(ctx, RetiredKey)
	if err != nil {
		return nil, err
	}
	old, err := a.OldRotationKey()
	if err != nil {
		return nil, err
	}
	for _, gone := range []string{old, string(retired)} {
		if gone == "" || slices.Contains(given, gone) || !slices.Contains(keys, gone) {
			continue
		}
		keys = WithKey(keys, gone, given[0], true)
		keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key == gone })
	}
	if len(given) > 1 && len(keys) < MaxRotationKeys {
		keys = WithKey(keys, given[1], given[0], false)
	}
	return keys, nil
}
