package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/api/xrpc"
	"portico/impl/identity/handle"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
)

// A Draft is a record as a client sends it, in a body that its method's lexicon allows.
type Draft struct {
	Collection syntax.NSID
	Key        syntax.RecordKey
	Record     json.RawMessage // an object
	// Validate says whether the lexicon has to be known and kept to (true), isn't looked
	// at (false), or is kept to when it is known (nil).
	Validate *bool
	// Path is where in the body the record is, "$.record" or "$.writes[0].record": issues
	// name it.
	Path string
	// Size is asked for the size of a stored blob that a profile names the old way, and
	// returns errNew where those are not helped; nil: nowhere.
	Size func(cid string) (int64, error)
}

// errNew says that a record replaces none.
var errNew = errors.New("there is no record yet")

// Results of [Draft.Prepare], as clients read them. None is said when nothing was looked
// at.
const (
	statusValid   = "valid"
	statusUnknown = "unknown"
)

// Prepare makes of a draft what is to be stored, before anything is locked, and says how
// its validation went: "valid", "unknown", or "" when none was wanted. What a client did
// wrong is told in the reference's words; other errors are those of Size.
func (d Draft) Prepare() (r *record.Record, status string, err error) {
	data, value, err := d.complete()
	if err != nil {
		return nil, "", err
	}
	if handle.Inappropriate(strings.ToLower(d.Key.String())) {
		return nil, "", xrpc.InvalidRequest("Unacceptable slur in record key")
	}
	if status, err = d.check(data); err != nil {
		return nil, "", err
	}
	if r, err = record.Read(d.Collection, value); err != nil {
		return nil, "", unreadable(err)
	}
	for _, blob := range r.Blobs {
		if blob.Legacy {
			return nil, "", xrpc.InvalidRequest("Legacy blobs are not allowed (" + blob.CID + ")")
		}
	}
	return r, status, nil
}

// unreadable answers a record that is not in the data model, or nested too deeply.
func unreadable(err error) error {
	return xrpc.InvalidRequest("Record cannot be encoded").Because(err)
}

// complete gives the record the type that its collection says, and a profile's pictures
// their sizes. It returns the JSON of that, to be checked, and what is to be stored.
func (d Draft) complete() (data, value []byte, err error) {
	data = d.Record
	if value, err = record.FromJSON(data); err != nil {
		return nil, nil, unreadable(err)
	}
	if d.Size != nil {
		modern, err := record.ModernizeProfile(d.Collection, value, d.Size)
		if errors.Is(err, errNew) {
			modern = value
		} else if err != nil {
			return nil, nil, err
		}
		if !bytes.Equal(modern, value) {
			value = modern
			if data, err = record.AppendJSON(nil, value); err != nil {
				return nil, nil, unreadable(err)
			}
		}
	}
	collection := dagcbor.AppendText(nil, d.Collection.String())
	switch typ := record.Field(value, "$type"); {
	case typ == nil:
		if value, err = record.With(value, "$type", collection); err != nil {
			return nil, nil, unreadable(err)
		}
		data = withType(data, d.Collection)
	case !bytes.Equal(typ, collection):
		return nil, nil, xrpc.InvalidRequest(fmt.Sprintf("Invalid $type: expected %s, got %s", d.Collection, shown(typ)))
	}
	return data, value, nil
}

// withType returns a copy of an object in JSON with a type, and else as it was: what is
// wrong with it is shown to the client.
func withType(object []byte, typ syntax.NSID) []byte {
	members := bytes.TrimLeft(bytes.TrimLeft(object, " \n\r\t")[len("{"):], " \n\r\t")
	typed := append(append([]byte(`{"$type":"`), typ...), '"')
	if members[0] != '}' {
		typed = append(typed, ',')
	}
	return append(typed, members...)
}

// shown is how JavaScript puts an encoded value into a text.
func shown(encoded []byte) string {
	d := dagcbor.NewDecoder(encoded)
	switch d.Kind() {
	case dagcbor.KindText:
		return string(d.Text())
	case dagcbor.KindMap:
		return "[object Object]"
	case dagcbor.KindArray:
		var items []string
		for range d.Array() {
			item := ""
			if d.Kind() != dagcbor.KindNull {
				item = shown(d.Skip())
			} else {
				d.Skip()
			}
			items = append(items, item)
		}
		return strings.Join(items, ",")
	default:
		text, _ := record.AppendJSON(nil, encoded)
		return string(text)
	}
}

// check checks data, the JSON of the record, against the lexicon of its collection.
func (d Draft) check(data []byte) (status string, err error) {
	if d.Validate != nil && !*d.Validate {
		return "", nil
	}
	known, ok := RecordType(d.Collection.String())
	if !ok {
		if d.Validate != nil {
			return "", xrpc.InvalidRequest("Unknown lexicon type: " + d.Collection.String())
		}
		return statusUnknown, nil
	}
	if err := known.CheckKey(d.Key.String()); err != nil {
		return "", xrpc.InvalidRequest("Invalid record key for " + known.NSID + ": " + err.Error())
	}
	if err := known.Check(data); err != nil {
		return "", xrpc.InvalidRequest("Invalid " + known.NSID + " record: " + d.located(err))
	}
	return statusValid, nil
}

// located is what a client reads of what is wrong with the record, and where in its body.
func (d Draft) located(err error) string {
	if issue, ok := errors.AsType[*xrpc.Issue](err); ok {
		below := xrpc.Issue{Path: d.Path + issue.Path[len("$"):], Text: issue.Text}
		return below.Error()
	}
	return err.Error() // in the words of the reference, too
}
