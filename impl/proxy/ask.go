package proxy

import (
	"context"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/proxy/upstream"
)

// An Answer is one that may be read here before the client gets it, or something else.
type Answer struct {
	// Response is the answer as it came. It is to be returned or closed.
	*xrpc.Response
	// Rev is the account's revision that the service has seen; "" where it does not say.
	Rev string
	// JSON says that the body is JSON, or does not say what it is.
	JSON bool
}

var jsonType = regexp.MustCompile(`(?i)^application/(\w+\+)?json$`)

// Ask passes the query c on as PassOn does, for an answer that may have to be read here, so
// that it comes in an encoding which both the client and this server can read (contract §4).
func (p *Proxy) Ask(ctx context.Context, c *xrpc.Call, to Service, did syntax.DID) (*Answer, error) {
	encodings, err := p.encodings(c.Request.Header["Accept-Encoding"])
	if err != nil {
		return nil, err
	}
	r, err := p.send(ctx, c, to, did, Token{to.DID, c.NSID}, encodings)
	if err != nil {
		return nil, err
	}
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	return &Answer{Response: r, Rev: r.Header.Get("Atproto-Repo-Rev"), JSON: kind == "" || jsonType.MatchString(kind)}, nil
}

// Read is the body of a, unpacked; it closes a. Its errors are answers.
func (p *Proxy) Read(a *Answer) ([]byte, error) {
	data, err := p.Client.Read(&upstream.Answer{Status: a.Status, Header: a.Header, Body: a.Body, Size: a.Size})
	if err != nil {
		return nil, upstreamError(err, "UpstreamFailure", "unable to decode request body")
	}
	return data, nil
}

// An encoding is one that a body may come in, and how welcome it is.
type encoding struct{ name, weight string }

// What this server reads, in the order in which it is asked for: what is not compressed
// costs least where it has to be read here.
var (
	plain  = []encoding{{"identity", "1"}, {"gzip", "0.3"}, {"deflate", "0.2"}, {"br", "0.1"}}
	packed = []encoding{{"gzip", "1"}, {"deflate", "0.9"}, {"br", "0.8"}, {"identity", "0.1"}}
)

// encodings is the accept-encoding for a service whose answer both this server and a client
// that sent accept can read.
func (p *Proxy) encodings(accept []string) (string, error) {
	weights := make(map[string]float64)
	if list := strings.Join(accept, ","); list != "" {
		for one := range strings.SplitSeq(list, ",") {
			one = strings.TrimSpace(one)
			name, weight, ok := acceptable(one)
			if !ok {
				return "", xrpc.InvalidRequest(`Invalid accept-encoding: "` + one + `"`)
			}
			weights[name] = weight
		}
	}
	offered := plain
	if p.PreferCompressed {
		offered = packed
	}
	var common []string
	refused := false
	for _, e := range offered {
		weight, said := weights[e.name]
		if !said {
			weight, said = weights["*"]
		}
		switch {
		case said && weight > 0, !said && e.name == "identity": // which is accepted unless it is refused
			common = append(common, e.name+";q="+e.weight)
		case e.name == "identity":
			refused = true
		}
	}
	if len(common) == 0 {
		return "", &xrpc.Error{Status: http.StatusNotAcceptable, Message: "this service does not support any of the requested encodings"}
	}
	if refused {
		common = append(common, "*;q=0")
	}
	return strings.Join(common, ","), nil
}

// acceptable reads one encoding of a client's list, as "gzip" or "br;q=0.5".
func acceptable(text string) (name string, weight float64, ok bool) {
	name, parameter, weighted := strings.Cut(strings.ToLower(text), ";")
	if name == "" || strings.ContainsAny(name, "= \t") {
		return "", 0, false
	}
	if !weighted {
		return name, 1, true
	}
	key, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
	weight, err := strconv.ParseFloat(value, 64)
	if key != "q" || err != nil || !(weight >= 0 && weight <= 1) {
		return "", 0, false
	}
	return name, weight, true
}
