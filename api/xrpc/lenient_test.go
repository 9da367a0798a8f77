package xrpc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Answers that do not fit the lexicon are taken for what they are, if the client says so.
func TestLenientClient(t *testing.T) {
	answer := ""
	c := toyClient{Client{Host: "https://pds.test", Lenient: true, HTTP: &http.Client{Transport: inside(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })}}}
	strict := c
	strict.Lenient = false
	for _, tt := range []struct{ name, answer, want string }{
		{"nothing", `{}`, `{"name":"","count":1}`},
		{"null", `{"name":null,"count":null,"list":null,"inner":null,"flag":null}`, `{"name":"","count":1}`},
		{"bounds", `{"name":"a","maybe":null,"count":2000,"list":[{"deep":99}]}`, `{"name":"a","count":2000,"maybe":null,"list":[{"deep":99}]}`},
		{"formats", `{"name":"","did":"@alice","accounts":["a","","c"],"maybe":"b"}`, `{"name":"","did":"@alice","count":1,"accounts":["a","","c"],"maybe":"b"}`},
		{"known values", `{"sort":"neither","more":[1.5]}`, `{"name":"","count":1,"sort":"neither"}`},
		{"numbers", `{"count":9007199254740993,"inner":{"deep":1e2}}`, `{"name":"","count":9007199254740993,"inner":{"deep":100}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer = tt.answer
			out, err := c.Echo(t.Context(), &EchoInput{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(must(json.Marshal(out)))); diff != "" {
				t.Error(diff)
			}
			if _, err := strict.Echo(t.Context(), &EchoInput{}); err == nil {
				t.Error("a strict client takes it")
			}
		})
	}
	for text, want := range map[string]string{
		`{"name":5}`: `Expected string value type (got 5) at $.name`, `{"count":"1"}`: `Expected integer value type (got "1") at $.count`,
		`{"count":1.5}`: `Expected integer value type (got 1.5) at $.count`, `{"flag":1}`: `Expected boolean value type (got 1) at $.flag`,
		`{"list":{}}`: `Expected array value type (got {}) at $.list`, `{"list":[{},[]]}`: `Expected object value type (got []) at $.list[1]`,
		`[]`: `Expected object value type (got []) at $`, `{`: `Unexpected end of JSON input`,
	} {
		answer = text
		if _, err := c.Echo(t.Context(), &EchoInput{}); errorText(err) != "answer of com.example.toy.echo: "+want {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// So are messages, with what is in their unions.
func TestLenientSubscription(t *testing.T) {
	long := strings.Repeat("x", 50000)
	url, _, _ := serveWatch(t, Options{}, func(ctx context.Context, _ *WatchParams, out *Stream[WatchMessage]) error {
		for _, m := range []map[string]any{
			{"$type": "com.example.toy.watch#said", "seq": 1},
			{"$type": "com.example.toy.watch#said", "list": nil, "data": map[string]any{"$bytes": "AAE"}, "text": long},
			{"$type": "com.example.toy.watch#new", "seq": "x"},
			{"$type": "com.example.toy.watch#said", "seq": 4, "data": "AAE"},
		} {
			frame, _, err := encodeFrame("com.example.toy.watch", m)
			if err := errors.Join(err, out.SendFrame(ctx, frame)); err != nil {
				return err
			}
		}
		return nil
	})
	var got []string
	err := Subscribe(t.Context(), &Client{Host: url, Lenient: true}, &toyWatch, &WatchParams{}, Receive(func(_ context.Context, m WatchMessage) error {
		switch v := m.value.(type) {
		case *WatchSaid:
			got = append(got, string(must(json.Marshal(v))))
		case *UnknownVariant:
			got = append(got, string(v.JSON))
		}
		return nil
	}))
	want := []string{`{"seq":1,"list":null}`, `{"seq":0,"data":{"$bytes":"AAE"},"list":null,"text":"` + long + `"}`, `{"$type":"com.example.toy.watch#new","seq":"x"}`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if text := errorText(err); text != `subscription com.example.toy.watch: message com.example.toy.watch#said: Expected bytes value type (got "AAE") at $.data` {
		t.Error(text)
	}
}
