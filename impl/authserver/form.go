package authserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"portico/api/xrpc"
)

// maxForm is how many bytes a request may have.
const maxForm = 100 << 10

// A form is the parameters of a request by their names: each once, and none that is empty,
// which is as good as left out (RFC 6749 §3.1).
type form map[string]string

// values is a form as package client has it.
func (f form) values() url.Values {
	v := make(url.Values, len(f))
	for name, text := range f {
		v.Set(name, text)
	}
	return v
}

// must is a parameter that may not be missing.
func (f form) must(name string) (string, error) {
	if f[name] == "" {
		return "", missing(name)
	}
	return f[name], nil
}

func missing(name string) error { return invalid("Required at body." + name) }

func invalid(issue string) error {
	return invalidRequest("Invalid authorization request: " + issue)
}

// readForm reads the parameters of a request: a form, or an object of JSON. Of one that is sent
// more than once the last counts.
func readForm(r *http.Request) (form, error) {
	given := r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(given)
	if err != nil {
		kind = ""
	}
	kind = strings.ToLower(kind)
	if kind != "application/x-www-form-urlencoded" && kind != "application/json" {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, name: "invalid_request", description: "Unsupported content-type: " + plain(given)}
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, &refusal{status: http.StatusUnsupportedMediaType, name: "invalid_request", description: "Unsupported content-encoding: " + plain(coding)}
	}
	text, err := readBody(r)
	if err != nil {
		return nil, err
	}
	parse := parseForm
	if kind == "application/json" {
		parse = parseObject
	}
	f, err := parse(text)
	if err != nil {
		return nil, err
	}
	return f, f.check()
}

// check drops what is as good as left out, and refuses what is no text.
func (f form) check() error {
	for name, value := range f {
		if value == "" {
			delete(f, name)
		} else if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return invalid("Invalid characters at body." + plain(name))
		}
	}
	return nil
}

func readBody(r *http.Request) ([]byte, error) {
	var body io.Reader = r.Body
	size := r.ContentLength
	if c := xrpc.CallFrom(r.Context()); c != nil {
		var from io.ReadCloser
		from, size = c.Body() // which gives a client only so long
		defer from.Close()
		body = from
	}
	tooLarge := &refusal{status: http.StatusRequestEntityTooLarge, name: "invalid_request", description: "Payload too large"}
	if size > maxForm {
		return nil, tooLarge
	}
	text, err := io.ReadAll(io.LimitReader(body, maxForm+1))
	if err != nil {
		if e, ok := errors.AsType[*xrpc.Error](err); ok {
			return nil, e
		}
		return nil, invalidRequest("The request was cut off")
	}
	if len(text) > maxForm {
		return nil, tooLarge
	}
	return text, nil
}

func parseForm(text []byte) (form, error) {
	sent, err := url.ParseQuery(string(text))
	if err != nil {
		return nil, invalidRequest("Malformed form")
	}
	f := make(form, len(sent))
	for name, values := range sent {
		f[name] = values[len(values)-1]
	}
	return f, nil
}

// parseObject reads texts, and numbers as they are written. What is neither has a name that
// does not matter, or is refused by whoever reads it: it becomes a text that no parameter may have.
func parseObject(text []byte) (form, error) {
	var sent map[string]json.RawMessage
	if err := json.Unmarshal(text, &sent); err != nil || sent == nil {
		return nil, invalidRequest("Malformed JSON")
	}
	f := make(form, len(sent))
	for name, raw := range sent {
		switch raw = bytes.TrimSpace(raw); {
		case raw[0] == '"':
			var value string
			if err := json.Unmarshal(raw, &value); err != nil {
				return nil, invalidRequest("Malformed JSON")
			}
			f[name] = value
		case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
			f[name] = string(raw)
		case string(raw) == "null":
		case known(name):
			return nil, invalid("Expected string at body." + name)
		}
	}
	return f, nil
}

// plain is what a client sent, as an answer repeats it: short, and without what is no text.
func plain(text string) string {
	text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == utf8.RuneError {
			return -1
		}
		return c
	}, text)
	q := quoted(text)
	return q[1 : len(q)-1]
}
