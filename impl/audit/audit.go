// Package audit keeps the record of who did what to an account.
//
// Whoever lets a caller in says with [With] who that is; whatever changes an
// account records it with [Record], in the transaction that makes the change, so
// that there is neither without the other. An entry holds names, never a secret.
package audit

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// Actors that are no DIDs.
const (
	Admin    = "admin"    // the holder of the admin password
	Server   = "server"   // a job, or nobody in particular
	Stranger = "stranger" // a caller who has not shown who it is
)

// The events that there are. They are stored, and so never change.
const (
	AccountCreated        = "account_created"
	AccountDeleted        = "account_deleted"
	Activated             = "activated"
	AdminSignInFailed     = "admin_sign_in_failed"
	AppAllowed            = "app_allowed" // by OAuth; the detail is its client_id
	AppEnded              = "app_ended"   // a session of one
	AppPasswordCreated    = "app_password_created"
	AppPasswordRevoked    = "app_password_revoked"
	AuthenticatorOff      = "authenticator_off"
	AuthenticatorOn       = "authenticator_on" // an app whose codes signing in asks for
	Arrived               = "arrived"          // from another host; the detail is which
	BudgetsCleared        = "budgets_cleared"
	Deactivated           = "deactivated"
	Departed              = "departed" // for another host; the detail is which
	DepartureUndone       = "departure_undone"
	DomainAdded           = "domain_added"
	DomainChanged         = "domain_changed"
	DomainRemoved         = "domain_removed"
	EmailChanged          = "email_changed"
	EmailConfirmed        = "email_confirmed"
	EmailSent             = "email_sent" // by a moderator
	EndpointChanged       = "endpoint_changed"
	FactorsReset          = "factors_reset" // by the operator
	HandleChanged         = "handle_changed"
	InviteCodesCreated    = "invite_codes_created"
	InviteCodesDisabled   = "invite_codes_disabled"
	InvitesDisabled       = "invites_disabled"
	InvitesEnabled        = "invites_enabled"
	MailDeleted           = "mail_deleted"
	MailRetried           = "mail_retried"
	PasskeyAdded          = "passkey_added"
	PasskeyRemoved        = "passkey_removed"
	PasskeyRenamed        = "passkey_renamed"
	PasswordChanged       = "password_changed"
	ProofsGivenOut        = "proofs_given_out" // to another host: hashes of passwords and the like
	PLCOperationSigned    = "plc_operation_signed"
	PLCOperationSubmitted = "plc_operation_submitted"
	QuarantineApproved    = "quarantine_approved"
	Released              = "released" // from quarantine
	BlobTakedownLifted    = "blob_takedown_lifted"
	BlobTakenDown         = "blob_taken_down"
	RecordTakedownLifted  = "record_takedown_lifted"
	RecordTakenDown       = "record_taken_down"
	RecoveryCodesMade     = "recovery_codes_made"
	RecoveryCodeUsed      = "recovery_code_used"
	Repaired              = "repaired"
	RepositoryImported    = "repository_imported"
	RotationKeysChanged   = "rotation_keys_changed"
	SessionsEnded         = "sessions_ended" // by the owner, on the pages
	SignedIn              = "signed_in"
	SignInCodeOff         = "sign_in_code_off"
	SignInCodeOn          = "sign_in_code_on"
	SignInFailed          = "sign_in_failed"
	SigningKeyChanged     = "signing_key_changed"
	StatusAnnounced       = "status_announced"
	TakedownLifted        = "takedown_lifted"
	TakenDown             = "taken_down"
)

// Who is the one who acts.
type Who struct {
	Actor   string // a DID, or one of the actors that are none
	Address string // of the network, or ""
	App     string // the client_id of the app that acts for the actor, "" for none
}

type contextKey struct{}

// With says that w is who acts in ctx.
func With(ctx context.Context, w Who) context.Context { return &acting{ctx, w} }

// ByApp says that who acts in ctx does so by an app.
func ByApp(ctx context.Context, clientID string) context.Context {
	w := From(ctx)
	w.App = clientID
	return With(ctx, w)
}

// acting is a context with who acts in it. The two are one piece of memory, unlike those of
// context.WithValue.
type acting struct {
	context.Context
	who Who
}

func (a *acting) Value(key any) any {
	if key == (contextKey{}) {
		return &a.who
	}
	return a.Context.Value(key)
}

// From returns who acts in ctx: the server itself where nobody said.
func From(ctx context.Context) Who {
	var w Who
	if a, ok := ctx.Value(contextKey{}).(*Who); ok {
		w = *a
	}
	w.Actor = cmp.Or(w.Actor, Server)
	return w
}

// maxDetail is more bytes than the longest name has that a detail holds.
const maxDetail = 2100

// Record adds an entry about did, which is "" when it concerns no account, to what
// tx does. detail is for people; it must hold no secret. It is cut where somebody
// made it long: entries stay for a year.
func Record(ctx context.Context, tx *db.Tx, at time.Time, did syntax.DID, event, detail string) error {
	return tx.RecordAudit(ctx, entry(ctx, at, did, event, detail))
}

// RecordOfAccount is Record for what happens to an account that may be gone, or was only
// named: if there is none nothing is recorded, with as much work.
func RecordOfAccount(ctx context.Context, tx *db.Tx, at time.Time, did syntax.DID, event, detail string) error {
	return tx.RecordAuditOfAccount(ctx, entry(ctx, at, did, event, detail))
}

// RecordAnother records something that strangers do often and that concerns no account:
// what came from one address within a span of time is one entry, whose detail says how often.
func RecordAnother(ctx context.Context, tx *db.Tx, at time.Time, event string, span time.Duration) error {
	return tx.RecordAnotherAudit(ctx, entry(ctx, at, "", event, ""), at.Add(-span))
}

func entry(ctx context.Context, at time.Time, did syntax.DID, event, detail string) db.AuditEntry {
	w := From(ctx)
	detail = cut(detail)
	if w.App != "" {
		if detail != "" {
			detail += "; "
		}
		detail += "app " + cut(w.App)
	}
	return db.AuditEntry{DID: did, At: at, Actor: w.Actor, Address: w.Address, Event: event, Detail: detail}
}

func cut(text string) string {
	if len(text) <= maxDetail {
		return text
	}
	return strings.ToValidUTF8(text[:maxDetail], "") + "…"
}
