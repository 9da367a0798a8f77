package xrpc

import (
	"bytes"
	"encoding/json"
)

// decodeJSON and encodeJSON are the only two places that know the codec.

// decodeJSON decodes the one value in data into v.
func decodeJSON(data []byte, v any) error { return json.Unmarshal(data, v) }

// encodeJSON appends v to b without a newline at the end and without escaping
// <, > and &, as JSON.stringify does.
func encodeJSON(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1)
	return nil
}
