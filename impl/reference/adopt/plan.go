package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/db/reference"
	"portico/impl/mail/emailcode"
)

// Plan looks at all of the source, and at what the directory says about its DIDs, and says
// what would be adopted and what is wrong. It writes nothing and needs no Target. It returns
// ErrRefused with a report when something grave was found, and [reference.ErrInUse].
//
// These are the names of findings, grave ones with a star:
//
//	row-damaged*            a table has a row that cannot be read
//	account-damaged*        an account has what no account can have, such as a name that is no DID
//	entryway*               accounts live on another server, of which this is a part
//	store-missing*          an account has no store; SkipBroken finishes its deletion
//	store-damaged*          a store is not whole, lacks its root, or is reached by a link
//	                        that leaves the folder of the stores
//	block-missing*          a block that the root leads to is not there
//	block-damaged*          a block is not what its name says
//	tree-damaged*           the tree of a repository is not the one tree of its keys
//	commit-damaged*         the root leads to what is no commit
//	records-differ*         the table of records has not what the tree has
//	key-damaged*            the signing key is missing, or no key
//	wrong-rotation-key*     no DID that names this server has its rotation key
//	root-lags               account.sqlite has another root than the store, which counts
//	event-missing           the last commits were not announced; they are, by a #sync
//	store-without-account   a sign-up was cut off: nobody can sign in there
//	handle-malformed        an account has a handle that can be nobody's, and loses it
//	deletion-waits          a deactivated account is to be deleted, from a day on
//	stray-file              something lies among the stores that is of no account
//	reserved-key-damaged    a key that waits for its account is left behind
//	blob-missing            files of blobs are not there
//	bucket-unusable*        the bucket that blobs are in cannot be read
//	space-short             the disk has less room than is needed
//	identities-not-asked    the directory was not asked
//	identity-of-owner       an active account is of did:web, whose document is not looked at
//	identities-unknown*     nor does the caller go on without
//	unmanaged*              accounts have DIDs that this server cannot change, and the caller does not go on
//	identity-unknown        the directory gave no answer about a DID
//	identity-not-found      the directory does not know a DID, or it has ended
//	identity-elsewhere      the document of a DID names another server
//	signing-key-differs     the document of a DID has another signing key
//	rotation-key-missing    the server's key is not among the rotation keys of a DID
//	handle-differs          the document of a DID has another handle
//
// What else there is about records and blobs is named where they are read.
func (a *Adoption) Plan(ctx context.Context) (*Report, error) {
	a.start()
	p, err := a.look(ctx)
	if err == nil {
		err = p.stores(ctx)
	}
	if err != nil {
		return a.report, err
	}
	a.confirm()
	return a.report, a.refused()
}

// plan looks at what can be seen without opening all stores, and returns ErrRefused when
// something grave was found.
func (a *Adoption) plan(ctx context.Context) error {
	if _, err := a.look(ctx); err != nil {
		return err
	}
	a.confirm()
	return a.refused()
}

// A planner gathers what a directory has.
type planner struct {
	*Adoption
	now      time.Time
	accounts []planned
	known    map[string]bool // DIDs of accounts that there are
	kept     map[string]bool // of those, the ones that are not left out
}

// A planned account is one that is to be adopted.
type planned struct {
	did    syntax.DID
	handle syntax.Handle // none: empty
	active bool
	public string // did:key of its signing key, empty when that is damaged
	broken bool   // its store is not to be opened
}

func (a *Adoption) look(ctx context.Context) (*planner, error) {
	p := &planner{Adoption: a, now: a.Now(), known: make(map[string]bool), kept: make(map[string]bool)}
	if err := a.Source.InUse(); err != nil {
		return nil, err
	}
	a.report.Edition = edition(a.Source.Migrations())
	for _, step := range []func(context.Context) error{
		p.actors, p.folders, p.reservedKeys, p.appPasswords, p.sessions, p.codes, p.invites, p.grants, p.events, p.space, p.bucket, p.identities,
	} {
		if err := step(ctx); err != nil && !p.damaged(err) {
			return nil, err
		}
	}
	return p, ctx.Err()
}

// edition says by the last migration of account.sqlite which editions made it.
func edition(migrations []string) string {
	last := ""
	if len(migrations) > 0 {
		last = migrations[len(migrations)-1]
	}
	switch {
	case last < "003":
		return "0.4.0 to 0.4.25"
	case last == "003":
		return "0.4.26 to 0.4.34"
	case last == "004":
		return "0.4.35 to 0.4.123"
	case last == "005":
		return "0.4.124 to 0.4.172"
	case last == "006":
		return "0.4.173 to 0.4.176"
	}
	return "0.4.177 or later"
}

