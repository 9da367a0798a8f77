package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/cmd/portico/launch"
	"portico/db"
)

const (
	seeded = 10000 // accounts
	// mostForLists is what an operator's list may cost.
	mostForLists = 10 * time.Millisecond

	admin    = "com.atproto.admin."
	operator = "alt.portico.operator."
)

// lists asks a server with many accounts what operators ask.
type lists struct {
	*launch.Server
	http *http.Client
}

// startLists starts the binary on a database that it fills.
func startLists(ctx context.Context, binary, dir string, env []string) (*lists, error) {
	if err := fill(ctx, dir); err != nil {
		return nil, fmt.Errorf("fill a database: %w", err)
	}
	server, err := launch.StartServer(ctx, binary, dir, env...)
	if err != nil {
		return nil, err
	}
	return &lists{server, newClient("", *workers).http}, nil
}

func seededDID(n int) syntax.DID { return syntax.DID(fmt.Sprintf("did:plc:%024d", n)) }

// fill makes a database of accounts that have two codes each; every fifth account is
// deactivated. All but the first
// signed up with the code of an earlier one, so that half of the accounts have
// invited two.
func fill(ctx context.Context, dir string) error {
	store, err := db.Open(ctx, db.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer store.Close()
	now := time.Now()
	code := func(n int, which string) string { return fmt.Sprintf("bench-example-com-%05d-%s", n, which) }
	return store.Write(ctx, func(tx *db.Tx) error {
		for n := range seeded {
			did := seededDID(n)
			joined := now.Add(time.Duration(n-seeded) * time.Minute)
			r := db.Reservation{
				Account: db.Account{
					DID: did, Handle: syntax.Handle(fmt.Sprintf("person-%d.bench.example.com", n)),
					Email: fmt.Sprintf("person-%d@example.com", n), CreatedAt: joined, EmailConfirmedAt: &joined,
				},
				Holder: "bench", LeaseUntil: now,
				Key: db.SigningKey{DID: did, Purpose: "atproto", Public: "did:key:bench", Sealed: []byte("bench")},
			}
			if n > 0 {
				r.InviteCode = code((n-1)/2, "aaaaa")
			}
			if n%5 == 0 {
				r.Account.DeactivatedAt = &joined
			}
			if err := tx.ReserveAccount(ctx, r); err != nil {
				return err
			}
			if err := tx.FinishAccount(ctx, did, "bench"); err != nil {
				return err
			}
			err := tx.InsertInvites(ctx,
				db.Invite{Code: code(n, "aaaaa"), Uses: 5, ForAccount: did.String(), CreatedBy: "admin", CreatedAt: joined},
				db.Invite{Code: code(n, "bbbbb"), Uses: 1, ForAccount: did.String(), CreatedBy: did.String(), CreatedAt: joined})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// middle is how many pages a later page is away from the first. Every list has more.
const middle = 9

// infos asks for the accounts of some DIDs.
const infos = "getAccountInfos, 100 DIDs"

var listings = []struct{ name, namespace, query string }{
	{"listAccounts, 100", operator, "listAccounts?limit=100"},
	{"listAccounts, 500", operator, "listAccounts?limit=500"},
	{"listAccounts, 100 active", operator, "listAccounts?status=active"},
	{"listAccounts, 100 deactivated", operator, "listAccounts?status=deactivated"},
	{"listAccounts, 100 by prefix of address", operator, "listAccounts?email=person-5"},
	{"listAccounts, 100 at a domain", operator, "listAccounts?domain=" + hostname},
	{"searchAccounts, 100", admin, "searchAccounts?limit=100"},
	{"searchAccounts, 100 by prefix of address", admin, "searchAccounts?limit=100&email=person-5"},
	{"getInviteCodes, 100 newest", admin, "getInviteCodes?limit=100&sort=recent"},
	{"getInviteCodes, 500 newest", admin, "getInviteCodes?limit=500&sort=recent"},
	{"getInviteCodes, 100 most used", admin, "getInviteCodes?limit=100&sort=usage"},
	{"getInviteCodes, 500 most used", admin, "getInviteCodes?limit=500&sort=usage"},
}

// later is what the name of a list has when it is asked for a page far from the first.
const later = ", a later page"

// listRows are the rows of all lists.
func listRows() []*row {
	add := func(name string) *row { return &row{name: name, requests: scaled(100), workers: *workers} }
	all := []*row{add(infos)}
	for _, l := range listings {
		all = append(all, add(l.name), add(l.name+later))
	}
	return all
}

// bind lets rows measure a server too.
func (c *lists) bind(who string, rows []*row) error {
	add := func(name string, do func() (items int, err error), want int) {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.name == name })
		if i < 0 {
			return
		}
		rows[i].add(who, c.Process, func(int) error {
			n, err := do()
			if err == nil && n != want {
				err = fmt.Errorf("%d items, want %d", n, want)
			}
			return err
		})
	}
	add(infos, func() (int, error) {
		dids := url.Values{}
		for _, n := range mathrand.Perm(seeded)[:100] {
			dids.Add("dids", seededDID(n).String())
		}
		return c.items(admin + "getAccountInfos?" + dids.Encode())
	}, 100)
	for _, list := range listings {
		first := list.namespace + list.query
		page, err := c.page(first)
		if err != nil {
			return err
		}
		want, far := page.items(), first
		for range middle {
			far = first + "&cursor=" + url.QueryEscape(page.Cursor)
			if page, err = c.page(far); err != nil {
				return err
			}
		}
		add(list.name, func() (int, error) { return c.items(first) }, want)
		add(list.name+later, func() (int, error) { return c.items(far) }, want)
	}
	return nil
}

// page is the answer to any of these lists, as far as it is looked at.
type page struct {
	Cursor                 string
	Infos, Accounts, Codes []json.RawMessage
}

func (p *page) items() int { return len(p.Infos) + len(p.Accounts) + len(p.Codes) }

func (c *lists) items(query string) (int, error) {
	p, err := c.page(query)
	if err != nil {
		return 0, err
	}
	return p.items(), nil
}

func (c *lists) page(query string) (*page, error) {
	req, err := http.NewRequest(http.MethodGet, c.URL+"/xrpc/"+query, nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth("admin", adminPassword)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	method, _, _ := strings.Cut(query, "?")
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %d %s", method, resp.StatusCode, body)
	}
	p := new(page)
	return p, json.Unmarshal(body, p)
}
