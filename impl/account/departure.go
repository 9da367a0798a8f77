package account

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/session"
	"portico/impl/audit"
	"portico/impl/identity/plc"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
)

// departureDetails are what is remembered of an account that leaves: what its owner had done
// before, and what its DID was to say.
type departureDetails struct {
	DeactivatedAt *time.Time   `json:"deactivatedAt,omitempty"`
	DeleteAfter   *time.Time   `json:"deleteAfter,omitempty"`
	AnnouncedAt   *time.Time   `json:"announcedAt,omitempty"`
	Destination   *Destination `json:"destination,omitempty"`
	// PointedAt is when the directory was about to be told last.
	PointedAt time.Time `json:"pointedAt,omitzero"`
}

// underWay is how many Leases after its beginning a request to the directory is under way no more.
const underWay = 6

// A Destination is what a DID is to say of another host.
type Destination struct {
	SigningKey   string        `json:"signingKey"`
	RotationKeys []string      `json:"rotationKeys"`
	Handle       syntax.Handle `json:"handle"`
}

// departure locks an account that leaves, or is gone.
func (t *Transfers) departure(ctx context.Context, tx *db.Tx, did syntax.DID) (*db.Account, *db.AccountMove, departureDetails, error) {
	var d departureDetails
	acct, err := tx.LockAccount(ctx, did)
	if err != nil {
		return nil, nil, d, err
	}
	m, err := moveOf(tx.AccountMove(ctx, did))
	if err == nil && (m == nil || m.Comes()) {
		err = refuseTransfer("The account is not about to leave")
	}
	if err == nil {
		err = json.Unmarshal([]byte(m.Details), &d)
	}
	return acct, m, d, err
}

// put stores how far a departure is; at most a Lease later the server goes on by itself.
func (t *Transfers) put(ctx context.Context, tx *db.Tx, m *db.AccountMove, d departureDetails) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode details of a move: %w", err)
	}
	m.Details = string(text)
	if m.NextAt = nil; m.State != db.MoveGone {
		m.NextAt = new(t.leaseFrom(t.Accounts.Now()))
	}
	return tx.PutAccountMove(ctx, *m)
}

// Stop takes an account out of use that is to move to the host with a public URL: it is
// deactivated, unless it was, and no write to its repository follows, neither one that was
// under way. Done again, it has a Lease more.
//
// It returns a *TransferRefusal, db.ErrNotFound, plc.ErrTombstoned, a *plc.Error or
// plc.ErrUnreachable.
func (t *Transfers) Stop(ctx context.Context, did syntax.DID, host string) (*db.AccountMove, error) {
	m, err := t.stop(ctx, did, host)
	if err != nil {
		return nil, fmt.Errorf("stop account %s: %w", did, err)
	}
	return m, nil
}

func (t *Transfers) stop(ctx context.Context, did syntax.DID, host string) (*db.AccountMove, error) {
	a := t.Accounts
	acct, err := a.DB.AccountByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	before, err := moveOf(a.DB.AccountMove(ctx, did))
	if err != nil {
		return nil, err
	}
	if err := mayLeave(acct, before); err != nil {
		return nil, err
	}
	if host == a.PublicURL(ctx) || a.Host(ctx).Here(host) {
		return nil, refuseTransfer("%s is this server", host)
	}
	if still, err := a.Standstill(ctx); err != nil || still != "" {
		if err == nil {
			err = refuseTransfer("Not now: %s", still)
		}
		return nil, err
	}
	says, err := t.named(ctx, did)
	if err != nil {
		return nil, err
	}
	if before == nil || before.State != db.MovePointing || says.Services["atproto_pds"].Endpoint != host {
		if err := t.movable(ctx, says); err != nil {
			return nil, err
		}
	}
	var m *db.AccountMove
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, err := tx.LockAccount(ctx, did)
		if err != nil {
			return err
		}
		if m, err = moveOf(tx.AccountMove(ctx, did)); err != nil {
			return err
		}
		if err := mayLeave(acct, m); err != nil {
			return err
		}
		var d departureDetails
		switch {
		case m == nil, m.State == db.MoveGone && !acct.Active(): // it came back by hand
			m = &db.AccountMove{DID: did, State: db.MoveStopped, Host: host, Since: a.Now()}
			d = departureDetails{DeactivatedAt: acct.DeactivatedAt, DeleteAfter: acct.DeleteAfter, AnnouncedAt: acct.DeleteAnnouncedAt}
			return t.switchOff(ctx, tx, acct, m, d)
		case m.Host != host:
			return refuseTransfer("The account is on its way to %s: abandon that first", m.Host)
		case m.State == db.MoveUndoing:
			return refuseTransfer("The move before is being undone: try again in a moment")
		}
		if err := json.Unmarshal([]byte(m.Details), &d); err != nil {
			return fmt.Errorf("details of a move: %w", err)
		}
		return t.put(ctx, tx, m, d)
	})
	return m, err
}

