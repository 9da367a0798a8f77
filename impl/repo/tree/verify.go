package tree

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// A Record is a record as it is stored.
type Record struct {
	Path  string
	Value car.Block
}

var (
	// ErrNoRecord says that a record that the tree has is not stored.
	ErrNoRecord = errors.New("record is missing")
	// ErrSpareRecord says that a record is stored that the tree does not have.
	ErrSpareRecord = errors.New("record is not in the tree")
	// ErrOtherRecord says that another record is stored than the tree has.
	ErrOtherRecord = errors.New("record is not that of the tree")
)

// A Problem is one thing that is wrong with a stored tree, or with the records beside it.
type Problem struct {
	// Err is ErrMissing, ErrNode or car.ErrHash about a node, or ErrNoRecord,
	// ErrSpareRecord, ErrOtherRecord or car.ErrHash about a record.
	Err   error
	Path  string // of the record; empty if the problem is a node's
	Place Place  // of the node
}

// Verify walks through a whole tree and compares it with all records that are stored
// beside it, in the order of their paths; it hashes every node and every record. What it
// finds it reports, as it goes, and it returns how many nodes and records the tree has, as
// far as its nodes are to be had: where one is not, records are hashed, but not compared
// with anything. Errors are those of get, of the records, and of report.
func Verify(
	ctx context.Context, root Root, get Getter, records iter.Seq2[Record, error], report func(Problem) error,
) (nodes, count int, err error) {
	next, stop := iter.Pull2(records)
	defer stop()
	v := verification{next: next, report: report}
	if err := v.advance(); err != nil {
		return 0, 0, err
	}
	_, err = Walk(ctx, root, get, Visitor{
		Node: func(Row) error {
			nodes++
			return nil
		},
		Record: func(path string, name dagcbor.CID) error {
			count++
			return v.record(path, name)
		},
		Fault: func(place Place, high string, fault error) error {
			if err := report(Problem{Err: fault, Place: place}); err != nil {
				return err
			}
			for v.more && (high == "" || v.current.Path < high) {
				if err := v.hash(); err != nil {
					return err
				}
			}
			return nil
		},
	})
	if err == nil {
		err = v.spare(func() bool { return true })
	}
	return nodes, count, err
}

// A verification reads the stored records beside the walk.
type verification struct {
	next    func() (Record, error, bool)
	report  func(Problem) error
	current Record // the next one that was not looked at
	more    bool   // whether there is one
}

func (v *verification) advance() error {
	before := v.current.Path
	var err error
	v.current, err, v.more = v.next()
	if err == nil && v.more && v.current.Path <= before {
		err = fmt.Errorf("%w: record %s after %s", ErrPath, v.current.Path, before)
	}
	return err
}

// hash checks the current record against its own name, and goes on to the next.
func (v *verification) hash() error {
	if err := v.current.Value.Check(); err != nil {
		if err := v.report(Problem{Err: err, Path: v.current.Path}); err != nil {
			return err
		}
	}
	return v.advance()
}

// spare reports the records that the tree does not have, as long as they are.
func (v *verification) spare(are func() bool) error {
	for v.more && are() {
		if err := v.report(Problem{Err: ErrSpareRecord, Path: v.current.Path}); err != nil {
			return err
		}
		if err := v.hash(); err != nil {
			return err
		}
	}
	return nil
}

func (v *verification) record(path string, name dagcbor.CID) error {
	if err := v.spare(func() bool { return v.current.Path < path }); err != nil {
		return err
	}
	if !v.more || v.current.Path != path {
		return v.report(Problem{Err: ErrNoRecord, Path: path})
	}
	if v.current.Value.CID != name {
		if err := v.report(Problem{Err: ErrOtherRecord, Path: path}); err != nil {
			return err
		}
	}
	return v.hash()
}
