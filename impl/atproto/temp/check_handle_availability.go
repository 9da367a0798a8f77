package temp

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	api "portico/api/atproto/temp"
	"portico/api/xrpc"
	"portico/impl/answer"
	"portico/impl/budget"
	"portico/impl/identity/handle"
)

// suggested is how many handles are suggested at most.
const suggested = 5

// CheckHandleAvailability tells whether sign-up would give away a handle under one of this
// server's domains, perhaps for an invite code, and suggests others when not. Of the email
// address, which lends its name to suggestions, it tells nothing: nobody looks for it.
func (s *Service) CheckHandleAvailability(ctx context.Context, in *api.CheckHandleAvailabilityParams) (*api.CheckHandleAvailabilityOutput, error) {
	domains := s.Domains.Current(ctx)
	_, refused := s.Handles.Check(domains, in.Handle.String(), false)
	if domains.Of(in.Handle) == "" || refused == handle.ErrUnsupportedDomain {
		return nil, answer.Handle(cmp.Or(refused, error(handle.ErrUnsupportedDomain)), in.Handle)
	}
	about, err := s.hints(in)
	if err != nil {
		return nil, err
	}
	if err := s.Budgets.Spend(ctx, budget.HandlesAsked, s.Budgets.Caller(xrpc.CallFrom(ctx).IP)); err != nil {
		return nil, answer.Spent(err)
	}
	wanted := in.Handle.Normalize()
	others, err := s.Handles.Suggest(domains, wanted, about, s.Rand)
	if err != nil {
		return nil, err
	}
	all := []syntax.Handle{wanted}
	for _, o := range others {
		all = append(all, o.Handle)
	}
	taken, err := s.DB.HandlesTaken(ctx, all...)
	if err != nil {
		return nil, err
	}
	if refused == nil && !slices.Contains(taken, wanted) {
		return &api.CheckHandleAvailabilityOutput{
			Handle: in.Handle, Result: api.NewCheckHandleAvailabilityOutputResult(new(api.CheckHandleAvailabilityResultAvailable)),
		}, nil
	}
	var free []api.CheckHandleAvailabilitySuggestion
	for _, o := range others {
		if len(free) < suggested && !slices.Contains(taken, o.Handle) {
			free = append(free, api.CheckHandleAvailabilitySuggestion{Handle: o.Handle, Method: o.Method})
		}
	}
	return &api.CheckHandleAvailabilityOutput{
		Handle: in.Handle, Result: api.NewCheckHandleAvailabilityOutputResult(&api.CheckHandleAvailabilityResultUnavailable{Suggestions: free}),
	}, nil
}

// hints are what the caller tells about the owner of a handle. An address that is empty has
// not been typed yet.
func (s *Service) hints(in *api.CheckHandleAvailabilityParams) (handle.Hints, error) {
	var about handle.Hints
	if address := xrpc.ValueOf(in.Email); address != "" {
		if !s.Emails.Supported(address) {
			return about, api.ErrCheckHandleAvailabilityInvalidEmail.New(http.StatusBadRequest,
				"This email address is not supported, please use a different email.")
		}
		about.Mailbox, _, _ = strings.Cut(address, "@")
	}
	if in.BirthDate == nil {
		return about, nil
	}
	// A name is public: whoever is under age does not tell it by theirs.
	born, now := in.BirthDate.Time(), s.Now()
	if born.Year() >= 1900 && !born.AddDate(18, 0, 0).After(now) {
		about.Year = born.Year()
	}
	return about, nil
}
