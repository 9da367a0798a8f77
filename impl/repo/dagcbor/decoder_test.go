package dagcbor

import (
	"bytes"
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

func TestDecoderOfAnyValue(t *testing.T) {
	other := []byte{0x01, 0x55, 0x00, 0x00} // raw, and its own hash
	data := AppendArray(nil, 9)
	data = AppendBool(AppendNull(data), true)
	data = AppendText(AppendInt(AppendInt(data, 5), -5), "text")
	data = AppendLinkBytes(AppendBytes(data, "bytes"), other)
	data = append(data, "\xa2\x61b\x81\x01\x62aa\xf4\x80"...)
	d := NewDecoder(data)
	d.Array()
	kinds := []Kind{KindNull, KindBool, KindInteger, KindInteger, KindText, KindBytes, KindLink, KindMap, KindArray}
	for i, kind := range kinds {
		if got := d.Kind(); got != kind {
			t.Fatalf("item %d is of kind %d, want %d", i, got, kind)
		}
		switch i {
		case 1:
			if !d.Bool() {
				t.Error("true is false")
			}
		case 3:
			if negative, n := d.Integer(); !negative || n != 4 {
				t.Errorf("-5 is %v, %d", negative, n)
			}
		case 4:
			if got := d.Text(); string(got) != "text" {
				t.Errorf("text is %q", got)
			}
		case 6:
			if got := d.LinkBytes(); !bytes.Equal(got, other) {
				t.Errorf("link is to %x", got)
			}
		case 7:
			d.Map()
			b := d.KeyAfter(nil)
			if item := d.Skip(); !bytes.Equal(item, []byte{0x81, 0x01}) {
				t.Errorf("skipped %x", item)
			}
			if aa := d.KeyAfter(b); string(b) != "b" || string(aa) != "aa" || d.Bool() {
				t.Errorf("keys %q and %q", b, aa)
			}
		default:
			d.Skip()
		}
		if err := d.Err(); err != nil {
			t.Fatalf("item %d: %v", i, err)
		}
	}
	if err := d.End(); err != nil || d.Kind() != 0 {
		t.Errorf("at the end: %v, kind %d", err, d.Kind())
	}
	for name, tt := range map[string]struct {
		data string
		read func(*Decoder)
	}{
		"text not UTF-8":           {"\x61\xff", func(d *Decoder) { d.Text() }},
		"no bool":                  {"\xf6", func(d *Decoder) { d.Bool() }},
		"no integer":               {"\x40", func(d *Decoder) { d.Integer() }},
		"keys out of order":        {"\x61b\x61a", func(d *Decoder) { d.KeyAfter(d.KeyAfter(nil)) }},
		"keys twice":               {"\x60\x60", func(d *Decoder) { d.KeyAfter(d.KeyAfter(nil)) }},
		"another tag":              {"\xc1\x41\x00", func(d *Decoder) { d.LinkBytes() }},
		"link to nothing":          {"\xd8\x2a\x41\x00", func(d *Decoder) { d.LinkBytes() }},
		"link to nothing, skipped": {"\xd8\x2a\x41\x00", func(d *Decoder) { d.Skip() }},
		"link of text":             {"\xd8\x2a\x62\x00a", func(d *Decoder) { d.LinkBytes() }},
		"float":                    {"\xf9\x00\x00", func(d *Decoder) { d.Skip() }},
		"nothing":                  {"", func(d *Decoder) { d.Skip() }},
	} {
		d := NewDecoder([]byte(tt.data))
		tt.read(d)
		if err := d.End(); !errors.Is(err, ErrEncoding) {
			t.Errorf("%s: got %v, want ErrEncoding", name, err)
		}
	}
}
