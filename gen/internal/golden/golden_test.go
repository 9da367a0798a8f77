// Package golden holds what the cases of gen/testdata make, so that the compiler sees
// it; the tests here run it.
package golden

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"portico/api/xrpc"
	arrays "portico/gen/internal/golden/arrays/example/shop"
	declared "portico/gen/internal/golden/declared-errors/example/shop"
	nullable "portico/gen/internal/golden/nullable/example/shop"
	both "portico/gen/internal/golden/params-and-body/example/shop"
	parameters "portico/gen/internal/golden/params/example/shop"
	record "portico/gen/internal/golden/record/example/shop"
	recursive "portico/gen/internal/golden/recursive/example/shop"
	streams "portico/gen/internal/golden/streams/example/shop"
	subscription "portico/gen/internal/golden/subscription/example/shop"
	closed "portico/gen/internal/golden/union-closed/example/shop"
	open "portico/gen/internal/golden/union-open/example/shop"
)

// roundTrip reads text into a T and expects the same text back.
func roundTrip[T any](t *testing.T, text string) *T {
	t.Helper()
	v := new(T)
	if s, ok := any(v).(interface{ Schema() *xrpc.Schema }); ok {
		if err := s.Schema().Check([]byte(text)); err != nil {
			t.Errorf("%T: the table refuses %s: %v", *v, text, err)
		}
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%T: read %s: %v", *v, text, err)
	}
	got, err := json.Marshal(v)
	if err != nil || string(got) != text {
		t.Errorf("%T: got  %s, %v\nwant %s", *v, got, err, text)
	}
	return v
}

func TestOpenUnion(t *testing.T) {
	v := roundTrip[open.Item](t, `{"what":{"$type":"com.example.shop.defs#car","wheels":4},"list":[{"$type":"com.example.shop.defs#toy"},{"$type":"org.other","x":[1,2]}]}`)
	if car, ok := v.What.Value().(*open.Car); !ok || car.Wheels != 4 {
		t.Errorf("what is a %T", v.What.Value())
	}
	if unknown, ok := v.List[1].Value().(*xrpc.UnknownVariant); !ok || unknown.Type != "org.other" {
		t.Errorf("the second of list is a %T", v.List[1].Value())
	}
	if v.Other.Value() != nil {
		t.Errorf("other is a %T, want nothing", v.Other.Value())
	}
	built, err := json.Marshal(open.Item{What: open.NewItemWhat(&open.Car{Wheels: 3})})
	if want := `{"what":{"$type":"com.example.shop.defs#car","wheels":3}}`; string(built) != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", built, err, want)
	}
}

func TestClosedUnion(t *testing.T) {
	roundTrip[closed.Item](t, `{"what":{"$type":"com.example.shop.defs#car","wheels":[1]}}`)
	if err := new(closed.Item).Schema().Check([]byte(`{"what":{"$type":"org.other"}}`)); err == nil {
		t.Error("the table takes a variant that a closed union does not list")
	}
	v := closed.Item{What: closed.NewItemWhat(new(closed.Car))}
	v.Normalize()
	if got, err := json.Marshal(v); string(got) != `{"what":{"$type":"com.example.shop.defs#car","wheels":[]}}` || err != nil {
		t.Errorf("nil list in a variant: %s, %v", got, err)
	}
}

func TestNullable(t *testing.T) {
	v := roundTrip[nullable.Item](t, `{"a":null,"b":null,"c":null,"d":null}`)
	if v.E.Set || v.A != nil || v.D.Value() != nil {
		t.Errorf("%+v", v)
	}
	v.Normalize()
	if got, err := json.Marshal(v); string(got) != `{"a":null,"b":null,"c":null,"d":null}` || err != nil {
		t.Errorf("normalized: %s, %v", got, err)
	}
	roundTrip[nullable.Item](t, `{"a":null,"b":null,"c":null,"d":null,"e":null,"f":null,"g":null,"h":null,"i":null}`)
	roundTrip[nullable.Item](t, `{"a":"","b":[],"c":{"names":[]},"d":{"$type":"com.example.shop.defs#part","names":[]},"e":"","f":[],"g":{"names":[]},"h":{"$type":"com.example.shop.defs#part","names":[]},"i":{}}`)
}

