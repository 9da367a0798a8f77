package dbtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/google/go-cmp/cmp"

	"portico/db"
)

// Run runs the suite. open returns an empty database that lives as long as the
// test and has the given options.
func Run(t *testing.T, open func(t *testing.T, options ...Option) *db.DB) {
	for _, c := range []struct {
		name string
		test func(s *suite)
	}{
		{"accounts", (*suite).accounts},
		{"account updates", (*suite).accountUpdates},
		{"account deletion", (*suite).accountDeletion},
		{"account lists", (*suite).accountLists},
		{"standings", (*suite).standings},
		{"standing lists", (*suite).standingLists},
		{"due deletions", (*suite).dueDeletions},
		{"creation", (*suite).creation},
		{"creation given up", (*suite).creationGivenUp},
		{"unfinished", (*suite).unfinished},
		{"creation lease", (*suite).creationLease},
		{"cleanups", (*suite).cleanups},
		{"handle changes", (*suite).handleChanges},
		{"handle domains", (*suite).handleDomains},
		{"handles at a domain", (*suite).handlesAt},
		{"host names", (*suite).hostNames},
		{"taken handles", (*suite).takenHandles},
		{"signing keys", (*suite).signingKeys},
		{"reserved keys", (*suite).reservedKeys},
		{"repositories", (*suite).repositories},
		{"index of records", (*suite).recordIndex},
		{"blobs of all", (*suite).storedBlobs},
		{"hosted repositories", (*suite).hostedRepos},
		{"snapshots", (*suite).snapshots},
		{"nodes", (*suite).nodes},
		{"nodes that move", (*suite).nodesMove},
		{"paths of nodes", (*suite).nodesOnPaths},
		{"blobs", (*suite).blobs},
		{"blobs before a repository", (*suite).putBlobs},
		{"mentions of blobs", (*suite).recordBlobs},
		{"old uploads", (*suite).oldUploads},
		{"files without rows", (*suite).spareBlobFiles},
		{"imports", (*suite).imports},
		{"preferences", (*suite).preferences},
		{"records", (*suite).records},
		{"collections", (*suite).collections},
		{"events", (*suite).events},
		{"event pages", (*suite).eventPages},
		{"old events", (*suite).oldEvents},
		{"sessions", (*suite).sessions},
		{"session rotation", (*suite).sessionRotation},
		{"session end", (*suite).sessionEnd},
		{"session families", (*suite).sessionFamilies},
		{"browser sessions", (*suite).browserSessions},
		{"second factors", (*suite).secondFactors},
		{"open sessions", (*suite).openSessions},
		{"requests of apps", (*suite).oauthRequests},
		{"sessions of apps", (*suite).oauthSessions},
		{"browsers that remember", (*suite).oauthBrowsers},
		{"consents", (*suite).oauthConsents},
		{"what was used", (*suite).oauthUsed},
		{"end of apps", (*suite).oauthEnd},
		{"app passwords", (*suite).appPasswords},
		{"imported hashes", (*suite).importedHashes},
		{"adopted secrets", (*suite).adoptedSecrets},
		{"adopted sessions", (*suite).adoptedSessions},
		{"email codes", (*suite).emailCodes},
		{"adoption", (*suite).adoption},
		{"adopted events", (*suite).adoptedEvents},
		{"phone accounts", (*suite).phoneAccounts},
		{"phone codes", (*suite).phoneCodes},
		{"mail", (*suite).mail},
		{"mail order", (*suite).mailOrder},
		{"invites", (*suite).invites},
		{"invite lists", (*suite).inviteLists},
		{"budgets", (*suite).budgets},
		{"jobs", (*suite).jobs},
		{"did documents", (*suite).didDocuments},
		{"browsers that remember", (*suite).rememberingBrowsers},
		{"permission sets", (*suite).permissionSets},
		{"did moves", (*suite).didMoves},
		{"account moves", (*suite).accountMoves},
		{"meta", (*suite).meta},
		{"plc", (*suite).plc},
		{"audit", (*suite).audit},
		{"purge", (*suite).purge},
		{"transactions", (*suite).transactions},

		{"race/handle", (*suite).raceHandle},
		{"race/handle given up", (*suite).raceHandleGivenUp},
		{"race/handle domains", (*suite).raceHandleDomains},
		{"race/email", (*suite).raceEmail},
		{"race/did", (*suite).raceDID},
		{"race/single-use invite", func(s *suite) { s.raceInvite(1) }},
		{"race/seven-use invite", func(s *suite) { s.raceInvite(7) }},
		{"race/rotation", (*suite).raceRotation},
		{"race/rotation and end", (*suite).raceRotationAndEnd},
		{"race/apps", (*suite).raceOAuth},
		{"race/events", (*suite).raceEvents},
		{"race/budget", (*suite).raceBudget},
		{"race/claims", (*suite).raceClaims},
		{"race/finish and abort", (*suite).raceFinishAndAbort},
		{"race/codes", (*suite).raceCodes},
		{"race/phone", (*suite).racePhone},
		{"race/repository", (*suite).raceRepository},
		{"race/preferences", (*suite).racePreferences},
		{"race/blob and claim", (*suite).raceBlobClaim},
		{"race/factors", (*suite).raceFactors},
		{"race/phone code", (*suite).racePhoneCode},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &suite{T: t}
			s.clock.Store(new(start0))
			s.db = open(t, func(c *db.Config) { c.Now = s.now })
			c.test(s)
		})
	}
}

