package record

import (
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/impl/repo/dagcbor"
)

// A Blob is a record's mention of one.
type Blob struct {
	// CID is its name as a text. Blobs have no other names than dagcbor.ParseCID takes.
	CID      string
	MimeType string
	Size     int64 // in bytes; -1 when it isn't known
	// Legacy says that the mention is one of before there were types and sizes, which new
	// records cannot have.
	Legacy bool
}

// findBlobs reads the next value of d and notes the blobs in it.
func (r *Record) findBlobs(d *dagcbor.Decoder, depth int) error {
	if depth > dagcbor.MaxDepth {
		return fmt.Errorf("%w: nested too deeply", ErrRecord)
	}
	switch d.Kind() {
	case dagcbor.KindMap:
		if blob, ok := readBlob(d); ok {
			r.Blobs = append(r.Blobs, blob)
		}
		var key []byte
		for range d.Map() {
			key = d.KeyAfter(key)
			if err := r.findBlobs(d, depth+1); err != nil {
				return err
			}
		}
	case dagcbor.KindArray:
		for range d.Array() {
			if err := r.findBlobs(d, depth+1); err != nil {
				return err
			}
		}
	case dagcbor.KindLink:
		var buf [64]byte
		if _, err := appendLink(buf[:0], d.LinkBytes()); err != nil && d.Err() == nil {
			return err
		}
	default:
		d.Skip()
	}
	if err := d.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrRecord, err)
	}
	return nil
}

// readBlob tells whether the next value of d is a blob, which it leaves to be read.
func readBlob(d *dagcbor.Decoder) (blob Blob, ok bool) {
	ahead := *d
	switch ahead.Map() {
	case 4:
		ahead.Key("ref")
		link := ahead.LinkBytes()
		ahead.Key("size")
		negative, size := ahead.Integer()
		ahead.Key("$type")
		typ := ahead.Text()
		ahead.Key("mimeType")
		mime := ahead.Text()
		if ahead.Err() != nil || string(typ) != "blob" || size > dagcbor.MaxInt || negative && size > 0 {
			return Blob{}, false
		}
		name, err := appendLink(nil, link)
		if err != nil {
			return Blob{}, false
		}
		blob = Blob{CID: string(name), MimeType: string(mime), Size: int64(size)}
		if negative {
			blob.Size = -1
		}
		return blob, strings.Contains(blob.MimeType, "/")
	case 2:
		ahead.Key("cid")
		name := ahead.Text()
		ahead.Key("mimeType")
		mime := ahead.Text()
		if ahead.Err() != nil || len(mime) == 0 {
			return Blob{}, false
		}
		_, text, err := parseLink(string(name))
		return Blob{CID: text, MimeType: string(mime), Size: -1, Legacy: true}, err == nil && text == string(name)
	}
	return Blob{}, false
}

// ModernizeProfile returns a profile whose pictures, where it names them the old way, are
// named as today: with the size that size knows of the blob with that CID. Others are
// returned as they are. Clients of old send back what they got, and an update must not
// fail for that. Errors are those of size, and ErrRecord.
func ModernizeProfile(collection syntax.NSID, value []byte, size func(cid string) (int64, error)) ([]byte, error) {
	if collection != "app.bsky.actor.profile" {
		return value, nil
	}
	for _, key := range []string{"avatar", "banner"} {
		picture := Field(value, key)
		d := dagcbor.NewDecoder(picture)
		if d.Kind() != dagcbor.KindMap {
			continue
		}
		blob, ok := readBlob(d)
		if !ok || !blob.Legacy {
			continue
		}
		n, err := size(blob.CID)
		if err != nil {
			return nil, fmt.Errorf("size of %s: %w", key, err)
		}
		link, _, err := parseLink(blob.CID)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecord, err)
		}
		typed := dagcbor.AppendLinkBytes(dagcbor.AppendText(dagcbor.AppendMap(nil, 4), "ref"), link)
		typed = dagcbor.AppendInt(dagcbor.AppendText(typed, "size"), n)
		typed = dagcbor.AppendText(dagcbor.AppendText(typed, "$type"), "blob")
		typed = dagcbor.AppendText(dagcbor.AppendText(typed, "mimeType"), blob.MimeType)
		if value, err = With(value, key, typed); err != nil {
			return nil, err
		}
	}
	return value, nil
}
