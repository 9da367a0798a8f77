package floor

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/ipfs/go-cid"
	_ "modernc.org/sqlite"
)

const schema = `
CREATE TABLE account (
  did TEXT PRIMARY KEY, handle TEXT NOT NULL UNIQUE, email TEXT NOT NULL UNIQUE, confirmed INTEGER NOT NULL, active INTEGER NOT NULL,
  salt BLOB NOT NULL, hash BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE signing_key (did TEXT PRIMARY KEY, key BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE session (id BLOB PRIMARY KEY, did TEXT NOT NULL, next_id BLOB, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE app_password (
  did TEXT NOT NULL, name TEXT NOT NULL, privileged INTEGER NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (did, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE invite (code TEXT PRIMARY KEY, uses INTEGER NOT NULL, for_account TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE repo (did TEXT PRIMARY KEY, rev TEXT NOT NULL, cid BLOB NOT NULL, block BLOB NOT NULL, records INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE record (did TEXT NOT NULL, path TEXT NOT NULL, cid BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (did, path)) STRICT, WITHOUT ROWID;
CREATE TABLE node (did TEXT NOT NULL, low TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (did, low)) STRICT, WITHOUT ROWID;
CREATE TABLE event (seq INTEGER PRIMARY KEY, did TEXT NOT NULL, body BLOB NOT NULL) STRICT;
`

// store is the database: a connection that writes, and a few that read.
type store struct {
	writer, readers *sql.DB

	selectAccount, selectLogin, selectKey, selectAppPasswords, selectRepo, selectRecord *sql.Stmt // of readers

	insertAccount, insertKey, insertSession, insertAppPassword, insertInvite, insertRepo, insertRecord, insertNode, insertEvent *sql.Stmt
	updateSession, updateRepo                                                                                                   *sql.Stmt
}

func open(path string, conns int, pragmas ...string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?"+url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

func openStore(dir, synchronous string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "floor.sqlite")
	s := new(store)
	var err error
	if s.writer, err = open(path, 1, "journal_mode(WAL)", "synchronous("+synchronous+")", "busy_timeout(10000)"); err != nil {
		return nil, err
	}
	if _, err := s.writer.Exec(schema); err != nil {
		return nil, err
	}
	if s.readers, err = open(path, 4, "query_only(1)", "busy_timeout(10000)"); err != nil {
		return nil, err
	}
	var errs []error
	prepare := func(db *sql.DB, query string) *sql.Stmt {
		stmt, err := db.Prepare(query)
		errs = append(errs, err)
		return stmt
	}
	s.selectAccount = prepare(s.readers, "SELECT handle, email, confirmed, active FROM account WHERE did = ?")
	s.selectLogin = prepare(s.readers, "SELECT did, handle, email, confirmed, active, salt, hash FROM account WHERE handle = ?")
	s.selectKey = prepare(s.readers, "SELECT key FROM signing_key WHERE did = ?")
	s.selectAppPasswords = prepare(s.readers, "SELECT name, privileged, created_at FROM app_password WHERE did = ?")
	s.selectRepo = prepare(s.readers, "SELECT active, rev, cid, records FROM account JOIN repo USING (did) WHERE did = ?")
	s.selectRecord = prepare(s.readers, "SELECT cid, value FROM record WHERE did = ? AND path = ?")

	s.insertAccount = prepare(s.writer, "INSERT INTO account VALUES (?, ?, ?, 0, 1, ?, ?)")
	s.insertKey = prepare(s.writer, "INSERT INTO signing_key VALUES (?, ?)")
	s.insertSession = prepare(s.writer, "INSERT INTO session (id, did, expires_at) VALUES (?, ?, ?)")
	s.insertAppPassword = prepare(s.writer, "INSERT INTO app_password VALUES (?, ?, ?, ?)")
	s.insertInvite = prepare(s.writer, "INSERT INTO invite VALUES (?, ?, ?, ?)")
	s.insertRepo = prepare(s.writer, "INSERT INTO repo VALUES (?, ?, ?, ?, 0)")
	s.insertRecord = prepare(s.writer, "INSERT INTO record VALUES (?, ?, ?, ?)")
	s.insertNode = prepare(s.writer, "INSERT INTO node VALUES (?, ?, ?)")
	s.insertEvent = prepare(s.writer, "INSERT INTO event (did, body) VALUES (?, ?)")
	s.updateSession = prepare(s.writer, "UPDATE session SET next_id = ?, expires_at = ? WHERE id = ? AND did = ? AND expires_at > ?")
	s.updateRepo = prepare(s.writer, "UPDATE repo SET rev = ?, cid = ?, block = ?, records = records + 1 WHERE did = ?")
	return s, errors.Join(errs...)
}

// A step is a statement that changes one row.
type step struct {
	stmt *sql.Stmt
	args []any
}

// all does steps in one transaction, or none of them.
func (s *store) all(steps ...step) error {
	tx, err := s.writer.BeginTx(background, nil)
	if err != nil {
		return err
	}
	for i, step := range steps {
		if err := step.do(tx); err != nil {
			return errors.Join(fmt.Errorf("step %d: %w", i, err), tx.Rollback())
		}
	}
	return tx.Commit()
}

