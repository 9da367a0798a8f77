package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

const maxWellKnown = 4 << 10 // bytes; a DID has 2048 at most

// LookupTXT returns the texts of the TXT records of a name, which ends in a dot; [net.Resolver.LookupTXT] is one.
type LookupTXT func(ctx context.Context, name string) ([]string, error)

// Handles asks the network which DID a handle names. It keeps no answers. It may be used concurrently.
type Handles struct {
	Client  *http.Client  // for hosts that strangers chose; see [NewClient]
	TXT     LookupTXT     // nil: the system's resolver
	Backup  LookupTXT     // asked when neither DNS nor the host knows; nil: nobody is
	Timeout time.Duration // for each of the two rounds; default [Timeout]
}

// ResolveHandle returns the DID that h names: by its TXT record, else by what its host serves, else by the backup name servers.
// Whether the DID names the handle too is not looked at. The only errors are ErrNotFound, wrapped with what
// went wrong on the way, and that of ctx.
func (r *Handles) ResolveHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	text, err := r.resolve(ctx, h.Normalize())
	if err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("resolve %s: %w", h, ctx.Err())
		}
		return "", fmt.Errorf("resolve %s: %w: %w", h, ErrNotFound, err)
	}
	did, err := syntax.ParseDID(text)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w: %w", h, ErrNotFound, err)
	}
	return did, nil
}

func (r *Handles) resolve(ctx context.Context, h syntax.Handle) (string, error) {
	if !h.AllowedTLD() {
		return "", errors.New("top-level domain does not resolve")
	}
	timeout := cmp.Or(r.Timeout, Timeout)
	lookup := r.TXT
	if lookup == nil {
		lookup = net.DefaultResolver.LookupTXT
	}

	first, cancel := context.WithTimeout(ctx, timeout)
	defer cancel() // ends the question to the host when DNS knew
	type answer struct {
		text string
		err  error
	}
	web := make(chan answer, 1)
	go func() {
		text, err := r.wellKnown(first, h)
		web <- answer{text, err}
	}()
	text, errDNS := txt(first, lookup, h)
	if errDNS == nil {
		return text, nil
	}
	a := <-web
	if a.err == nil || r.Backup == nil || ctx.Err() != nil {
		return a.text, wrap(a.err, errDNS)
	}
	second, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	text, err := txt(second, r.Backup, h)
	return text, wrap(err, errDNS, a.err)
}

// wrap joins err with the errors before it, if it is one.
func wrap(err error, before ...error) error {
	if err == nil {
		return nil
	}
	return errors.Join(append(before, err)...)
}

// txt returns the one value that the TXT records of a handle give.
func txt(ctx context.Context, lookup LookupTXT, h syntax.Handle) (string, error) {
	// The last dot keeps the resolver from trying the machine's own domains.
	records, err := lookup(ctx, "_atproto."+h.String()+".")
	if err != nil {
		return "", err
	}
	var values []string
	for _, record := range records {
		if v, ok := strings.CutPrefix(record, "did="); ok {
			values = append(values, v)
		}
	}
	if len(values) != 1 {
		return "", fmt.Errorf("%d TXT records with a DID", len(values))
	}
	return values[0], nil
}

// wellKnown returns the DID that a handle's host serves, whatever the status and type of its answer.
func (r *Handles) wellKnown(ctx context.Context, h syntax.Handle) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.String()+"/.well-known/atproto-did", nil)
	if err != nil {
		return "", err
	}
	res, err := r.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxWellKnown))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(body), "\n")
	if line = strings.TrimSpace(line); !strings.HasPrefix(line, "did:") {
		return "", errors.New("host serves no DID")
	}
	return line, nil
}

// NameServers returns a LookupTXT that asks the given DNS servers, host names or addresses, with a port unless it is 53. Their
// own names are looked up once, at the first question. With no servers it returns nil.
func NameServers(servers []string) LookupTXT {
	if len(servers) == 0 {
		return nil
	}
	n := &nameServers{names: servers}
	resolver := &net.Resolver{PreferGo: true, Dial: n.dial}
	return resolver.LookupTXT
}

type nameServers struct {
	names []string

	mu        sync.Mutex
	addresses []string // found; empty until then
	next      int
}

// dial connects to one of the servers, in place of the system's; the resolver dials again for each try.
func (n *nameServers) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	address, err := n.pick(ctx)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (n *nameServers) pick(ctx context.Context) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.addresses) == 0 {
		var failed error
		for _, name := range n.names {
			host, port, err := net.SplitHostPort(name)
			if err != nil {
				host, port = name, "53"
			}
			found, err := net.DefaultResolver.LookupHost(ctx, host)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			for _, a := range found {
				n.addresses = append(n.addresses, net.JoinHostPort(a, port))
			}
		}
		if len(n.addresses) == 0 {
			return "", fmt.Errorf("find backup name servers: %w", failed)
		}
	}
	n.next++
	return n.addresses[n.next%len(n.addresses)], nil
}
