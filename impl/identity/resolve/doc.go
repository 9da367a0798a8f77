// Package resolve finds out about identities that may not be ours: the document of a DID, the DID of a handle.
//
// It asks the PLC directory, DNS and web servers that strangers name. So every answer is bounded in time and size, and no
// connection goes to an address inside our own network unless a development server allows it. What it returns was said
// by the other side and is no more than that: that a handle and a DID point at each other is for the caller to compare.
//
// Ours because indigo's atproto/identity reads answers of any size, takes the first of several TXT records, knows neither
// tombstones nor ports in a did:web, and asks DNS and the host one after the other.
package resolve
