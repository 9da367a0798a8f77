package permissionset

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/resolve"
	"portico/impl/oauth/scope"
	"portico/impl/repo"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
	"portico/impl/repo/tree"
)

// Collection holds the lexicons of a repository, each under its NSID.
const Collection = "com.atproto.lexicon.schema"

const (
	// maxProof is how many bytes a record may have with what proves it.
	maxProof = 1 << 20
	// maxBlocks is how many blocks that may be. The search path of a record has one for each
	// layer of the tree, and there are four times as many records for each.
	maxBlocks = 200
	maxError  = 4 << 10
)

// errNone says for sure that a set is not published.
var errNone = errors.New("not published")

// A failure has words for the app's developer.
type failure struct {
	words string
	err   error
}

func (f *failure) Error() string {
	if f.err == nil {
		return f.words
	}
	return f.words + ": " + f.err.Error()
}
func (f *failure) Unwrap() error { return f.err }

// reason are the words of a failure. What else an error says, such as addresses, is not told.
func reason(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.words
	}
	return "the permission set could not be found"
}

// fetch returns the document of a set as its authority publishes it now, errNone or another
// error if nobody could tell.
func (s *Sets) fetch(ctx context.Context, nsid syntax.NSID) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(s.Timeout, Timeout))
	defer cancel()
	did, err := s.authority(ctx, nsid)
	if err != nil {
		return "", err
	}
	value, here, err := s.Own(ctx, did, nsid)
	switch {
	case err != nil:
		return "", err
	case here && value == nil:
		return "", &failure{"the repository of its authority has no such lexicon", errNone}
	case !here:
		if value, err = s.fetchFrom(ctx, did, nsid); err != nil {
			return "", err
		}
	}
	return document(value, nsid)
}

// document is the JSON of a lexicon.
func document(value []byte, nsid syntax.NSID) (string, error) {
	text, err := record.AppendJSON(nil, value)
	if err != nil {
		return "", &failure{"the lexicon's record is malformed", err}
	}
	var is struct {
		Type string `json:"$type"`
		ID   string `json:"id"`
	}
	if json.Unmarshal(text, &is) != nil || is.Type != Collection || is.ID != nsid.String() {
		return "", &failure{"the record is another lexicon, or none", errNone}
	}
	if len(text) > scope.MaxDocument {
		return "", &failure{"the lexicon is too long", errNone}
	}
	return string(text), nil
}

// authority is whose repository has the sets with such names.
func (s *Sets) authority(ctx context.Context, nsid syntax.NSID) (syntax.DID, error) {
	if s.Authority != "" {
		return s.Authority, nil
	}
	domain := nsid.Authority()
	name, err := syntax.ParseHandle(domain)
	if err != nil || !name.AllowedTLD() {
		return "", &failure{domain + " is no domain of the network", errNone}
	}
	lookup := s.TXT
	if lookup == nil {
		lookup = net.DefaultResolver.LookupTXT
	}
	// The last dot keeps the resolver from trying the machine's own domains.
	records, err := lookup(ctx, "_lexicon."+domain+".")
	if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
		return "", &failure{"there is no TXT record _lexicon." + domain, errNone}
	}
	if err != nil {
		return "", &failure{"DNS does not answer for _lexicon." + domain, err}
	}
	var values []string
	for _, r := range records {
		if v, ok := strings.CutPrefix(r, "did="); ok {
			values = append(values, v)
		}
	}
	if len(values) != 1 {
		return "", &failure{fmt.Sprintf("_lexicon.%s has %d TXT records with a DID", domain, len(values)), errNone}
	}
	did, err := syntax.ParseDID(values[0])
	if err != nil {
		return "", &failure{"the TXT record _lexicon." + domain + " has no DID", errNone}
	}
	return did, nil
}

// fetchFrom returns the record of another server's repository.
func (s *Sets) fetchFrom(ctx context.Context, did syntax.DID, nsid syntax.NSID) ([]byte, error) {
	owner, err := s.Document(ctx, did, false)
	if errors.Is(err, resolve.ErrNotFound) {
		return nil, &failure{did.String() + " does not exist", errNone}
	}
	if err != nil {
		return nil, &failure{did.String() + " could not be resolved", err}
	}
	value, err := s.fetchOf(ctx, owner, nsid)
	if err == nil {
		return value, nil
	}
	// The account may have moved, or its key been changed, since its document was read.
	if now, failed := s.Document(ctx, did, true); failed == nil && !bytes.Equal(now.JSON, owner.JSON) {
		return s.fetchOf(ctx, now, nsid)
	}
	return nil, err
}

