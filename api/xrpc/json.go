package xrpc

import (
	"bytes"
	"encoding/json"
	"sync"
)

// decodeJSON and encodeJSON are the only two places that know the codec.

// decodeJSON decodes the one value in data into v.
func decodeJSON(data []byte, v any) error { return json.Unmarshal(data, v) }

// encodeJSON appends v to b without a newline at the end and without escaping
// <, > and &, as JSON.stringify does.
func encodeJSON(b *bytes.Buffer, v any) error {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.to = b
	defer func() { e.to = nil }()
	if err := e.json.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1)
	return nil
}

// encoder writes to a buffer, each time to another one.
type encoder struct {
	to   *bytes.Buffer
	json *json.Encoder
}

func (e *encoder) Write(p []byte) (int, error) { return e.to.Write(p) }

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(e)
	e.json.SetEscapeHTML(false)
	return e
}}
