package xrpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/labstack/echo/v4"
)

// This file is a small namespace, written as the generator would.

type EchoInput struct {
	Name     string               `json:"name"`
	DID      *syntax.DID          `json:"did,omitzero"`
	Count    int64                `json:"count"`
	Accounts []syntax.DID         `json:"accounts,omitzero"`
	When     *syntax.Datetime     `json:"when,omitzero"`
	Inner    *EchoInputInner      `json:"inner,omitzero"`
	Maybe    Nullable[string]     `json:"maybe,omitzero"`
	List     []EchoInputInner     `json:"list,omitzero"`
	Flag     *bool                `json:"flag,omitzero"`
	Sort     *string              `json:"sort,omitzero"`
	Handle   *syntax.Handle       `json:"handle,omitzero"`
	NSID     *syntax.NSID         `json:"nsid,omitzero"`
	At       *syntax.AtIdentifier `json:"at,omitzero"`
}

type EchoInputInner struct {
	Deep  *int64  `json:"deep,omitzero"`
	Other *string `json:"other,omitzero"`
}

var innerTable = Object(
	Optional("deep", Integer(Minimum(-5), Maximum(5))),
	Optional("other", String(MaxGraphemes(3))),
)

var echoTable = Object(
	Required("name", String(MinLength(1), MaxLength(300))),
	Optional("did", String(FormatDID)),
	Required("count", Integer(DefaultInteger(1), Maximum(1000))),
	Optional("accounts", Array(String(FormatDID), MaxLength(2))),
	Optional("when", String(FormatDatetime)),
	Optional("inner", innerTable),
	OrNull(Optional("maybe", String())),
	Optional("list", Array(innerTable)),
	Optional("flag", Boolean()),
	Optional("sort", String(Enum("recent", "usage"))),
	Optional("handle", String(FormatHandle)),
	Optional("nsid", String(FormatNSID)),
	Optional("at", String(FormatAtIdentifier)),
)

type ListParams struct {
	Repo       syntax.AtIdentifier
	Collection *syntax.NSID
	Limit      int64
	Reverse    *bool
	CIDs       []syntax.CID
	Numbers    []int64
	Long       *string
}

func (p *ListParams) DecodeParams(v *Values) {
	p.Repo = syntax.AtIdentifier(v.String("repo"))
	p.Collection = (*syntax.NSID)(v.OptString("collection"))
	p.Limit = v.Integer("limit")
	p.Reverse = v.OptBoolean("reverse")
	p.CIDs = Strings[syntax.CID](v, "cids")
	p.Numbers = v.Integers("numbers")
	p.Long = v.OptString("long")
}

func (p *ListParams) EncodeParams(q *QueryWriter) {
	q.String("repo", string(p.Repo))
	q.OptString("collection", (*string)(p.Collection))
	q.Integer("limit", p.Limit)
	q.OptBoolean("reverse", p.Reverse)
	AddStrings(q, "cids", p.CIDs)
	q.Integers("numbers", p.Numbers)
	q.OptString("long", p.Long)
}

var listTable = Object(
	Required("repo", String(FormatAtIdentifier)),
	Optional("collection", String(FormatNSID)),
	Optional("limit", Integer(Minimum(1), Maximum(100), DefaultInteger(50))),
	Optional("reverse", Boolean()),
	Optional("cids", Array(String(FormatCID))),
	Optional("numbers", Array(Integer())),
	Optional("long", String(MaxLength(2048))),
)

type ListOutput struct {
	Repo    string   `json:"repo"`
	Limit   int64    `json:"limit"`
	Reverse *bool    `json:"reverse,omitzero"`
	CIDs    []string `json:"cids"`
	Numbers []int64  `json:"numbers"`
	Text    *string  `json:"text,omitzero"`
}

func (o *ListOutput) Normalize() {
	if o.CIDs == nil {
		o.CIDs = []string{}
	}
	if o.Numbers == nil {
		o.Numbers = []int64{}
	}
}

var listOutputTable = Object(
	Required("repo", String()),
	Required("limit", Integer()),
	Optional("reverse", Boolean()),
	Required("cids", Array(String())),
	Required("numbers", Array(Integer())),
	Optional("text", String(MaxLength(10000))),
)

