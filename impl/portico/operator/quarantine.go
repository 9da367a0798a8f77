package operator

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/account"
	"portico/impl/answer"
)

// ListQuarantined lists the accounts in quarantine in pages, the oldest first. The cursor is
// since when the last account of a page is there, and its DID.
func (s *Service) ListQuarantined(ctx context.Context, p *api.ListQuarantinedParams) (*api.ListQuarantinedOutput, error) {
	filter, err := heldFilter(&api.QuarantineFilter{
		Rule: p.Rule, AddressRange: p.AddressRange, MailDomain: p.MailDomain, Since: p.Since, Waiting: p.Waiting, Unconfirmed: p.Unconfirmed,
	})
	if err != nil {
		return nil, err
	}
	after, did, err := heldPlace(xrpc.ValueOf(p.Cursor))
	if err != nil {
		return nil, err
	}
	limit := int(p.Limit)
	return db.ReadPublic(ctx, s.DB, func(r *db.Reader) (*api.ListQuarantinedOutput, error) {
		found, err := r.HeldAccounts(ctx, *filter, after, did, limit+1)
		if err != nil {
			return nil, err
		}
		out := new(api.ListQuarantinedOutput)
		if len(found) > limit {
			found = found[:limit]
			last := found[limit-1]
			out.Cursor = new(strconv.FormatInt(last.Since.UnixMicro(), 10) + ":" + last.DID.String())
		}
		dids := make([]syntax.DID, len(found))
		for i := range found {
			dids[i] = found[i].DID
		}
		sizes, err := r.Sizes(ctx, dids...)
		if err != nil {
			return nil, err
		}
		for i := range found {
			h := &found[i]
			size := sizes[h.DID]
			out.Accounts = append(out.Accounts, api.QuarantinedAccount{
				DID: h.DID, Handle: h.Handle, Status: h.Status, Email: xrpc.NonZero(h.Email), EmailConfirmedAt: answer.Moment(h.EmailConfirmedAt),
				Quarantine: *quarantineOf(&h.Quarantined),
				Records:    new(int64(size.Records)), Blobs: new(int64(size.Blobs)), BlobBytes: new(size.Bytes),
			})
		}
		return out, nil
	})
}

// heldPlace is the place in the list that a cursor names, the beginning for "".
func heldPlace(cursor string) (after time.Time, did syntax.DID, err error) {
	if cursor == "" {
		return time.Time{}, "", nil
	}
	since, name, _ := strings.Cut(cursor, ":")
	micros, err := strconv.ParseInt(since, 10, 64)
	if err == nil {
		did, err = syntax.ParseDID(name)
	}
	if err != nil {
		return time.Time{}, "", xrpc.InvalidRequest("Malformed cursor")
	}
	return time.UnixMicro(micros), did, nil
}

func quarantineOf(h *db.Quarantined) *api.Quarantine {
	return &api.Quarantine{
		Since: answer.Datetime(h.Since), Rule: h.Rule, State: h.State, AddressRange: xrpc.NonZero(h.Address), MailDomain: xrpc.NonZero(h.MailDomain),
		ApprovedAt: answer.Moment(h.ApprovedAt), Reason: xrpc.NonZero(h.Reason),
	}
}

// heldFilter reads a filter, which may be empty.
func heldFilter(f *api.QuarantineFilter) (*db.HeldFilter, error) {
	filter := &db.HeldFilter{
		Rule: xrpc.ValueOf(f.Rule), MailDomain: strings.ToLower(strings.TrimPrefix(xrpc.ValueOf(f.MailDomain), "@")),
		Waiting: xrpc.ValueOf(f.Waiting), Unconfirmed: xrpc.ValueOf(f.Unconfirmed),
	}
	if f.Since != nil {
		filter.Since = f.Since.Time()
	}
	if text := xrpc.ValueOf(f.AddressRange); text != "" {
		if filter.Address = addressRange(text); filter.Address == "" {
			return nil, xrpc.InvalidRequest("addressRange must be an address, a /24 of IPv4 or a /48 of IPv6")
		}
	}
	return filter, nil
}

