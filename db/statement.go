package db

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
)

// A statement is one of a fixed shape: bun's builder writes it once for each engine, and
// it runs prepared, with parameters. A builder that runs per call writes the arguments
// into the text, and the engine reads that anew: three times the cost for a row, six
// times for a large value. So that is left to shapes that depend on the data.
type statement struct {
	lite, postgres func() string
	unmet          error // see [touching]
}

// The statements that begin and end transactions, for which the builder has no words.
var (
	begin          = prepared(func(b *builder) bun.Query { return b.NewRaw("BEGIN") })
	beginImmediate = prepared(func(b *builder) bun.Query { return b.NewRaw("BEGIN IMMEDIATE") }) // SQLite's
	rollback       = prepared(func(b *builder) bun.Query { return b.NewRaw("ROLLBACK") })
	commit         = prepared(func(b *builder) bun.Query { return b.NewRaw("COMMIT") })

	// Those of a part of a transaction, which SQLite has.
	savepoint    = prepared(func(b *builder) bun.Query { return b.NewRaw("SAVEPOINT member") })
	rollbackPart = prepared(func(b *builder) bun.Query { return b.NewRaw("ROLLBACK TO member") })
	release      = prepared(func(b *builder) bun.Query { return b.NewRaw("RELEASE member") })
)

// prepared returns the statement that build makes. It is meant for package variables:
// what cannot be built panics when it is first run, and dbtest runs all.
func prepared(build func(b *builder) bun.Query) *statement {
	return &statement{
		lite:     sync.OnceValue(func() string { return built(sqlitedialect.New(), build) }),
		postgres: sync.OnceValue(func() string { return built(pgdialect.New(), build) }),
	}
}

func (s *statement) text(engine dialect.Name) string {
	if engine == dialect.PG {
		return s.postgres()
	}
	return s.lite()
}

func built(d schema.Dialect, build func(b *builder) bun.Query) string {
	b := &builder{DB: bun.NewDB(nil, withMicroseconds(d))}
	made, err := build(b).AppendQuery(b.QueryGen(), nil)
	if err != nil {
		panic(fmt.Errorf("build statement: %w", err))
	}
	text := string(made)
	if d.Name() == dialect.PG || !inOrder(text) {
		return text
	}
	return numberedParameter.ReplaceAllLiteralString(text, "?")
}

var numberedParameter = regexp.MustCompile(`\$[0-9]+`)

// inOrder reports whether the parameters stand in the order of their numbers, each once.
// SQLite's driver then needs no numbers, and makes a string of each that there is.
func inOrder(text string) bool {
	for i, p := range numberedParameter.FindAllString(text, -1) {
		if p != "$"+strconv.Itoa(i+1) {
			return false
		}
	}
	return true
}

// A builder is bun's, of one engine, without a database behind it.
type builder struct {
	*bun.DB
	params int
}

// p is the next parameter: the first call stands for the first argument of the statement.
func (b *builder) p() bun.Safe {
	b.params++
	return bun.Safe("$" + strconv.Itoa(b.params))
}

// lock locks the rows of s, and more of what mode says ("UPDATE SKIP LOCKED"), where
// transactions run side by side.
func (b *builder) lock(mode string, s *bun.SelectQuery) *bun.SelectQuery {
	if b.Dialect().Name() == dialect.PG {
		return s.For(mode)
	}
	return s
}

// insert inserts a model with a parameter for each of its columns but some, see [values].
func (b *builder) insert(model any, but ...string) *bun.InsertQuery {
	return b.insertReturning("NULL", model, but...)
}

// insertReturning is insert that returns columns of the row.
func (b *builder) insertReturning(columns string, model any, but ...string) *bun.InsertQuery {
	s := b.NewInsert().Model(model).Returning(columns)
	if len(but) > 0 {
		s = s.ExcludeColumn(but...)
	}
	for _, f := range fields(reflect.TypeOf(model).Elem(), but) {
		s = s.Value(f.Name, "?", b.p())
	}
	return s
}

// setAll updates the columns of a model but some, each with a parameter, in the order of
// [values].
func (b *builder) setAll(s *bun.UpdateQuery, model any, but ...string) *bun.UpdateQuery {
	s = s.Model(model)
	for _, f := range fields(reflect.TypeOf(model).Elem(), but) {
		s = s.Set("? = ?", bun.Ident(f.Name), b.p())
	}
	return s
}

// limit orders a query, which bun's Order may have done before, and ends it with a
// parameter that says how many rows are wanted: bun's own Limit takes none.
func (b *builder) limit(s *bun.SelectQuery, order string) *bun.SelectQuery {
	return s.OrderExpr(order+" LIMIT ?", b.p())
}

// tables knows the fields of models, which are the same for both engines, and columns
// keeps them: to ask for a table costs more than to read a column.
var (
	tables  = withMicroseconds(sqlitedialect.New()).Tables()
	columns sync.Map // from a reflect.Type to []*schema.Field
)

// fields are the columns of a model but some, in the order of its struct.
func fields(model reflect.Type, but []string) []*schema.Field {
	known, ok := columns.Load(model)
	if !ok {
		known, _ = columns.LoadOrStore(model, tables.Get(model).Fields)
	}
	columns := known.([]*schema.Field)
	if len(but) == 0 {
		return columns
	}
	return slices.DeleteFunc(slices.Clone(columns), func(f *schema.Field) bool { return slices.Contains(but, f.Name) })
}

