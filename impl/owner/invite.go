package owner

import (
	"errors"
	"net/http"
	"strings"

	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
	"portico/impl/budget"
	"portico/impl/page"
)

// maxInviteCode is the longest code that anybody has, in bytes.
const maxInviteCode = 300

func (o *owner) invites() {
	o.site.Handle("GET /invite/{code}", func(v *page.Visit) error {
		code := v.Request.PathValue("code")
		good, err := o.goodInvite(v, code)
		if err != nil {
			return answer.Spent(err)
		}
		status := http.StatusOK
		if !good {
			code, status = "", http.StatusNotFound
		}
		return v.Show(status, "invite.html", struct{ Service, Server, Address, Code string }{
			o.ServiceName, o.Origin, strings.TrimPrefix(o.Origin, "https://"), code,
		})
	})
}

// goodInvite says whether somebody can sign up with a code, and no more: not whether it
// is unknown, used up or disabled. The caller's address pays.
func (o *owner) goodInvite(v *page.Visit, code string) (bool, error) {
	payer := budget.Payer{}
	if c := xrpc.CallFrom(v.Context()); c != nil {
		payer = o.Budgets.Caller(c.IP)
	}
	if err := o.Budgets.Spend(v.Context(), budget.InvitesAsked, payer); err != nil {
		return false, err
	}
	if len(code) > maxInviteCode || page.Printable(code, maxInviteCode) != code {
		return false, nil
	}
	err := o.DB.InviteAvailable(v.Context(), code)
	if errors.Is(err, db.ErrInviteUnavailable) {
		return false, nil
	}
	return err == nil, err
}
