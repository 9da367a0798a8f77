package xrpc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
)

func frameOf(header, body string) []byte {
	return append(must(hex.DecodeString(header)), must(hex.DecodeString(body))...)
}

const saidHeader = "a261746523736169" + "64626f7001" // {"t": "#said", "op": 1}

// What is no frame, and what has another form than the one it should, is refused.
func TestFramesThatAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, header, body, want string }{
		{"nothing", "", "", "cut short"},
		{"header alone", saidHeader, "", "cut short"},
		{"header no map", "01", "a0", "not a map"},
		{"no op", "a0", "a0", "Missing required key \"op\""},
		{"unknown op", "a1626f7002", "a0", "$.op"},
		{"no type", "a1626f7001", "a0", "a message without a type"},
		{"type no text", "a261740" + "1626f7001", "a0", "Expected string"},
		{"body no map", saidHeader, "80", "not a map"},
		{"bytes behind", saidHeader, "a263736571016" + "46c6973748000", "bytes behind"},
		{"missing key", saidHeader, "a0", "Missing required key \"seq\""},
		{"wrong type", saidHeader, "a1637365716161", "Expected integer"},
		{"float", saidHeader, "a163736571f93c00", "float"},
		{"undefined", saidHeader, "a163736571f7", "float or unknown"},
		{"long integer", saidHeader, "a1637365711801", "shortest"},
		{"integer of 54 bits", saidHeader, "a1637365711b0020000000000000", "53 bits"},
		{"indefinite map", saidHeader, "bf63736571" + "01ff", "indefinite"},
		{"keys out of order", saidHeader, "a2646c697374806373657101", "out of order"},
		{"key twice", saidHeader, "a26373657101637365" + "7101", "out of order"},
		{"key no text", saidHeader, "a10101", "key is not a text"},
		{"key not UTF-8", saidHeader, "a161ff01", "UTF-8"},
		{"text not UTF-8", saidHeader, "a1637365716" + "1ff", "UTF-8"},
		{"other tag", saidHeader, "a163736571c16161", "tag"},
		{"link to nothing", saidHeader, "a163736571d82a4100", "tag"},
		{"link to no CID", saidHeader, "a163736571d82a420001", "not a CID"},
		{"disguised link", saidHeader, "a163736571a1652" + "46c696e6b6161", "reserved key"},
		{"prototype", saidHeader, "a1695f5f70726f746f5f5f01", "__proto__"},
		{"long text", saidHeader, "a1637365717affffffff", "cut short"},
		{"long array", saidHeader, "a1637365719bffffffffffffffff", "cut short"},
		{"long map", saidHeader, "bbffffffffffffffff", "cut short"},
		{"deep", saidHeader, "a163736571" + strings.Repeat("81", 1000) + "80", "deep"},
		{"error without name", "a1626f7020", "a0", "error frame: Missing required key \"error\""},
	} {
		var m WatchMessage
		err := decodeFrame("com.example.toy.watch", watchMessage, frameOf(tt.header, tt.body), &m, Unmarshal)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
}

// What has no form in a frame is not sent.
func TestMessagesThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"fraction":   `{"$type":"a.b.c#d","x":1.5}`,
		"54 bits":    `{"$type":"a.b.c#d","x":9007199254740992}`,
		"no type":    `{"x":1}`,
		"no object":  `[]`,
		"deep":       `{"$type":"a.b.c#d","x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
		"not JSON":   `{`,
		"prototypes": `{"$type":"a.b.c#d","__proto__":1}`,
	} {
		if frame, err := EncodeFrame(json.RawMessage(text)); err == nil {
			t.Errorf("%s: %x", name, frame)
		}
	}
}

// The type of the header goes before one in the body, and equal keys are one.
func TestTypeOfAMessage(t *testing.T) {
	var m json.RawMessage
	body := must(hex.DecodeString("a2" + "61" + "61" + "01" + "65" + hex.EncodeToString([]byte("$type")) + "6178"))
	if err := decodeFrame("a.b.c", nil, append(must(hex.DecodeString(saidHeader)), body...), &m, Unmarshal); err != nil || string(m) != `{"$type":"a.b.c#said","a":1}` {
		t.Errorf("%s %v", m, err)
	}
	frame := must(EncodeFrame(json.RawMessage(`{"a":2,"$type":"a.b.c","a":1,"b":{"$type":"x"}}`)))
	if want := "a26174" + "65612e622e63" + "626f7001" + "a2" + "616101" + "6162a165" + hex.EncodeToString([]byte("$type")) + "6178"; hex.EncodeToString(frame) != want {
		t.Errorf("frame %x\nwant  %s", frame, want)
	}
}

// FuzzFrame reads what a host may send: no panic, memory within bounds, and what is taken
// for a message is encoded in the same bytes again.
func FuzzFrame(f *testing.F) {
	f.Add(must(EncodeFrame(said(1))))
	f.Add(must(EncodeFrame(WatchMessage{&WatchSaid{Seq: -70000, Data: []byte{1, 2}, List: []string{"é"}}})))
	f.Add(must(EncodeFrame(json.RawMessage(`{"$type":"com.example.toy.watch#x","l":{"$link":"bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"},"n":[null,true,-1],"m":{}}`))))
	f.Add(errorFrame("FutureCursor", "Cursor in the future."))
	f.Add(errorFrame("X", ""))
	f.Fuzz(func(t *testing.T, frame []byte) {
		const nsid = "com.example.toy.watch"
		var m WatchMessage
		_ = decodeFrame(nsid, watchMessage, frame, &m, Unmarshal)
		var text json.RawMessage
		if err := decodeFrame(nsid, nil, frame, &text, Unmarshal); err != nil {
			return
		}
		if len(text) > 8*len(frame)+64 {
			t.Errorf("%d bytes are %d of JSON", len(frame), len(text))
		}
		again, _, err := encodeFrame(nsid, &text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		_, typ, body, _ := splitFrame(frame)
		_, typ2, body2, err := splitFrame(again)
		if short := strings.TrimPrefix(typ, nsid); err != nil || typ2 != short && typ2 != typ || !bytes.Equal(body, body2) && !bytes.Contains(body, []byte("$type")) {
			t.Errorf("%x\nbecame %x, %v", frame, again, err)
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	small, large := said(1), WatchMessage{&WatchSaid{Seq: 1, Data: make([]byte, 10<<10)}}
	for name, m := range map[string]WatchMessage{"small": small, "10 KiB": large} {
		frame := must(EncodeFrame(m))
		b.Run("encode/"+name, func(b *testing.B) {
			for b.Loop() {
				must(EncodeFrame(m))
			}
		})
		b.Run("decode/"+name, func(b *testing.B) {
			for b.Loop() {
				var m WatchMessage
				if err := decodeFrame("com.example.toy.watch", watchMessage, frame, &m, Unmarshal); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