type FailParams struct{ How string }

func (p *FailParams) DecodeParams(v *Values)      { p.How = v.String("how") }
func (p *FailParams) EncodeParams(q *QueryWriter) { q.String("how", p.How) }

type SizeOutput struct {
	Size int64  `json:"size"`
	Type string `json:"type"`
}

var sizeTable = Object(Required("size", Integer()), Required("type", String()))

const jsonEncoding = "application/json"

var (
	toyEcho = Method{NSID: "com.example.toy.echo", Kind: Procedure,
		Input: &Media{jsonEncoding, echoTable}, Output: &Media{jsonEncoding, echoTable}}
	toyList = Method{NSID: "com.example.toy.listThings", Kind: Query, Params: listTable,
		Output: &Media{jsonEncoding, listOutputTable}}
	toyPing   = Method{NSID: "com.example.toy.ping", Kind: Procedure}
	toyUpload = Method{NSID: "com.example.toy.upload", Kind: Procedure,
		Input: &Media{"*/*", nil}, Output: &Media{jsonEncoding, sizeTable}}
	toyImages   = Method{NSID: "com.example.toy.images", Kind: Procedure, Input: &Media{"image/png, video/*", nil}}
	toyDownload = Method{NSID: "com.example.toy.download", Kind: Query, Params: failTable, Output: &Media{"application/vnd.ipld.car", nil}}
	toyFail     = Method{NSID: "com.example.toy.fail", Kind: Query, Params: failTable,
		Output: &Media{jsonEncoding, sizeTable}, Errors: []string{"Declared"}}
	toyBoth = Method{NSID: "com.example.toy.both", Kind: Procedure, Params: failTable,
		Input: &Media{jsonEncoding, innerTable}, Output: &Media{jsonEncoding, sizeTable}}
	failTable = Object(Optional("how", String()))

	errToyDeclared   = DeclareError("com.example.toy.fail", "Declared")
	errToyUndeclared = Undeclared("ToyUndeclared")
)

type toyService interface {
	Echo(ctx context.Context, in *EchoInput) (*EchoInput, error)
	ListThings(ctx context.Context, p *ListParams) (*ListOutput, error)
	Ping(ctx context.Context) error
	Upload(ctx context.Context, in *Body) (*SizeOutput, error)
	Images(ctx context.Context, in *Body) error
	Download(ctx context.Context, p *FailParams) (*Body, error)
	Fail(ctx context.Context, p *FailParams) (*SizeOutput, error)
	Both(ctx context.Context, p *FailParams, in *EchoInputInner) (*SizeOutput, error)
}

type toyClient struct{ Client }

func (c *toyClient) Echo(ctx context.Context, in *EchoInput) (*EchoInput, error) {
	return Do[EchoInput, EchoInput](ctx, &c.Client, &toyEcho, in)
}
func (c *toyClient) ListThings(ctx context.Context, p *ListParams) (*ListOutput, error) {
	return Do[ListParams, ListOutput](ctx, &c.Client, &toyList, p)
}
func (c *toyClient) Ping(ctx context.Context) error {
	_, err := Do[None, None](ctx, &c.Client, &toyPing, nil)
	return err
}
func (c *toyClient) Upload(ctx context.Context, in *Body) (*SizeOutput, error) {
	return Do[Body, SizeOutput](ctx, &c.Client, &toyUpload, in)
}
func (c *toyClient) Images(ctx context.Context, in *Body) error {
	_, err := Do[Body, None](ctx, &c.Client, &toyImages, in)
	return err
}
func (c *toyClient) Download(ctx context.Context, p *FailParams) (*Body, error) {
	return Do[FailParams, Body](ctx, &c.Client, &toyDownload, p)
}
func (c *toyClient) Fail(ctx context.Context, p *FailParams) (*SizeOutput, error) {
	return Do[FailParams, SizeOutput](ctx, &c.Client, &toyFail, p)
}
func (c *toyClient) Both(ctx context.Context, p *FailParams, in *EchoInputInner) (*SizeOutput, error) {
	return Do[Args[FailParams, EchoInputInner], SizeOutput](ctx, &c.Client, &toyBoth, &Args[FailParams, EchoInputInner]{*p, *in})
}

