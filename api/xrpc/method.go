package xrpc

import "io"

// Kind says how a method is called.
type Kind uint8

// The kinds of lexicon methods.
const (
	Query        Kind = iota // GET
	Procedure                // POST
	Subscription             // GET, and the connection becomes a websocket
)

// String returns the lexicon's word for k.
func (k Kind) String() string {
	switch k {
	case Query:
		return "query"
	case Procedure:
		return "procedure"
	case Subscription:
		return "subscription"
	}
	return "unknown"
}

// verb is the HTTP method of k.
func (k Kind) verb() string {
	if k == Procedure {
		return "POST"
	}
	return "GET"
}

// Method is one lexicon method. Generated packages declare one variable for
// each; nobody changes it afterwards.
type Method struct {
	NSID   string
	Kind   Kind
	Params *Schema // an Object; nil when the method takes no parameters
	Input  *Media  // nil when the method takes no body
	Output *Media  // nil when the method answers no body
	// Message is the table of a subscription's messages, an union; nil when nothing is
	// known about them.
	Message *Schema
	Errors  []string // the names the lexicon declares
}

// Media is the body of a request or of an answer.
type Media struct {
	// Encoding is the lexicon's media type: one, a comma-separated list, or "*/*".
	Encoding string
	// Schema is set exactly when the body is JSON with a schema. Its Go type is then
	// a struct; otherwise it is [Body].
	Schema *Schema
}

// None stands for "nothing": the In of a method without parameters and body,
// the Out of one without an answer.
type None struct{}

// Args is the In of a method that takes both parameters and a body.
type Args[P, I any] struct {
	Params P
	Input  I
}

func (a *Args[P, I]) parts() (params, input any) { return &a.Params, &a.Input }

type paired interface{ parts() (params, input any) }

// Body is a streamed body, in either direction. As input it is decoded for its
// Content-Encoding and limited to the policy's MaxBody, and is valid until the
// handler returns. As output it is closed by the server.
type Body struct {
	io.ReadCloser
	ContentType string
	Size        int64 // in bytes; -1 when unknown
	// Compressible says that as output it is worth compressing: it is sent as gzip to
	// clients who accept that.
	Compressible bool
}
