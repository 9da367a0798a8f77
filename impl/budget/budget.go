// Package budget holds the security budgets: how often a thing that helps an
// attacker, or costs somebody else, may happen before the server stops playing along.
//
// Budgets are always on and live in the database, so that they hold across
// restarts and across the nodes of one Postgres. They are fixed windows which
// begin with the first thing counted. They are no request limits: those are the
// operator's choice, these are not. Ours because limiters to be had, x/time/rate and
// echo's among them, count in the memory of one process.
//
// A [Budget] says how much there is, a [Payer] whose it is, and the [Ledger] of a
// server keeps what was spent. Who pays is a keyed hash there: a copy of the database
// tells nobody's address. A test in this package goes through [All].
package budget

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Budget is a number of points that each payer may spend in a window.
type Budget struct {
	// Kind is stored. Changing it forgets what was counted under it.
	Kind   string
	Points int
	Window time.Duration
	// Protects says, for people, what the budget is there for.
	Protects string
	// Payers says of whom something is taken, and so who may be told that it is spent.
	Payers Payers
}

// Payers are kinds of payers.
type Payers string

// The kinds of payers that there are.
const (
	// Callers are addresses of the network: [Ledger.Caller].
	Callers Payers = "callers"
	// Accounts are accounts, as a whole or a share of one: [Account], [App], and
	// [Ledger.Visitor]. Who only typed the account's name is never told.
	Accounts Payers = "accounts"
	// Recipients are mailboxes and telephones: [Recipient], [Number].
	Recipients Payers = "recipients"
	// Servers are the server itself: [Server].
	Servers Payers = "servers"
)

const day = 24 * time.Hour

