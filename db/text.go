package db

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"sync"

	"github.com/uptrace/bun"
)

var texts sync.Map

// sqlText is the statement of a text with ? for parameters and {braces} around what only
// Postgres needs.
func sqlText(text string) *statement {
	if s, ok := texts.Load(text); ok {
		return s.(*statement)
	}
	s, _ := texts.LoadOrStore(text, &statement{
		lite: sync.OnceValue(func() string {
			lite := text
			for {
				before, rest, ok := strings.Cut(lite, "{")
				if !ok {
					return numbered(lite)
				}
				_, after, _ := strings.Cut(rest, "}")
				lite = before + after
			}
		}),
		postgres: sync.OnceValue(func() string { return numbered(text) }),
	})
	return s.(*statement)
}

func numbered(text string) string {
	var b strings.Builder
	n := 0
	for _, c := range text {
		switch c {
		case '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
		case '{', '}':
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func (q *queries) execText(ctx context.Context, text string, args ...any) (int64, error) {
	return q.exec(ctx, sqlText(text), args...)
}

func (q *queries) getText(ctx context.Context, text string, args []any, dest ...any) error {
	return q.get(ctx, sqlText(text), args, dest...)
}

func (q *queries) eachText(ctx context.Context, text string, args []any, scan func(row *sql.Rows) error) error {
	return q.each(ctx, sqlText(text), args, scan)
}

func (q *queries) existsText(ctx context.Context, text string, args ...any) (bool, error) {
	return q.exists(ctx, sqlText(text), args...)
}

// scanEach is each for a query that was put together.
func scanEach(ctx context.Context, s *bun.SelectQuery, scan func(row *sql.Rows) error) error {
	rows, err := s.Rows(ctx)
	if err != nil {
		return sentinel(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return sentinel(rows.Err())
}