// movable returns a *TransferRefusal for a DID that this server can't have name another.
func (t *Transfers) movable(ctx context.Context, says plc.Data) error {
	if !t.Accounts.Named(ctx, says) {
		return refuseTransfer("The DID names another server, %s", says.Services["atproto_pds"].Endpoint)
	}
	ours, err := t.Accounts.Controls(says)
	if err == nil && !ours {
		err = refuseTransfer("The rotation keys of the DID do not include that of this server: its owner has to move it")
	}
	return err
}

func (t *Transfers) switchOff(ctx context.Context, tx *db.Tx, acct *db.Account, m *db.AccountMove, d departureDetails) error {
	a, did := t.Accounts, acct.DID
	if change, err := tx.HandleChange(ctx, did); err == nil && change != nil {
		return refuseTransfer("A change of its handle is under way: try again in a moment")
	} else if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	unfinished, err := tx.UnfinishedImport(ctx, did)
	if err == nil && unfinished != "" {
		err = refuseTransfer("An import of its repository was broken off: import it again")
	}
	if err != nil {
		return err
	}
	at := later(a.Now(), acct.CreatedAt.Add(time.Microsecond))
	acct.DeactivatedAt, acct.DeleteAfter, acct.DeleteAnnouncedAt = &at, nil, nil
	if err := tx.UpdateAccount(ctx, acct); err != nil {
		return err
	}
	// A write that was under way is lost to this commit, and finds the account deactivated.
	row, err := tx.LockRepo(ctx, did)
	if err != nil {
		return err
	}
	key, err := tx.SigningKey(ctx, did, KeyPurpose)
	if err != nil {
		return err
	}
	private, err := a.Keys.SigningKey(KeyPurpose, did.String(), key.Sealed)
	if err != nil {
		return fmt.Errorf("open signing key: %w", err)
	}
	if _, err := store.SignAnew(ctx, tx, did, row, private, a.Now()); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, a.Now(), did, audit.Deactivated, "to move to "+m.Host); err != nil {
		return err
	}
	if err := t.put(ctx, tx, m, d); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, Events(did, event.Account(did, acct.Status()))...)
}

// Point makes the DID of an account that is stopped name the host to which it goes, if commit,
// the CID of the last one, and version, of [Packed], are what the account has. It asks first
// whether the DID does already.
//
// It returns ErrOutdated, a *TransferRefusal, db.ErrNotFound, and errors of the directory:
// after these nobody knows, and the same again finds out.
func (t *Transfers) Point(ctx context.Context, did syntax.DID, to Destination, commit, version string) (*db.AccountMove, error) {
	m, err := t.point(context.WithoutCancel(ctx), did, to, commit, version)
	if err != nil {
		return nil, fmt.Errorf("point %s elsewhere: %w", did, err)
	}
	return m, nil
}

func (t *Transfers) point(ctx context.Context, did syntax.DID, to Destination, commit, version string) (*db.AccountMove, error) {
	a := t.Accounts
	if _, err := atcrypto.ParsePublicDIDKey(to.SigningKey); err != nil {
		return nil, refuseTransfer("The signing key is none")
	}
	for _, key := range to.RotationKeys {
		if err := plc.CheckRotationKey(key); err != nil {
			return nil, refuseTransfer("%s is no rotation key", key)
		}
	}
	says, err := t.named(ctx, did)
	if err != nil {
		return nil, err
	}
	var m *db.AccountMove
	var at time.Time // of this point, where it is the first one
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		at = time.Time{}
		var d departureDetails
		if _, m, d, err = t.departure(ctx, tx, did); err != nil {
			return err
		}
		switch m.State {
		case db.MoveGone:
			return nil
		case db.MoveUndoing:
			return refuseTransfer("The move is being undone")
		}
		if m.State == db.MovePointing && says.Services["atproto_pds"].Endpoint == m.Host {
			if !reflect.DeepEqual(d.Destination, &to) {
				return refuseTransfer("The DID names %s already, and was to say something else of it", m.Host)
			}
			return t.put(ctx, tx, m, d)
		}
		repo, err := tx.LockRepo(ctx, did)
		if err != nil {
			return err
		}
		packed, err := t.pack(ctx, tx, did)
		if err != nil {
			return err
		}
		if store.CID(repo.CommitCID).String() != commit || packed.Version != version {
			return ErrOutdated
		}
		d.PointedAt = later(a.Now(), d.PointedAt.Add(1))
		if m.State == db.MoveStopped {
			at = d.PointedAt
		}
		m.State, d.Destination = db.MovePointing, &to
		return t.put(ctx, tx, m, d)
	})
	if err != nil || m.State == db.MoveGone {
		return m, err
	}
	if err = t.publish(ctx, did, m.Host, to); refusedByDirectory(err) && !at.IsZero() {
		err = errors.Join(err, t.notPointed(ctx, did, at))
	}
	return m, err
}

