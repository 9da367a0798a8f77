// Package move changes what the DIDs of all accounts say, a few at a time, for as long as
// the directory needs: to another rotation key of this server, or to another host name.
//
// There is one move at a time. It is written down before the first DID is changed, goes on
// after a restart where it was, can be turned back until it is finished, and changes no DID
// whose document does not say what this server takes it to say: of did:web, of accounts that
// are elsewhere, and of those whose owners took the server's key away, it says so instead.
// While it is unfinished nothing is deleted for good, see [Standstill].
//
//	key   the new rotation key takes its place beside the old one in every DID; finished
//	      not sooner than 72 hours after the last, the old one is taken out
//	host  endpoint, and handles under the old name, become those of the new one; from the
//	      switch on the server is the new name, and answers to both until it is finished
package move
