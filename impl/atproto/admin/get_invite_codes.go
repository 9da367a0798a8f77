package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	api "portico/api/atproto/admin"
	"portico/api/xrpc"
	"portico/db"
	"portico/impl/answer"
)

// GetInviteCodes lists all codes in pages, the newest or the most used first.
func (s *Service) GetInviteCodes(ctx context.Context, p *api.GetInviteCodesParams) (*api.GetInviteCodesOutput, error) {
	list := (*db.Reader).RecentInvites
	switch p.Sort {
	case api.GetInviteCodesParamsSortRecent:
	case api.GetInviteCodesParamsSortUsage:
		list = (*db.Reader).MostUsedInvites
	default:
		return nil, xrpc.InvalidRequest("unknown sort method: " + p.Sort)
	}
	var after *db.InviteMark
	if p.Cursor != nil {
		var err error
		if after, err = parseMark(p.Sort, *p.Cursor); err != nil {
			return nil, xrpc.InvalidRequest("Malformed cursor")
		}
	}
	codes, err := db.ReadPublic(ctx, s.DB, func(r *db.Reader) ([]db.Invite, error) { return list(r, ctx, after, int(p.Limit)) })
	if err != nil {
		return nil, err
	}
	out := new(api.GetInviteCodesOutput)
	for _, c := range codes {
		out.Codes = append(out.Codes, answer.Invite(c))
	}
	if n := len(codes); n > 0 {
		out.Cursor = new(mark(p.Sort, codes[n-1]))
	}
	return out, nil
}

const markSeparator = "::"

// mark is the place of a code in a list, as a cursor. Ages are milliseconds; what a
// code has beyond those follows as a fraction, so that none is skipped.
func mark(sort string, i db.Invite) string {
	primary := strconv.Itoa(i.Spent)
	if sort == api.GetInviteCodesParamsSortRecent {
		micros := i.CreatedAt.UnixMicro()
		primary = strconv.FormatInt(micros/1000, 10)
		if rest := micros % 1000; rest != 0 {
			primary += fmt.Sprintf(".%03d", rest)
		}
	}
	return primary + markSeparator + i.Code
}

var errMark = errors.New("malformed cursor")

// lastMoment is as far from 1970 as the dates of clients go, in milliseconds.
const lastMoment = 8_640_000_000_000_000

// markNumber is the number that a cursor begins with. As in JavaScript, what follows it
// does not matter.
var markNumber = regexp.MustCompile(`^[\s\v\p{Z}\x{FEFF}]*([+-]?\d+(?:\.\d{1,3})?)`)

func parseMark(sort, cursor string) (*db.InviteMark, error) {
	primary, code, ok := strings.Cut(cursor, markSeparator)
	if !ok || primary == "" || code == "" || strings.Contains(code, markSeparator) {
		return nil, errMark
	}
	number := markNumber.FindStringSubmatch(primary)
	if number == nil {
		return nil, errMark
	}
	n, _ := strconv.ParseFloat(number[1], 64) // a number; one that is too large is infinite
	if sort != api.GetInviteCodesParamsSortRecent {
		return &db.InviteMark{Spent: int(min(max(n, -1), math.MaxInt32)), Code: code}, nil
	}
	if math.Abs(n) > lastMoment {
		return nil, errMark
	}
	return &db.InviteMark{CreatedAt: time.UnixMicro(int64(math.Round(n * 1000))), Code: code}, nil
}