// refusedByDirectory reports whether err is the answer of a directory that has not taken an
// operation and will not.
func refusedByDirectory(err error) bool {
	e, ok := errors.AsType[*plc.Error](err)
	return ok && e.Status >= 400 && e.Status < 500
}

// notPointed says of an account that it is stopped, and no more, since the directory has refused
// what its DID was to say, and nobody has told it so but the one who pointed at that time: all can
// be undone without a further operation, which might be refused, too.
func (t *Transfers) notPointed(ctx context.Context, did syntax.DID, at time.Time) error {
	return t.Accounts.DB.Write(ctx, func(tx *db.Tx) error {
		_, m, d, err := t.departure(ctx, tx, did)
		if _, settled := errors.AsType[*TransferRefusal](err); settled {
			return nil
		}
		if err != nil || m.State != db.MovePointing || !d.PointedAt.Equal(at) {
			return err
		}
		m.State, d.Destination = db.MoveStopped, nil
		return t.put(ctx, tx, m, d)
	})
}

// errThere says that a DID names the other host already.
var errThere = errors.New("the DID names the other host")

func (t *Transfers) publish(ctx context.Context, did syntax.DID, host string, to Destination) error {
	own, err := t.Accounts.ownKeys()
	if err != nil {
		return err
	}
	retired, err := t.Accounts.meta(ctx, RetiredKey)
	if err != nil {
		return err
	}
	if len(retired) > 0 {
		own = append(own, string(retired))
	}
	where := func(last plc.Operation) error {
		d, ok := last.Data()
		if !ok {
			return plc.ErrTombstoned
		}
		if d.Services["atproto_pds"].Endpoint == host {
			return errThere
		}
		if err := t.movable(ctx, d); err != nil {
			return err
		}
		if keys := replaceKeys(d.RotationKeys, own, to.RotationKeys); len(keys) > MaxRotationKeys {
			return refuseTransfer("The DID has %d rotation keys of its owner's, beside which there is no room for those of %s", len(keys)-len(to.RotationKeys), host)
		}
		// Whoever undoes the move says so before he looks at the DID. It may even have begun anew,
		// to another key.
		m, err := moveOf(t.Accounts.DB.AccountMove(ctx, did))
		if err != nil {
			return err
		}
		var now departureDetails
		if m != nil {
			if err := json.Unmarshal([]byte(m.Details), &now); err != nil {
				return fmt.Errorf("details of a move: %w", err)
			}
		}
		if m == nil || m.State != db.MovePointing || m.Host != host || !reflect.DeepEqual(now.Destination, &to) {
			return refuseTransfer("The move is being undone")
		}
		return nil
	}
	err = t.Identities.update(ctx, did, where, func(d *plc.Data) {
		d.RotationKeys = replaceKeys(d.RotationKeys, own, to.RotationKeys)
		d.VerificationMethods = maps.Clone(d.VerificationMethods)
		if d.VerificationMethods == nil {
			d.VerificationMethods = map[string]string{}
		}
		d.VerificationMethods["atproto"] = to.SigningKey
		d.Services = maps.Clone(d.Services)
		d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: host}
		if to.Handle != syntax.HandleInvalid {
			d.SetHandle(to.Handle)
		}
	})
	if errors.Is(err, errThere) {
		err = nil
	}
	if err == nil {
		t.Identities.refresh(ctx, did)
	}
	return err
}

// replaceKeys is keys with others in the place of own ones, those of the owner where they were.
func replaceKeys(keys, own, others []string) []string {
	at := slices.IndexFunc(keys, func(key string) bool { return slices.Contains(own, key) })
	var out []string
	for i, key := range keys {
		if i == at {
			out = append(out, others...)
		}
		if !slices.Contains(own, key) && !slices.Contains(others, key) {
			out = append(out, key)
		}
	}
	return out
}

// Leave ends what an account that is gone still had here, once its DID names the other host:
// its sessions. It stays deactivated, with all of its data.
//
// It returns a *TransferRefusal, db.ErrNotFound, or errors of the directory.
func (t *Transfers) Leave(ctx context.Context, did syntax.DID) error {
	m, err := moveOf(t.Accounts.DB.AccountMove(ctx, did))
	if err == nil && m != nil && m.State == db.MoveGone {
		return nil
	}
	var says plc.Data
	if err == nil {
		says, err = t.named(ctx, did)
	}
	if err == nil {
		err = t.Accounts.DB.Write(ctx, func(tx *db.Tx) error { return t.leave(ctx, tx, did, says) })
	}
	if err != nil {
		return fmt.Errorf("leave account %s: %w", did, err)
	}
	t.Accounts.DIDChanged(did)
	return nil
}

