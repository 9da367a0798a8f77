package bsky

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"

	"portico/api/xrpc"
	"portico/impl/account/auth"
	"portico/impl/proxy"
)

// A patch changes an answer of the app view, which fits the lexicon of its method, by what v
// knows and the app view does not. After an error nothing of it counts.
type patch func(ctx context.Context, v *viewer, answer xrpc.Node, e *edits) error

// readAfterWrite answers the query of ctx: with what the app view says, patched with what the
// caller wrote since. What it returns is the answer, see [xrpc.Response] and [xrpc.JSON].
//
// An answer that needs no patch is passed on as it comes, without being read.
func (s *Service) readAfterWrite(ctx context.Context, output *xrpc.Schema, apply patch) error {
	c, caller := xrpc.CallFrom(ctx), auth.Caller(ctx)
	to, err := s.Proxy.Target(ctx, c, s.Proxy.AppView)
	if err != nil {
		return err
	}
	answer, err := s.Proxy.Ask(ctx, c, to, caller.DID)
	if err != nil {
		return err
	}
	if answer.Rev == "" || !answer.JSON || answer.Status >= http.StatusMultipleChoices || c.Request.Method == http.MethodHead {
		return answer.Response
	}
	since, err := s.writtenSince(ctx, caller.DID, answer.Rev)
	if err != nil {
		s.notPatched(ctx, err)
		return answer.Response
	}
	if since.empty() {
		return answer.Response
	}
	leave, ok := s.readings.enter(caller.DID, s.Now())
	if !ok {
		return answer.Response
	}
	c.AtEnd(leave)
	body, err := s.Proxy.Read(answer)
	if err != nil {
		return err
	}
	if !s.readings.spend(caller.DID, work(body)) {
		return unpatched(answer, body)
	}
	node, err := output.Parse(body)
	if err != nil {
		return unpatched(answer, body)
	}
	patched, err := patchText(ctx, body, node, output, s.viewer(caller.Account, since), apply)
	if err != nil {
		s.notPatched(ctx, err)
		return unpatched(answer, body)
	}
	return s.patched(c, patched, since)
}

// patchText is body after the patch, which still fits output.
func patchText(ctx context.Context, body []byte, node xrpc.Node, output *xrpc.Schema, v *viewer, apply patch) ([]byte, error) {
	var e edits
	if err := apply(ctx, v, node, &e); err != nil {
		return nil, err
	}
	text, err := e.apply(body)
	if err != nil {
		return nil, err
	}
	if err := output.Check(text); err != nil {
		return nil, fmt.Errorf("patched answer does not fit the lexicon: %w", err)
	}
	return text, nil
}

// patched is the answer with the given text.
func (s *Service) patched(c *xrpc.Call, text []byte, since *written) error {
	lag := s.Now().Sub(since.oldest()).Milliseconds()
	c.Header().Set("Atproto-Upstream-Lag", strconv.FormatInt(lag, 10))
	return xrpc.JSON(text)
}

// unpatched is the answer a, whose body was read.
func unpatched(a *proxy.Answer, body []byte) *xrpc.Response {
	h := a.Header.Clone()
	h.Del("Content-Encoding")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	return &xrpc.Response{Status: a.Status, Header: h, Body: io.NopCloser(bytes.NewReader(body)), Size: int64(len(body))}
}

func (s *Service) notPatched(ctx context.Context, err error) {
	s.Log.LogAttrs(ctx, slog.LevelWarn, "answer of the app view not patched",
		slog.String("method", xrpc.CallFrom(ctx).NSID), slog.String("did", auth.Caller(ctx).DID.String()), slog.String("error", err.Error()))
}