var _ toyService = (*toyClient)(nil)

// toy is the implementation.
type toy struct{}

var _ toyService = toy{}

func (toy) Echo(_ context.Context, in *EchoInput) (*EchoInput, error) { return in, nil }

func (toy) ListThings(_ context.Context, p *ListParams) (*ListOutput, error) {
	out := &ListOutput{Repo: string(p.Repo), Limit: p.Limit, Reverse: p.Reverse, Numbers: p.Numbers}
	for _, c := range p.CIDs {
		out.CIDs = append(out.CIDs, string(c))
	}
	if p.Repo == "long.test" {
		out.Text = new(strings.Repeat("long ", 1000))
	}
	return out, nil
}

func (toy) Ping(context.Context) error { return nil }

func (toy) Upload(_ context.Context, in *Body) (*SizeOutput, error) {
	n, err := io.Copy(io.Discard, in)
	if err != nil {
		return nil, err
	}
	return &SizeOutput{n, in.ContentType}, nil
}

func (toy) Images(context.Context, *Body) error { return nil }

func (toy) Download(_ context.Context, p *FailParams) (*Body, error) {
	var r io.Reader = strings.NewReader("0123456789")
	switch p.How {
	case "sized":
		return &Body{ReadCloser: io.NopCloser(r), ContentType: "application/x-sized", Size: 10}, nil
	case "endless":
		return &Body{ReadCloser: io.NopCloser(endless{}), Size: -1}, nil
	case "broken":
		r = io.MultiReader(r, brokenReader{})
	case "panic":
		r = io.MultiReader(r, panickingReader{})
	case "short":
		return &Body{ReadCloser: io.NopCloser(r), Size: 11}, nil
	case "none":
		return &Body{}, nil
	}
	return &Body{ReadCloser: io.NopCloser(r), Size: -1}, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("disk on fire") }

type panickingReader struct{}

func (panickingReader) Read([]byte) (int, error) { panic("secret fire") }

// waiting is closed when Fail begins to wait for goOn to be.
var waiting, goOn chan struct{}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func (toy) Fail(ctx context.Context, p *FailParams) (*SizeOutput, error) {
	switch p.How {
	case "declared":
		return nil, errToyDeclared.New(401, "as declared")
	case "hand":
		return nil, errToyUndeclared.New(403, "by hand")
	case "unknown":
		return nil, &Error{Status: 400, Name: "Surprise", Message: "secret detail"}
	case "plain":
		return nil, errors.New("secret cause")
	case "named500":
		return nil, &Error{Status: 500, Message: "secret message"}
	case "panic":
		panic("secret panic")
	case "nothing":
		return nil, nil
	case "bad":
		return &SizeOutput{Size: 1 << 60}, nil
	case "upstream":
		return nil, UpstreamFailure("Unable").Because(errors.New("plc down"))
	case "header":
		CallFrom(ctx).Header().Set("DPoP-Nonce", "n")
		return nil, &Error{Status: 401, Name: "AuthenticationRequired", Message: "dpop", Header: http.Header{"WWW-Authenticate": {"DPoP"}}}
	case "notimplemented":
		return nil, MethodNotImplemented()
	case "wait":
		close(waiting)
		<-goOn
		return &SizeOutput{Type: "waited"}, ctx.Err()
	case "canceled":
		return nil, fmt.Errorf("wait for what another asked for: %w", context.Canceled)
	case "busy":
		return nil, NotEnoughResources(time.Second)
	case "large":
		return &SizeOutput{Type: strings.Repeat("x", 16<<20)}, nil
	}
	return &SizeOutput{Type: "fine"}, nil
}

func (toy) Both(_ context.Context, p *FailParams, in *EchoInputInner) (*SizeOutput, error) {
	out := &SizeOutput{Type: p.How}
	if in.Deep != nil {
		out.Size = *in.Deep
	}
	return out, nil
}

// bearer lets "Bearer good" in.
type bearer struct{}

