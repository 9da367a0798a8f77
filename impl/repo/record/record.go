// Package record turns the records of clients into what is stored of them, and back:
// JSON into DAG-CBOR, which is read for the blobs it names and for the record that it
// points at, and DAG-CBOR into JSON.
//
// What a record has to look like is its lexicon's matter and not looked at here. All
// functions are pure and safe for concurrent use; they take memory and time in
// proportion to the record, whoever made it up.
//
// Ours because atdata makes maps of a record on the way, which takes four times as long
// and ten times as many allocations, and refuses objects that only look like links or
// bytes, which the reference stores.
package record

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"portico/impl/repo/dagcbor"
)

var (
	// ErrJSON says that something is not JSON that can be stored: no JSON at all, or nested
	// deeper than dagcbor.MaxDepth.
	ErrJSON = errors.New("not the JSON of a record")
	// ErrNumber says that a number has a fraction or is beyond dagcbor.MaxInt.
	ErrNumber = errors.New("number is not in the data model")
	// ErrRecord says that bytes are not the DAG-CBOR of a record.
	ErrRecord = errors.New("not a record")
)

// A Record is a value as it is stored, and what its server has to know of it.
type Record struct {
	Value []byte // DAG-CBOR of a map
	CID   dagcbor.CID
	Blobs []Blob
	// LinkTo is what the record points at, see [LinkTo].
	LinkTo string
}

// Read reads a record of a collection from its DAG-CBOR, which is kept. Errors are
// ErrRecord.
func Read(collection syntax.NSID, value []byte) (*Record, error) {
	r := &Record{Value: value, CID: dagcbor.Sum(dagcbor.CodecDAGCBOR, value)}
	d := dagcbor.NewDecoder(value)
	if d.Kind() != dagcbor.KindMap {
		return nil, fmt.Errorf("%w: not a map", ErrRecord)
	}
	if err := r.findBlobs(d, 0); err != nil {
		return nil, err
	}
	if err := d.End(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r.LinkTo = LinkTo(collection, value)
	return r, nil
}

// Field returns the encoding of a record's entry with the given key, which aliases
// value, or nil.
func Field(value []byte, key string) []byte {
	d := dagcbor.NewDecoder(value)
	for range d.Map() {
		name := d.Text()
		if v := d.Skip(); string(name) == key {
			return v
		}
	}
	return nil
}

// With returns a copy of a record with one entry set to an encoded value. Errors are
// ErrRecord.
func With(value []byte, key string, encoded []byte) ([]byte, error) {
	entries, err := dagcbor.Entries(value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	at, found := slices.BinarySearchFunc(entries, key, func(e dagcbor.Entry, key string) int { return dagcbor.CompareKeys(e.Key, key) })
	if found {
		entries[at].Value = encoded
	} else {
		entries = slices.Insert(entries, at, dagcbor.Entry{Key: key, Value: encoded})
	}
	out := dagcbor.AppendMap(nil, len(entries))
	for _, e := range entries {
		out = append(dagcbor.AppendText(out, e.Key), e.Value...)
	}
	return out, nil
}

// LinkTo returns what a record points at, a DID or an AT-URI, if its collection is one
// whose records replace each other when they point at the same thing; else it is empty.
func LinkTo(collection syntax.NSID, value []byte) string {
	switch collection {
	case "app.bsky.graph.follow", "app.bsky.graph.block":
		if did, err := syntax.ParseDID(text(Field(value, "subject"))); err == nil {
			return did.String()
		}
	case "app.bsky.feed.like", "app.bsky.feed.repost":
		if uri, err := syntax.ParseATURI(text(Field(Field(value, "subject"), "uri"))); err == nil {
			return uri.String()
		}
	}
	return ""
}

// text returns the text that an encoded value is; the empty one for other values.
func text(encoded []byte) string {
	if d := dagcbor.NewDecoder(encoded); d.Kind() == dagcbor.KindText {
		return string(d.Text())
	}
	return ""
}

// maxCID is how long the text of a CID may be.
const maxCID = 128

var errLink = errors.New("not the CID of a link")

// parseLink reads the text of a CID of any kind, and returns its binary form and how it
// is written: in base32 (or base58, version 0). Other forms that are read are base36 and
// base58; base32 has to be written as it is here.
func parseLink(s string) (link []byte, text string, err error) {
	if c, err := dagcbor.ParseCID(s); err == nil {
		return c[:], s, nil
	}
	if len(s) > maxCID || !strings.HasPrefix(s, "b") && !strings.HasPrefix(s, "z") && !strings.HasPrefix(s, "k") && !strings.HasPrefix(s, "Qm") {
		return nil, "", errLink
	}
	c, err := cid.Decode(s)
	if err != nil {
		return nil, "", fmt.Errorf("%w: %w", errLink, err)
	}
	if text = c.String(); s[0] == 'b' && text != s {
		return nil, "", errLink
	}
	return c.Bytes(), text, nil
}

// appendLink appends the text of a CID in its binary form, of any kind.
func appendLink(b, link []byte) ([]byte, error) {
	var c dagcbor.CID
	if len(link) == len(c) {
		if copy(c[:], link); c.Valid() {
			return append(b, c.String()...), nil
		}
	}
	other, err := cid.Cast(link)
	if err != nil {
		return nil, fmt.Errorf("%w: link to no CID: %w", ErrRecord, err)
	}
	return append(b, other.String()...), nil
}
