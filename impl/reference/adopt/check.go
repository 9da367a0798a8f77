package adopt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/sync/errgroup"

	"portico/db"
	"portico/db/reference"
	"portico/impl/account"
	"portico/impl/blob/rows"
	"portico/impl/repo"
	"portico/impl/repo/dagcbor"
	"portico/impl/repo/event"
	"portico/impl/repo/store"
)

// checkedFrames is how many of the last events are compared byte for byte.
const checkedFrames = 1000

// check looks whether what was adopted is what there was: every repository is read again,
// every block hashed, every commit verified with the key of its account, every blob hashed,
// the rows are counted, and the last events compared as they are sent.
func (a *Adoption) check(ctx context.Context, r *Report) error {
	var dids []syntax.DID
	for actor, err := range a.Source.Actors(ctx) {
		if err != nil {
			return err
		}
		dids = append(dids, syntax.DID(actor.DID))
	}
	var blobs *rows.Blobs
	if a.Blobs != nil {
		blobs = &rows.Blobs{DB: a.Target, Store: a.Blobs, Now: a.Now, Log: a.Log}
	}
	var done atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, did := range dids {
		g.Go(func() error {
			if err := a.checkAccount(gctx, did, blobs); err != nil {
				return fmt.Errorf("check %s: %w", did, err)
			}
			if n := done.Add(1); n%100 == 0 || n == int64(len(dids)) {
				a.progress("checks", n, int64(len(dids)))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := a.checkCounts(ctx); err != nil {
		return err
	}
	if err := a.checkEvents(ctx); err != nil {
		return err
	}
	return a.checkBucket(ctx) // last, since it takes longest
}

// checkAccount checks the repository of an account and its blobs.
func (a *Adoption) checkAccount(ctx context.Context, did syntax.DID, blobs *rows.Blobs) error {
	row, err := a.Target.Repo(ctx, did)
	if errors.Is(err, db.ErrNotFound) && a.SkipBroken {
		return nil // its deletion was finished
	}
	if err != nil {
		return err
	}
	if err := a.checkCommit(ctx, did, row); err != nil {
		return err
	}
	v, err := store.Verify(ctx, a.Target, did, store.Root(row), store.Wrong{})
	if err != nil {
		return err
	}
	if wrong := disagreement(row, v); wrong != "" {
		a.found(Finding{Name: "repository-differs", DID: did, Grave: true, Text: "what was written is not what was read: " + wrong})
	}
	if blobs == nil || v.Blobs.Imported == 0 {
		return nil
	}
	return a.checkBlobs(ctx, did, blobs)
}

// disagreement says what a stored repository and its row do not agree on; empty: nothing.
func disagreement(row *db.Repo, v *store.Verification) string {
	switch {
	case v.Fault != nil:
		return v.Fault.Error()
	case len(v.Spare) > 0:
		return fmt.Sprintf("%d nodes are not in the tree", len(v.Spare))
	case v.Lost > 0:
		return fmt.Sprintf("%d records are not as the tree has them, %s first", v.Lost, v.FirstLost)
	case v.Extra > 0:
		return fmt.Sprintf("%d records are not in the tree", v.Extra)
	case v.Unindexed > 0:
		return fmt.Sprintf("%d records have another index than their values say", v.Unindexed)
	case !slices.Equal(v.Collections, v.Listed):
		return "its collections are not those of its records"
	case v.Nodes != row.Nodes || v.Records != row.Records:
		return fmt.Sprintf("%d nodes and %d records are counted, and there are %d and %d", row.Nodes, row.Records, v.Nodes, v.Records)
	case v.Blobs.Expected != row.ExpectedBlobs || v.Blobs.Imported != row.ImportedBlobs:
		return "its blobs are not counted as they are"
	}
	return ""
}

// checkCommit checks the last commit of a repository: that it is the account's, and signed
// with the key that the account has here. One that was imported, and that no write has
// followed, is another server's, and has a rev of its own.
func (a *Adoption) checkCommit(ctx context.Context, did syntax.DID, row *db.Repo) error {
	block, err := store.LastCommit(row)
	if err != nil {
		return err
	}
	c, err := repo.ParseCommit(block.Data)
	if err != nil {
		return err
	}
	key, err := a.Target.SigningKey(ctx, did, account.KeyPurpose)
	if err != nil {
		return err
	}
	// That it can be opened is what the account will need.
	private, err := a.Keys.SigningKey(account.KeyPurpose, did.String(), key.Sealed)
	if err != nil {
		return err
	}
	public, err := private.PublicKey()
	if err != nil {
		return err
	}
	if public.DIDKey() != key.Public {
		a.found(Finding{Name: "key-differs", DID: did, Grave: true, Text: "the signing key that was sealed is not " + key.Public})
		return nil
	}
	if problem := commitProblem(c, did, public); problem != "" {
		f := Finding{Name: "commit-foreign", DID: did, Text: problem + ": relays refuse it as before, until the account writes"}
		if c.Rev.String() != row.Rev {
			f.Name, f.Text = "commit-imported", problem+": it was imported, and the first write here makes one with the account's key"
		}
		a.found(f)
	}
	return nil
}

func commitProblem(c *repo.Commit, did syntax.DID, key atcrypto.PublicKey) string {
	if c.DID != did {
		return "the last commit is of " + c.DID.String()
	}
	if err := c.Verify(key); err != nil {
		return "the last commit is not signed with the account's key"
	}
	return ""
}

// checkBlobs hashes the blobs of an account. Those that the source has no file of are told
// already.
func (a *Adoption) checkBlobs(ctx context.Context, did syntax.DID, blobs *rows.Blobs) error {
	var after []byte
	missing, last := 0, ""
	for {
		page, err := a.Target.Blobs(ctx, did, after, blobPage)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for i := range page {
			after = page[i].CID
			switch err := blobs.Verify(ctx, did, &page[i]); {
			case errors.Is(err, rows.ErrOtherBytes):
				a.found(Finding{Name: "blob-damaged", DID: did, Text: fmt.Sprintf("blob %s: %v", store.CID(after), err)})
			case errors.Is(err, rows.ErrNoBytes):
				missing, last = missing+1, store.CID(after).String()
			case err != nil:
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	if missing > a.lost.count(did) {
		a.found(Finding{Name: "blob-missing", DID: did, Text: fmt.Sprintf("%d blobs have no file where it belongs, %s last", missing, last)})
	}
	return nil
}

// checkCounts compares what was read of the stores with the rows that there are.
func (a *Adoption) checkCounts(ctx context.Context) error {
	notes, err := a.notes(ctx)
	if err != nil {
		return err
	}
	has, err := a.Target.Totals(ctx)
	if err != nil {
		return err
	}
	f := notes.Figures
	for _, c := range []Count{
		{Of: "repositories", Source: f.Repositories, Adopted: has.Repos},
		{Of: "blocks", Source: f.Blocks, Dropped: f.Dropped, Why: why(f.Dropped, "nothing leads to them"), Adopted: has.Repos + has.Nodes + has.Records - f.Twins},
		{Of: "records", Source: f.Records, Adopted: has.Records},
		{Of: "mentions of blobs", Source: f.Mentions, Adopted: has.RecordBlobs},
		{Of: "blobs", Source: f.Blobs, Dropped: f.BlobsDropped, Why: why(f.BlobsDropped, "they have no name that a blob can have"), Adopted: has.Blobs},
		{Of: "accounts with preferences", Source: f.Preferring, Adopted: has.Preferences},
	} {
		a.count(c)
		if c.Source != c.Dropped+c.Adopted {
			a.found(Finding{Name: "counts-differ", Grave: true, Text: fmt.Sprintf(
				"of %d %s %d were left behind and %d are here", c.Source, c.Of, c.Dropped, c.Adopted)})
		}
	}
	return nil
}

func why(dropped int64, text string) string {
	if dropped == 0 {
		return ""
	}
	return text
}

// checkEvents compares the last number, and the last events as they are sent.
func (a *Adoption) checkEvents(ctx context.Context) error {
	last, _, err := a.Source.LastEvent(ctx)
	if err != nil {
		return err
	}
	here, err := a.Target.LastEvent(ctx)
	if err != nil {
		return err
	}
	if here < last {
		a.found(Finding{Name: "sequence-behind", Grave: true, Text: fmt.Sprintf("the last event has the number %d, and had %d", here, last)})
	}
	after := max(0, last-checkedFrames)
	page, err := a.Target.Events(ctx, after, checkedFrames)
	if err != nil {
		return err
	}
	stored := make(map[int64]db.Event, len(page))
	for _, e := range page {
		stored[e.Seq] = e
	}
	for row, err := range a.Source.Events(ctx, after) {
		if err != nil {
			return err
		}
		e, ok := stored[row.Seq]
		if !ok {
			continue // it was left out, which the counts say
		}
		if err := sameFrame(row, e); err != nil {
			a.found(Finding{Name: "event-differs", DID: e.DID, Grave: true, Text: fmt.Sprintf("event %d: %v", row.Seq, err)})
		}
	}
	return nil
}

var errFrame = errors.New("it is sent in another form")

// sameFrame returns an error unless an event is sent as the source sends it.
func sameFrame(row reference.Event, e db.Event) error {
	got, err := event.Frame(event.Event{Kind: e.Kind, Body: e.Body, Cut1: e.Cut1, Cut2: e.Cut2}, e.Seq, e.Time)
	if err != nil {
		return err
	}
	want, err := frame(row)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errFrame
	}
	return nil
}

// frame is an event as the source sends it: a header, and the stored map with its number and
// its time.
func frame(row reference.Event) ([]byte, error) {
	entries, err := dagcbor.Entries(row.Body)
	if err != nil {
		return nil, err
	}
	entries = append(entries,
		dagcbor.Entry{Key: "seq", Value: dagcbor.AppendInt(nil, row.Seq)},
		dagcbor.Entry{Key: "time", Value: dagcbor.AppendText(nil, row.SequencedAt)})
	slices.SortFunc(entries, func(x, y dagcbor.Entry) int { return dagcbor.CompareKeys(x.Key, y.Key) })
	b := dagcbor.AppendText(dagcbor.AppendText(dagcbor.AppendMap(nil, 2), "t"), kinds[row.Type])
	b = dagcbor.AppendMap(dagcbor.AppendInt(dagcbor.AppendText(b, "op"), 1), len(entries))
	for _, e := range entries {
		b = append(dagcbor.AppendText(b, e.Key), e.Value...)
	}
	return b, nil
}
