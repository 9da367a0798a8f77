package xrpc

import (
	"bytes"
	"encoding/base32"
	"fmt"
	"net/http"
	"strings"
)

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// The op of a frame's header.
const (
	opMessage = 1
	opError   = -1
)

// messageTable is the table of a generated message type, and the method it belongs to.
func messageTable[M any]() *Schema {
	if t, ok := any(new(M)).(interface{ Schema() *Schema }); ok {
		return t.Schema()
	}
	return nil
}

// EncodeFrame returns the frame of a message of a subscription, for [Stream.SendFrame]:
// a stream that goes to many consumers is encoded once. M is the generated type of the
// messages. The frame's type is short, "#name", where the message is defined in the
// document of the subscription.
func EncodeFrame[M any](m M) ([]byte, error) {
	nsid := ""
	if table := messageTable[M](); table != nil {
		nsid = table.nsid
	}
	frame, _, err := encodeFrame(nsid, &m)
	return frame, err
}

// encodeFrame returns the frame of a message of nsid, and the message as JSON.
func encodeFrame(nsid string, m any) (frame, text []byte, err error) {
	if n, ok := m.(Normalizer); ok {
		n.Normalize()
	}
	var b bytes.Buffer
	if err := encodeJSON(&b, m); err != nil {
		return nil, nil, fmt.Errorf("encode message: %w", err)
	}
	text = b.Bytes()
	if err := validate(text); err != nil {
		return nil, nil, fmt.Errorf("encode message: %w", err)
	}
	typ, err := VariantType(text)
	if err != nil {
		return nil, nil, fmt.Errorf("encode message: %w", err)
	}
	if name, ok := strings.CutPrefix(typ, nsid+"#"); ok {
		typ = "#" + name
	}
	frame = make([]byte, 0, len(text)+32)
	frame = cborHead(frame, cborMap, 2)
	frame = cborString(cborString(frame, "t"), typ)
	frame = append(cborString(frame, "op"), cborUint|opMessage)
	c := checker{data: text}
	if frame, err = c.cborMap(frame, c.space(0), "$type"); err != nil {
		return nil, nil, fmt.Errorf("encode message %s: %w", typ, err)
	}
	return frame, text, nil
}

// errorFrame is the last frame of a subscription that ends with an error.
func errorFrame(name, message string) []byte {
	b := cborHead(nil, cborMap, 1)
	b = append(cborString(b, "op"), cborNeg) // -1
	if message == "" {
		return cborString(cborString(cborHead(b, cborMap, 1), "error"), name)
	}
	b = cborHead(b, cborMap, 2)
	b = cborString(cborString(b, "error"), name)
	return cborString(cborString(b, "message"), message)
}

// decodeFrame reads a frame of the subscription nsid into m. A frame that says that an
// error ended the subscription is an *[Error]. The memory it takes is at most some forty
// times the frame, for the worst of frames.
func decodeFrame(nsid string, table *Schema, frame []byte, m any, decode unmarshaler) error {
	op, typ, body, err := splitFrame(frame)
	if err != nil {
		return err
	}
	r := cborReader{data: body, json: make([]byte, 0, len(body)+len(body)/2)}
	if op == opError {
		return decodeErrorFrame(&r)
	}
	if strings.HasPrefix(typ, "#") {
		typ = nsid + typ
	}
	if err := r.object(typ); err != nil {
		return fmt.Errorf("message %s: %w", typ, err)
	}
	if len(r.data) > 0 {
		return fmt.Errorf("message %s: %w: bytes behind it", typ, errCBOR)
	}
	if table == nil {
		table = Any()
	}
	if err := decode(table, r.json, m); err != nil {
		return fmt.Errorf("message %s: %w", typ, err)
	}
	return nil
}

// splitFrame reads the header of a frame.
func splitFrame(frame []byte) (op int64, typ string, body []byte, err error) {
	r := cborReader{data: frame}
	if err := r.object(""); err != nil {
		return 0, "", nil, fmt.Errorf("header of a frame: %w", err)
	}
	var header struct {
		Op int64  `json:"op"`
		T  string `json:"t"`
	}
	if err := Unmarshal(headerTable, r.json, &header); err != nil {
		return 0, "", nil, fmt.Errorf("header of a frame: %w", err)
	}
	if header.Op == opMessage && header.T == "" {
		return 0, "", nil, fmt.Errorf("header of a frame: %w: a message without a type", errCBOR)
	}
	return header.Op, header.T, r.data, nil
}

var headerTable = Object(
	Required("op", Integer(EnumInteger(opMessage, opError))),
	Optional("t", String()),
)

var errorTable = Object(
	Required("error", String()),
	Optional("message", String()),
)

func decodeErrorFrame(r *cborReader) error {
	if err := r.object(""); err != nil {
		return fmt.Errorf("error frame: %w", err)
	}
	var body struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if err := Unmarshal(errorTable, r.json, &body); err != nil {
		return fmt.Errorf("error frame: %w", err)
	}
	return &Error{Status: statusOf(body.Error), Name: body.Error, Message: body.Message}
}

// statusOf is the status that a protocol's name stands for, in a frame, which has none: 400 if
// it is no such name.
func statusOf(name string) int {
	for status, d := range defaultErrors {
		if d.name == name {
			return status
		}
	}
	return http.StatusBadRequest
}
