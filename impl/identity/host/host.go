// Package host knows every host name that this server goes by or went by.
//
// A DID that names a server under a host that no longer answers for it is lost until it
// is mended, and an account that is deleted because its DID seems to be elsewhere is lost
// for good. So no name is forgotten that a DID may have been given, and each question is
// asked of the names that fit it, see [State].
package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"portico/db"
)

// MaxAge is how long after another process changed something this one may go by what was
// before.
const MaxAge = 2 * time.Second

// patience bounds the wait for the database where what was before would do.
const patience = 5 * time.Second

// The values of db.Meta that are about names.
const (
	// moveName is JSON of the [Move] that is under way, or was the last.
	moveName = "host move"
	// PublicURLs has a line for each public URL that DIDs of accounts may name, the one of
	// the last start at the end.
	PublicURLs = "public URL"
)

// A Move is a change from one name to another that an operator asked for. The other name
// was proven to lead to this server before it was written down.
type Move struct {
	From  string    `json:"from"`
	To    string    `json:"to"`
	Begun time.Time `json:"begun"`
	// Switched says that the server is to go by the other name.
	Switched bool `json:"switched,omitempty"`
	// Undoing says that all is turned back.
	Undoing bool `json:"undoing,omitempty"`
	// Handles says that handles under one name become such under the other; Policy is who
	// could take those under the name that is left.
	Handles bool   `json:"handles,omitempty"`
	Policy  string `json:"policy,omitempty"`
	// Ended is when it was finished or turned back, nil before.
	Ended *time.Time `json:"ended,omitempty"`
	// Left says that accounts stay under the name that was left, which still serves them.
	Left bool `json:"left,omitempty"`
}

// Open says that the move is under way.
func (m *Move) Open() bool { return m != nil && m.Ended == nil }

// Goal is the name that DIDs are being given.
func (m *Move) Goal() string {
	if m.Undoing {
		return m.From
	}
	return m.To
}

// Leaves is the name that DIDs are being taken from.
func (m *Move) Leaves() string {
	if m.Undoing {
		return m.To
	}
	return m.From
}

// State is what is known of the names at a moment. It does not change.
//
//	question                                        names for which it is yes
//	is the account here? nothing may be deleted     every name that the server ever had (Here, Had)
//	or taken for moved away if it is: clean-up of
//	abandoned moves, repairs, inspection, moves
//	is the DID valid for an account here?           the one it goes by; while a move is under
//	activation, checkAccountStatus                  way both; afterwards the one that was left,
//	                                                if accounts had to stay there (Serves)
//	what does a new DID say, what may an owner      the one it goes by by the database (Name); a
//	publish?                                        process started with an unknown one publishes
//	                                                nothing, see [State.Disagrees]
//	what is a DID to say that can be changed?       the goal of a move under way, else the one it
//	                                                goes by (Wanted)
//	is a token for this server? which hosts are     those of Serves (Audiences, Host)
//	this server, and have certificates?
type State struct {
	// Process is the name that this process was started with.
	Process string
	// Name is the one that the server goes by.
	Name string
	// Move is the last one, nil if there was none.
	Move  *Move
	known []string
}

// Only is the state of a server that has had no other name.
func Only(name string) *State { return &State{Process: name, Name: name, known: []string{name}} }

// URL is how DIDs name a server of that name.
func URL(name string) string {
	if local(name) {
		return "http://" + name
	}
	return "https://" + name
}

// Of is the name in the URL of a server.
func Of(endpoint string) string {
	endpoint = strings.ToLower(endpoint)
	_, name, found := strings.Cut(endpoint, "://")
	if !found {
		name = endpoint
	}
	return strings.TrimRight(name, "/")
}

func local(name string) bool {
	host, _, _ := strings.Cut(name, ":")
	return host == "localhost"
}

// BothLocal says that two names are those of servers of a developer, which share a database
// under the ports that they have: each goes by its own, and disagrees with none.
func BothLocal(a, b string) bool { return local(a) && local(b) }

// ServiceDID is the DID of the service that a name implies.
func ServiceDID(name string) string { return "did:web:" + strings.ReplaceAll(name, ":", "%3A") }

// Endpoint is the public URL that is published.
func (s *State) Endpoint() string { return URL(s.Name) }

// Here reports whether an endpoint, capitals and a slash at its end aside, is this server
// under any name that it ever had, or was started with.
func (s *State) Here(endpoint string) bool {
	name := Of(endpoint)
	return name != "" && (slices.Contains(s.known, name) || name == s.Process)
}

