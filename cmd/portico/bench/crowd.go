package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	passwords "portico/impl/account/password"
	"portico/impl/keyring"
	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/tree"
)

// A crowd fills a database with accounts whose rows are as if their owners had signed up,
// written a post and signed in once. Some are whole, but that all have one key, each sealed
// for its account, one signature, which is no commit's, and one password. The others are
// copies of one of them, with names of their own, which the database makes by itself, since
// to send a million takes long: everything can be asked about them, but they can't write. It
// knows the columns of the tables, so a step of the schema may have to be made here too.
type crowd struct {
	keys   *keyring.Ring
	sealed *atcrypto.PrivateKeyK256
	signs  sameSignature
	public string
	hash   string
	from   time.Time // when the first signed up; each other did crowdEvery later
}

// crowdEvery is how long it took until the next one signed up.
const crowdEvery = 3600 * time.Microsecond

// crowdDID is in another order than n, as those of the directory are in none.
func crowdDID(n int) syntax.DID { return seededDID(n * crowdScramble % crowdDIDs) }

// What makes a DID of a number, here and in SQL. Each number has its own below crowdDIDs.
const (
	crowdScramble = 2654435761
	crowdDIDs     = 1 << 32
)

func crowdHandle(n int) string { return fmt.Sprintf("seed-%d.bench.example.com", n) }

// crowdTables are the tables that a crowd fills, with their columns.
var crowdTables = []struct {
	name    string
	columns []string
}{
	{"account", []string{"did", "handle", "email", "state", "password_hash", "created_at", "email_confirmed_at"}},
	{"signing_key", []string{"did", "purpose", "public", "sealed"}},
	{"repo", []string{
		"did", "commit_cid", "commit_block", "rev", "data_cid", "layer", "records", "nodes", "expected_blobs", "imported_blobs",
	}},
	{"node", []string{"did", "low", "layer", "cid", "rev", "data"}},
	{"record", []string{"did", "path", "cid", "rev", "indexed_at", "value"}},
	{"collection", []string{"did", "collection"}},
	{"session", []string{"id", "did", "created_at", "expires_at", "family", "generation"}},
	{"session_origin", []string{"did", "family", "opened_at", "address", "agent"}},
	{"known_address", []string{"did", "address", "seen_at"}},
	{"audit", []string{"did", "at", "actor", "event"}},
}

// A sameSignature is a key that signs everything alike, which takes no time.
type sameSignature struct {
	atcrypto.PrivateKey
	signature []byte
}

func (k sameSignature) HashAndSign([]byte) ([]byte, error) { return k.signature, nil }

func newCrowd(ctx context.Context) (*crowd, error) {
	kek, err := hex.DecodeString(keyEncryptionKey)
	if err != nil {
		return nil, err
	}
	c := &crowd{from: time.Now().Add(-24 * time.Hour).Truncate(24 * time.Hour)}
	if c.keys, err = keyring.New(rand.Reader, kek); err != nil {
		return nil, err
	}
	if c.sealed, err = keyring.NewKey(rand.Reader); err != nil {
		return nil, err
	}
	public, err := c.sealed.PublicKey()
	if err != nil {
		return nil, err
	}
	c.public, c.signs.PrivateKey = public.DIDKey(), c.sealed
	if c.signs.signature, err = c.sealed.HashAndSign([]byte("crowd")); err != nil {
		return nil, err
	}
	c.hash, err = passwords.NewHasher(passwords.Config{Rand: rand.Reader}).Hash(ctx, passwords.Caller{}, password)
	return c, err
}

// rows are the rows of account n, one for each of crowdTables, and the key of its post.
func (c *crowd) rows(n int) (rows [][]any, err error) {
	did := crowdDID(n)
	at := c.from.Add(time.Duration(n) * crowdEvery)
	path := posts + "/" + c.key(n)
	rev := syntax.NewTIDFromTime(at, 0)
	value, err := seededPost(n, at)
	if err != nil {
		return nil, err
	}
	record := dagcbor.Sum(dagcbor.CodecDAGCBOR, value)
	var node tree.Row
	b := tree.Builder{Emit: func(r tree.Row) error {
		node = r
		return nil
	}}
	if err := b.Add(path, record); err != nil {
		return nil, err
	}
	root, err := b.Root()
	if err != nil {
		return nil, err
	}
	signed, err := repo.Sign(did, c.signs, rev, root.CID)
	if err != nil {
		return nil, err
	}
	sealed, err := c.keys.Seal(keyPurpose, did.String(), c.sealed.Bytes())
	if err != nil {
		return nil, err
	}
	session := sha256.Sum256([]byte(did))
	id, micros, commit := did.String(), at.UnixMicro(), signed.Commit
	return [][]any{
		{id, crowdHandle(n), fmt.Sprintf("seed-%d@example.com", n), "ready", c.hash, micros, micros},
		{id, keyPurpose, c.public, sealed},
		{id, commit.CID[:], commit.Data, rev.String(), root.CID[:], root.Layer, b.Records, b.Nodes, 0, 0},
		{id, node.Place.Low, node.Place.Layer, node.CID[:], rev.String(), node.Data},
		{id, path, record[:], rev.String(), micros, value},
		{id, posts},
		{session[:], id, micros, at.AddDate(0, 2, 0).UnixMicro(), session[:], 0},
		{id, session[:], micros, "203.0.113.9", "somebody's app"},
		{id, "203.0.113.9", micros},
		{id, micros, id, "account created"},
	}, nil
}

