package db

import (
	"context"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/hashicorp/golang-lru/v2/simplelru"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// accountsCached is how many accounts are kept in memory, the latest asked for. With its
// key one takes about a kilobyte, so all are 8 MB. None is kept that does not exist.
const accountsCached = 8192

// cachedPurpose is that of the keys that are kept, each with its account.
const cachedPurpose = "atproto"

// accountCache has the committed rows of accounts and their keys. There is one only where
// no other process writes to the database: elsewhere a row would have to be checked, which
// takes the round trip that reading it takes.
//
// SQLite itself tells which rows change, see [accountCache.changes]. From then on until
// their transaction is over the cache neither has them nor takes them, so that nobody who
// has seen a new row finds an old one afterwards.
type accountCache struct {
	mu       sync.Mutex
	rows     *simplelru.LRU[syntax.DID, cachedRows]
	changing map[syntax.DID]struct{} // by the transaction that is open
	off      bool                    // all may be changing
	version  uint64                  // goes up whenever rows begin or cease to change
}

// cachedRows are shared by all who read them: nobody changes what they point to.
type cachedRows struct {
	account *Account    // nil: was not read
	key     *SigningKey // nil: was not read
}

func newAccountCache() *accountCache {
	rows, err := simplelru.NewLRU[syntax.DID, cachedRows](accountsCached, nil)
	if err != nil {
		panic(err) // the size is above zero
	}
	return &accountCache{rows: rows, changing: make(map[syntax.DID]struct{})}
}

// get returns what is there of an account. What is read now because it is not there may be
// put with the version.
func (c *accountCache) get(did syntax.DID) (cachedRows, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, _ := c.rows.Get(did)
	return r, c.version
}

// put adds what was read after the version was got, unless it may be old by now.
func (c *accountCache) put(did syntax.DID, version uint64, read cachedRows) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, changing := c.changing[did]; changing || c.off || version != c.version {
		return
	}
	r, _ := c.rows.Get(did)
	if read.account != nil {
		r.account = read.account
	}
	if read.key != nil {
		r.key = read.key
	}
	c.rows.Add(did, r)
}

// changes is called by SQLite for each row that it is about to change, by whatever
// statement, also by what the schema makes of it. A new row replaces none.
func (c *accountCache) changes(row sqlite.SQLitePreUpdateData) {
	if row.TableName != "account" && row.TableName != "signing_key" {
		return
	}
	if row.Op == sqlite3.SQLITE_INSERT {
		return
	}
	old := make([]any, 1) // the first column of either table is the DID
	err := row.Old(old...)
	did, ok := old[0].(string)
	if err != nil || !ok {
		c.stop()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.changing[syntax.DID(did)] = struct{}{}
	c.rows.Remove(syntax.DID(did))
}

// stop empties the cache and keeps it empty, until the end of a transaction if there is one.
func (c *accountCache) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.off = true
	c.rows.Purge()
}

// settle is called when a transaction is over, whatever became of it.
func (c *accountCache) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.changing) > 0 || c.off {
		clear(c.changing)
		c.off = false
		c.version++
	}
}

// AccountByDID returns an account in any state, or ErrNotFound. With SQLite it may come
// from memory, as it was last committed. What its pointers point to is shared.
func (r *Reader) AccountByDID(ctx context.Context, did syntax.DID) (*Account, error) {
	if r.accounts == nil {
		return r.queries.AccountByDID(ctx, did)
	}
	known, version := r.accounts.get(did)
	if known.account == nil {
		a, err := r.queries.AccountByDID(ctx, did)
		if err != nil {
			return nil, err
		}
		if !a.Held() { // of one that is, it takes as long to say that it is not there as of any
			r.accounts.put(did, version, cachedRows{account: a})
		}
		known.account = a
	} else if err := ctx.Err(); err != nil {
		return nil, wrap(err, "read account %s", did)
	}
	return new(*known.account), nil
}

// ReadAccount is AccountByDID that never asks the memory: how long it takes does not tell
// whether somebody has read the account lately.
func (r *Reader) ReadAccount(ctx context.Context, did syntax.DID) (*Account, error) {
	return r.queries.AccountByDID(ctx, did)
}

// SigningKey returns a key of an account, or ErrNotFound. With SQLite it may come from
// memory, as it was last committed. Its bytes are shared.
func (r *Reader) SigningKey(ctx context.Context, did syntax.DID, purpose string) (*SigningKey, error) {
	if r.accounts == nil || purpose != cachedPurpose {
		return r.queries.SigningKey(ctx, did, purpose)
	}
	known, version := r.accounts.get(did)
	if known.key == nil {
		k, err := r.queries.SigningKey(ctx, did, purpose)
		if err != nil {
			return nil, err
		}
		r.accounts.put(did, version, cachedRows{key: k})
		known.key = k
	} else if err := ctx.Err(); err != nil {
		return nil, wrap(err, "read signing key of %s", did)
	}
	return new(*known.key), nil
}

// WritingKey is [queries.WritingKey]. With SQLite account and key may come from memory, as they
// were last committed.
func (db *DB) WritingKey(ctx context.Context, did syntax.DID, purpose string) (*SigningKey, error) {
	if db.accounts == nil || purpose != cachedPurpose {
		return db.queries.WritingKey(ctx, did, purpose)
	}
	a, err := db.AccountByDID(ctx, did)
	if err == nil && a.Deactivated() {
		err = ErrNotFound
	}
	if err != nil {
		return nil, wrap(err, "read signing key of %s", did)
	}
	return db.SigningKey(ctx, did, purpose)
}

// ReadSigningKey is SigningKey that never asks the memory, for who wants to know what is in
// the database, whoever put it there.
func (r *Reader) ReadSigningKey(ctx context.Context, did syntax.DID, purpose string) (*SigningKey, error) {
	return r.queries.SigningKey(ctx, did, purpose)
}
