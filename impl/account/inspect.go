package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/host"
	"portico/impl/identity/resolve"
	"portico/impl/keyring"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/store"
)

// What [Identities.Inspect] finds. The names are for machines, and so never change.
const (
	// Here.
	CreationUnfinished    = "creation_unfinished"
	HandleChangeUnsettled = "handle_change_unsettled"
	EmailMissing          = "email_missing"
	HandleMissing         = "handle_missing"
	HandleUnresolved      = "handle_unresolved"
	SigningKeyMissing     = "signing_key_missing"
	SigningKeyUnreadable  = "signing_key_unreadable"
	SigningKeyMismatch    = "signing_key_mismatch" // its halves are not those of one key
	RepoMissing           = "repo_missing"
	RepoDamaged           = "repo_damaged"
	RepoSignature         = "repo_signature"
	RepoRecords           = "repo_records" // that the tree has are not there
	RepoIndex             = "repo_index"   // what is kept beside tree and records is wrong

	// In the PLC directory, or where else the DID is published.
	DIDUnreachable = "did_unreachable"
	DIDNotFound    = "did_not_found"
	DIDTombstoned  = "did_tombstoned"
	DIDDocument    = "did_document" // what is published is no DID document
	DIDEndpoint    = "did_endpoint"
	DIDRotationKey = "did_rotation_key"
	DIDSigningKey  = "did_signing_key"
	DIDHandle      = "did_handle"
)

// A Finding is something that an account lacks or has wrong.
type Finding struct {
	Name    string
	Message string // what is wrong and what to do about it, for people
	// mend is nil where [Identities.Repair] can do nothing. It records what it did.
	mend func(context.Context) error
}

// Repairable says whether [Identities.Repair] mends it.
func (f Finding) Repairable() bool { return f.mend != nil }

// Inspect says what an account, be it one under creation, lacks or has wrong, here
// and in its DID. It changes nothing. A directory or a host that does not answer is
// a finding; that an account is deactivated or taken down is none.
//
// It returns db.ErrNotFound.
func (i *Identities) Inspect(ctx context.Context, did syntax.DID) ([]Finding, error) {
	n := &inspection{Identities: i, did: did}
	if err := n.run(ctx); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", did, err)
	}
	return n.findings, nil
}

// A VerifiedRepo is what was found of a repository.
type VerifiedRepo struct {
	Commit         dagcbor.CID // the zero one if there is none
	Rev            syntax.TID  // empty if there is none
	Nodes, Records int         // of its tree, as far as that is there
	Findings       []Finding   // those of Inspect that are about it and its signing key
}

// VerifyRepo goes through the whole repository of an account that is not under creation.
// It asks nobody else.
//
// It returns db.ErrNotFound.
func (i *Identities) VerifyRepo(ctx context.Context, did syntax.DID) (*VerifiedRepo, error) {
	n := &inspection{Identities: i, did: did}
	_, err := i.Accounts.DB.ReadAccount(ctx, did)
	if err == nil {
		err = n.signingKey(ctx)
	}
	if err == nil {
		err = n.repo(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("verify repository of %s: %w", did, err)
	}
	v := &VerifiedRepo{Nodes: n.look.Nodes, Records: n.look.Records, Findings: n.findings}
	if row := n.look.row; row != nil {
		v.Commit, v.Rev = store.CID(row.CommitCID), syntax.TID(row.Rev)
	}
	return v, nil
}

// An inspection is what Inspect has seen so far.
type inspection struct {
	*Identities
	did      syntax.DID
	account  *db.Standing
	key      *db.SigningKey           // nil: the row is missing
	private  *atcrypto.PrivateKeyK256 // nil: it is missing or of no use
	changing bool                     // the directory may not know the handle yet
	look     *repoLook                // at the repository
	findings []Finding
}

func (n *inspection) add(name string, mend func(context.Context) error, format string, args ...any) {
	n.findings = append(n.findings, Finding{Name: name, Message: fmt.Sprintf(format, args...), mend: mend})
}

func (n *inspection) run(ctx context.Context) (err error) {
	if n.account, err = n.Accounts.DB.StandingByDID(ctx, n.did); err != nil {
		return err
	}
	if n.account.Creating {
		return n.creation(ctx)
	}
	for _, look := range []func(context.Context) error{n.email, n.handleChange, n.handle, n.signingKey, n.repo} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	if n.account.Held() {
		return nil // nobody else has heard of the DID
	}
	if n.did.Method() == "plc" {
		err = n.plc(ctx)
	} else {
		err = n.document(ctx)
	}
	if err == nil {
		err = ctx.Err() // who hung up is told nothing about the network
	}
	return err
}

func (n *inspection) creation(ctx context.Context) error {
	until, err := n.Accounts.DB.CreationLease(ctx, n.did)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return err
	}
	switch {
	case err != nil:
		n.add(CreationUnfinished, nil, "The creation of the account is ending at this moment. Look again.")
		return nil
	case n.Accounts.Now().Before(until):
		n.add(CreationUnfinished, nil, "The account is being created at this moment. Look again after %s.", moment(until))
		return nil
	}
	n.add(CreationUnfinished, n.mendCreation, "The creation of the account stopped half-way. Repairing completes it if the "+
		"directory has the DID, and gives it up otherwise, which frees the handle and the address.")
	return nil
}

func (n *inspection) email(context.Context) error {
	if n.account.Email == "" {
		n.add(EmailMissing, nil, "The account has no email address, so its owner cannot reset the password. Give it one.")
	}
	return nil
}