func (t *Transfers) leave(ctx context.Context, tx *db.Tx, did syntax.DID, says plc.Data) error {
	a := t.Accounts
	acct, m, d, err := t.departure(ctx, tx, did)
	switch {
	case err != nil:
		return err
	case m.State == db.MoveGone:
		return nil
	case m.State == db.MoveStopped || says.Services["atproto_pds"].Endpoint != m.Host:
		return refuseTransfer("The DID does not name %s", m.Host)
	}
	m.State = db.MoveGone
	if err := t.put(ctx, tx, m, d); err != nil {
		return err
	}
	acct.TokensValidFrom = session.ValidFrom(a.Now(), acct.TokensValidFrom)
	if err := tx.UpdateAccount(ctx, acct); err != nil {
		return err
	}
	if err := tx.EndSessions(ctx, did); err != nil {
		return err
	}
	return audit.Record(ctx, tx, a.Now(), did, audit.Departed, "to "+m.Host)
}

// Abandon undoes Stop, and Point as long as the directory has nothing: an operation that
// changes nothing goes there first, so that one which is still on its way is refused. Where the
// directory refuses that, for an account that has had too many, nothing can be on its way any
// more six Leases after Point. It is no error when there is nothing to undo.
//
// It returns a *TransferRefusal once the DID names the other host, db.ErrNotFound, or errors of
// the directory.
func (t *Transfers) Abandon(ctx context.Context, did syntax.DID) error {
	if err := t.abandon(context.WithoutCancel(ctx), did); err != nil {
		return fmt.Errorf("abandon the move of %s: %w", did, err)
	}
	return nil
}

func (t *Transfers) abandon(ctx context.Context, did syntax.DID) error {
	a := t.Accounts
	undone, host, pointed := false, "", time.Time{}
	err := a.DB.Write(ctx, func(tx *db.Tx) error {
		undone = false
		if _, err := tx.LockAccount(ctx, did); err != nil {
			return err
		}
		m, err := moveOf(tx.AccountMove(ctx, did))
		if undone = m == nil; err != nil || undone {
			return err
		}
		acct, m, d, err := t.departure(ctx, tx, did)
		if err != nil {
			return err
		}
		host, pointed = m.Host, d.PointedAt
		switch m.State {
		case db.MoveGone:
			return refuseTransfer("The account is gone: its DID names %s", m.Host)
		case db.MoveStopped:
			undone = true
			return t.undo(ctx, tx, acct, m, d)
		}
		m.State = db.MoveUndoing
		return t.put(ctx, tx, m, d)
	})
	if err != nil || undone {
		return err
	}
	err = t.Identities.update(ctx, did, t.Identities.here(ctx), func(*plc.Data) {})
	elsewhere := errors.Is(err, errElsewhere)
	over := refusedByDirectory(err) && !a.Now().Before(pointed.Add(underWay*cmp.Or(t.Lease, DefaultTransferLease)))
	if err != nil && !elsewhere && !over {
		return err
	}
	err = a.DB.Write(ctx, func(tx *db.Tx) error {
		acct, m, d, err := t.departure(ctx, tx, did)
		if err != nil || m.State != db.MoveUndoing {
			return err
		}
		if elsewhere {
			m.State = db.MovePointing
			return t.put(ctx, tx, m, d)
		}
		return t.undo(ctx, tx, acct, m, d)
	})
	if err == nil && elsewhere {
		err = refuseTransfer("The DID names %s already: the move can only go on", host)
	}
	return err
}

// undo makes an account what it was before it was stopped.
func (t *Transfers) undo(ctx context.Context, tx *db.Tx, acct *db.Account, m *db.AccountMove, d departureDetails) error {
	a, did := t.Accounts, acct.DID
	acct.DeactivatedAt, acct.DeleteAfter, acct.DeleteAnnouncedAt = d.DeactivatedAt, d.DeleteAfter, d.AnnouncedAt
	if err := tx.UpdateAccount(ctx, acct); err != nil {
		return err
	}
	if err := tx.DeleteAccountMove(ctx, did); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, a.Now(), did, audit.DepartureUndone, "to "+m.Host); err != nil {
		return err
	}
	return t.say(ctx, tx, acct)
}

// say tells the network what an account is now.
func (t *Transfers) say(ctx context.Context, tx *db.Tx, acct *db.Account) error {
	if acct.Active() {
		_, err := t.Accounts.sayAnew(ctx, tx, acct)
		return err
	}
	if _, err := t.Accounts.ownCommit(ctx, tx, acct.DID); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, Events(acct.DID, event.Account(acct.DID, acct.Status()), event.Identity(acct.DID, acct.Handle))...)
}