// key is that of the post of account n that is whole.
func (c *crowd) key(n int) string {
	return syntax.NewTIDFromTime(c.from.Add(time.Duration(n)*crowdEvery), 0).String()
}

// post is the key of the post of account n in a crowd of a size. Copies have that of the first.
func (c *crowd) post(n, size int) string {
	if people := min(active, size); n%(size/people) == 0 && n/(size/people) < people {
		return c.key(n)
	}
	return c.key(0)
}

// whole are the numbers of the accounts of a crowd that are whole: at most active ones, at
// equal distances from the first on.
func whole(size int) (all []int) {
	people := min(active, size)
	for i := range people {
		all = append(all, i*(size/people))
	}
	return all
}

// whole returns the rows of the accounts that are whole, of each of crowdTables.
func (c *crowd) whole(size int) (tables [][][]any, err error) {
	tables = make([][][]any, len(crowdTables))
	for _, n := range whole(size) {
		rows, err := c.rows(n)
		if err != nil {
			return nil, err
		}
		for t, row := range rows {
			tables[t] = append(tables[t], row)
		}
	}
	return tables, nil
}

// placed are the statements that put the rows of a table where those of the first account and
// of others that are whole are in the table whole: theirs, and copies of the first's, in the
// order of the table crowd. That has the DID of each account, its number and when it signed up.
func placed(table int, ofDID string) []string {
	own := map[string]string{
		"account.did": "c.did", "account.handle": "'seed-' || c.n || '.bench.example.com'", "account.email": "'seed-' || c.n || '@example.com'",
		"account.created_at": "c.at", "account.email_confirmed_at": "c.at", "session.id": ofDID, "session.created_at": "c.at",
		"session.family": ofDID, "session_origin.family": ofDID, "session_origin.opened_at": "c.at", "known_address.seen_at": "c.at",
		"audit.at": "c.at", "audit.actor": "c.did", "record.indexed_at": "c.at",
	}
	t := crowdTables[table]
	var values []string
	for _, column := range t.columns {
		value := "first." + column
		if column == "did" {
			value = "c.did"
		}
		values = append(values, fmt.Sprintf("CASE WHEN w.did IS NULL THEN %s ELSE w.%s END", cmp.Or(own[t.name+"."+column], value), column))
	}
	return []string{
		fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM crowd AS c CROSS JOIN (SELECT * FROM whole WHERE did = '%s') AS first LEFT JOIN whole AS w ON w.did = c.did",
			t.name, strings.Join(t.columns, ", "), strings.Join(values, ", "), crowdDID(0)),
		"DROP TABLE whole",
	}
}

// makeWhole is the statement that makes the table whole for the rows of a table.
func makeWhole(table int) string {
	t := crowdTables[table]
	return fmt.Sprintf("CREATE TEMP TABLE whole AS SELECT %s FROM %s WHERE false", strings.Join(t.columns, ", "), t.name)
}