func (n *inspection) handleChange(ctx context.Context) error {
	change, err := n.Accounts.DB.HandleChange(ctx, n.did)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	n.changing = true
	if n.Accounts.Now().Before(change.LeaseUntil) {
		n.add(HandleChangeUnsettled, nil, "The handle is being changed to %s at this moment. Look again after %s.",
			n.account.Handle, moment(change.LeaseUntil))
		return nil
	}
	n.add(HandleChangeUnsettled, n.mendChange, "The handle was changed to %s, but nobody knows whether the directory took it. "+
		"Repairing finds out, and makes both say the same.", n.account.Handle)
	return nil
}

func (n *inspection) handle(ctx context.Context) error {
	h := n.account.Handle
	if h == "" {
		n.add(HandleMissing, nil, "The account has no handle. Give it one.")
		return nil
	}
	if domains := n.Domains.Current(ctx); domains.Ours(h.String()) || domains.Root(h.String()) {
		return nil // whose it is, is what is stored here
	}
	found, err := n.Foreign.ResolveHandle(ctx, h)
	switch {
	case err != nil:
		n.add(HandleUnresolved, nil, "The handle %s is under no domain of this server, and does not resolve. Its owner has to set "+
			"the TXT record _atproto.%s to \"did=%s\", or take another handle.", h, h, n.did)
	case found != n.did:
		n.add(HandleUnresolved, nil, "The handle %s is under no domain of this server, and resolves to %s. Its owner has to make "+
			"it resolve to %s, or take another handle.", h, found, n.did)
	}
	return nil
}

func (n *inspection) signingKey(ctx context.Context) (err error) {
	n.key, err = n.Accounts.DB.ReadSigningKey(ctx, n.did, KeyPurpose)
	if errors.Is(err, db.ErrNotFound) {
		n.key = nil
		n.add(SigningKeyMissing, nil, "The signing key of the account is gone. Restore its row of the table signing_key from a backup.")
		return nil
	}
	if err != nil {
		return err
	}
	private, err := n.Accounts.Keys.SigningKey(KeyPurpose, n.did.String(), n.key.Sealed)
	switch {
	case errors.Is(err, keyring.ErrUnknownKey):
		n.add(SigningKeyUnreadable, nil, "The signing key of the account is encrypted with a key that is not configured. "+
			"Add that key to PORTICO_KEY_ENCRYPTION_KEY_OLD.")
		return nil
	case err != nil:
		n.add(SigningKeyUnreadable, nil, "The signing key of the account is damaged. Restore its row of the table signing_key from a backup.")
		return nil
	}
	public, err := private.PublicKey()
	if err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	if public.DIDKey() != n.key.Public {
		n.add(SigningKeyMismatch, nil, "The stored signing key is %s, but its private half is that of %s. "+
			"Restore its row of the table signing_key from a backup.", n.key.Public, public.DIDKey())
		return nil
	}
	n.private = private
	return nil
}

// unreachable says that nobody could tell what the DID says.
func (n *inspection) unreachable(where string, err error) {
	n.add(DIDUnreachable, nil, "%s did not say what the DID is, so nothing is known about it: %s. Look again later.", where, reason(err))
}

// reason is an error without what was being done when it came.
func reason(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "it did not answer in time"
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

func (n *inspection) document(ctx context.Context) error {
	doc, err := n.Documents.Resolve(ctx, n.did, true)
	switch {
	case errors.Is(err, resolve.ErrNotFound), errors.Is(err, resolve.ErrUnsupported):
		n.add(DIDNotFound, nil, "There is no document of the DID. Its owner has to publish one again.")
		return nil
	case errors.Is(err, resolve.ErrDocument):
		n.add(DIDDocument, nil, "What is published as the document of the DID is none. Its owner has to mend it.")
		return nil
	case err != nil:
		n.unreachable("The host of the document", err)
		return nil
	}
	wanted := n.wanted(ctx)
	if got := doc.PDS(); got != wanted {
		state, says := n.Accounts.Host(ctx), elsewhere(got)
		if state.Had(got) {
			says = fmt.Sprintf("The DID names this server as %s, which is not its name any more.", got)
		}
		n.add(DIDEndpoint, nil, "%s If it is to be here, its owner has to write into the document: "+
			`"service": [{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": %q}].`, says, wanted)
		if !state.Had(got) {
			return nil
		}
	}
	if n.key != nil {
		if key, err := doc.Key("atproto"); err != nil || key.DIDKey() != n.key.Public {
			n.add(DIDSigningKey, nil, "The DID does not name the signing key of the account. Its owner has to write into the document: "+
				`"verificationMethod": [{"id": "%s#atproto", "type": "Multikey", "controller": "%s", "publicKeyMultibase": %q}].`,
				n.did, n.did, n.key.Public[len("did:key:"):])
		}
	}
	if h := n.account.Handle; h != "" && doc.Handle() != h.String() {
		n.add(DIDHandle, nil, `The DID does not name the handle of the account. Its owner has to write into the document: `+
			`"alsoKnownAs": ["at://%s"].`, h)
	}
	return nil
}

// wanted is the endpoint that a DID is to name.
func (n *inspection) wanted(ctx context.Context) string {
	if n.Accounts.Hosts == nil {
		return n.Accounts.Endpoint
	}
	return host.URL(n.Accounts.Host(ctx).Wanted())
}

// elsewhere says which server a DID names that does not name this one.
func elsewhere(endpoint string) string {
	if endpoint == "" {
		return "The DID names no server for the account."
	}
	return fmt.Sprintf("The DID names %s as the server of the account, which may have moved there.", endpoint)
}

func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
