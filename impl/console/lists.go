package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	adminapi "portico/api/atproto/admin"
	api "portico/api/atproto/server"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/page"
)

type invitesPage struct {
	Codes     []invite
	Next      string
	Sort      string
	Problem   string
	Count     string
	Uses, For string // as they were typed
}

// An invite is a code with the link that lets somebody in.
type invite struct {
	api.InviteCode
	Link string // "" for one that lets nobody in
}

const (
	invitesOnPage = 50
	maxInvites    = 100
)

func (c *console) invites(v *page.Visit) error {
	return c.showInvites(v, http.StatusOK, invitesPage{Count: "1", Uses: "1"})
}

func (c *console) showInvites(v *page.Visit, status int, p invitesPage) error {
	p.Sort = adminapi.GetInviteCodesParamsSortRecent
	if v.Request.URL.Query().Get("sort") == adminapi.GetInviteCodesParamsSortUsage {
		p.Sort = adminapi.GetInviteCodesParamsSortUsage
	}
	out, err := c.admin.GetInviteCodes(v.Context(), &adminapi.GetInviteCodesParams{Sort: p.Sort, Limit: invitesOnPage, Cursor: query(v, "cursor")})
	if err != nil {
		return err
	}
	for _, code := range out.Codes {
		one := invite{InviteCode: code}
		if !code.Disabled && int64(len(code.Uses)) < code.Available {
			one.Link = c.PublicURL + "/invite/" + url.PathEscape(code.Code)
		}
		p.Codes = append(p.Codes, one)
	}
	if len(out.Codes) == invitesOnPage { // there is a cursor behind the last page, too
		p.Next = nextPage(v, out.Cursor)
	}
	return v.Show(status, "invites.html", p)
}

func (c *console) createInvites(v *page.Visit) error {
	err := c.makeInvites(v)
	if told := page.Refused(err); told != nil {
		return c.showInvites(v, told.Status, invitesPage{Problem: told.Message, Count: v.Form("count"), Uses: v.Form("uses"), For: v.Form("for")})
	}
	return err
}

func (c *console) makeInvites(v *page.Visit) error {
	count, err := strconv.Atoi(strings.TrimSpace(v.Form("count")))
	if err != nil || count < 1 || count > maxInvites {
		return unreadable("There can be from 1 to 100 codes at a time.")
	}
	uses, err := strconv.ParseInt(strings.TrimSpace(v.Form("uses")), 10, 32)
	if err != nil || uses < 1 {
		return unreadable("A code lets in at least one.")
	}
	in := &api.CreateInviteCodesInput{CodeCount: int64(count), UseCount: uses}
	if owner := strings.TrimSpace(v.Form("for")); owner != "" {
		a, err := c.named(v.Context(), owner)
		if err != nil {
			return err
		}
		if a == nil {
			return unreadable("There is no account of that name.")
		}
		in.ForAccounts = []syntax.DID{a.DID}
	}
	if _, err := c.server.CreateInviteCodes(v.Context(), in); err != nil {
		return err
	}
	if count == 1 {
		return c.done(v, Home+"/invites", "A code was made: it is the first of the list.")
	}
	return c.done(v, Home+"/invites", "%d codes were made: they are the first of the list.", count)
}

func askDisable(code string) ask {
	return ask{
		Title: "Disable an invite code?", Button: "Disable", Danger: true, Action: Home + "/invites/disable", Back: Home + "/invites",
		Text:   []string{"Nobody can sign up with it any more. Who has done so stays."},
		Facts:  []fact{{"Code", text(code)}},
		Fields: []field{{Name: "code", Type: "hidden", Value: code}},
	}
}

func (c *console) askDisableInvite(v *page.Visit) error {
	return c.ask(v, askDisable(v.Request.URL.Query().Get("code")))
}

func (c *console) disableInvite(v *page.Visit) error {
	code := v.Form("code")
	if err := c.admin.DisableInviteCodes(v.Context(), &adminapi.DisableInviteCodesInput{Codes: []string{code}}); err != nil {
		return c.askAgain(v, askDisable(code), err)
	}
	return c.done(v, Home+"/invites", "%s is disabled.", code)
}

type domainsPage struct {
	Domains  []operatorapi.Domain
	Policies []policy
	Problem  string
	Typed    string
}

// A policy says who may sign up under a domain.
type policy struct{ Name, Words string }

var policies = []policy{
	{operatorapi.DomainInvitePolicyOpen, "anybody may sign up"},
	{operatorapi.DomainInvitePolicyInvite, "with a code only"},
	{operatorapi.DomainInvitePolicyClosed, "nobody may sign up"},
}

func (c *console) domains(v *page.Visit) error {
	return c.showDomains(v, http.StatusOK, domainsPage{})
}

func (c *console) showDomains(v *page.Visit, status int, p domainsPage) error {
	out, err := c.operator.ListDomains(v.Context())
	if err != nil {
		return err
	}
	p.Domains, p.Policies = out.Domains, policies
	return v.Show(status, "domains.html", p)
}

func (c *console) putDomain(v *page.Visit) error {
	typed := strings.TrimSpace(v.Form("domain"))
	put, err := c.operator.PutDomain(v.Context(), &operatorapi.PutDomainInput{Domain: typed, InvitePolicy: xrpc.NonZero(v.Form("policy"))})
	if told := page.Refused(err); told != nil {
		return c.showDomains(v, told.Status, domainsPage{Problem: told.Message, Typed: typed})
	}
	if err != nil {
		return err
	}
	return c.done(v, Home+"/domains", "%s: %s.", put.Domain, policyWords(put.InvitePolicy))
}

