// Package xrpc is the runtime that every generated route stands on.
//
// A generated package declares one [Method] for each lexicon method, a table
// ([Schema]) for each body and parameter list, and calls [Handle] once a
// method. Everything that decides something at run time is here: the order in
// which a request is checked, the texts a client reads when it is refused, who
// is asked whether it may pass, and how an answer is written.
//
// A request goes through params → [Policy].Auth → body → [Policy].Limits → the
// handler. An error of any step is returned to echo and written by the one
// HTTPErrorHandler that [NewServer] installs. A client never sees the cause of a
// 500; the log does.
//
// A subscription goes the same way, up to its handler, which then sends messages to a
// [Stream] over a websocket. A frame is DAG-CBOR of what a body would be JSON of, so
// that the tables hold for messages, too; that costs the way over JSON, which a stream
// for many consumers goes once ([EncodeFrame]).
//
// A [Client] is the other end: a generated client has one in it, and calls it as the service
// would be. A [Session] signs its calls, [Client.With] gives some of them options, [Retry] is its
// patience, and a [Follower] reads a subscription on and on.
//
// All JSON goes through json.go.
//
// Each method has a route of echo, and echo recovers from panics (middleware.Recover). Its
// other middleware can surround all requests, a group of routes or one. What the server does
// itself, and echo on top would only do twice, are these, where the protocol's clients expect
// something else:
//
//   - RequestID takes the ID that a client sends, for the log as well, and answers it.
//   - RequestLogger has a clock of its own, and takes for answered what a client did not read.
//   - CORS answers only requests with an Origin, and adds it to Vary; here every answer is
//     for any origin, and preflights are answered whether they name one or not.
//   - Gzip knows no br or deflate and no weights, and takes Content-Length away. Decompress
//     knows gzip alone.
//   - BodyLimit measures a body as it is sent, before it is known who calls. The limit is one
//     of the decoded body, and is looked at after the caller.
//   - Timeout and ContextTimeout end a method in the midst of what it has begun. Here clients
//     have a time for each part that they send or read, and methods are waited for.
//   - RateLimiter has a bucket for each address; the protocol's limits are windows, several
//     for a method, and told in headers.
//   - echo's readers of X-Forwarded-For cannot count proxies (Callers.TrustedProxies). The
//     server's is the IPExtractor of its echo, so that RealIP means the same address.
package xrpc

//go:generate go tool lexgen
