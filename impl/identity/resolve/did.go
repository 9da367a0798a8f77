package resolve

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/identity/plc"
)

// ErrUnsupported says that the DID is of a method, or has a form, that atproto does not use.
var ErrUnsupported = errors.New("unsupported DID")

const (
	// Timeout is how long one question to the network may take when nothing else is said.
	Timeout = 3 * time.Second

	maxDocument = 256 << 10 // bytes
	accept      = "application/did+ld+json,application/json"
)

// DIDs fetches DID documents from where they are published: did:plc from a directory, did:web from its host. It keeps
// nothing; see [Cache]. It may be used concurrently.
type DIDs struct {
	Directory string        // URL of the PLC directory, without a slash at its end
	PLC       *http.Client  // for the directory, which the operator chose and which may be on this machine; nil: that of [plc.HTTP]
	Web       *http.Client  // for hosts that strangers chose; see [NewClient]
	Timeout   time.Duration // for one document; default [Timeout]
}

// Fetch returns the document of did as it is published now. It returns ErrNotFound if there is none for sure, which is an
// ErrDeactivated if there was one, ErrUnsupported, ErrDocument, or another error if nobody could tell.
func (d *DIDs) Fetch(ctx context.Context, did syntax.DID) (*Document, error) {
	doc, err := d.fetch(ctx, did)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", did, err)
	}
	return doc, nil
}

func (d *DIDs) fetch(ctx context.Context, did syntax.DID) (*Document, error) {
	client, target := d.Web, ""
	switch did.Method() {
	case "plc":
		client = cmp.Or(d.PLC, plc.HTTP())
		target = d.Directory + "/" + url.QueryEscape(did.String())
	case "web":
		var err error
		if target, err = webURL(did); err != nil {
			return nil, err
		}
	default:
		return nil, ErrUnsupported
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.Timeout, Timeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	// An identity lives where its DID says, not where somebody forwards to.
	straight := *client
	straight.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := straight.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
	case res.StatusCode >= 300 && res.StatusCode < 400:
		return nil, fmt.Errorf("redirected to %q", res.Header.Get("Location"))
	case did.Method() == "plc" && ended(res):
		return nil, ErrDeactivated
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone, did.Method() == "web":
		return nil, ErrNotFound
	default:
		return nil, fmt.Errorf("directory answered %s", res.Status)
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrDocument, maxDocument)
	}
	return ParseDocument(did, data)
}

// ended reports whether the directory says that there is a tombstone. Its description has a status for that, and its practice
// a message.
func ended(res *http.Response) bool {
	if res.StatusCode != http.StatusNotFound {
		return res.StatusCode == http.StatusGone
	}
	var said struct {
		Message string `json:"message"`
	}
	err := json.NewDecoder(io.LimitReader(res.Body, maxDocument)).Decode(&said)
	return err == nil && strings.HasPrefix(said.Message, "DID not available")
}

var hostPattern = regexp.MustCompile(`^([a-zA-Z0-9._-]+)(:[0-9]{1,5})?$`)

// webURL is where the document of a did:web is.
func webURL(did syntax.DID) (string, error) {
	id := did.Identifier()
	if strings.Contains(id, ":") {
		return "", fmt.Errorf("%w: did:web with a path", ErrUnsupported)
	}
	host, err := url.PathUnescape(id)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	m := hostPattern.FindStringSubmatch(host)
	if m == nil {
		return "", fmt.Errorf("%w: no host and port", ErrUnsupported)
	}
	scheme := "https"
	if m[1] == "localhost" {
		scheme = "http"
	}
	return scheme + "://" + host + "/.well-known/did.json", nil
}