func (s step) do(tx *sql.Tx) error {
	result, err := tx.StmtContext(background, s.stmt).ExecContext(background, s.args...)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d rows changed, %w", n, err)
	}
	return nil
}

type account struct {
	Handle         string `json:"handle"`
	DID            string `json:"did"`
	Email          string `json:"email"`
	EmailConfirmed bool   `json:"emailConfirmed"`
	Active         bool   `json:"active"`
}

func (s *store) account(ctx context.Context, did string) (*account, error) {
	a := &account{DID: did}
	return a, s.selectAccount.QueryRowContext(ctx, did).Scan(&a.Handle, &a.Email, &a.EmailConfirmed, &a.Active)
}

func (s *store) login(ctx context.Context, handle string) (a *account, salt, hash []byte, err error) {
	a = new(account)
	err = s.selectLogin.QueryRowContext(ctx, handle).Scan(&a.DID, &a.Handle, &a.Email, &a.EmailConfirmed, &a.Active, &salt, &hash)
	return a, salt, hash, err
}

func (s *store) key(ctx context.Context, did string) (*atcrypto.PrivateKeyK256, error) {
	var raw []byte
	if err := s.selectKey.QueryRowContext(ctx, did).Scan(&raw); err != nil {
		return nil, err
	}
	return atcrypto.ParsePrivateBytesK256(raw)
}

type appPassword struct {
	Name       string    `json:"name"`
	CreatedAt  time.Time `json:"createdAt"`
	Privileged bool      `json:"privileged"`
}

func (s *store) appPasswords(ctx context.Context, did string) ([]appPassword, error) {
	rows, err := s.selectAppPasswords.QueryContext(ctx, did)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []appPassword
	for rows.Next() {
		var p appPassword
		var at int64
		if err := rows.Scan(&p.Name, &p.Privileged, &at); err != nil {
			return nil, err
		}
		p.CreatedAt = time.UnixMilli(at).UTC()
		all = append(all, p)
	}
	return all, rows.Err()
}

func (s *store) addAppPassword(ctx context.Context, did string, p appPassword) error {
	_, err := s.insertAppPassword.ExecContext(ctx, did, p.Name, p.Privileged, p.CreatedAt.UnixMilli())
	return err
}

func (s *store) addInvite(ctx context.Context, code string, uses int, owner string) error {
	_, err := s.insertInvite.ExecContext(ctx, code, uses, owner, time.Now().UnixMicro())
	return err
}

func (s *store) addSession(ctx context.Context, id []byte, did string, expires time.Time) error {
	_, err := s.insertSession.ExecContext(ctx, id, did, expires.UnixMicro())
	return err
}

// rotate ends the session with this id two hours from now and begins its successor.
func (s *store) rotate(did string, id, next []byte, now time.Time) error {
	return s.all(
		step{s.updateSession, []any{next, now.Add(2 * time.Hour).UnixMicro(), id, did, now.UnixMicro()}},
		step{s.insertSession, []any{next, did, now.Add(refreshLife).UnixMicro()}})
}

// newAccount is an account with all that it begins with.
type newAccount struct {
	account
	salt, hash []byte
	key        *atcrypto.PrivateKeyK256
	repo       repository
	session    []byte // hash of the id
	expires    time.Time
}

func (s *store) addAccount(n *newAccount) error {
	return s.all(
		step{s.insertAccount, []any{n.DID, n.Handle, n.Email, n.salt, n.hash}},
		step{s.insertKey, []any{n.DID, n.key.Bytes()}},
		step{s.insertRepo, []any{n.DID, n.repo.rev, n.repo.commit.Bytes(), n.repo.block}},
		step{s.insertNode, []any{n.DID, "", emptyNode}},
		step{s.insertSession, []any{n.session, n.DID, n.expires.UnixMicro()}})
}

func (s *store) repo(ctx context.Context, did string) (r repository, err error) {
	var id []byte
	if err := s.selectRepo.QueryRowContext(ctx, did).Scan(&r.active, &r.rev, &id, &r.records); err != nil {
		return r, err
	}
	r.commit, err = cid.Cast(id)
	return r, err
}

func (s *store) record(ctx context.Context, did, path string) (id cid.Cid, value []byte, err error) {
	var raw []byte
	if err := s.selectRecord.QueryRowContext(ctx, did, path).Scan(&raw, &value); err != nil {
		return id, nil, err
	}
	id, err = cid.Cast(raw)
	return id, value, err
}

// written is a record that was created, with all that changes with it.
type written struct {
	repository
	did, path          string
	cid                cid.Cid
	value, node, event []byte
}

func (s *store) write(w *written) error {
	return s.all(
		step{s.insertRecord, []any{w.did, w.path, w.cid.Bytes(), w.value}},
		step{s.insertNode, []any{w.did, w.path, w.node}},
		step{s.updateRepo, []any{w.rev, w.commit.Bytes(), w.block, w.did}},
		step{s.insertEvent, []any{w.did, w.event}})
}
