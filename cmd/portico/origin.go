package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account/move"
	"portico/impl/identity/host"
)

// origins are what of this server stands in the DIDs of its accounts: its rotation key
// and its public URL. The database keeps each that was used since all DIDs agreed, so
// that a change, be it by mistake, is told at every start until they do again.
type origins struct {
	store *db.DB
	log   *slog.Logger
	parts []origin
	names *host.Names // nil: no other than these
}

type origin struct {
	name    string // of the value of db.Meta that has a line for each
	now     string
	also    string // another that is meant to be there, "" for none
	meaning string
}

// newOrigins are those of a server with these settings.
func newOrigins(s *settings, store *db.DB, log *slog.Logger) (*origins, error) {
	public, err := s.RotationKey.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("rotation key: %w", err)
	}
	also := ""
	if s.OldRotationKey != nil {
		old, err := s.OldRotationKey.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("old rotation key: %w", err)
		}
		also = old.DIDKey()
	}
	return &origins{store: store, log: log, parts: []origin{
		{move.RotationKeys, public.DIDKey(), also, "the DIDs of accounts from before name the old key, and this server cannot change " +
			"them without it. If that is not meant, set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX back; if it is, put the old " +
			"one into PORTICO_PLC_ROTATION_KEY_OLD, and see portico keys rotate-plc"},
		{host.PublicURLs, s.PublicURL.String(), "", "the DIDs of accounts from before name the old one as their server. " +
			"If that is not meant, set PDS_HOSTNAME back (PDS_PORT on a development server)"},
	}}, nil
}

// warn tells the operator of each part that was another one at an earlier start. A
// database without accounts has nothing that could disagree.
func (o *origins) warn(ctx context.Context) error {
	for _, part := range o.parts {
		var before []string
		err := o.store.Write(ctx, func(tx *db.Tx) error {
			known, err := tx.MetaOr(ctx, part.name, []byte(part.now))
			if err != nil {
				return err
			}
			before = others(known, part.now)
			accounts, err := tx.Accounts(ctx, "", 1)
			if err != nil {
				return err
			}
			if len(accounts) == 0 {
				before = nil
			}
			value := strings.Join(append(slices.Clone(before), part.now), "\n")
			if value == string(known) {
				return nil
			}
			return tx.PutMeta(ctx, part.name, []byte(value))
		})
		if err != nil {
			return fmt.Errorf("compare %s with that of earlier starts: %w", part.name, err)
		}
		before = slices.DeleteFunc(before, func(line string) bool { return line == part.also })
		if len(before) > 0 && !o.told(ctx, part) {
			o.log.WarnContext(ctx, "the "+part.name+" was another one at earlier starts: "+part.meaning,
				"before", strings.Join(before, " "), "now", part.now)
		}
	}
	return nil
}

// told reports whether what is to be said of a part was said already, or is what a move to
// another name is about.
func (o *origins) told(ctx context.Context, part origin) bool {
	if part.name != host.PublicURLs || o.names == nil {
		return false
	}
	s := o.names.State(ctx)
	return s.Disagrees() || s.Move.Open()
}

// others are the lines of known but for now.
func others(known []byte, now string) []string {
	return slices.DeleteFunc(strings.Split(string(known), "\n"), func(line string) bool { return line == now })
}

// lookUp says what a DID names as the server of its account and who may change it.
type lookUp = func(ctx context.Context, did syntax.DID) (endpoint string, rotationKeys []string, err error)

// settle forgets the others of each part once no DID names them any more. It asks about
// one account after the other, and stops at the first that does; whose DID nobody can
// find out about now is an error.
func (o *origins) settle(ctx context.Context, ask lookUp) error {
	var open []origin
	before := map[string][]string{}
	for _, part := range o.parts {
		known, err := o.store.Meta(ctx, part.name)
		if err != nil {
			return err
		}
		if before[part.name] = others(known, part.now); len(before[part.name]) > 0 {
			open = append(open, part)
		}
	}
	for last := syntax.DID(""); len(open) > 0; {
		accounts, err := o.store.Accounts(ctx, last, 500)
		if err != nil {
			return err
		}
		if len(accounts) == 0 {
			break
		}
		for _, a := range accounts {
			last = a.DID
			endpoint, keys, err := ask(ctx, a.DID)
			if err != nil {
				return fmt.Errorf("what the DIDs of accounts say: %w", err)
			}
			open = slices.DeleteFunc(open, func(part origin) bool {
				named := keys
				if part.name == host.PublicURLs {
					named = []string{endpoint}
				}
				return !slices.Contains(named, part.now) &&
					slices.ContainsFunc(before[part.name], func(old string) bool { return slices.Contains(named, old) })
			})
			if len(open) == 0 {
				return nil
			}
		}
	}
	var all error
	for _, part := range open {
		err := o.store.Write(ctx, func(tx *db.Tx) error { return tx.PutMeta(ctx, part.name, []byte(part.now)) })
		if err == nil && part.name == host.PublicURLs && o.names != nil {
			err = o.names.Agree(ctx)
		}
		if all = errors.Join(all, err); err == nil {
			o.log.InfoContext(ctx, "the DIDs of all accounts agree with the "+part.name+" now", "now", part.now)
		}
	}
	return all
}
