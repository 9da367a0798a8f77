package xrpc

// RecordType is what a lexicon says about the records of a collection. Generated packages
// list theirs.
type RecordType struct {
	NSID   string  // the collection, and the $type of its records
	Key    *Schema // what their keys are
	Record *Schema // what they are, with their $type
}

// CheckKey reports whether a record of t may have the key rkey. The error is an *[Issue].
func (t RecordType) CheckKey(rkey string) error { return t.Key.Check([]byte(jsString(rkey))) }

// Check reports whether data is a record of t. The error is that of [Schema.Check].
func (t RecordType) Check(data []byte) error { return t.Record.Check(data) }
