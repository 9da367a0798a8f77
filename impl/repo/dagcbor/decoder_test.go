package dagcbor

import (
	"errors"
	"testing"
)

func TestDecoder(t *testing.T) {
	c := Sum(CodecDAGCBOR, []byte("x"))
	data, err := Marshal(map[string]any{"a": []any{c, nil, 7}, "b": []byte("bytes"), "c": map[string]any{}})
	if err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) error {
		d := NewDecoder(data)
		if n := d.Map(); n != 3 && d.err == nil {
			t.Errorf("%d entries", n)
		}
		d.Key("a")
		if n := d.Array(); n != 3 && d.err == nil {
			t.Errorf("%d items", n)
		}
		if d.Null() {
			t.Error("a link is null")
		}
		if got := d.Link(); got != c && d.err == nil {
			t.Errorf("link %s", got)
		}
		if !d.Null() && len(d.b) > 0 {
			t.Error("null is not")
		}
		if n := d.Uint(); n != 7 && d.err == nil {
			t.Errorf("integer %d", n)
		}
		d.Key("b")
		if got := d.Bytes(); string(got) != "bytes" && d.err == nil {
			t.Errorf("bytes %q", got)
		}
		d.Key("c")
		if n := d.Map(); n != 0 {
			t.Errorf("%d entries", n)
		}
		return d.End()
	}
	if err := read(data); err != nil {
		t.Fatal(err)
	}
	for n := range data {
		if err := read(data[:n]); !errors.Is(err, ErrEncoding) {
			t.Errorf("first %d bytes: %v", n, err)
		}
	}
	if err := read(append(data, 0xf6)); !errors.Is(err, ErrEncoding) {
		t.Errorf("one more: %v", err)
	}
	for name, tt := range map[string]struct {
		data []byte
		read func(*Decoder)
	}{
		"a huge array":        {[]byte{0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, func(d *Decoder) { d.Array() }},
		"huge bytes":          {[]byte{0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, func(d *Decoder) { d.Bytes() }},
		"a long form":         {[]byte{0x18, 0x07}, func(d *Decoder) { d.Uint() }},
		"2^53":                {[]byte{0x1b, 0x00, 0x20, 0, 0, 0, 0, 0, 0}, func(d *Decoder) { d.Uint() }},
		"a negative one":      {[]byte{0x20}, func(d *Decoder) { d.Uint() }},
		"text for bytes":      {[]byte{0x61, 'a'}, func(d *Decoder) { d.Bytes() }},
		"a link of sha2-512":  {append([]byte(linkHead), append([]byte{1, 0x71, 0x13, 0x20}, make([]byte, 32)...)...), func(d *Decoder) { d.Link() }},
		"another tag":         {append([]byte{0xd8, 0x2b, 0x58, 0x25, 0x00}, c[:]...), func(d *Decoder) { d.Link() }},
		"a value of no shape": {[]byte{0xff}, func(d *Decoder) { d.Map() }},
	} {
		d := NewDecoder(tt.data)
		tt.read(d)
		if err := d.End(); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
		d.Map()
		d.Key("x")
		d.Link()
		if d.Null() || d.Uint() != 0 || d.Bytes() == nil && len(d.Bytes()) != 0 || !errors.Is(d.End(), ErrEncoding) {
			t.Errorf("%s: not the end", name)
		}
	}
}
