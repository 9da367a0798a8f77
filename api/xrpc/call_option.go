package xrpc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/net/http/httpguts"
)

// A CallOption changes calls of a copy of a client, see [Client.With]. One that is wrong
// makes the calls fail, before anything is sent.
type CallOption func(*callOptions)

type callOptions struct {
	header   http.Header  // beside that of the client
	answered *http.Header // where the header of the answer goes
	err      error
}

var errOption = errors.New("invalid option")

// With returns a copy of c for calls with options, which come after those that c has. It
// costs next to nothing, so that one may be made for a single call. Options hold for the calls
// themselves alone: a session is refreshed without them, and a host that the call is
// redirected to does not see them.
//
// Generated clients have a With of their own:
//
//	log, err := conversations.With(xrpc.ProxyTo("did:web:api.bsky.chat", "bsky_chat")).GetLog(ctx, params)
func (c *Client) With(options ...CallOption) Client {
	copied := *c
	copied.options.header = copied.options.header.Clone()
	for _, o := range options {
		o(&copied.options)
	}
	return copied
}

// SetHeader adds a header to the request, in the place of one of that name that the client
// has. What net/http or the client decide cannot be set: Authorization, Host, and what
// describes the body or the connection.
func SetHeader(name, value string) CallOption {
	return func(o *callOptions) {
		name := http.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			o.fail("%q is no name of a header", name)
		case !httpguts.ValidHeaderFieldValue(value):
			o.fail("the value of %s cannot be that of a header", name) // which may be a secret
		case ownHeaders[name]:
			o.fail("%s is not for options", name)
		default:
			o.set(name, value)
		}
	}
}

// ownHeaders are those that options cannot set.
var ownHeaders = map[string]bool{
	"Authorization": true, "Host": true, "Content-Length": true, "Content-Type": true, "Content-Encoding": true,
	"Transfer-Encoding": true, "Connection": true, "Upgrade": true, "Trailer": true, "Te": true,
}

// ProxyTo has the host, a PDS, pass the call on to the service that the DID document of did
// lists as "#service", with the caller's word that it is theirs: atproto-proxy.
func ProxyTo(did syntax.DID, service string) CallOption {
	return func(o *callOptions) {
		if _, err := syntax.ParseDID(did.String()); err != nil {
			o.fail("proxy to %q: %v", did, err)
			return
		}
		if service == "" || strings.ContainsFunc(service, notOfFragment) {
			o.fail("proxy to %s: %q is no ID of a service", did, service)
			return
		}
		o.set("Atproto-Proxy", did.String()+"#"+service)
	}
}

// notOfFragment says what an ID of a service does not have.
func notOfFragment(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune("-._~", r)
}

// A Labeler is a service whose labels are asked for.
type Labeler struct {
	DID syntax.DID
	// Redact says that what the labeler hides is not to be answered at all.
	Redact bool
}

// AcceptLabelers asks for the labels of these services: atproto-accept-labelers. Which of
// them an app view took is in the header of its answer, Atproto-Content-Labelers.
func AcceptLabelers(labelers ...Labeler) CallOption {
	return func(o *callOptions) {
		all := make([]string, len(labelers))
		for i, l := range labelers {
			if _, err := syntax.ParseDID(l.DID.String()); err != nil {
				o.fail("labeler %q: %v", l.DID, err)
				return
			}
			if all[i] = l.DID.String(); l.Redact {
				all[i] += ";redact"
			}
		}
		o.set("Atproto-Accept-Labelers", strings.Join(all, ", "))
	}
}

// AnswerHeader has the header of the answer put into h, that of an error, too; of several
// answers, because the call was sent again, that of the last. Without an answer h is left
// alone. One call at a time may fill h.
func AnswerHeader(h *http.Header) CallOption {
	return func(o *callOptions) { o.answered = h }
}

func (o *callOptions) fail(format string, args ...any) {
	if o.err == nil {
		o.err = fmt.Errorf("%w: %s", errOption, fmt.Sprintf(format, args...))
	}
}

func (o *callOptions) set(name, value string) {
	if o.header == nil {
		o.header = http.Header{}
	}
	o.header.Set(name, value)
}

// note keeps the header of an answer for whoever wants it.
func (o *callOptions) note(answer *http.Response) {
	if o.answered != nil && answer != nil {
		*o.answered = answer.Header
	}
}
