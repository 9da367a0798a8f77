//go:build compare

package compare

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coder/websocket"

	"portico/cmd/portico/launch"
	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
)

const carType = "application/vnd.ipld.car"

// quiet is how long nothing comes over a stream of which all has come that was there.
const quiet = time.Second

// caughtUp is how long the reference, which polls its database, may take to see what was
// written before somebody came who wants to hear of what comes after.
const caughtUp = 3 * time.Second

// frames connects to a subscription and reads what it says until it has been quiet
// for a while or is closed.
func (s *side) frames(ctx context.Context, st step) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, launch.Patience)
	defer cancel()
	if !strings.Contains(st.path, "?") {
		select {
		case <-time.After(caughtUp):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, resp, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(s.url, "http")+st.path, nil)
	if err != nil {
		if resp == nil {
			return nil, err
		}
		return &answer{status: resp.StatusCode, header: resp.Header}, nil
	}
	defer conn.CloseNow()
	conn.SetReadLimit(8 << 20)
	a := &answer{status: http.StatusOK, header: http.Header{}}
	frames := []any{}
	for {
		reading, stop := context.WithTimeout(ctx, quiet)
		_, b, err := conn.Read(reading)
		late := reading.Err() != nil
		stop()
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed):
			a.closed = fmt.Sprintf("%d %s", closed.Code, closed.Reason)
		case err != nil && !late:
			a.closed = "broken"
		case err == nil:
			frame, err := decodeFrame(b)
			if err != nil {
				return nil, fmt.Errorf("frame %d: %w", len(frames), err)
			}
			frames = append(frames, frame)
			body, _ := frame["body"].(map[string]any)
			if seq, ok := body["seq"].(float64); ok {
				s.vars["seq"] = strconv.FormatInt(int64(seq), 10)
			}
			continue
		}
		a.frames = frames
		a.json = map[string]any{"frames": frames}
		return a, nil
	}
}

// decodeFrame returns header and body of a frame as JSON.
func decodeFrame(b []byte) (map[string]any, error) {
	d := dagcbor.NewDecoder(b)
	head, body := d.Skip(), d.Skip()
	if err := d.End(); err != nil {
		return nil, err
	}
	h, err := decodeCBOR(head)
	if err != nil {
		return nil, err
	}
	v, err := decodeCBOR(body)
	if err != nil {
		return nil, err
	}
	return map[string]any{"header": h, "body": v}, nil
}

func decodeCBOR(b []byte) (any, error) {
	text, err := record.AppendJSON(nil, b)
	if err != nil {
		return nil, err
	}
	var v any
	return v, json.Unmarshal(text, &v)
}

// bytesOf are the bytes that a value of decodeCBOR stands for, none if it is no such.
func bytesOf(v any) []byte {
	m, _ := v.(map[string]any)
	text, _ := m["$bytes"].(string)
	b, _ := base64.RawStdEncoding.DecodeString(text)
	return b
}

// learnCommits remembers every CID of a commit that an answer names, so that it is known
// for one that differs from server to server.
func (s *side) learnCommits(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, field := range v {
			if text, ok := field.(string); ok {
				_, hasRev := v["rev"]
				if key == "cid" && hasRev || key == "root" || key == "head" || key == "repoCommit" {
					s.commits[text] = true
				}
			}
			if link, ok := field.(map[string]any); ok && key == "commit" {
				if text, ok := link["$link"].(string); ok {
					s.commits[text] = true
				}
			}
			s.learnCommits(field)
		}
	case []any:
		for _, item := range v {
			s.learnCommits(item)
		}
	}
}

// flattenArchive has one fact for the roots of an archive and one for every block
// that is in it, which come in no certain order.
func (s *side) flattenArchive(facts map[string]string, path string, archive []byte) {
	r, err := car.NewReader(bytes.NewReader(archive))
	if err != nil {
		facts[path] = err.Error()
		return
	}
	type block struct {
		cid  string
		data any
	}
	var blocks []block
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			facts[path] = err.Error()
			return
		}
		v, err := decodeCBOR(b.Data)
		if err != nil {
			facts[path] = err.Error()
			return
		}
		if m, ok := v.(map[string]any); ok && m["sig"] != nil {
			s.commits[b.CID.String()] = true
		}
		blocks = append(blocks, block{b.CID.String(), v})
	}
	roots := []string{}
	for _, root := range r.Roots() {
		text := s.mask(root.String())
		if slices.ContainsFunc(blocks, func(b block) bool { return b.cid == root.String() }) {
			text += ", a block"
		}
		roots = append(roots, text)
	}
	facts[path+" roots"] = strings.Join(roots, "; ")
	for _, b := range blocks {
		facts[path+" block "+s.describe(b.data)+" "+s.mask(b.cid)] = "there"
	}
}

// describe is what a block is.
func (s *side) describe(v any) string {
	m, _ := v.(map[string]any)
	what := "record"
	switch {
	case m["sig"] != nil:
		what = "commit"
		m["sig"] = fmt.Sprintf("%d bytes", len(bytesOf(m["sig"])))
	case m["e"] != nil:
		what = "node"
		entries, _ := m["e"].([]any)
		for _, e := range entries {
			if e, ok := e.(map[string]any); ok {
				e["k"] = string(bytesOf(e["k"]))
			}
		}
	}
	leaves := map[string]string{}
	s.flatten(leaves, "", v)
	var b strings.Builder
	b.WriteString(what)
	for _, key := range slices.Sorted(maps.Keys(leaves)) {
		fmt.Fprintf(&b, " %s=%s", strings.TrimPrefix(key, "."), leaves[key])
	}
	return b.String()
}

// flattenFrames has the facts of what came over a subscription.
func (s *side) flattenFrames(facts map[string]string, a *answer) {
	facts["frames"] = strconv.Itoa(len(a.frames))
	facts["closed"] = "no"
	if a.closed != "" {
		facts["closed"] = a.closed
	}
	last := 0.0
	for i, f := range a.frames {
		path := "frame " + strconv.Itoa(i)
		frame, _ := f.(map[string]any)
		s.flatten(facts, path+" header", frame["header"])
		body, _ := frame["body"].(map[string]any)
		body = maps.Clone(body)
		if seq, ok := body["seq"].(float64); ok {
			facts[path+" seq"] = "rises"
			if seq <= last {
				facts[path+" seq"] = "does not rise"
			}
			last = seq
			delete(body, "seq")
		}
		if blocks := bytesOf(body["blocks"]); len(blocks) > 0 {
			s.flattenArchive(facts, path+" blocks", blocks)
			delete(body, "blocks")
		}
		s.flatten(facts, path+" body", body)
	}
}