// The budgets of the server.
var (
	// WrongPasswordsFrom counts wrong passwords over all names, [Ledger.Caller] pays.
	WrongPasswordsFrom = Budget{"wrong-passwords-from", 300, time.Hour,
		"the work of hashing, and accounts from one who tries a few passwords on each", Callers}
	// FailedPasswords counts wrong passwords of one account. createSession and deleteAccount
	// share it. Known addresses have a share each, all others one together, see
	// [Ledger.Visitor]: strangers who spend theirs do not keep the owner out.
	FailedPasswords = Budget{"failed-passwords", 50, time.Hour,
		"a password from being guessed", Accounts}
	// HiddenPasswords is FailedPasswords where a proxy hides who calls, or nobody but this
	// machine does: the owner is among those who share it, so it is whole again soon.
	HiddenPasswords = Budget{"hidden-passwords", 10, time.Minute,
		"a password from being guessed by callers that have no address", Accounts}
	// WrongCodes counts wrong emailed codes of one account and purpose, across
	// all codes: 50 random bits leave a guesser nothing with this.
	WrongCodes = Budget{"wrong-codes", 20, time.Hour,
		"emailed codes from being guessed", Accounts}
	// WrongAuthenticatorCodes counts wrong codes of the authenticator app of one account. Such a
	// code is one of a million, so there are few of them a day; and who reads the owner's mail
	// is among those whom it is there for, so that a mailed code does not give them back.
	WrongAuthenticatorCodes = Budget{"wrong-authenticator-codes", 20, day,
		"codes of authenticator apps from being guessed", Accounts}
	// WrongResetCodes counts wrong password-reset codes: such a code names no account that
	// could be charged.
	WrongResetCodes = Budget{"wrong-reset-codes", 50, time.Hour,
		"emailed codes that reset passwords from being guessed", Callers}
	// WrongAdminPasswords counts wrong passwords of the operator. Nobody else pays for them.
	WrongAdminPasswords = Budget{"wrong-admin-passwords", 50, time.Hour,
		"the admin password from being guessed", Callers}
	// Mails counts the mails with codes of one purpose that unknown callers cause to one
	// recipient, see [Budget.For], and those to addresses that nobody has confirmed. It never
	// runs dry: beyond it one goes out whenever no code is alive.
	Mails = Budget{"mails", 30, day,
		"a mailbox from letters that its owner did not ask for", Recipients}
	// OwnMails counts the mails with codes of one purpose that an account's sessions cause,
	// and callers from each address that is known for it: what strangers ask for does not
	// shut out an owner.
	OwnMails = Budget{"own-mails", 30, day,
		"the mail server from a session that asks without end", Accounts}
	// MailsFrom counts the mails with codes that callers of an address ask for whom they name,
	// whether those have accounts or not.
	MailsFrom = Budget{"mails-from", 200, time.Hour,
		"many mailboxes from one who asks for letters to each, and the server from that work", Callers}
	// MailsToStrangers and MailsOfAppsToStrangers count the mails that the sessions of an
	// account cause to addresses that are not confirmed as its own: 30 a day together.
	MailsToStrangers = Budget{"mails-to-strangers", 20, day,
		"mailboxes of others from an account that says they are its own", Accounts}
	MailsOfAppsToStrangers = Budget{"mails-of-apps-to-strangers", 10, day,
		"mailboxes of others from an account that says they are its own", Accounts}
	// HeldMails counts the mails that the sessions of an account in quarantine cause, and
	// HeldMailsOfApps those of them that its app passwords do: they leave most to the owner.
	HeldMails = Budget{"held-mails", 5, day,
		"mailboxes of others from who signs up many times", Accounts}
	HeldMailsOfApps = Budget{"held-mails-of-apps", 2, day,
		"the mails of an account in quarantine from its apps", Accounts}
	// Announcements counts what an account announces to an address that is not confirmed as
	// its own; [RecipientOf] pays.
	Announcements = Budget{"announcements", 1, day,
		"a mailbox from letters about an account that is not its owner's", Recipients}
	// NewPlaces counts the letters that tell an owner of sign-ins from where the account was not
	// used before.
	NewPlaces = Budget{"new-places", 1, day,
		"a mailbox from a letter for each of many sign-ins", Accounts}
	// AddressesGiven remembers for an hour that an account was given an address;
	// [RecipientOf] pays.
	AddressesGiven = Budget{"addresses-given", 1, time.Hour,
		"a mailbox from letters about an account that had its address by mistake", Recipients}
	// AddressesNamed counts the addresses that a session wants for its account: the answer
	// tells whether somebody has them.
	AddressesNamed = Budget{"addresses-named", 30, day,
		"who has an account from being asked by address", Accounts}
	// IdentityChanges counts what makes the server tell the network of an account, or ask
	// and change its DID: activations, new handles, operations.
	IdentityChanges = Budget{"identity-changes", 20, time.Hour,
		"the directory, and whoever reads events, from an account that changes without end", Accounts}
	// LookUps counts the questions about DIDs and handles that go to other hosts: those
	// that a cache answers are free.
	LookUps = Budget{"look-ups", 600, time.Hour,
		"other hosts from being asked in this server's name, and its connections", Callers}
	// SignUps counts the sign-ups that are tried, except for the accounts that were made
	// with an invite: each answer tells whether somebody has the handle and the email
	// address.
	SignUps = Budget{"sign-ups", 200, day,
		"who has an account from being asked, and the server from accounts that nobody wants", Callers}
	// HandlesAsked counts the handles that people ask about while they choose one. Somebody
	// who types does not spend it, nor what they need to sign up: unlike an address, who has
	// which handle is no secret.
	HandlesAsked = Budget{"handles-asked", 1000, time.Hour,
		"the database from who asks for every handle that there could be", Callers}
	// InvitesAsked counts the pages of invite links that are looked at: each tells whether its
	// code can be used.
	InvitesAsked = Budget{"invites-asked", 300, time.Hour,
		"invite codes from being guessed", Callers}
	// PushedRequests counts the requests to be let into an account of apps that have no key of
	// their own, right or wrong.
	PushedRequests = Budget{"pushed-requests", 1000, time.Hour,
		"the database from requests that nobody answers, and the work of checking them", Callers}
	// WrongGrants counts the codes and tokens of apps that are no good, and those that are
	// signed out.
	WrongGrants = Budget{"wrong-grants", 1000, time.Hour,
		"the database from who makes codes and tokens up", Callers}
	// KeyedRequests counts the requests of apps that proved a key of their own, but for the
	// refreshes and codes that are good: anybody may have a key, and such an app asks from one
	// address for all of its users, so it is much.
	KeyedRequests = Budget{"keyed-requests", 5000, time.Hour,
		"the database from an app that asks without end", Callers}
	// ReservedKeys counts signing keys that are reserved.
	ReservedKeys = Budget{"reserved-keys", 100, day,
		"the database from keys that nobody uses", Callers}
	// TextsTo and TextsToInADay count the text messages to one phone number, TextsFrom those
	// that callers of one address ask for, sent or not: each costs the operator money,
	// and they come to somebody who may not have asked.
	TextsTo = Budget{"texts-to", 5, time.Hour,
		"a telephone from messages that its owner did not ask for", Recipients}
	TextsToInADay = Budget{"texts-to-in-a-day", 10, day,
		"a telephone from messages that its owner did not ask for", Recipients}
	TextsFrom = Budget{"texts-from", 100, day,
		"the operator's money", Callers}
	// NumbersFrom counts the phone numbers that sign-ups name: the answer tells of some
	// whether they have accounts.
	NumbersFrom = Budget{"numbers-from", 200, day,
		"who has an account from being asked by number", Callers}
	// ReleasesOfDomain counts the accounts that are let out of quarantine, without the
	// operator, whose addresses are at one mail domain.
	ReleasesOfDomain = Budget{"releases-of-domain", 10, day,
		"the network from one who has all addresses of a domain", Recipients}
	// PhoneCodes counts the codes that are tried for one phone number, right or wrong: of
	// a million they are few.
	PhoneCodes = Budget{"phone-codes", 20, time.Hour,
		"codes sent to telephones from being guessed", Recipients}
)