// Had reports whether an endpoint is exactly what this server publishes under one of these
// names.
func (s *State) Had(endpoint string) bool {
	return s.Here(endpoint) && URL(Of(endpoint)) == endpoint
}

// Serves reports whether an endpoint is one that a valid DID of an account may name.
func (s *State) Serves(endpoint string) bool {
	return slices.ContainsFunc(s.serving(), func(name string) bool { return URL(name) == endpoint })
}

// serving are the names that accounts may have, the one that the server goes by first.
func (s *State) serving() []string {
	names := []string{s.Name}
	if m := s.Move; m.Open() || m != nil && m.Left {
		for _, name := range []string{m.From, m.To} {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// Audiences are the service DIDs that those names imply which accounts may have.
func (s *State) Audiences() []string {
	var dids []string
	for _, name := range s.serving() {
		dids = append(dids, ServiceDID(name))
	}
	return dids
}

// Host reports whether a host, in lower case and without a port, is this server itself.
func (s *State) Host(name string) bool {
	return slices.ContainsFunc(append(s.serving(), s.Process), func(own string) bool {
		own, _, _ = strings.Cut(own, ":")
		return own == name
	})
}

// Wanted is the name that a DID is to have.
func (s *State) Wanted() string {
	if s.Move.Open() {
		return s.Move.Goal()
	}
	return s.Name
}

// Disagrees reports whether the process was started with a name that is not the server's,
// nor one of a move under way. Nothing is published then.
func (s *State) Disagrees() bool {
	return s.Process != s.Name && !(s.Move.Open() && (s.Process == s.Move.From || s.Process == s.Move.To))
}

// Twin is the handle under the other name of a move that goes with h, which is under one
// of them, "" if there is none.
func (s *State) Twin(h string) string {
	m := s.Move
	if m == nil || !m.Handles || !m.Open() && !m.Left {
		return ""
	}
	front, parent, _ := strings.Cut(h, ".")
	switch parent {
	case m.From:
		return front + "." + m.To
	case m.To:
		return front + "." + m.From
	}
	return ""
}

// Names are those of a running server. They are safe for concurrent use.
type Names struct {
	db     *db.DB
	config Config
	turn   sync.Mutex // to read anew
	last   atomic.Pointer[reading]
}

type reading struct {
	*State
	at time.Time
}

// Config is what the settings say.
type Config struct {
	Name string // that the process is started with, with a port where there is one
	Now  func() time.Time
	Log  *slog.Logger
}

// Open writes down the name at the first start of a server. One that has accounts keeps
// its name, whatever the settings say later: only a [Move] changes it, or that no DID has
// it any more. It says in the log what to do where the two disagree.
func Open(ctx context.Context, store *db.DB, c Config) (*Names, error) {
	c.Name = strings.ToLower(c.Name)
	n := &Names{db: store, config: c}
	err := store.Write(ctx, func(tx *db.Tx) error {
		rows, err := tx.HostNames(ctx)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			if rows, err = n.first(ctx, tx); err != nil {
				return err
			}
		}
		if i := current(rows); i >= 0 && rows[i].Name == c.Name {
			return nil
		}
		accounts, err := tx.Accounts(ctx, "", 1)
		if err != nil {
			return err
		}
		if i := current(rows); len(accounts) == 0 || i < 0 || BothLocal(rows[i].Name, c.Name) {
			return n.rename(ctx, tx, c.Name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write down the host name: %w", err)
	}
	s, err := n.Read(ctx)
	if err != nil {
		return nil, err
	}
	n.warn(ctx, s)
	return n, nil
}

func (n *Names) warn(ctx context.Context, s *State) {
	switch m := s.Move; {
	case s.Disagrees():
		n.config.Log.WarnContext(ctx, "PDS_HOSTNAME is not the name that this server goes by: no DID is changed or made, and nothing is deleted, "+
			"until they agree. If it is not meant, set it back. If the server is to have another name, run \"portico move-host\" with that name",
			"setting", s.Process, "name", s.Name)
	case m.Open() && m.Switched && !m.Undoing && s.Process == m.From:
		n.config.Log.WarnContext(ctx, "the server was switched to another name: set PDS_HOSTNAME to it and start again (or turn the move back with \"portico move-host --undo\")",
			"setting", s.Process, "name", s.Name)
	case m.Open() && s.Process != s.Name:
		n.config.Log.WarnContext(ctx, "PDS_HOSTNAME is the other name of the move that is under way: run \"portico move-host --switch\", or set it back",
			"setting", s.Process, "name", s.Name)
	}
}

// current is the place of the name that the server goes by, -1 for none.
func current(rows []db.HostName) int {
	return slices.IndexFunc(rows, func(r db.HostName) bool { return r.Until == nil })
}

// first are the names of a database that has none yet: those which starts of before wrote
// down elsewhere.
func (n *Names) first(ctx context.Context, tx *db.Tx) ([]db.HostName, error) {
	known, err := tx.Meta(ctx, PublicURLs)
	if err != nil && !errors.Is(err, db.ErrNotFound) {
		return nil, err
	}
	var names []string
	for line := range strings.FieldsSeq(string(known)) {
		names = append(names, Of(line))
	}
	if len(names) == 0 {
		names = []string{n.config.Name}
	}
	now := n.config.Now()
	var rows []db.HostName
	for i, name := range names {
		row := db.HostName{Name: name, Since: now}
		if i < len(names)-1 {
			row.Until = &now
		}
		if err := tx.PutHostName(ctx, row); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// rename makes name the one that the server goes by.
func (n *Names) rename(ctx context.Context, tx *db.Tx, name string) error {
	rows, err := tx.HostNames(ctx)
	if err != nil {
		return err
	}
	now := n.config.Now()
	next := db.HostName{Name: name, Since: now}
	for _, row := range rows {
		if row.Name == name {
			next.Since = row.Since
		} else if row.Until == nil {
			row.Until = &now
			if err := tx.PutHostName(ctx, row); err != nil {
				return err
			}
		}
	}
	return tx.PutHostName(ctx, next)
}

// State returns what is known of the names, as it was at most MaxAge ago if it is another
// process that changed it. While the database does not answer, it stays as it was. It
// costs nothing but once in MaxAge.
func (n *Names) State(ctx context.Context) *State {
	r := n.last.Load()
	if age := n.config.Now().Sub(r.at); 0 <= age && age < MaxAge || !n.turn.TryLock() {
		return r.State
	}
	defer n.turn.Unlock()
	// Others go by this too, so it does not end with one caller.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	s, err := n.read(ctx, n.db)
	if err != nil {
		n.config.Log.ErrorContext(ctx, "host names not read anew", "error", err)
		s = r.State
	}
	n.last.Store(&reading{s, n.config.Now()})
	return s
}

// Last returns what State or Read returned last, which costs nothing. So it takes as many
// statements whatever it is asked for.
func (n *Names) Last() *State { return n.last.Load().State }

// Read returns what is known of the names now.
func (n *Names) Read(ctx context.Context) (*State, error) {
	n.turn.Lock()
	defer n.turn.Unlock()
	at := n.config.Now()
	s, err := n.read(ctx, n.db)
	if err != nil {
		return nil, err
	}
	n.last.Store(&reading{s, at})
	return s, nil
}

func (n *Names) read(ctx context.Context, q interface {
	HostNames(context.Context) ([]db.HostName, error)
	Meta(context.Context, string) ([]byte, error)
}) (*State, error) {
	rows, err := q.HostNames(ctx)
	if err != nil {
		return nil, err
	}
	s := &State{Process: n.config.Name}
	for _, row := range rows {
		s.known = append(s.known, row.Name)
		if row.Until == nil {
			s.Name = row.Name
		}
	}
	if BothLocal(s.Name, s.Process) {
		s.Name = s.Process
	}
	value, err := q.Meta(ctx, moveName)
	if errors.Is(err, db.ErrNotFound) {
		return s, nil
	}
	if err == nil {
		s.Move = new(Move)
		err = json.Unmarshal(value, s.Move)
	}
	if err != nil {
		return nil, fmt.Errorf("read the move of the host: %w", err)
	}
	return s, nil
}

// Agree makes the name of this process the one that the server goes by, after no DID of an
// account was found to have another one that it had. It does nothing during a move.
func (n *Names) Agree(ctx context.Context) error {
	return n.change(ctx, func(tx *db.Tx, s *State) error {
		if s.Move.Open() || s.Process == s.Name {
			return nil
		}
		return n.rename(ctx, tx, s.Process)
	})
}

// change runs f in a transaction with what is known in it, and lets this process see it.
func (n *Names) change(ctx context.Context, f func(tx *db.Tx, s *State) error) error {
	err := n.db.Write(ctx, func(tx *db.Tx) error {
		s, err := n.read(ctx, tx)
		if err != nil {
			return err
		}
		return f(tx, s)
	})
	if err != nil {
		return err
	}
	_, err = n.Read(ctx)
	return err
}
