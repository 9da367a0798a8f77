// Package crash kills the server in the midst of sign-ups, with a PLC directory
// that delays, loses and denies behind it, and then looks for what must never be:
// a handle taken without an account, a DID that nobody has, an invite lost or used
// twice, an acknowledged account that can't log in, a DID ended that its owner had signed
// for.
//
// And it kills the server in the midst of writes, with a disk that gets full, while relays
// read: no acknowledged record may be lost, no blob named that is not there, no event
// missing, doubled or out of order, and every repository has to verify. make crash runs
// both.
package crash
