package xrpc

import (
	"bytes"
	"fmt"
	"sync/atomic"
)

// Kept is the answer of a method whose output seldom changes. It is encoded once for all who
// ask while what it is made of stays the same. The zero value has nothing yet. It is safe for
// concurrent use.
type Kept[Key comparable, Out any] struct {
	last atomic.Pointer[keptAnswer[Key]]
}

type keptAnswer[Key comparable] struct {
	key    Key
	answer *prepared
}

// Answer returns the answer for key, which is all that output depends on. It calls output
// unless the last answer was for the same key. A handler returns it in the place of its
// output, as its error:
//
//	return nil, s.kept.Answer(key, output)
//
// The client gets it as it gets any output.
func (k *Kept[Key, Out]) Answer(key Key, output func(Key) *Out) error {
	if last := k.last.Load(); last != nil && last.key == key {
		return last.answer
	}
	var b bytes.Buffer
	if err := encodeOutput(&b, output(key)); err != nil {
		return fmt.Errorf("encode an answer to be kept: %w", err)
	}
	next := &keptAnswer[Key]{key, prepare(b.Bytes())}
	k.last.Store(next)
	return next.answer
}

// prepared is an answer with what its header says about it.
type prepared struct {
	text        []byte
	tag, length []string
}

func prepare(text []byte) *prepared {
	tag, length := describe(text)
	return &prepared{text, []string{tag}, []string{length}}
}

// Error is for the log of a handler that passed it to somebody else.
func (p *prepared) Error() string { return fmt.Sprintf("answer of %d bytes", len(p.text)) }
