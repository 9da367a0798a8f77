package server

import "portico/api/xrpc"

// Names of errors that the lexicons of the methods using them do not declare.
var (
	errAccountTakedown = xrpc.Undeclared("AccountTakedown")
	errNotFound        = xrpc.Undeclared("NotFound")
)
