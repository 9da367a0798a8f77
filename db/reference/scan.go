package reference

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"
)

// rows are those of a query that [selectAll] began. All of them are read by one statement,
// as they are asked for.
func rows[T any](ctx context.Context, d *database, make func() (*bun.SelectQuery, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var row, none T
		fail := func(err error) { yield(none, d.fail("table "+tableOf[T](d).Name, err)) }
		q, err := make()
		if err != nil {
			fail(err)
			return
		}
		found, err := q.Rows(ctx)
		if err != nil {
			fail(err)
			return
		}
		defer found.Close()
		var id int64
		for found.Next() {
			row = none
			if err := found.Scan(places(d, &id, &row)...); err != nil {
				fail(fmt.Errorf("row %d%s: %w", id, named(d, &row), damaged(err)))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
		if err := found.Err(); err != nil {
			fail(err)
		}
	}
}

func tableOf[T any](d *database) *schema.Table {
	return d.db.Dialect().Tables().Get(reflect.TypeFor[*T]())
}

// selectAll selects rows for a model, and their numbers before them. Each column is of the
// first of the model's table and others that has it. Where none has it, as in older
// editions, it is NULL, or the table is damaged when that must not be.
func selectAll[T any](d *database, others ...string) (*bun.SelectQuery, error) {
	model := tableOf[T](d)
	tables := append([]string{model.Name}, others...)
	if err := d.need(tables...); err != nil {
		return nil, err
	}
	q := d.db.NewSelect().TableExpr("?", bun.Ident(model.Name)).ColumnExpr("?.rowid", bun.Ident(model.Name))
	for _, f := range model.Fields {
		i := slices.IndexFunc(tables, func(t string) bool { return slices.Contains(d.columns[t], f.Name) })
		switch {
		case i >= 0:
			q = q.ColumnExpr("?.?", bun.Ident(tables[i]), bun.Ident(f.Name))
		case f.StructField.Type.Kind() == reflect.Pointer || f.StructField.Type.Kind() == reflect.Bool:
			q = q.ColumnExpr("NULL")
		default:
			return nil, fmt.Errorf("%w: it has no column %s", ErrDamaged, f.Name)
		}
	}
	return q, nil
}

// places are where a row of [selectAll] is scanned into.
func places[T any](d *database, id *int64, row *T) []any {
	v := reflect.ValueOf(row).Elem()
	fields := tableOf[T](d).Fields
	dest := make([]any, 0, 1+len(fields))
	dest = append(dest, id)
	for _, f := range fields {
		dest = append(dest, place{f.Value(v).Addr().Interface(), f.Name})
	}
	return dest
}

// named says whose row it is that could not be read, as far as it was. Other keys may be
// what somebody signs in with.
func named[T any](d *database, row *T) string {
	for _, f := range tableOf[T](d).Fields {
		if s := f.Value(reflect.ValueOf(row).Elem()); f.Name == "did" && s.String() != "" {
			return " of " + s.String()
		}
	}
	return ""
}

// first scans the first row of a query, if there is one.
func (d *database) first(ctx context.Context, q *bun.SelectQuery, table string, dest ...any) error {
	found, err := q.Rows(ctx)
	if err != nil {
		return d.fail("table "+table, err)
	}
	defer found.Close()
	names, err := found.Columns()
	if err != nil {
		return d.fail("table "+table, err)
	}
	for i := range dest {
		dest[i] = place{dest[i], names[i]}
	}
	if found.Next() {
		if err := found.Scan(dest...); err != nil {
			return d.fail("table "+table, damaged(err))
		}
	}
	return d.fail("table "+table, found.Err())
}

// A place is a field of a row, and takes from a column only what is of its type: the tables
// hold whatever was put into them. A truth may be missing, which is no.
type place struct {
	field  any
	column string
}

func (p place) Scan(src any) error {
	if err := p.take(src); err != nil {
		return &misfit{p.column, err}
	}
	return nil
}

// A misfit is a value that its column should not have. What database/sql says around it
// tells no more.
type misfit struct {
	column string
	err    error
}

func (m *misfit) Error() string { return "column " + m.column + ": " + m.err.Error() }

// damaged is what scanning a row into places returned.
func damaged(err error) error {
	if m, ok := errors.AsType[*misfit](err); ok {
		err = m
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func (p place) take(src any) error {
	switch to := p.field.(type) {
	case *string:
		return scanText(to, src)
	case *int64:
		return scanNumber(to, src)
	case **string:
		return scanOptional(to, src, scanText)
	case **int64:
		return scanOptional(to, src, scanNumber)
	case *bool:
		return scanTruth(to, src)
	case *[]byte:
		b, ok := src.([]byte)
		if !ok {
			return fmt.Errorf("%s where bytes belong", kind(src))
		}
		*to = bytes.Clone(b)
		return nil
	}
	return fmt.Errorf("no rule for %T", p.field)
}

func kind(src any) string {
	switch src.(type) {
	case nil:
		return "NULL"
	case string:
		return "text"
	case []byte:
		return "bytes"
	}
	return "a number"
}

func scanText(to *string, src any) error {
	s, ok := src.(string)
	if !ok {
		return fmt.Errorf("%s where text belongs", kind(src))
	}
	if !utf8.ValidString(s) {
		return errors.New("text is not UTF-8")
	}
	*to = s
	return nil
}

// scanNumber takes whole numbers, also as JavaScript stores them in columns without a type.
func scanNumber(to *int64, src any) error {
	switch n := src.(type) {
	case int64:
		*to = n
		return nil
	case float64:
		if n == math.Trunc(n) && math.Abs(n) <= 1<<53 {
			*to = int64(n)
			return nil
		}
		return errors.New("number is not whole")
	}
	return fmt.Errorf("%s where a number belongs", kind(src))
}

func scanTruth(to *bool, src any) error {
	var n int64
	if src != nil {
		if err := scanNumber(&n, src); err != nil {
			return err
		}
	}
	if n != 0 && n != 1 {
		return fmt.Errorf("%d where yes or no belongs", n)
	}
	*to = n == 1
	return nil
}

func scanOptional[T any](to **T, src any, scan func(*T, any) error) error {
	if src == nil {
		*to = nil
		return nil
	}
	*to = new(T)
	return scan(*to, src)
}