func policyWords(name string) string {
	for _, p := range policies {
		if p.Name == name {
			return p.Words
		}
	}
	return words(name)
}

func (c *console) askRemove(ctx context.Context, domain string) (ask, error) {
	a := ask{
		Title: "Remove the domain " + text(domain) + "?", Button: "Remove", Danger: true, Action: Home + "/domains/remove", Back: Home + "/domains",
		Text:   []string{"No more handles are given under it. A domain of the settings stays removed after a restart."},
		Fields: []field{{Name: "domain", Type: "hidden", Value: domain}},
	}
	out, err := c.operator.ListDomains(ctx)
	if err != nil {
		return a, err
	}
	for _, d := range out.Domains {
		if d.Domain == domain && d.Accounts > 0 {
			a.Facts = append(a.Facts, fact{"Accounts under it", strconv.FormatInt(d.Accounts, 10)})
			a.Text = append(a.Text, "The handles of these accounts would no longer resolve.")
			a.Fields = append(a.Fields, field{Name: "force", Type: "checkbox", Label: "Remove it even if accounts lose their handles"})
		}
	}
	return a, nil
}

func (c *console) askRemoveDomain(v *page.Visit) error {
	a, err := c.askRemove(v.Context(), v.Request.URL.Query().Get("domain"))
	if err != nil {
		return err
	}
	return c.ask(v, a)
}

func (c *console) removeDomain(v *page.Visit) error {
	in := &operatorapi.RemoveDomainInput{Domain: v.Form("domain")}
	if v.Form("force") != "" {
		in.Force = new(true)
	}
	if err := c.operator.RemoveDomain(v.Context(), in); err != nil {
		a, unknown := c.askRemove(v.Context(), in.Domain)
		if unknown != nil {
			return unknown
		}
		return c.askAgain(v, a, err)
	}
	return c.done(v, Home+"/domains", "%s is removed.", in.Domain)
}

type mailsPage struct {
	State  string
	States []string
	Mails  []operatorapi.Mail
	Next   string
}

const mailsOnPage = 50

var mailStates = []string{
	operatorapi.MailStateQueued, operatorapi.MailStateSending, operatorapi.MailStateFailed, operatorapi.MailStateExpired, operatorapi.MailStateSent,
}

func (c *console) mails(v *page.Visit) error {
	p := mailsPage{State: v.Request.URL.Query().Get("state"), States: mailStates}
	out, err := c.operator.ListMails(v.Context(), &operatorapi.ListMailsParams{State: xrpc.NonZero(p.State), Limit: mailsOnPage, Cursor: query(v, "cursor")})
	if err != nil {
		return err
	}
	p.Mails, p.Next = out.Mails, nextPage(v, out.Cursor)
	return v.Show(http.StatusOK, "mails.html", p)
}

func mailID(v *page.Visit) (int64, error) {
	id, err := strconv.ParseInt(v.Request.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, &page.Error{Status: http.StatusNotFound, Message: "There is no such mail."}
	}
	return id, nil
}

func (c *console) retryMail(v *page.Visit) error {
	id, err := mailID(v)
	if err != nil {
		return err
	}
	if err := c.operator.RetryMail(v.Context(), &operatorapi.RetryMailInput{ID: id}); err != nil {
		return err
	}
	return c.done(v, Home+"/mails", "Mail %d is tried again now.", id)
}

func askDelete(id int64) ask {
	return ask{
		Title: "Delete mail " + strconv.FormatInt(id, 10) + "?", Button: "Delete", Danger: true, Back: Home + "/mails",
		Action: Home + "/mails/" + strconv.FormatInt(id, 10) + "/delete",
		Text:   []string{"If it still waits, it is not sent. This can't be undone."},
	}
}

func (c *console) askDeleteMail(v *page.Visit) error {
	id, err := mailID(v)
	if err != nil {
		return err
	}
	return c.ask(v, askDelete(id))
}

func (c *console) deleteMail(v *page.Visit) error {
	id, err := mailID(v)
	if err != nil {
		return err
	}
	if err := c.operator.DeleteMail(v.Context(), &operatorapi.DeleteMailInput{ID: id}); err != nil {
		return c.askAgain(v, askDelete(id), err)
	}
	return c.done(v, Home+"/mails", "Mail %d is deleted.", id)
}

type budgetsPage struct {
	Who, Problem string
	Asked        bool
	Budgets      []operatorapi.Budget
}

func (c *console) budgets(v *page.Visit) error {
	p := budgetsPage{Who: strings.TrimSpace(v.Request.URL.Query().Get("who"))}
	if p.Who == "" {
		return v.Show(http.StatusOK, "budgets.html", p)
	}
	out, err := c.operator.GetBudgets(v.Context(), &operatorapi.GetBudgetsParams{Who: p.Who})
	if told := page.Refused(err); told != nil {
		p.Problem = told.Message
		return v.Show(told.Status, "budgets.html", p)
	}
	if err != nil {
		return err
	}
	p.Asked, p.Budgets = true, out.Budgets
	return v.Show(http.StatusOK, "budgets.html", p)
}

func (c *console) clearBudgets(v *page.Visit) error {
	who := v.Form("who")
	if err := c.operator.ClearBudgets(v.Context(), &operatorapi.ClearBudgetsInput{Who: who}); err != nil {
		return err
	}
	return c.done(v, Home+"/budgets?who="+url.QueryEscape(who), "What %s had spent is forgotten.", who)
}
