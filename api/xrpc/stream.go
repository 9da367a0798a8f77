package xrpc

import (
	"context"
	"errors"
	"fmt"
)

// Stream is where the messages of a subscription go: on a server to the consumer that
// asked for them, with a client to the function that [Receive] was given. One goroutine
// at a time may send.
type Stream[M any] struct {
	message func(context.Context, M) error
	frame   func(context.Context, []byte) error
	// unreadable decides about a frame that does not fit; nil: its error ends the subscription.
	unreadable func(context.Context, error) error
}

// Send sends m. It returns when the consumer's connection has taken all of it: nothing
// is kept here for a consumer that is slow, so that whoever sends waits for it. An error
// of a consumer that is gone, or whose connection took nothing for as long as
// [Options].WriteTime allows, is final, and what the handler returns.
func (s *Stream[M]) Send(ctx context.Context, m M) error { return s.message(ctx, m) }

// SendFrame is Send of a message that is encoded already, see [EncodeFrame]. It does not
// look into frame, keep it or change it.
func (s *Stream[M]) SendFrame(ctx context.Context, frame []byte) error { return s.frame(ctx, frame) }

// Receive returns a stream that hands every message to f, one after the other, to be
// given to a generated client or a service. An error of f ends the subscription and is
// what that returns.
func Receive[M any](f func(ctx context.Context, m M) error) *Stream[M] {
	return &Stream[M]{
		message: f,
		frame: func(ctx context.Context, frame []byte) error {
			table := messageTable[M]()
			if table == nil {
				return errors.New("receive frame: nothing is known about the messages")
			}
			var m M
			if err := decodeFrame(table.nsid, table, frame, &m, Unmarshal); err != nil {
				return fmt.Errorf("receive frame: %w", err)
			}
			return f(ctx, m)
		},
	}
}

// StreamWithoutParams adapts a subscription that takes no parameters.
func StreamWithoutParams[M any](f func(context.Context, *Stream[M]) error) func(context.Context, *None, *Stream[M]) error {
	return func(ctx context.Context, _ *None, out *Stream[M]) error { return f(ctx, out) }
}
