package move

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/audit"
	"portico/impl/identity/domain"
	"portico/impl/identity/handle"
	"portico/impl/identity/host"
	"portico/impl/identity/plc"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
	"portico/impl/repo/event"
)

// A HostMove gives all DIDs another name of this server. It is the [Kind] of [Host].
//
// One operation changes the endpoint, and the handle where that is under the old name; the
// account gets the handle once the directory has it. From the beginning to the end nobody
// else gets a name of which either handle is in use, and both resolve.
type HostMove struct {
	Accounts *account.Accounts
	Domains  *domain.Domains
	Outbox   *outbox.Outbox
	Brand    func() mail.Brand
	// ServiceDID is what this process gives as its own, and Prove returns nil if it answers
	// at a URL under that; see package proof.
	ServiceDID string
	Prove      func(ctx context.Context, url, did string) error
}

// shownHandles is how many handles a refusal names.
const shownHandles = 5

// letterLife is for how long it is tried to deliver a letter.
const letterLife = 7 * 24 * time.Hour

// lettersAt is how many accounts are read at once to write to them.
const lettersAt = 500

// BeginHost begins the move of m to another host name, once that is proven to lead to this
// server. It returns a [*Refusal].
func (h *HostMove) BeginHost(ctx context.Context, m *Moves, to string) (*State, error) {
	to = strings.TrimSuffix(strings.ToLower(to), ".")
	if name, err := handle.Normalize(to); err != nil || !name.AllowedTLD() && !strings.HasSuffix(to, ".test") {
		return nil, refuse("%q is not the name of a host that all can reach", to)
	}
	from := h.Accounts.Host(ctx).Name
	if to == from {
		return nil, refuse("the server has the name %s", to)
	}
	if err := h.Prove(ctx, host.URL(to), h.ServiceDID); err != nil {
		return nil, refuse("%s does not lead to this server: %v. Give it an address, a certificate and a place in the proxy first, as the name of today has them", host.URL(to), err)
	}
	s, err := m.Begin(ctx, Host, from, to)
	if err != nil {
		return nil, err
	}
	return s, h.Look(ctx)
}

// Look has this process see at once which names a step of a move has left it with, after the
// commit; others see it within [host.MaxAge].
func (h *HostMove) Look(ctx context.Context) error {
	h.Domains.Forget()
	_, err := h.Accounts.Hosts.Read(ctx)
	return err
}

// Ready is [Kind]'s.
func (h *HostMove) Ready(s *State) error {
	if process := h.Accounts.Host(context.Background()).Process; process != s.From && process != s.To {
		return refuse("this server was started with PDS_HOSTNAME=%s: it has to be %s or %s", process, s.From, s.To)
	}
	return nil
}

// Enter is [Kind]'s. After the commit the names may be those of before for a moment; see
// [host.MaxAge].
func (h *HostMove) Enter(ctx context.Context, tx *db.Tx, s *State) error {
	names := h.Accounts.Hosts
	switch s.Phase {
	case Moving, Moved:
		if !s.SwitchedAt.IsZero() {
			return names.Switch(ctx, tx)
		}
		if s.Phase == Moved {
			return nil
		}
		return h.begin(ctx, tx, s)
	case Finishing:
		if s.SwitchedAt.IsZero() {
			return refuse("the server does not go by %s yet: switch it first", s.To)
		}
		if process := h.Accounts.Host(ctx).Process; process != s.To {
			return refuse("the server was started with PDS_HOSTNAME=%s: set it to %s and start again first", process, s.To)
		}
		return nil
	case Undoing:
		if err := names.Undo(ctx, tx); err != nil {
			return err
		}
		return h.putBack(ctx, tx)
	case Finished, Undone:
		return h.end(ctx, tx, s)
	}
	return nil
}

func (h *HostMove) begin(ctx context.Context, tx *db.Tx, s *State) error {
	m := host.Move{To: s.To}
	policy, err := h.Domains.Replace(ctx, tx, s.From, s.To)
	switch {
	case errors.Is(err, domain.ErrUnknown): // no handles are given under the name
	case errors.Is(err, domain.ErrInvalid), errors.Is(err, domain.ErrTopLevel):
		return refuse("no handles could be under %s", s.To)
	case err != nil:
		return err
	default:
		m.Handles, m.Policy = true, string(policy)
		if err := handlesFree(ctx, tx, s); err != nil {
			return err
		}
	}
	if err := h.Accounts.Hosts.Begin(ctx, tx, m); err != nil {
		if errors.Is(err, host.ErrMoving) || errors.Is(err, host.ErrSame) {
			return refuse("%v", err)
		}
		return err
	}
	return nil
}

// handlesFree refuses a name under which handles are others' that accounts are to get.
func handlesFree(ctx context.Context, tx *db.Tx, s *State) error {
	taken, err := tx.TakenHandles(ctx, s.From, s.To, shownHandles)
	if err != nil || len(taken) == 0 {
		return err
	}
	var lines []string
	for _, t := range taken {
		lines = append(lines, string(t.Wanted)+" is to be that of "+t.DID.String()+", and "+t.By.String()+" has it")
	}
	return refuse("handles under %s are taken: %s", s.To, strings.Join(lines, "; "))
}

func (h *HostMove) putBack(ctx context.Context, tx *db.Tx) error {
	m, err := h.Accounts.Hosts.Move(ctx, tx)
	if err != nil || !m.Handles {
		return err
	}
	return h.Domains.PutBack(ctx, tx, m.From, m.To, handle.Policy(m.Policy))
}