func (s *Sets) fetchOf(ctx context.Context, owner *resolve.Document, nsid syntax.NSID) ([]byte, error) {
	key, err := owner.Key("atproto")
	if err != nil || owner.PDS() == "" {
		return nil, &failure{owner.DID.String() + " names no server or no key", err}
	}
	proof, err := s.get(ctx, owner.PDS(), owner.DID, nsid)
	if err != nil {
		return nil, err
	}
	value, err := prove(proof, owner.DID, nsid, func(c *repo.Commit) error { return c.Verify(key) })
	if errors.Is(err, errNone) {
		return nil, &failure{"the repository of its authority has no such lexicon", err}
	}
	if err != nil {
		return nil, &failure{"the server of " + owner.DID.String() + " does not prove that it has the lexicon", err}
	}
	return value, nil
}

func (s *Sets) get(ctx context.Context, pds string, did syntax.DID, nsid syntax.NSID) ([]byte, error) {
	query := url.Values{"did": {did.String()}, "collection": {Collection}, "rkey": {nsid.String()}}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(pds, "/")+"/xrpc/com.atproto.sync.getRecord?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/vnd.ipld.car")
	// A repository is where its DID says, not where somebody forwards to.
	straight := *s.Fetch
	straight.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := straight.Do(r)
	if err != nil {
		return nil, &failure{"the server of " + did.String() + " does not answer", err}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var e struct {
			Error string `json:"error"`
		}
		body, _ := io.ReadAll(io.LimitReader(answer.Body, maxError))
		_ = json.Unmarshal(body, &e) // it may be anything
		f := &failure{fmt.Sprintf("the server of %s answers %d", did, answer.StatusCode), nil}
		if answer.StatusCode >= 400 && answer.StatusCode < 500 && e.Error == "RecordNotFound" {
			f.err = errNone
		}
		return nil, f
	}
	proof, err := io.ReadAll(io.LimitReader(answer.Body, maxProof+1))
	switch {
	case err != nil:
		return nil, &failure{"the server of " + did.String() + " does not answer", err}
	case len(proof) > maxProof:
		return nil, &failure{fmt.Sprintf("the server of %s answers with more than %d bytes", did, maxProof), nil}
	}
	return proof, nil
}

var errProof = errors.New("malformed proof")

// prove returns the record of a lexicon from a proof: an archive with a commit of did's
// repository, whose signature verify looks at, and the blocks on the way from it to the record.
// It returns errNone where it is proved that there is none.
func prove(proof []byte, did syntax.DID, nsid syntax.NSID, verify func(*repo.Commit) error) ([]byte, error) {
	archive, err := car.NewReader(bytes.NewReader(proof))
	if err != nil {
		return nil, err
	}
	if len(archive.Roots()) != 1 {
		return nil, fmt.Errorf("%w: %d roots", errProof, len(archive.Roots()))
	}
	blocks := map[dagcbor.CID][]byte{}
	for {
		b, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if blocks[b.CID] = append([]byte{}, b.Data...); len(blocks) > maxBlocks {
			return nil, fmt.Errorf("%w: more than %d blocks", errProof, maxBlocks)
		}
	}
	get := func(c dagcbor.CID) ([]byte, error) {
		data, ok := blocks[c]
		if !ok {
			return nil, fmt.Errorf("%w: %s is missing", errProof, c)
		}
		return data, nil
	}
	root, err := get(archive.Roots()[0])
	if err != nil {
		return nil, err
	}
	commit, err := repo.ParseCommit(root)
	if err != nil {
		return nil, err
	}
	if commit.DID != did {
		return nil, fmt.Errorf("%w: commit of %s", errProof, commit.DID)
	}
	if err := verify(commit); err != nil {
		return nil, err
	}
	name, err := tree.Lookup(commit.Data, get, Collection+"/"+nsid.String())
	if err != nil {
		return nil, err
	}
	if name == (dagcbor.CID{}) {
		return nil, errNone
	}
	return get(name)
}