// Texts counts the text messages to everybody; most is the operator's choice.
func Texts(most int) Budget {
	return Budget{"texts", most, day, "the operator's money", Servers}
}

// SignUpsADay counts the accounts that are made without an invite; most is the operator's
// choice.
func SignUpsADay(most int) Budget {
	return Budget{"sign-ups-a-day", most, day, "the server from accounts that nobody wants", Servers}
}

// Releases counts the accounts that are let out of quarantine; most is the operator's
// choice.
func Releases(most int) Budget {
	return Budget{"releases", most, time.Hour, "relays, which take only so many accounts of a server", Servers}
}

// All are the budgets that there are.
var All = []Budget{
	WrongPasswordsFrom, FailedPasswords, HiddenPasswords, WrongCodes, WrongAuthenticatorCodes, WrongResetCodes, WrongAdminPasswords, Mails, OwnMails,
	MailsFrom, MailsToStrangers, MailsOfAppsToStrangers, HeldMails, HeldMailsOfApps, Announcements, NewPlaces, AddressesGiven, AddressesNamed, IdentityChanges, LookUps,
	SignUps, SignUpsADay(1), HandlesAsked, InvitesAsked, PushedRequests, WrongGrants, KeyedRequests, ReservedKeys, TextsTo, TextsToInADay, TextsFrom, NumbersFrom, PhoneCodes, Texts(1),
	Releases(1), ReleasesOfDomain,
}

// For returns a budget of the same size that is spent apart from b and from those
// for other purposes.
func (b Budget) For(purpose string) Budget {
	b.Kind += "/" + purpose
	return b
}

// Of returns the budget that a stored kind is one of, with share and purpose or without.
func Of(kind string) (Budget, bool) {
	kind, _, _ = strings.Cut(kind, "/")
	i := slices.IndexFunc(All, func(b Budget) bool { return b.Kind == kind })
	if i < 0 {
		return Budget{}, false // of an older version
	}
	return All[i], true
}

// Spent says that a payer has nothing left of a budget. Handlers tell it to those alone
// who may know: the caller whose address or session pays, or who proved the account's
// password in the same request.
type Spent struct {
	Kind string
	Wait time.Duration // until the budget is whole again
}

// Error says it for the log.
func (s *Spent) Error() string { return fmt.Sprintf("budget %s is spent for %v", s.Kind, s.Wait) }
