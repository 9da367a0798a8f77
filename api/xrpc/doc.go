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
// All JSON goes through json.go.
package xrpc

//go:generate go tool lexgen