// end leaves the other name, unless accounts had to stay there.
func (h *HostMove) end(ctx context.Context, tx *db.Tx, s *State) error {
	m, err := h.Accounts.Hosts.Move(ctx, tx)
	if err != nil {
		return err
	}
	stay := false
	err = eachLeft(ctx, tx, func(row db.DIDMove) error {
		stay = true
		if s.Phase == Undone {
			return nil
		}
		return h.write(ctx, tx, s, row.DID)
	})
	if err != nil {
		return err
	}
	if m.Handles {
		if err := h.Domains.Retire(ctx, tx, m.Leaves()); err != nil {
			return err
		}
	}
	return h.Accounts.Hosts.End(ctx, tx, stay)
}

// eachLeft calls f with the rows of the accounts that live here, and whose DIDs this server
// cannot change.
func eachLeft(ctx context.Context, tx *db.Tx, f func(db.DIDMove) error) error {
	for last := syntax.DID(""); ; {
		rows, err := tx.DIDMoves(ctx, db.DIDLeft, last, lettersAt)
		if err != nil {
			return err
		}
		for _, row := range rows {
			last = row.DID
			if row.Reason != LeftWeb && row.Reason != LeftNoKey && !strings.HasPrefix(row.Reason, LeftRefused) {
				continue
			}
			if err := f(row); err != nil {
				return err
			}
		}
		if len(rows) < lettersAt {
			return nil
		}
	}
}

// write tells the owner of a DID that is left what they can do. It is in the transaction
// that ends the move, so each is told once.
func (h *HostMove) write(ctx context.Context, tx *db.Tx, s *State, did syntax.DID) error {
	a, err := tx.AccountByDID(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil || a.Email == "" {
		return err
	}
	letter := h.Brand().HostMoved(a.Email, outbox.Named(a), did.String(), host.URL(s.From), host.URL(s.To))
	return h.Outbox.Post(ctx, tx, did, mail.KindHostMoved, letter, h.Accounts.Now().Add(letterLife))
}

// Step is [Kind]'s.
func (h *HostMove) Step(ctx context.Context, s *State, a *db.Standing, last plc.Operation) (Step, error) {
	d, _ := last.Data()
	names, err := h.names(ctx, s)
	if err != nil {
		return Step{}, err
	}
	if !h.Accounts.Named(ctx, d) {
		return Step{Left: LeftElsewhere}, nil
	}
	endpoint := host.URL(s.goal())
	named := syntax.Handle(d.Handle())
	wanted := handleOf(names, s, a.Handle, named)
	if d.Services["atproto_pds"].Endpoint == endpoint && wanted == named {
		return Step{}, nil
	}
	op, err := plc.Update(last, func(d *plc.Data) {
		d.Services["atproto_pds"] = plc.Service{Type: plc.ServiceType, Endpoint: endpoint}
		if wanted != named {
			d.SetHandle(wanted)
		}
	})
	return Step{Operation: op}, err
}

// names are those of this server in the phase of s, which this process may have entered a
// moment ago.
func (h *HostMove) names(ctx context.Context, s *State) (*host.State, error) {
	if names := h.Accounts.Host(ctx); names.Move.Open() && names.Move.To == s.To && names.Move.Undoing == s.Back() {
		return names, nil
	}
	return h.Accounts.Hosts.Read(ctx)
}

// goal is the name that DIDs get in the phase of s.
func (s *State) goal() string {
	if s.Back() {
		return s.From
	}
	return s.To
}

// handleOf is the handle that the DID of an account is to name, which names another or
// that. What is not of the move stays as it is.
func handleOf(names *host.State, s *State, own, named syntax.Handle) syntax.Handle {
	moved := func(h syntax.Handle) syntax.Handle {
		if twin := names.Twin(h.String()); twin != "" && strings.HasSuffix(twin, "."+s.goal()) && !under(h, s.goal()) {
			return syntax.Handle(twin)
		}
		return h
	}
	if own == "" {
		return named
	}
	if goal := moved(own); goal != own || moved(named) == own {
		return goal
	}
	return named
}

// under reports whether a handle is one label under a domain.
func under(h syntax.Handle, domain string) bool {
	_, parent, _ := strings.Cut(h.String(), ".")
	return parent == domain
}

// Settle is [Kind]'s.
func (h *HostMove) Settle(ctx context.Context, tx *db.Tx, s *State, did syntax.DID, step Step) error {
	a, err := tx.LockAccount(ctx, did)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := h.names(ctx, s)
	if err != nil {
		return err
	}
	if step.changed() {
		if err := audit.Record(ctx, tx, h.Accounts.Now(), did, audit.EndpointChanged, "to "+host.URL(s.goal())); err != nil {
			return err
		}
	}
	goal := handleOf(names, s, a.Handle, a.Handle)
	if goal == a.Handle {
		if !step.changed() {
			return nil
		}
		return tx.AppendEvents(ctx, account.Events(did, event.Identity(did, ""))...)
	}
	if err := tx.HandleFree(ctx, goal, did); errors.Is(err, db.ErrHandleTaken) {
		// It can only have been given away by hand.
		h.Accounts.Log.WarnContext(ctx, "the handle that an account is to get is another's", "did", did, "handle", goal)
		return nil
	} else if err != nil {
		return err
	}
	before := a.Handle
	a.Handle = goal
	if err := tx.UpdateAccount(ctx, a); err != nil {
		return err
	}
	if err := audit.Record(ctx, tx, h.Accounts.Now(), did, audit.HandleChanged, "from "+string(before)+" to "+string(goal)); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, account.Events(did, event.Identity(did, goal))...)
}
