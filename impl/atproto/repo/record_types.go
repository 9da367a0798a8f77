package repo

import (
	"portico/api/atproto/lexicon"
	"portico/api/bsky"
	"portico/api/chatbsky"
	"portico/api/germnetwork"
	"portico/api/xrpc"
)

// recordTypes are the types of records that are checked here, by their collection: those
// that the generator was told of. Records of other collections are taken as they are.
var recordTypes = func() map[string]xrpc.RecordType {
	types := make(map[string]xrpc.RecordType)
	for _, records := range []func() []xrpc.RecordType{lexicon.Records, bsky.Records, chatbsky.Records, germnetwork.Records} {
		for _, t := range records() {
			types[t.NSID] = t
		}
	}
	return types
}()

// RecordType is what the records of a collection have to be; false if nothing is known of
// them.
func RecordType(collection string) (xrpc.RecordType, bool) {
	t, ok := recordTypes[collection]
	return t, ok
}
