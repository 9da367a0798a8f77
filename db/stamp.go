package db

import (
	"fmt"
	"time"
)

// stamp is a time as both engines store it: microseconds since 1970 in UTC, so
// that comparing and sorting mean the same everywhere; the zero time is NULL.
type stamp time.Time

// Scan implements [database/sql.Scanner].
func (s *stamp) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*s = stamp{}
	case int64:
		*s = stamp(time.UnixMicro(v).UTC())
	default:
		return fmt.Errorf("time of type %T", src)
	}
	return nil
}

// optional scans into a *time.Time.
type optional struct{ t **time.Time }

func (o optional) Scan(src any) error {
	var s stamp
	err := s.Scan(src)
	*o.t = nil
	if t := time.Time(s); !t.IsZero() {
		*o.t = &t
	}
	return err
}

// truth scans a number into a truth.
type truth bool

// Scan implements [database/sql.Scanner].
func (b *truth) Scan(src any) error {
	n, ok := src.(int64)
	if !ok {
		return fmt.Errorf("truth of type %T", src)
	}
	*b = n != 0
	return nil
}

// stored is t as it comes back from the database.
func stored(t time.Time) time.Time { return time.UnixMicro(t.UnixMicro()).UTC() }

// micros is t as a parameter.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func microsOf(t *time.Time) any {
	if t == nil {
		return nil
	}
	return micros(*t)
}

// orNull is a text as a parameter, "" as NULL.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// orEmpty scans a text, NULL as "".
type orEmpty struct{ s *string }

func (o orEmpty) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*o.s = ""
	case string:
		*o.s = v
	case []byte:
		*o.s = string(v)
	default:
		return fmt.Errorf("text of type %T", src)
	}
	return nil
}
