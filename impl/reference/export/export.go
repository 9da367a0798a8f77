// Package export writes what is here as the data directory of a reference PDS, which goes on
// with it under the same names and numbers: the way back from an adoption, and the way out
// for whoever began here.
//
// What that server has no place for, or could not use, stays behind, and the report says
// what: passwords that were set here, since its hashes are of another kind; sessions that
// were begun here, of which only hashes are known; second factors, phone numbers, codes that
// were sent.
package export

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account"
	"portico/impl/account/token"
	"portico/impl/blob"
	"portico/impl/keyring"
	"portico/impl/repo/store"
)

// An Export writes one directory. Its fields are set before its use.
type Export struct {
	DB     *db.DB
	Keys   *keyring.Ring
	Tokens *token.Issuer
	// Blobs has the files; nil: they stay in the bucket, which both servers lay out alike.
	Blobs  *blob.Disk
	Target *reference.Target
	// Progress, if set, is told how many accounts are written, and how many there are.
	Progress func(done, total int64)
	Now      func() time.Time

	report Report
	counts map[string]int // where they are in the report
	files  *blob.Disk
}

// A Report says what was written and what was not.
type Report struct {
	Counts    []Count   `json:"counts"`
	Findings  []Finding `json:"findings"`
	LastEvent int64     `json:"lastEvent"`
}

// A Count is how many there are of something.
type Count struct {
	Of       string `json:"of"` // "accounts", "app passwords", …
	Exported int64  `json:"exported"`
	Left     int64  `json:"left"`          // not written
	Why      string `json:"why,omitempty"` // they were not
}

// A Finding is what an account loses.
type Finding struct {
	Name string     `json:"name"` // "password-lost", …
	DID  syntax.DID `json:"did"`
	Text string     `json:"text"`
}

// Run writes all accounts, each as it is at one moment, then invites, keys and events, and
// ends the directory. What is written to the database meanwhile is in it or not, so who
// wants to go on with the directory has stopped the server before. An account whose
// repository is not whole is left out.
func (x *Export) Run(ctx context.Context) (*Report, error) {
	x.report, x.counts = Report{Counts: []Count{}, Findings: []Finding{}}, make(map[string]int)
	if err := x.openFiles(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{x.accounts, x.invites, x.reservedKeys, x.events, x.closeFiles, x.Target.Finish} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("export: %w", err)
		}
	}
	return &x.report, nil
}

// count adds to a line of the report.
func (x *Export) count(of string, exported, left int64, why string) {
	i, ok := x.counts[of]
	if !ok {
		i = len(x.report.Counts)
		x.counts[of] = i
		x.report.Counts = append(x.report.Counts, Count{Of: of})
	}
	c := &x.report.Counts[i]
	c.Exported += exported
	c.Left += left
	switch {
	case left == 0 || strings.Contains(c.Why, why):
	case c.Why == "":
		c.Why = why
	default:
		c.Why += "; " + why
	}
}

func (x *Export) found(name string, did syntax.DID, text string) {
	x.report.Findings = append(x.report.Findings, Finding{Name: name, DID: did, Text: text})
}

// accountsAtATime is how many accounts are listed at once.
const accountsAtATime = 200

func (x *Export) accounts(ctx context.Context) error {
	total, err := x.DB.CountAccounts(ctx)
	if err != nil {
		return err
	}
	x.count("accounts", 0, 0, "")
	var done int64
	for last := syntax.DID(""); ; {
		page, err := x.DB.Accounts(ctx, last, accountsAtATime)
		if err != nil {
			return err
		}
		for _, a := range page {
			last = a.DID
			if err := x.account(ctx, a.DID); err != nil {
				return fmt.Errorf("%s: %w", a.DID, err)
			}
			if done++; x.Progress != nil {
				x.Progress(done, total)
			}
		}
		if len(page) < accountsAtATime {
			return x.unfinished(ctx)
		}
	}
}

// unfinished counts the accounts that are not accounts yet.
func (x *Export) unfinished(ctx context.Context) error {
	const many = 1000
	creating, err := x.DB.Standings(ctx, db.StandingFilter{Status: "creating"}, "", many)
	x.count("accounts", 0, int64(len(creating)), "their creation is under way")
	return err
}

// account writes an account as it is at one moment, and its files.
func (x *Export) account(ctx context.Context, did syntax.DID) error {
	var wants []blob.Want
	err := x.DB.Snapshot(ctx, func(s *db.Snapshot) error {
		a, err := s.AccountByDID(ctx, did)
		if errors.Is(err, db.ErrNotFound) {
			return nil // deleted just now
		}
		if err != nil {
			return err
		}
		if a.Held() {
			x.count("accounts", 0, 1, "they are in quarantine")
			x.found("quarantined", did, "the account is in quarantine, so that its DID is in no directory: it is not in the export")
			return nil
		}
		r, err := s.Repo(ctx, did)
		if err != nil && !errors.Is(err, db.ErrNotFound) {
			return err
		}
		half, failed := s.UnfinishedImport(ctx, did)
		if failed != nil {
			return failed
		}
		if err != nil || half != "" {
			x.count("accounts", 0, 1, "their repositories are not whole")
			x.found("repository-incomplete", did, "the repository is missing, or its import was broken off: the account is not in the directory")
			return nil
		}
		if err := x.credentials(ctx, s, a); err != nil {
			return err
		}
		wants, err = x.repository(ctx, s, a, r)
		return err
	})
	if err != nil {
		return err
	}
	return x.takeFiles(ctx, did, wants)
}