// fillSQLite fills the database of a data folder of a server that does not run. One that
// was not filled to the end is of no use.
func (c *crowd) fillSQLite(ctx context.Context, dir string, size int) error {
	d, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "portico.sqlite")+
		"?_pragma=synchronous(OFF)&_pragma=cache_size(-500000)&_pragma=foreign_keys(OFF)&_pragma=temp_store(MEMORY)")
	if err != nil {
		return err
	}
	defer d.Close()
	d.SetMaxOpenConns(1)
	tables, err := c.whole(size)
	if err != nil {
		return err
	}
	exec := func(text string, args ...any) error {
		_, err := d.ExecContext(ctx, text, args...)
		if err != nil {
			err = fmt.Errorf("%.60s: %w", text, err)
		}
		return err
	}
	// Without a log each page is written once.
	for _, text := range []string{"PRAGMA journal_mode = DELETE", "PRAGMA journal_mode = OFF", "BEGIN"} {
		if err := exec(text); err != nil {
			return err
		}
	}
	indexes, err := c.indexes(ctx, d, "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ?")
	if err != nil {
		return err
	}
	for _, index := range indexes {
		if err := exec("DROP INDEX " + index.name); err != nil {
			return err
		}
	}
	// In the order of the tables, which is that of DIDs: what comes in it costs a tenth.
	if err := exec(fmt.Sprintf(`CREATE TEMP TABLE crowd AS
		WITH RECURSIVE number (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < %d)
		SELECT n, printf('did:plc:%%024d', n * %d %% %d) AS did, %d + n * %d AS at FROM number ORDER BY did`,
		size-1, crowdScramble, crowdDIDs, c.from.UnixMicro(), crowdEvery.Microseconds())); err != nil {
		return err
	}
	for t, rows := range tables {
		if err := exec(makeWhole(t)); err != nil {
			return err
		}
		for _, row := range rows {
			if err := exec("INSERT INTO whole VALUES ("+strings.TrimSuffix(strings.Repeat("?,", len(row)), ",")+")", row...); err != nil {
				return err
			}
		}
		for _, text := range placed(t, "CAST(c.did AS BLOB)") {
			if err := exec(text); err != nil {
				return err
			}
		}
	}
	for _, text := range slices.Concat(definitions(indexes), []string{"COMMIT", "PRAGMA journal_mode = WAL"}) {
		if err := exec(text); err != nil {
			return err
		}
	}
	return nil
}

// An index is one of a table that it can do without for a while.
type index struct{ name, definition string }

// indexes are those of crowdTables. The query has the names and definitions of those of a table.
func (c *crowd) indexes(ctx context.Context, d *sql.DB, query string) (all []index, err error) {
	for _, t := range crowdTables {
		rows, err := d.QueryContext(ctx, query, t.name)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		for rows.Next() {
			var i index
			if err := rows.Scan(&i.name, &i.definition); err != nil {
				return nil, err
			}
			all = append(all, i)
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func definitions(indexes []index) (all []string) {
	for _, i := range indexes {
		all = append(all, i.definition)
	}
	return all
}

// fillPostgres fills a database on which a server was started once, and lets it be as
// autovacuum leaves one. One that was not filled to the end is of no use.
func (c *crowd) fillPostgres(ctx context.Context, url string, size int) error {
	d, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer d.Close()
	d.SetMaxOpenConns(1) // which has the settings and the temporary tables
	tables, err := c.whole(size)
	if err != nil {
		return err
	}
	// Without foreign keys.
	if _, err := d.ExecContext(ctx, "SET synchronous_commit = off; SET session_replication_role = replica; SET maintenance_work_mem = '512MB'"); err != nil {
		return err
	}
	indexes, err := c.indexes(ctx, d, `SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
		WHERE indrelid = $1::text::regclass AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)`)
	if err != nil {
		return err
	}
	for _, index := range indexes {
		if _, err := d.ExecContext(ctx, "DROP INDEX "+index.name); err != nil {
			return err
		}
	}
	exec := func(text string) error {
		_, err := d.ExecContext(ctx, text)
		if err != nil {
			err = fmt.Errorf("%.60s: %w", text, err)
		}
		return err
	}
	// In the order in which they signed up, as they are in one that is in use.
	if err := exec(fmt.Sprintf(`CREATE TEMP TABLE crowd AS
		SELECT n, 'did:plc:' || lpad((n * %d::bigint %% %d::bigint)::text, 24, '0') AS did, %d::bigint + n * %d AS at
		FROM generate_series(0::bigint, %d) AS n`,
		crowdScramble, crowdDIDs, c.from.UnixMicro(), crowdEvery.Microseconds(), size-1)); err != nil {
		return err
	}
	for t, rows := range tables {
		if err := exec(makeWhole(t)); err != nil {
			return err
		}
		if err := copyRows(ctx, d, "whole", crowdTables[t].columns, rows); err != nil {
			return fmt.Errorf("fill %s: %w", crowdTables[t].name, err)
		}
		for _, text := range slices.Concat([]string{"ANALYZE whole"}, placed(t, "convert_to(c.did, 'UTF8')")) {
			if err := exec(text); err != nil {
				return err
			}
		}
	}
	for _, text := range slices.Concat([]string{"DROP TABLE crowd"}, definitions(indexes), []string{"VACUUM ANALYZE", "CHECKPOINT"}) {
		if err := exec(text); err != nil {
			return err
		}
	}
	return nil
}

func copyRows(ctx context.Context, d *sql.DB, table string, columns []string, rows [][]any) error {
	conn, err := d.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(driverConn any) error {
		_, err := driverConn.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, pgx.CopyFromRows(rows))
		return err
	})
}