// damaged makes a finding of a row that cannot be read, and reports whether err is about
// one.
func (p *planner) damaged(err error) bool {
	if !errors.Is(err, reference.ErrDamaged) {
		return false
	}
	p.found(Finding{Name: "row-damaged", Grave: true, Text: err.Error()})
	return true
}

func (p *planner) actors(ctx context.Context) error {
	c := Count{Of: "accounts"}
	defer func() { p.count(c) }()
	for row, err := range p.Source.Actors(ctx) {
		if err != nil {
			return err
		}
		c.Source++
		p.known[row.DID] = true
		one, err := p.actor(row)
		if err != nil {
			return err
		}
		if one == nil {
			c.drop("their repositories are gone: their deletion is finished")
			continue
		}
		p.kept[row.DID] = true
		p.accounts = append(p.accounts, *one)
	}
	return nil
}

// actor looks at an account and at what must lie in its folder. It returns nil for one that
// is left out.
func (p *planner) actor(row reference.Actor) (*planned, error) {
	did, err := syntax.ParseDID(row.DID)
	if err != nil {
		p.found(Finding{Name: "account-damaged", Grave: true, Text: fmt.Sprintf("account %q has no DID: %v", row.DID, err)})
		return &planned{broken: true}, nil
	}
	grave := func(name string, err error) { p.found(Finding{Name: name, DID: did, Grave: true, Text: err.Error()}) }
	one := &planned{did: did, active: row.TakedownRef == nil && row.DeactivatedAt == nil}
	account, err := (&accountWriter{Adoption: p.Adoption, now: p.now}).account(row)
	if err != nil {
		grave("account-damaged", err)
		account = new(db.Account)
	}
	one.handle = account.Handle
	if _, ok := handleOf(row); !ok {
		p.found(Finding{Name: "handle-malformed", DID: did, Text: fmt.Sprintf("%q is no handle: the account comes along without one", *row.Handle)})
	}
	if account.DeleteAfter != nil {
		p.found(Finding{Name: "deletion-waits", DID: did, Text: "the account is deactivated, to be deleted: the old server has never done that of itself, this one does from " +
			account.DeleteAfter.UTC().Format(time.RFC3339) + " on"})
	}
	switch err := p.Source.HasStore(row.DID); {
	case err == nil:
	case errors.Is(err, reference.ErrNoStore):
		p.found(p.missing(did))
		if p.SkipBroken {
			return nil, nil
		}
		one.broken = true
		return one, nil
	case errors.Is(err, reference.ErrEntryway):
		grave("entryway", err)
		one.broken = true
	case errors.Is(err, reference.ErrDamaged):
		grave("store-damaged", err)
		one.broken = true
	default:
		return nil, err
	}
	if one.public, err = p.public(row.DID); errors.Is(err, reference.ErrDamaged) {
		grave("key-damaged", err)
		err = nil
	}
	return one, err
}

// missing says of an account that it has no store.
func (p *planner) missing(did syntax.DID) Finding {
	const what = "the account has no repository: a deletion was cut off, or a file is gone; "
	if p.SkipBroken {
		return Finding{Name: "store-missing", DID: did, Text: what + "its deletion is finished"}
	}
	return Finding{Name: "store-missing", DID: did, Grave: true, Text: what + "restore it, or let --skip-broken finish the deletion"}
}

// public is the public half of the signing key of an account.
func (p *planner) public(did string) (string, error) {
	raw, err := p.Source.Key(did)
	if err != nil {
		return "", err
	}
	defer clear(raw)
	return publicKey(raw)
}

func (p *planner) folders(ctx context.Context) error {
	for name, err := range p.Source.Folders(ctx) {
		switch {
		case p.known[name]: // what is wrong with it was said
		case errors.Is(err, reference.ErrDamaged):
			p.found(Finding{Name: "stray-file", Text: err.Error()})
		case err != nil:
			return err
		default:
			p.found(Finding{Name: "store-without-account", DID: syntax.DID(name),
				Text: "a sign-up was cut off: there is a repository but no account; it is left behind, and its DID may be in the directory"})
		}
	}
	return nil
}

func (p *planner) reservedKeys(ctx context.Context) error {
	c := Count{Of: "reserved keys"}
	keys, err := p.Source.ReservedKeys()
	if err != nil && !errors.Is(err, reference.ErrDamaged) {
		return err
	}
	if err != nil {
		p.found(Finding{Name: "reserved-key-damaged", Text: err.Error()})
	}
	for _, k := range keys {
		c.Source++
		if _, err := reservedPublic(k); err != nil {
			c.drop("they are damaged")
			p.found(Finding{Name: "reserved-key-damaged", Text: fmt.Sprintf("reserved key %s is left behind: %v", k.Name, err)})
		}
	}
	p.count(c)
	return ctx.Err()
}

