package main

import (
	"context"
	"errors"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/resolve"
	"portico/impl/oauth/permissionset"
	"portico/impl/servertest"
)

// A permission set that an account of this server publishes is read from its repository, and
// only while everybody could read it there.
func TestPermissionSetOfAnAccountHere(t *testing.T) {
	s := servertest.New(t)
	ctx := t.Context()
	u := s.SignUp("alice")
	const path = "com.atproto.lexicon.schema/com.example.forum.set"
	s.Accepted(s.Post("com.atproto.repo.putRecord", `{"repo":"`+u.DID.String()+`","collection":"com.atproto.lexicon.schema","rkey":"com.example.forum.set","validate":false,"record":`+
		`{"$type":"com.atproto.lexicon.schema","lexicon":1,"id":"com.example.forum.set","defs":{"main":{"type":"permission-set","title":"Forum","permissions":[`+
		`{"type":"permission","resource":"repo","collection":["com.example.forum.post"]}]}}}}`, u.Access))

	asked := 0 // whether the network was, as it is for accounts of other servers
	expand := func() (string, error) {
		t.Helper()
		asked = 0
		store := setStore{s.DB}
		sets := &permissionset.Sets{
			Store: nothingStored{}, Own: store.own, Now: s.Now,
			TXT: func(_ context.Context, name string) ([]string, error) {
				if name != "_lexicon.forum.example.com" {
					t.Errorf("asked for %s", name)
				}
				return []string{"did=" + u.DID.String()}, nil
			},
			Document: func(context.Context, syntax.DID, bool) (*resolve.Document, error) {
				asked++
				return nil, errors.New("no such document")
			},
			Pay: func(context.Context) error { return nil },
		}
		return sets.Expand(ctx, "atproto include:com.example.forum.set")
	}
	const published = "repo:com.example.forum.post atproto"
	check := func(what string, network int) {
		t.Helper()
		got, err := expand()
		if _, ok := errors.AsType[*permissionset.Error](err); !ok || got != "" || asked != network {
			t.Errorf("%s: %q, %v, and the network was asked %d times, want %d", what, got, err, asked, network)
		}
	}
	again := func(after string) {
		t.Helper()
		if got, err := expand(); err != nil || got != published && got != "atproto repo:com.example.forum.post" || asked != 0 {
			t.Errorf("%s: %q, %v, and the network was asked %d times", after, got, err, asked)
		}
	}
	again("published")
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt = new(s.Now()) })
	check("in quarantine", 1)
	s.SetAccount(u.DID, func(a *db.Account) { a.HeldAt = nil })
	again("announced")
	s.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef = new("a reason") })
	check("taken down", 1)
	s.SetAccount(u.DID, func(a *db.Account) { a.TakedownRef, a.DeactivatedAt = nil, new(s.Now()) })
	check("deactivated", 1) // or it has moved: its document says where
	s.SetAccount(u.DID, func(a *db.Account) { a.DeactivatedAt = nil })
	again("activated")
	s.Write(func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, u.DID, path, "a reason") })
	check("the record taken down", 0)
	s.Write(func(tx *db.Tx) error { return tx.TakeDownRecord(ctx, u.DID, path, "") })
	again("and restored")
	s.Accepted(s.Post("com.atproto.repo.deleteRecord", `{"repo":"`+u.DID.String()+`","collection":"com.atproto.lexicon.schema","rkey":"com.example.forum.set"}`, u.Access))
	check("deleted", 0)
	s.Remove(u.DID)
	check("of an account that is gone", 1)
}

// nothingStored remembers nothing: each question is answered anew.
type nothingStored struct{}

func (nothingStored) PermissionSet(context.Context, syntax.NSID) (*permissionset.Stored, error) {
	return nil, nil
}

func (nothingStored) SavePermissionSet(context.Context, syntax.NSID, permissionset.Stored) error {
	return nil
}