func TestNormalize(t *testing.T) {
	v := arrays.Item{Grid: [][]int64{nil}, Parts: []arrays.Part{{}}, One: new(arrays.Part)}
	v.Normalize()
	got, err := json.Marshal(v)
	if want := `{"tags":[],"grid":[[]],"parts":[{"names":[]}],"one":{"names":[]}}`; string(got) != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestRecord(t *testing.T) {
	roundTrip[record.Post](t, `{"$type":"com.example.shop.post","text":"hi","tags":[]}`)
	v := roundTrip[record.GetPostOutput](t, `{"post":{"$type":"com.example.shop.post","text":"hi","tags":[]},"any":{"$type":"com.example.shop.service","url":"at://x"}}`)
	if s, ok := v.Any.Value().(*record.ServiceRecord); !ok || s.URL != "at://x" {
		t.Errorf("any is a %T", v.Any.Value())
	}
}

func TestRecords(t *testing.T) {
	var known []string
	for _, r := range record.Records() {
		known = append(known, r.NSID)
	}
	if diff := cmp.Diff([]string{record.PostNSID, record.ServiceRecordNSID}, known); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	post, service := record.Records()[0], record.Records()[1]
	if err := errors.Join(
		post.Check([]byte(`{"$type":"com.example.shop.post","text":"hi","tags":[]}`)), post.CheckKey("3jqfcqzm3fo2j"), service.CheckKey("self"),
	); err != nil {
		t.Error(err)
	}
	for _, err := range []error{
		post.Check([]byte(`{"$type":"com.example.shop.service","text":"hi","tags":[]}`)), post.CheckKey("self"), service.CheckKey("3jqfcqzm3fo2j"),
	} {
		if _, ok := err.(*xrpc.Issue); !ok {
			t.Errorf("taken: %v", err)
		}
	}
}

func TestRecursive(t *testing.T) {
	roundTrip[recursive.Tree](t, `{"name":"a","left":{"name":"b"},"children":[{"name":"c","children":[]}]}`)
	if err := new(recursive.Tree).Schema().Check([]byte(`{"name":"a","left":{"name":"b","children":[{}]}}`)); err == nil {
		t.Error("the table does not look into a tree")
	}
}

// serve puts methods on a server and returns a client for it.
func serve(t *testing.T, register func(*echo.Echo, *xrpc.Server) error) xrpc.Client {
	t.Helper()
	e := echo.New()
	if err := register(e, xrpc.NewServer(e, xrpc.Options{CheckOutput: true, Logger: slog.New(slog.DiscardHandler)})); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	return xrpc.Client{Host: server.URL}
}

func public[In any]() xrpc.Policy[In] {
	return xrpc.Policy[In]{Auth: xrpc.Public, Limits: xrpc.GlobalLimitOnly[In]()}
}

type finder struct{ got parameters.FindParams }

func (f *finder) Find(_ context.Context, p *parameters.FindParams) (*parameters.FindOutput, error) {
	f.got = *p
	return &parameters.FindOutput{N: 1}, nil
}

type finderPolicy struct{}

func (finderPolicy) Find() xrpc.Policy[parameters.FindParams] { return public[parameters.FindParams]() }

func TestParams(t *testing.T) {
	f := new(finder)
	c := parameters.Client{Client: serve(t, func(e *echo.Echo, s *xrpc.Server) error { return parameters.Register(e, s, f, finderPolicy{}) })}
	want := parameters.FindParams{
		DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Tags: []string{"a b", "&"}, Kind: "old", Limit: 7, Offset: 0, Deep: false,
		Exact: new(false), Before: new(syntax.Datetime("2026-01-01T00:00:00.000Z")), At: new(int64(-1)),
		Owners: []syntax.DID{"did:web:example.com"}, Sizes: []int64{1, 2}, Flags: []bool{true, false},
	}
	if _, err := c.Find(t.Context(), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, f.got); diff != "" {
		t.Errorf("(-sent +received):\n%s", diff)
	}
	if _, err := c.Find(t.Context(), &parameters.FindParams{DID: want.DID, Tags: []string{"x"}, Deep: true}); err != nil {
		t.Fatal(err)
	}
	if f.got.Limit != 50 || f.got.Kind != "new" {
		t.Errorf("limit %d, kind %q; zero asks for the defaults 50 and new", f.got.Limit, f.got.Kind)
	}
}

type bothService struct{ got string }

func (s *bothService) Put(_ context.Context, p *both.PutParams, in *both.PutInput) (*both.PutOutput, error) {
	s.got = p.ID + " " + in.Name
	return &both.PutOutput{Ok: true}, nil
}

func (s *bothService) Set(_ context.Context, p *both.SetParams, in *both.SetInput) error {
	s.got = p.ID + " " + in.Name
	return nil
}

func (s *bothService) Upload(_ context.Context, p *both.UploadParams, in *xrpc.Body) error {
	data, err := io.ReadAll(in)
	s.got = *p.ID + " " + string(data)
	return err
}

type bothPolicy struct{}

func (bothPolicy) Put() xrpc.Policy[xrpc.Args[both.PutParams, both.PutInput]] {
	return public[xrpc.Args[both.PutParams, both.PutInput]]()
}

func (bothPolicy) Set() xrpc.Policy[xrpc.Args[both.SetParams, both.SetInput]] {
	return public[xrpc.Args[both.SetParams, both.SetInput]]()
}

func (bothPolicy) Upload() xrpc.Policy[xrpc.Args[both.UploadParams, xrpc.Body]] {
	return public[xrpc.Args[both.UploadParams, xrpc.Body]]()
}

func TestParamsAndBody(t *testing.T) {
	service := new(bothService)
	c := both.Client{Client: serve(t, func(e *echo.Echo, s *xrpc.Server) error { return both.Register(e, s, service, bothPolicy{}) })}
	out, err := c.Put(t.Context(), &both.PutParams{ID: "1"}, &both.PutInput{Name: "a"})
	if err != nil || !out.Ok || service.got != "1 a" {
		t.Errorf("put: %v, %v, got %q", out, err, service.got)
	}
	if err := c.Set(t.Context(), &both.SetParams{ID: "2"}, &both.SetInput{Name: "b"}); err != nil || service.got != "2 b" {
		t.Errorf("set: %v, got %q", err, service.got)
	}
	video := xrpc.NewBody(strings.NewReader("film"), "video/mp4")
	if err := c.Upload(t.Context(), &both.UploadParams{ID: new("3")}, video); err != nil || service.got != "3 film" {
		t.Errorf("upload: %v, got %q", err, service.got)
	}
}

type streamService struct{ streams.Service }

func (streamService) Upload(_ context.Context, in *xrpc.Body) (*xrpc.Body, error) {
	return &xrpc.Body{ReadCloser: io.NopCloser(in), ContentType: "application/vnd.ipld.car", Size: in.Size}, nil
}

func (streamService) Lines(context.Context) (*xrpc.Body, error) {
	return &xrpc.Body{ReadCloser: io.NopCloser(strings.NewReader("{}\n{}\n")), ContentType: "application/jsonl", Size: -1}, nil
}

type streamPolicy struct{}

func (streamPolicy) Bare() xrpc.Policy[xrpc.None]   { return public[xrpc.None]() }
func (streamPolicy) Feed() xrpc.Policy[xrpc.None]   { return public[xrpc.None]() }
func (streamPolicy) Lines() xrpc.Policy[xrpc.None]  { return public[xrpc.None]() }
func (streamPolicy) Upload() xrpc.Policy[xrpc.Body] { return public[xrpc.Body]() }

func TestStreams(t *testing.T) {
	c := streams.Client{Client: serve(t, func(e *echo.Echo, s *xrpc.Server) error {
		return streams.Register(e, s, streamService{}, streamPolicy{})
	})}
	for name, call := range map[string]func() (*xrpc.Body, error){
		"{}\n{}\n": func() (*xrpc.Body, error) { return c.Lines(t.Context()) },
		"abc": func() (*xrpc.Body, error) {
			return c.Upload(t.Context(), xrpc.NewBody(strings.NewReader("abc"), "image/png"))
		},
	} {
		body, err := call()
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		data, err := io.ReadAll(body)
		body.Close()
		if string(data) != name || err != nil {
			t.Errorf("got %q, %v, want %q", data, err, name)
		}
	}
}

type shop struct{}

func (shop) Buy(context.Context, *declared.BuyInput) error {
	return declared.ErrBuySoldOut.New(400, "Nothing is left")
}

type shopPolicy struct{ xrpc.Policy[declared.BuyInput] }

func (p shopPolicy) Buy() xrpc.Policy[declared.BuyInput] { return p.Policy }

func TestDeclaredErrors(t *testing.T) {
	c := declared.Client{Client: serve(t, func(e *echo.Echo, s *xrpc.Server) error {
		return declared.Register(e, s, shop{}, shopPolicy{public[declared.BuyInput]()})
	})}
	err := c.Buy(t.Context(), &declared.BuyInput{ID: "1"})
	if !errors.Is(err, declared.ErrBuySoldOut) || errors.Is(err, declared.ErrBuyInvalidHandle) {
		t.Errorf("got %v", err)
	}
}

func TestUndecidedPolicy(t *testing.T) {
	e := echo.New()
	err := declared.Register(e, xrpc.NewServer(e, xrpc.Options{}), shop{}, shopPolicy{})
	if err == nil || !strings.Contains(err.Error(), "com.example.shop.buy") {
		t.Errorf("got %v, want an error that names the method", err)
	}
}

type watchService struct{}

func (watchService) Watch(ctx context.Context, p *subscription.WatchParams, out *xrpc.Stream[subscription.WatchMessage]) error {
	if xrpc.ValueOf(p.Cursor) > 2 {
		return subscription.ErrWatchFutureCursor.New(400, "Cursor in the future.")
	}
	frame, err := xrpc.EncodeFrame(subscription.NewWatchMessage(&subscription.WatchInfo{Name: subscription.WatchInfoNameOutdatedCursor}))
	return errors.Join(err, out.SendFrame(ctx, frame),
		out.Send(ctx, subscription.NewWatchMessage(&subscription.WatchEvent{Seq: 2, Rows: []atdata.Bytes{{1, 2}}})))
}

func (watchService) WatchOne(ctx context.Context, out *xrpc.Stream[subscription.WatchOneMessage]) error {
	return out.Send(ctx, subscription.NewWatchOneMessage(&subscription.WatchEvent{Seq: 1}))
}

func (watchService) WatchAny(ctx context.Context, out *xrpc.Stream[subscription.WatchAnyMessage]) error {
	return out.Send(ctx, subscription.WatchAnyMessage(`{"$type":"com.example.shop.watchAny#x","a":[null]}`))
}

type watchPolicy struct{}

func (watchPolicy) Watch() xrpc.Policy[subscription.WatchParams] {
	return public[subscription.WatchParams]()
}
func (watchPolicy) WatchAny() xrpc.Policy[xrpc.None] { return public[xrpc.None]() }
func (watchPolicy) WatchOne() xrpc.Policy[xrpc.None] { return public[xrpc.None]() }

// collect returns a stream that writes every message down as JSON.
func collect[M any](into *[]string) *xrpc.Stream[M] {
	return xrpc.Receive(func(_ context.Context, m M) error {
		text, err := json.Marshal(m)
		*into = append(*into, string(text))
		return err
	})
}

// The service itself and the client of its server give the same messages.
func TestSubscription(t *testing.T) {
	client := subscription.Client{Client: serve(t, func(e *echo.Echo, s *xrpc.Server) error {
		return subscription.Register(e, s, watchService{}, watchPolicy{})
	})}
	for name, s := range map[string]subscription.Service{"service": watchService{}, "client": &client} {
		var got []string
		err := errors.Join(
			s.Watch(t.Context(), &subscription.WatchParams{Cursor: new(int64(1))}, collect[subscription.WatchMessage](&got)),
			s.WatchOne(t.Context(), collect[subscription.WatchOneMessage](&got)),
			s.WatchAny(t.Context(), collect[subscription.WatchAnyMessage](&got)),
		)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		want := []string{
			`{"$type":"com.example.shop.watch#info","name":"OutdatedCursor"}`,
			`{"$type":"com.example.shop.watch#event","seq":2,"rows":[{"$bytes":"AQI"}]}`,
			`{"$type":"com.example.shop.watch#event","seq":1}`,
			`{"$type":"com.example.shop.watchAny#x","a":[null]}`,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if err := s.Watch(t.Context(), &subscription.WatchParams{Cursor: new(int64(3))}, collect[subscription.WatchMessage](&got)); !errors.Is(err, subscription.ErrWatchFutureCursor) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