// start0 has microseconds: they must come back.
var start0 = time.Date(2026, 1, 2, 3, 4, 5, 123456000, time.UTC)

type suite struct {
	*testing.T
	db    *db.DB
	clock atomic.Pointer[time.Time]
}

func (s *suite) now() time.Time { return *s.clock.Load() }

func (s *suite) write(f func(tx *db.Tx) error) error {
	return s.db.Write(s.Context(), f)
}

// watched is write between two looks at accounts, the second of which has to see what a
// transaction sees, whatever is kept in memory.
func (s *suite) watched(f func(tx *db.Tx) error) error {
	s.Helper()
	if !s.db.Exclusive() {
		return s.write(f)
	}
	s.rows(s.db)
	err := s.write(f)
	got := s.rows(s.db)
	s.ok(s.db.Snapshot(s.Context(), func(snapshot *db.Snapshot) error {
		s.equal("accounts", got, s.rows(snapshot))
		return nil
	}))
	return err
}

// rows reads the accounts 0 to 9 and their keys, nil where there is none.
func (s *suite) rows(from interface {
	AccountByDID(ctx context.Context, did syntax.DID) (*db.Account, error)
	SigningKey(ctx context.Context, did syntax.DID, purpose string) (*db.SigningKey, error)
}) (all []any) {
	s.Helper()
	for n := range 10 {
		a, missing := from.AccountByDID(s.Context(), did(n))
		if !errors.Is(missing, db.ErrNotFound) {
			s.ok(missing)
		}
		k, missing := from.SigningKey(s.Context(), did(n), "atproto")
		if !errors.Is(missing, db.ErrNotFound) {
			s.ok(missing)
		}
		all = append(all, a, k)
	}
	return all
}

// must fails the test when a write fails.
func (s *suite) must(f func(tx *db.Tx) error) {
	s.Helper()
	if err := s.watched(f); err != nil {
		s.Fatal(err)
	}
}

// fails fails the test unless a write returns want.
func (s *suite) fails(want error, f func(tx *db.Tx) error) {
	s.Helper()
	if err := s.watched(f); !errors.Is(err, want) {
		s.Errorf("got error %v, want %v", err, want)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("got error %v, want %v", err, want)
	}
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) equal(what string, got, want any) {
	s.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		s.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func did(n int) syntax.DID { return syntax.DID(fmt.Sprintf("did:plc:aaaaaaaaaaaaaaaaaaaaaa%02d", n)) }

func key(d syntax.DID) db.SigningKey {
	return db.SigningKey{DID: d, Purpose: "atproto", Public: "did:key:of-" + d.String(), Sealed: []byte("sealed " + d)}
}

// reservation is that of account n, named userN.test.
func reservation(n int) db.Reservation {
	return db.Reservation{
		Account: db.Account{
			DID: did(n), Handle: syntax.Handle(fmt.Sprintf("user%d.test", n)), Email: fmt.Sprintf("user%d@mail.test", n),
			PasswordHash: "hash", CreatedAt: start0,
		},
		Key: key(did(n)), Genesis: []byte(`{"type":"plc_operation"}`), Holder: "me", LeaseUntil: start0.Add(time.Minute),
	}
}

// create makes account n.
func (s *suite) create(n int) *db.Account {
	s.Helper()
	s.must(func(tx *db.Tx) error {
		if err := tx.ReserveAccount(s.Context(), reservation(n)); err != nil {
			return err
		}
		return tx.FinishAccount(s.Context(), did(n), "me")
	})
	a, err := s.db.AccountByDID(s.Context(), did(n))
	s.ok(err)
	return a
}

// race runs f n times at once and counts the outcomes.
func (s *suite) race(n int, f func(ctx context.Context, i int) error) map[error]int {
	s.Helper()
	var mu sync.Mutex
	outcomes := make(map[error]int)
	begin := make(chan struct{})
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			<-begin
			err := f(s.Context(), i)
			for _, known := range []error{
				db.ErrHandleTaken, db.ErrEmailTaken, db.ErrDIDTaken, db.ErrInviteUnavailable, db.ErrLeaseLost, db.ErrNotFound,
				db.ErrPhoneTaken, db.ErrStale, db.ErrBlobClaimed,
			} {
				if errors.Is(err, known) {
					err = known
				}
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[err]++
		})
	}
	close(begin)
	wait.Wait()
	return outcomes
}