const (
	whyGone    = "their accounts are gone"
	whyExpired = "they have expired"
)

func (p *planner) appPasswords(ctx context.Context) error {
	c := Count{Of: "app passwords"}
	for row, err := range p.Source.AppPasswords(ctx) {
		if err != nil {
			return err
		}
		if c.Source++; !p.kept[row.DID] {
			c.drop(whyGone)
		}
	}
	p.count(c)
	return nil
}

func (p *planner) sessions(ctx context.Context) error {
	c := Count{Of: "sessions"}
	for row, err := range p.Source.RefreshTokens(ctx) {
		if err != nil {
			return err
		}
		c.Source++
		expires, err := p.time("session", row.DID, row.ExpiresAt)
		if err != nil {
			return err
		}
		switch {
		case !p.kept[row.DID]:
			c.drop(whyGone)
		case !expires.After(p.now):
			c.drop(whyExpired)
		}
	}
	p.count(c)
	return nil
}

// time reads the date of a row.
func (p *planner) time(what, did, text string) (time.Time, error) {
	t, err := reference.ParseTime(text)
	if err != nil {
		return t, fmt.Errorf("%s of %s: %w: %w", what, did, reference.ErrDamaged, err)
	}
	return t, nil
}

func (p *planner) codes(ctx context.Context) error {
	c := Count{Of: "emailed codes"}
	for row, err := range p.Source.EmailTokens(ctx) {
		if err != nil {
			return err
		}
		c.Source++
		sent, err := p.time("emailed code", row.DID, row.RequestedAt)
		if err != nil {
			return err
		}
		switch {
		case !p.kept[row.DID]:
			c.drop(whyGone)
		case !sent.Add(emailcode.Life).After(p.now):
			c.drop(whyExpired)
		}
	}
	p.count(c)
	return nil
}

func (p *planner) invites(ctx context.Context) error {
	codes := make(map[string]bool)
	c := Count{Of: "invite codes"}
	for row, err := range p.Source.InviteCodes(ctx) {
		if err != nil {
			return err
		}
		if _, err := p.time("invite code", row.ForAccount, row.CreatedAt); err != nil {
			return err
		}
		c.Source++
		codes[row.Code] = true
	}
	p.count(c)
	uses := Count{Of: "uses of invite codes"}
	for row, err := range p.Source.InviteCodeUses(ctx) {
		if err != nil {
			return err
		}
		if _, err := p.time("use of an invite code", row.UsedBy, row.UsedAt); err != nil {
			return err
		}
		if uses.Source++; !codes[row.Code] {
			uses.drop("their codes are gone")
		}
	}
	p.count(uses)
	return nil
}

func (p *planner) grants(ctx context.Context) error {
	n, err := p.Source.OAuthGrants(ctx)
	if err != nil || n == 0 {
		return err
	}
	p.count(Count{Of: "clients signed in by OAuth", Source: int64(n), Dropped: int64(n), Why: "they are asked to sign in again"})
	return nil
}

func (p *planner) events(ctx context.Context) error {
	after := int64(0)
	if p.Window > 0 {
		var err error
		if after, err = p.Source.LastBefore(ctx, p.now.Add(-p.Window)); err != nil {
			return err
		}
	}
	groups, err := p.Source.EventCounts(ctx, after)
	if err != nil {
		return err
	}
	c := Count{Of: "events"}
	for _, g := range groups {
		c.Source += g.Events
		why := ""
		switch {
		case g.Older:
			why = "they are older than what is kept"
		case g.Invalidated:
			why = "they were withdrawn"
		case kinds[g.Type] == "":
			why = "there are no events of their kind any more"
		default:
			continue
		}
		c.drop(why)
		c.Dropped += g.Events - 1
	}
	p.count(c)
	if p.report.LastEvent, _, err = p.Source.LastEvent(ctx); err == nil && p.report.LastEvent > lastNumber {
		err = fmt.Errorf("%w: the last event has the number %d, and there are none after it", reference.ErrDamaged, p.report.LastEvent)
	}
	return err
}

// lastNumber is up to where numbers of events are the same to everybody who reads them.
const lastNumber = 1<<53 - 1

// unmanaged lists an account that the server cannot act for.
func (p *planner) unmanaged(one planned) {
	if one.active && !slices.Contains(p.report.Unmanaged, one.did) {
		p.report.Unmanaged = append(p.report.Unmanaged, one.did)
	}
}

// reservedPublic is the public half of a reserved key, which its name may say too.
func reservedPublic(k reference.ReservedKey) (string, error) {
	public, err := publicKey(k.Key)
	if err == nil && strings.HasPrefix(k.Name, "did:key:") && k.Name != public {
		err = fmt.Errorf("%w: it is the key of %s", reference.ErrDamaged, public)
	}
	return public, err
}
