// Package pull brings lexicons from where they are published: from the repositories
// that the DNS names for their authorities, from a checkout of upstream, or from npm.
package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/identity"
	"github.com/bluesky-social/indigo/atproto/syntax"
)

// collection holds the lexicons of a repository, each under its NSID.
const collection = "com.atproto.lexicon.schema"

// Bounds on what a server may answer.
const (
	maxProof = 4 << 20 // bytes of a record with its proof
	maxPage  = 4 << 20
	maxPages = 100
)

// Network finds and fetches published lexicons.
type Network struct {
	// Directory resolves authorities by its Resolver, and DIDs.
	Directory *identity.BaseDirectory
	// Client asks the servers of repositories; nil: one that gives up after half a minute.
	Client *http.Client
}

// Record is a published lexicon whose place in a signed repository was verified.
type Record struct {
	NSID  syntax.NSID
	DID   syntax.DID // whose repository
	CID   string     // of the record
	Rev   string     // of the repository
	Value map[string]any
}

// URI is the place of the record.
func (r *Record) URI() string {
	return "at://" + r.DID.String() + "/" + collection + "/" + r.NSID.String()
}

// Authority is the authority that a pattern means: the domain of the NSIDs that match
// "com.example.shop.*", or a domain with two parts, which is no NSID. ok is false when
// it means one lexicon or nothing at all.
func Authority(pattern string) (domain string, ok bool) {
	if prefix, all := strings.CutSuffix(pattern, ".*"); all {
		nsid, err := syntax.ParseNSID(prefix + ".x")
		return nsid.Authority(), err == nil
	}
	if strings.Count(pattern, ".") != 1 {
		return "", false
	}
	nsid, err := authority(pattern)
	return nsid.Authority(), err == nil
}

// authority is an NSID of domain.
func authority(domain string) (syntax.NSID, error) {
	segments := strings.Split(domain, ".")
	slices.Reverse(segments)
	return syntax.ParseNSID(strings.Join(segments, ".") + ".x")
}

// Fetch returns the lexicon called nsid, with its proof verified: the DNS names the
// repository, its DID document the key, the key signed the commit, and the commit's
// tree has the record.
func (n *Network) Fetch(ctx context.Context, nsid syntax.NSID) (*Record, error) {
	owner, err := n.owner(ctx, nsid)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", nsid, err)
	}
	r, err := n.fetch(ctx, owner, nsid)
	if err != nil {
		return nil, fmt.Errorf("pull %s from %s of %s: %w", nsid, owner.PDSEndpoint(), owner.DID, err)
	}
	return r, nil
}

// List returns the NSIDs of the authority domain that its repository has, sorted. A
// server could hide some; what it cannot do is to make one up that [Network.Fetch]
// would return.
func (n *Network) List(ctx context.Context, domain string) ([]syntax.NSID, error) {
	nsid, err := authority(domain)
	if err != nil {
		return nil, fmt.Errorf("%q is no authority: %w", domain, err)
	}
	owner, err := n.owner(ctx, nsid)
	if err != nil {
		return nil, fmt.Errorf("list the lexicons of %s: %w", domain, err)
	}
	var all []syntax.NSID
	cursor := ""
	for range maxPages {
		query := url.Values{"repo": {owner.DID.String()}, "collection": {collection}, "limit": {"100"}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		text, err := n.get(ctx, owner, "com.atproto.repo.listRecords", query, maxPage)
		if err != nil {
			return nil, fmt.Errorf("list the lexicons of %s: %w", domain, err)
		}
		var page struct {
			Cursor  string
			Records []struct{ URI syntax.ATURI }
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, fmt.Errorf("list the lexicons of %s: %w", domain, err)
		}
		for _, r := range page.Records {
			// A repository may be that of other authorities as well.
			if id, err := syntax.ParseNSID(r.URI.RecordKey().String()); err == nil && id.Authority() == nsid.Authority() {
				all = append(all, id)
			}
		}
		if page.Cursor == "" || len(page.Records) == 0 {
			slices.Sort(all)
			return slices.Compact(all), nil
		}
		cursor = page.Cursor
	}
	return nil, fmt.Errorf("list the lexicons of %s: more than %d pages", domain, maxPages)
}

// owner is whose repository has the lexicons of nsid's authority.
func (n *Network) owner(ctx context.Context, nsid syntax.NSID) (*identity.Identity, error) {
	did, err := n.Directory.ResolveNSID(ctx, nsid)
	if errors.Is(err, identity.ErrNSIDNotFound) {
		return nil, fmt.Errorf("the DNS has no TXT record _lexicon.%s: its authority publishes no lexicons", nsid.Authority())
	}
	if err != nil {
		return nil, fmt.Errorf("resolve _lexicon.%s: %w", nsid.Authority(), err)
	}
	doc, err := n.Directory.ResolveDID(ctx, did)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", did, err)
	}
	if doc.DID != did {
		return nil, fmt.Errorf("resolve %s: the document is that of %s", did, doc.DID)
	}
	id := identity.ParseIdentity(doc)
	if id.PDSEndpoint() == "" {
		return nil, fmt.Errorf("%s names no server of its repository", did)
	}
	return &id, nil
}

func (n *Network) fetch(ctx context.Context, owner *identity.Identity, nsid syntax.NSID) (*Record, error) {
	key, err := owner.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	text, err := n.get(ctx, owner, "com.atproto.sync.getRecord", url.Values{
		"did": {owner.DID.String()}, "collection": {collection}, "rkey": {nsid.String()},
	}, maxProof)
	if err != nil {
		return nil, err
	}
	return verify(text, owner.DID, key, nsid)
}

// get asks the server of owner's repository.
func (n *Network) get(ctx context.Context, owner *identity.Identity, method string, query url.Values, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(owner.PDSEndpoint(), "/")+"/xrpc/"+method+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	client := n.Client
	if client == nil {
		client = &http.Client{Timeout: 30 * time.Second}
	}
	answer, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > limit {
		return nil, fmt.Errorf("%s answers more than %d bytes", method, limit)
	}
	if answer.StatusCode != http.StatusOK {
		var e struct{ Error, Message string }
		_ = json.Unmarshal(text, &e) // it may be anything
		return nil, fmt.Errorf("%s answers %s %s %s", method, answer.Status, e.Error, e.Message)
	}
	return text, nil
}