// addressRange is the range that accounts are held with which signed up from an address, or
// that range itself; "" for any other text.
func addressRange(text string) string {
	if ip, err := netip.ParseAddr(text); err == nil {
		return account.RangeOf(ip)
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return ""
	}
	if r := account.RangeOf(p.Addr()); r == p.Masked().String() {
		return r
	}
	return ""
}

// A heldChoice is which accounts in quarantine a call is about.
type heldChoice struct {
	dids   []syntax.DID   // those that are named
	filter *db.HeldFilter // or nil
	limit  int
	dry    bool
	// untold says that none is meant that others were told of.
	untold bool
}

// heldChosen reads it: accounts that are named, or a filter that says something, and never
// all of them for want of a word.
func heldChosen(dids []syntax.DID, f *api.QuarantineFilter, limit *int64, dry bool) (*heldChoice, error) {
	switch {
	case (f == nil) == (len(dids) == 0):
		return nil, xrpc.InvalidRequest("Either dids or filter must say which accounts")
	case f == nil:
		return &heldChoice{dids: dids, dry: dry}, nil
	}
	filter, err := heldFilter(f)
	if err != nil {
		return nil, err
	}
	if all := *filter == (db.HeldFilter{}); all != xrpc.ValueOf(f.All) {
		return nil, xrpc.InvalidRequest("filter must say which accounts, or all of them")
	}
	filter.Undecided = true
	return &heldChoice{filter: filter, limit: cmp.Or(int(xrpc.ValueOf(limit)), 100), dry: dry}, nil
}

// heldDone is what came of a call for some accounts in quarantine.
type heldDone struct {
	done, confirmed int64
	more            bool
	kept            []syntax.DID
}

// eachHeld does something with each account that is chosen, or only counts them. Those of
// which do says db.ErrNotFound are kept.
func (s *Service) eachHeld(ctx context.Context, c *heldChoice, do func(context.Context, syntax.DID) error) (heldDone, error) {
	if c.filter == nil {
		return s.eachNamed(ctx, c, do)
	}
	if c.dry {
		all, confirmed, err := s.DB.CountHeld(ctx, *c.filter)
		return heldDone{done: int64(all), confirmed: int64(confirmed)}, err
	}
	found, err := s.DB.HeldAccounts(ctx, *c.filter, time.Time{}, "", c.limit+1)
	if err != nil {
		return heldDone{}, err
	}
	out := heldDone{more: len(found) > c.limit}
	for _, h := range found[:min(len(found), c.limit)] {
		err := do(ctx, h.DID)
		if errors.Is(err, db.ErrNotFound) {
			continue // somebody was faster
		}
		if err != nil {
			return out, err
		}
		out.count(h.EmailConfirmedAt != nil)
	}
	return out, nil
}

func (d *heldDone) count(confirmed bool) {
	d.done++
	if confirmed {
		d.confirmed++
	}
}

func (s *Service) eachNamed(ctx context.Context, c *heldChoice, do func(context.Context, syntax.DID) error) (out heldDone, err error) {
	accounts, err := s.DB.AccountsByDIDs(ctx, c.dids...)
	if err != nil {
		return out, err
	}
	held, err := s.DB.QuarantinedOf(ctx, c.dids...)
	if err != nil {
		return out, err
	}
	confirmed := make(map[syntax.DID]bool, len(accounts))
	for _, a := range accounts {
		confirmed[a.DID] = a.EmailConfirmedAt != nil
	}
	seen := make(map[syntax.DID]bool, len(c.dids))
	for _, did := range c.dids {
		if seen[did] {
			continue
		}
		seen[did] = true
		h, ok := held[did]
		if c.untold && (h.State == db.HeldSent || h.State == db.HeldShown) {
			ok = false
		}
		if ok && !c.dry {
			err := do(ctx, did)
			if err != nil && !errors.Is(err, db.ErrNotFound) {
				return out, err
			}
			ok = err == nil
		}
		if !ok {
			out.kept = append(out.kept, did)
			continue
		}
		out.count(confirmed[did])
	}
	return out, nil
}