func (bearer) String() string { return "bearer" }

func (bearer) Authenticate(ctx context.Context, c *Call) (context.Context, error) {
	c.Private()
	if c.Request.Header.Get("Authorization") != "Bearer good" {
		return nil, AuthenticationRequired("")
	}
	return ctx, nil
}

func registerToy(e Router, s *Server) error {
	r := s.On(e)
	r.POST("/xrpc/com.example.toy.echo", Handle(&toyEcho, Policy[EchoInput]{Auth: Public, Limits: Limits[EchoInput]{
		{Name: "who", Points: 2, Per: time.Minute, Key: func(ctx context.Context, in *EchoInput) string {
			return in.Name + "-" + CallFrom(ctx).IP.String()
		}},
		{Name: "all", Points: 5, Per: time.Hour},
	}}, toy{}.Echo))
	r.GET("/xrpc/com.example.toy.listThings", Handle(&toyList, Policy[ListParams]{Auth: Public, Limits: GlobalLimitOnly[ListParams]()}, toy{}.ListThings))
	r.POST("/xrpc/com.example.toy.ping", Handle(&toyPing, Policy[None]{Auth: bearer{}, Limits: GlobalLimitOnly[None]()}, WithoutBoth(toy{}.Ping)))
	r.POST("/xrpc/com.example.toy.upload", Handle(&toyUpload, Policy[Body]{Auth: bearer{}, Limits: GlobalLimitOnly[Body](), MaxBody: 1000}, toy{}.Upload))
	r.POST("/xrpc/com.example.toy.images", Handle(&toyImages, Policy[Body]{Auth: Public, Limits: GlobalLimitOnly[Body]()}, WithoutOutput(toy{}.Images)))
	r.GET("/xrpc/com.example.toy.download", Handle(&toyDownload, Policy[FailParams]{Auth: Public, Limits: GlobalLimitOnly[FailParams]()}, toy{}.Download))
	r.GET("/xrpc/com.example.toy.fail", Handle(&toyFail, Policy[FailParams]{Auth: Public, Limits: GlobalLimitOnly[FailParams]()}, toy{}.Fail))
	r.POST("/xrpc/com.example.toy.both", Handle(&toyBoth, Policy[Args[FailParams, EchoInputInner]]{Auth: Public, Limits: GlobalLimitOnly[Args[FailParams, EchoInputInner]]()}, WithParams(toy{}.Both)))
	return r.Err()
}

// logBuffer is a log that a test reads while the server writes.
type logBuffer struct {
	mu      sync.Mutex
	b       strings.Builder
	changed chan struct{}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
	return l.b.Write(p)
}

// wait returns the log once it has text.
func (l *logBuffer) wait(t *testing.T, text string) string {
	t.Helper()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.changed:
		case <-time.After(time.Minute):
			t.Fatalf("no %s in the log: %s", text, l)
		}
	}
	return l.String()
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newToy(t testing.TB, o Options) (*echo.Echo, *logBuffer) {
	t.Helper()
	log := &logBuffer{changed: make(chan struct{}, 1)}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	e := echo.New()
	s := NewServer(e, o)
	if err := registerToy(e, s); err != nil {
		t.Fatal(err)
	}
	e.GET("/hello", func(c echo.Context) error { return c.String(200, "hello") })
	return e, log
}

func serveToy(t testing.TB, o Options) (url string, log *logBuffer) {
	t.Helper()
	e, log := newToy(t, o)
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	return srv.URL, log
}

var plainHTTP = &http.Client{Transport: &http.Transport{DisableCompression: true}}

// do sends one request; headers are "Name: value" lines, and ask is "VERB /path".
func do(t testing.TB, url, ask, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	verb, path, _ := strings.Cut(ask, " ")
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), verb, url+path, r)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	resp, err := plainHTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(answer)
}

func failure(name, message string) string {
	var b strings.Builder
	b.WriteString(`{"error":` + jsString(name) + `,"message":` + jsString(message) + `}`)
	return b.String()
}

// always are callers that stay as they are.
func always(c Callers) func() *Callers { return func() *Callers { return &c } }
