package xrpc

import (
	"bytes"
	"encoding/json"
	"sync"
)

// Marshal returns v, a pointer to a generated type, as answers and requests have it: its
// required lists are [] when they are nil (which changes v, see [Normalizer]), and <, > and
// & are not escaped. Other types are encoded by encoding/json.
func Marshal(v any) ([]byte, error) {
	b := getBuffer()
	defer putBuffer(b)
	if err := encodeOutput(b, v); err != nil {
		return nil, err
	}
	return bytes.Clone(b.Bytes()), nil
}

// encodeOutput appends v to b as Marshal encodes it.
func encodeOutput(b *bytes.Buffer, v any) error {
	if n, ok := v.(Normalizer); ok {
		n.Normalize()
	}
	return encodeJSON(b, v)
}

// encodeJSON appends v to b without a newline at the end and without escaping
// <, > and &, as JSON.stringify does.
func encodeJSON(b *bytes.Buffer, v any) error {
	text, err := appendJSON(b.AvailableBuffer(), v)
	if err == nil {
		b.Write(text)
	}
	return err
}

// appendOther appends to b what encoding/json makes of v.
func appendOther(b []byte, v any) ([]byte, error) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.to = b
	err := e.json.Encode(v)
	text := e.to
	e.to = nil
	if err != nil {
		return b, err
	}
	return text[:len(text)-1], nil
}

// encoder appends to a slice, each time to another one.
type encoder struct {
	to   []byte
	json *json.Encoder
}

func (e *encoder) Write(p []byte) (int, error) {
	e.to = append(e.to, p...)
	return len(p), nil
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.json = json.NewEncoder(e)
	e.json.SetEscapeHTML(false)
	return e
}}
