package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/page"
)

const (
	accountsOnPage = 50
	entriesOnPage  = 50
)

type accountsPage struct {
	Query, Status, Domain, Since string
	Unconfirmed                  bool
	Statuses                     []string
	Accounts                     []operatorapi.Account
	Next                         string
}

// accounts lists accounts: those that a text names, those whose addresses begin with it, or
// all that the filters let through.
func (c *console) accounts(v *page.Visit) error {
	q := v.Request.URL.Query()
	p := accountsPage{
		Query: strings.TrimSpace(q.Get("q")), Status: q.Get("status"), Domain: strings.TrimSpace(q.Get("domain")), Since: q.Get("since"),
		Unconfirmed: q.Get("unconfirmed") != "",
		Statuses: []string{
			operatorapi.AccountStatusActive, operatorapi.AccountStatusDeactivated, operatorapi.AccountStatusTakendown, operatorapi.AccountStatusCreating,
		},
	}
	ctx := v.Context()
	params := &operatorapi.ListAccountsParams{
		Status: xrpc.NonZero(p.Status), Domain: xrpc.NonZero(p.Domain), Cursor: query(v, "cursor"), Limit: accountsOnPage,
	}
	if p.Unconfirmed {
		params.Unconfirmed = new(true)
	}
	if p.Since != "" {
		since, err := time.Parse(time.DateOnly, p.Since)
		if err != nil {
			return unreadable("The day has to be written as 2026-01-31.")
		}
		params.Since = new(syntax.Datetime(since.Format(time.RFC3339)))
	}
	if p.Query != "" {
		found, err := c.named(ctx, p.Query)
		if err != nil {
			return err
		}
		if found != nil {
			p.Accounts = []operatorapi.Account{*found}
			return v.Show(http.StatusOK, "accounts.html", p)
		}
		params.Email = &p.Query
	}
	out, err := c.operator.ListAccounts(ctx, params)
	if err != nil {
		return err
	}
	p.Accounts, p.Next = out.Accounts, nextPage(v, out.Cursor)
	return v.Show(http.StatusOK, "accounts.html", p)
}

// named is the account that a text names whole, nil for none: by its DID, handle or address,
// or by its handle without the domain.
func (c *console) named(ctx context.Context, name string) (*operatorapi.Account, error) {
	names := []string{name}
	if bare := strings.TrimPrefix(name, "@"); !strings.ContainsAny(bare, ".:@ ") {
		domains, err := c.operator.ListDomains(ctx)
		if err != nil {
			return nil, err
		}
		names = nil
		for _, d := range domains.Domains[:min(len(domains.Domains), 10)] {
			names = append(names, bare+"."+d.Domain)
		}
	}
	for _, name := range names {
		found, err := c.operator.GetAccount(ctx, &operatorapi.GetAccountParams{Account: name})
		if err == nil {
			return found, nil
		}
		if page.Refused(err) == nil {
			return nil, err
		}
	}
	return nil, nil
}

// find is the account that the path of a page names.
func (c *console) find(v *page.Visit) (*operatorapi.Account, error) {
	did, err := syntax.ParseDID(v.Request.PathValue("did"))
	if err != nil {
		return nil, noAccount
	}
	found, err := c.operator.GetAccount(v.Context(), &operatorapi.GetAccountParams{Account: did.String()})
	if errors.Is(err, operatorapi.ErrGetAccountAccountNotFound) {
		return nil, noAccount
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

var noAccount = &page.Error{Status: http.StatusNotFound, Message: "There is no account with this DID."}

// accountPath is where an account is shown.
func accountPath(did syntax.DID) string { return Home + "/accounts/" + url.PathEscape(did.String()) }

type accountPage struct {
	Account *operatorapi.Account
	Path    string
	Actions []action
	Invites []api.InviteCode
	Log     []operatorapi.LogEntry
	All     bool // the entries are of all accounts: never
	More    bool // there are more of them
}

func (c *console) account(v *page.Visit) error {
	a, err := c.find(v)
	if err != nil {
		return err
	}
	p := accountPage{Account: a, Path: accountPath(a.DID), Actions: offered(a)}
	if a.Status != operatorapi.AccountStatusCreating {
		info, err := c.admin.GetAccountInfo(v.Context(), &adminapi.GetAccountInfoParams{DID: a.DID})
		if err != nil {
			return err
		}
		p.Invites = info.Invites
	}
	log, err := c.operator.GetLog(v.Context(), &operatorapi.GetLogParams{DID: &a.DID, Limit: 10})
	if err != nil {
		return err
	}
	p.Log, p.More = log.Entries, log.Cursor != nil
	return v.Show(http.StatusOK, "account.html", p)
}

type logPage struct {
	Title, Back string
	All         bool // it is that of all accounts
	Log         []operatorapi.LogEntry
	Next        string
}

func (c *console) log(v *page.Visit) error {
	return c.showLog(v, logPage{Title: "Log", All: true}, nil)
}

func (c *console) accountLog(v *page.Visit) error {
	a, err := c.find(v)
	if err != nil {
		return err
	}
	return c.showLog(v, logPage{Title: "Log of " + text(a.Handle), Back: accountPath(a.DID)}, &a.DID)
}

func (c *console) showLog(v *page.Visit, p logPage, did *syntax.DID) error {
	out, err := c.operator.GetLog(v.Context(), &operatorapi.GetLogParams{DID: did, Limit: entriesOnPage, Cursor: query(v, "cursor")})
	if err != nil {
		return err
	}
	p.Log, p.Next = out.Entries, nextPage(v, out.Cursor)
	return v.Show(http.StatusOK, "log.html", p)
}

type blobsPage struct {
	Account *operatorapi.Account
	Path    string
	Blobs   []operatorapi.ListBlobsBlob
	Next    string
}

func (c *console) accountBlobs(v *page.Visit) error {
	a, err := c.find(v)
	if err != nil {
		return err
	}
	out, err := c.operator.ListBlobs(v.Context(), &operatorapi.ListBlobsParams{DID: a.DID, Limit: entriesOnPage, Cursor: query(v, "cursor")})
	if err != nil {
		return err
	}
	return v.Show(http.StatusOK, "blobs.html", blobsPage{a, accountPath(a.DID), out.Blobs, nextPage(v, out.Cursor)})
}