// repository writes the store of an account, and the copy of its root. It returns the blobs
// that belong to it.
func (x *Export) repository(ctx context.Context, s *db.Snapshot, a *db.Account, r *db.Repo) ([]blob.Want, error) {
	key, err := x.key(ctx, s, a.DID)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	last := time.UnixMicro(0)
	if rev, err := syntax.ParseTID(r.Rev); err == nil {
		last = rev.Time()
	}
	root := reference.RepoRoot{DID: a.DID.String(), CID: store.CID(r.CommitCID).String(), Rev: r.Rev, IndexedAt: reference.FormatTime(a.CreatedAt)}
	if err := reference.InsertAccounts(ctx, x.Target, root); err != nil {
		return nil, err
	}
	root.IndexedAt = reference.FormatTime(last)
	var wants []blob.Want
	err = x.Target.Store(ctx, a.DID.String(), key, func(to *reference.StoreTarget) error {
		w := &storeWriter{Export: x, from: s, to: to, did: a.DID}
		if err := reference.InsertRows(ctx, to, root); err != nil {
			return err
		}
		for _, step := range []func(context.Context, *db.Repo) error{w.tree, w.records, w.blobs, w.mentions, w.preferences} {
			if err := step(ctx, r); err != nil {
				return err
			}
		}
		wants = w.wants
		return nil
	})
	return wants, err
}

// key is the signing key of an account, in clear.
func (x *Export) key(ctx context.Context, s *db.Snapshot, did syntax.DID) ([]byte, error) {
	k, err := s.SigningKey(ctx, did, account.KeyPurpose)
	if err != nil {
		return nil, err
	}
	return x.Keys.Open(account.KeyPurpose, did.String(), k.Sealed)
}

// invites writes all invite codes with their uses. Of accounts that are gone the uses are
// not known any more; as many are taken off the code.
func (x *Export) invites(ctx context.Context) error {
	return x.DB.Snapshot(ctx, func(s *db.Snapshot) error {
		var after *db.InviteMark
		for {
			page, err := s.RecentInvites(ctx, after, accountsAtATime)
			if err != nil {
				return err
			}
			for _, i := range page {
				after = &db.InviteMark{CreatedAt: i.CreatedAt, Code: i.Code}
				if err := x.invite(ctx, i); err != nil {
					return err
				}
			}
			if len(page) < accountsAtATime {
				return nil
			}
		}
	})
}

func (x *Export) invite(ctx context.Context, i db.Invite) error {
	row := reference.InviteCode{
		Code: i.Code, AvailableUses: int64(i.Uses - (i.Spent - len(i.Used))), Disabled: i.Disabled, ForAccount: i.ForAccount,
		CreatedBy: i.CreatedBy, CreatedAt: reference.FormatTime(i.CreatedAt),
	}
	if err := reference.InsertAccounts(ctx, x.Target, row); err != nil {
		return err
	}
	x.count("invite codes", 1, 0, "")
	for _, u := range i.Used {
		use := reference.InviteCodeUse{Code: u.Code, UsedBy: u.By.String(), UsedAt: reference.FormatTime(u.At)}
		if err := reference.InsertAccounts(ctx, x.Target, use); err != nil {
			return err
		}
		x.count("uses of invite codes", 1, 0, "")
	}
	return nil
}

// reservedKeys writes the keys that wait for their accounts.
func (x *Export) reservedKeys(ctx context.Context) error {
	for last := ""; ; {
		page, err := x.DB.ReservedKeys(ctx, last, accountsAtATime)
		if err != nil {
			return err
		}
		for _, k := range page {
			last = k.ID
			if !k.ExpiresAt.After(x.Now()) {
				continue
			}
			raw, err := x.Keys.Open(account.ReservedPurpose, k.ID, k.Sealed)
			if err == nil {
				err = x.Target.ReserveKey(reference.ReservedKey{Name: k.ID, Key: raw})
			}
			if err != nil {
				return fmt.Errorf("reserved key %s: %w", k.ID, err)
			}
			x.count("reserved keys", 1, 0, "")
		}
		if len(page) < accountsAtATime {
			return nil
		}
	}
}

// kinds is what the reference calls the kinds of events.
var kinds = map[string]string{"#commit": "append", "#sync": "sync", "#identity": "identity", "#account": "account"}

// eventsAtATime and eventBytes bound a page of events.
const (
	eventsAtATime = 1000
	eventBytes    = 8 << 20
)

// events writes all events that are kept, with their numbers.
func (x *Export) events(ctx context.Context) error {
	return x.DB.Snapshot(ctx, func(s *db.Snapshot) error {
		last, err := s.LastEvent(ctx)
		if err != nil {
			return err
		}
		for after := int64(0); ; {
			page, err := s.EventPage(ctx, after, eventsAtATime, eventBytes)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				x.report.LastEvent = last
				return x.Target.SetLastEvent(ctx, last)
			}
			for _, e := range page {
				after = e.Seq
				if err := x.event(ctx, e); err != nil {
					return err
				}
			}
		}
	})
}

func (x *Export) event(ctx context.Context, e db.Event) error {
	kind, ok := kinds[e.Kind]
	if !ok {
		x.count("events", 0, 1, "the reference has none of their kind")
		return nil
	}
	x.count("events", 1, 0, "")
	return x.Target.InsertEvents(ctx, reference.Event{
		Seq: e.Seq, DID: e.DID.String(), Type: kind, Body: e.Body, SequencedAt: reference.FormatTime(e.Time),
	})
}

// typeOf is the $type of a preference.
func typeOf(text json.RawMessage) (string, error) {
	var p struct {
		Type string `json:"$type"`
	}
	err := json.Unmarshal(text, &p)
	return p.Type, err
}
