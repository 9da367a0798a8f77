package db

import (
	"reflect"
	"strconv"
	"time"

	"github.com/uptrace/bun/schema"
)

// microsecondDialect is a dialect of bun in which times are whole microseconds since
// 1970, and the zero time is NULL, in models as in arguments.
type microsecondDialect struct {
	schema.Dialect
	tables *schema.Tables
}

func withMicroseconds(d schema.Dialect) schema.Dialect {
	m := &microsecondDialect{Dialect: d}
	m.tables = schema.NewTables(m)
	return m
}

// Tables returns the tables whose fields [microsecondDialect.OnTable] has seen.
func (d *microsecondDialect) Tables() *schema.Tables { return d.tables }

// OnTable makes the fields with times read and write microseconds.
func (d *microsecondDialect) OnTable(table *schema.Table) {
	d.Dialect.OnTable(table)
	for _, f := range table.FieldMap {
		if f.IndirectType != reflect.TypeFor[time.Time]() {
			continue
		}
		f.Append = func(_ schema.QueryGen, b []byte, v reflect.Value) []byte {
			return d.AppendTime(b, reflect.Indirect(v).Interface().(time.Time))
		}
		f.Scan = scanStamp
		if f.IsPtr {
			f.Scan = schema.PtrScanner(scanStamp)
		}
	}
}

// AppendTime writes a time that is an argument.
func (d *microsecondDialect) AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "NULL"...)
	}
	return strconv.AppendInt(b, t.UnixMicro(), 10)
}

func scanStamp(dest reflect.Value, src any) error {
	return (*stamp)(dest.Addr().Interface().(*time.Time)).Scan(src)
}
