package reference

import (
	"context"
	"encoding/binary"
	"errors"
)

// LastRevs are the revs of the last #commit or #sync event of every account that has one.
func (s *Source) LastRevs(ctx context.Context) (map[string]string, error) {
	d := s.sequencer
	// The plus keeps the index of kinds, which finds half of all events, out of it.
	last := d.db.NewSelect().TableExpr("repo_seq AS e").Column("e.event").
		Where("e.did = a.did AND +e.eventType IN ('append', 'sync') AND e.invalidated = 0").Order("e.seq DESC").Limit(1)
	q := d.db.NewSelect().TableExpr("(SELECT DISTINCT did FROM repo_seq) AS a").Column("a.did").ColumnExpr("(?)", last)
	found, err := q.Rows(ctx)
	if err != nil {
		return nil, d.fail("table repo_seq", err)
	}
	defer found.Close()
	revs := make(map[string]string)
	for found.Next() {
		var did string
		var body any
		if err := found.Scan(place{&did, "did"}, &body); err != nil {
			return nil, d.fail("table repo_seq", damaged(err))
		}
		if body == nil {
			continue
		}
		event, _ := body.([]byte)
		rev, err := readRev(event)
		if err != nil {
			return nil, d.fail("table repo_seq, last event of "+did, damaged(err))
		}
		revs[did] = rev
	}
	return revs, d.fail("table repo_seq", found.Err())
}

var errNoRev = errors.New("event has no rev")

// readRev is the rev of an event, a map in CBOR. Nothing but the rev is decoded.
func readRev(body []byte) (string, error) {
	b := cborBytes(body)
	kind, pairs := b.head()
	if kind != cborMap {
		return "", errNoRev
	}
	for ; pairs > 0 && b != nil; pairs-- {
		name, _ := b.text()
		if name != "rev" {
			b.skip()
			continue
		}
		if rev, ok := b.text(); ok {
			return rev, nil
		}
		break
	}
	return "", errNoRev
}

// cborBytes are what is left of a value in CBOR, nil after anything that is none.
type cborBytes []byte

const (
	cborByteString, cborText = 2, 3
	cborArray, cborMap       = 4, 5
	cborTag, cborSimple      = 6, 7
	cborBroken               = 8
)

// head takes the head of an item: its major type and its number.
func (b *cborBytes) head() (kind byte, n uint64) {
	if len(*b) == 0 {
		*b = nil
		return cborBroken, 0
	}
	kind, short := (*b)[0]>>5, (*b)[0]&31
	*b = (*b)[1:]
	if short < 24 {
		return kind, uint64(short)
	}
	var size int
	if short < 28 {
		size = 1 << (short - 24)
	}
	if size == 0 || len(*b) < size { // there are no lengths left open in DAG-CBOR
		*b = nil
		return cborBroken, 0
	}
	var number [8]byte
	copy(number[8-size:], *b)
	*b = (*b)[size:]
	return kind, binary.BigEndian.Uint64(number[:])
}

func (b *cborBytes) text() (string, bool) {
	kind, n := b.head()
	if kind != cborText || n > uint64(len(*b)) {
		*b = nil
		return "", false
	}
	s := string((*b)[:n])
	*b = (*b)[n:]
	return s, true
}

// skip takes a value, with all that is in it.
func (b *cborBytes) skip() {
	for left := uint64(1); left > 0 && *b != nil; left-- {
		kind, n := b.head()
		switch kind {
		case cborByteString, cborText:
			if n > uint64(len(*b)) {
				*b = nil
				return
			}
			*b = (*b)[n:]
		case cborArray, cborMap:
			if n > uint64(len(*b)) { // an item has a byte at least
				*b = nil
				return
			}
			left += n * uint64(kind-cborArray+1)
		case cborTag:
			left++
		}
	}
}