// values are the columns of a model but some as parameters, in the order of its struct:
// what is tagged nullzero is NULL when zero, and a truth tagged type:integer is 0 or 1.
func values[T any](model *T, but ...string) []any {
	v := reflect.ValueOf(model).Elem()
	columns := fields(v.Type(), but)
	args := make([]any, len(columns), len(columns)+2)
	for i, f := range columns {
		value := f.Value(v)
		if f.NullZero && value.IsZero() {
			continue
		}
		switch p := value.Addr().Interface().(type) {
		case *time.Time:
			args[i] = micros(*p)
		case **time.Time:
			args[i] = microsOf(*p)
		case *bool:
			args[i] = *p
			if f.UserSQLType == "integer" {
				args[i] = number(*p)
			}
		default:
			if value.Kind() == reflect.String {
				args[i] = value.String()
			} else {
				args[i] = value.Interface()
			}
		}
	}
	return args
}

// places are where the columns of a model are scanned into, in the order of its struct.
func places[T any](model *T) []any {
	v := reflect.ValueOf(model).Elem()
	columns := fields(v.Type(), nil)
	dest := make([]any, len(columns), len(columns)+2)
	for i, f := range columns {
		dest[i] = place(f, f.Value(v).Addr())
	}
	return dest
}

func place(f *schema.Field, pointer reflect.Value) any {
	var text *string
	switch p := pointer.Interface().(type) {
	case *time.Time:
		return (*stamp)(p)
	case **time.Time:
		return optional{p}
	case *bool:
		if f.UserSQLType == "integer" {
			return (*truth)(p)
		}
		return p
	case *string:
		text = p
	case *syntax.DID:
		text = (*string)(p)
	case *syntax.Handle:
		text = (*string)(p)
	default:
		return p
	}
	if f.NullZero {
		return orEmpty{text}
	}
	return text
}

// parameters turns args into what both drivers take: times are microseconds, the zero
// time is NULL, and named texts are texts.
func parameters(args []any) []any {
	for i, a := range args {
		switch a := a.(type) {
		case time.Time:
			args[i] = micros(a)
		case *time.Time:
			args[i] = microsOf(a)
		case syntax.DID:
			args[i] = string(a)
		case syntax.Handle:
			args[i] = string(a)
		}
	}
	return args
}

// number is a truth where both engines want a number.
func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// exec runs a statement and returns the number of rows it touched. Violated
// constraints are sentinel errors.
func (q *queries) exec(ctx context.Context, s *statement, args ...any) (int64, error) {
	defer q.seen.end(s, q.seen.begin(s))
	res, err := q.run.exec(ctx, s, parameters(args))
	if err != nil {
		return 0, sentinel(err)
	}
	return res.RowsAffected()
}

// get scans the one row of a statement into dest, or returns ErrNotFound. NULL is the
// empty text and the zero time.
func (q *queries) get(ctx context.Context, s *statement, args []any, dest ...any) error {
	for i, d := range dest {
		switch d := d.(type) {
		case *string:
			dest[i] = orEmpty{d}
		case *syntax.DID:
			dest[i] = orEmpty{(*string)(d)}
		case *time.Time:
			dest[i] = (*stamp)(d)
		case **time.Time:
			dest[i] = optional{d}
		}
	}
	return q.scan(ctx, s, args, dest)
}

// scan is get for places that take what the columns have.
func (q *queries) scan(ctx context.Context, s *statement, args, dest []any) error {
	defer q.seen.end(s, q.seen.begin(s))
	return sentinel(q.run.queryRow(ctx, s, parameters(args)).Scan(dest...))
}

// exists reports whether a statement finds a row; what it selects is a number.
func (q *queries) exists(ctx context.Context, s *statement, args ...any) (bool, error) {
	var one int
	err := q.get(ctx, s, args, &one)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// errEnough is what the function given to [queries.each] returns to be given no more rows.
var errEnough = errors.New("enough rows")

// each calls scan with every row of a statement, or until it has enough.
func (q *queries) each(ctx context.Context, s *statement, args []any, scan func(row scanner) error) error {
	defer q.seen.end(s, q.seen.begin(s))
	rows, err := q.run.query(ctx, s, parameters(args))
	if err != nil {
		return sentinel(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err == errEnough {
			return nil
		} else if err != nil {
			return err
		}
	}
	err = rows.Err()
	if r, ok := q.run.(interface {
		judge(ctx context.Context, err error) error
	}); ok {
		err = r.judge(ctx, err)
	}
	return sentinel(err)
}

// repeat runs a function that reads, and keeps what it reads to itself: anew when a
// connection is lost on the way. In a transaction it runs once.
func (q *queries) repeat(ctx context.Context, read func() error) error {
	if p, ok := q.run.(*pgPool); ok {
		return p.repeat(ctx, read)
	}
	return read()
}

// one returns the row of a statement that selects the columns of a model, or ErrNotFound.
func one[T any](ctx context.Context, q *queries, s *statement, args ...any) (*T, error) {
	model := new(T)
	if err := q.scan(ctx, s, args, places(model)); err != nil {
		return nil, err
	}
	return model, nil
}

// many returns the rows of a statement that selects the columns of a model.
func many[T any](ctx context.Context, q *queries, s *statement, args ...any) ([]T, error) {
	var rows []T
	model := new(T)
	dest := places(model)
	err := q.repeat(ctx, func() error {
		rows = nil
		return q.each(ctx, s, args, func(row scanner) error {
			err := row.Scan(dest...) // it sets all of the model, and shares nothing with the row before
			rows = append(rows, *model)
			return err
		})
	})
	return rows, err
}
