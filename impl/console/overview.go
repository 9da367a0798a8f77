package console

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	operatorapi "portico/api/portico/operator"
	"portico/impl/page"
)

type overviewPage struct {
	Health   *operatorapi.GetHealthOutput
	SignUps  signUpChart
	Firehose *operatorapi.GetFirehoseOutput
	Lag      lagChart
	Mails    mailCounts
}

// mailCounts says how many of the last mails wait and failed.
type mailCounts struct{ Waiting, Failed string }

func (c *console) overview(v *page.Visit) error {
	var p overviewPage
	var err error
	ctx := v.Context()
	if p.Health, err = c.operator.GetHealth(ctx); err != nil {
		return err
	}
	days, err := c.operator.GetSignUps(ctx, &operatorapi.GetSignUpsParams{Days: 30})
	if err != nil {
		return err
	}
	p.SignUps = drawSignUps(days.Days)
	if p.Firehose, err = c.operator.GetFirehose(ctx); err != nil {
		return err
	}
	p.Lag = drawLag(p.Firehose.History, c.Now())
	count := func(state string) (string, error) {
		out, err := c.operator.ListMails(ctx, &operatorapi.ListMailsParams{State: &state, Limit: 100})
		if err != nil {
			return "", err
		}
		if out.Cursor != nil {
			return "more than 100", nil
		}
		return strconv.Itoa(len(out.Mails)), nil
	}
	if p.Mails.Waiting, err = count(operatorapi.MailStateQueued); err != nil {
		return err
	}
	if p.Mails.Failed, err = count(operatorapi.MailStateFailed); err != nil {
		return err
	}
	return v.Show(http.StatusOK, "overview.html", p)
}

// Charts are drawn into a field of this size, which is stretched to the width of the page, so
// that there is no text in it.
const (
	chartWidth  = 600
	chartHeight = 160
)

// A box is a rectangle of a chart.
type box struct {
	X, Y, Width, Height string
	Class, Title        string
}

// signUpChart has a bar for each day: who is there and free above who is held, and below the
// line who was deleted on that day.
type signUpChart struct {
	Days              []operatorapi.SignUps // the last day first
	Boxes             []box
	Line              string // where the line is
	Total, Held, Gone int64
	Most              int64 // on one day
	First, Last       string
}

func drawSignUps(days []operatorapi.SignUps) signUpChart {
	chart := signUpChart{Line: coordinate(chartHeight)}
	if len(days) == 0 {
		return chart
	}
	var above, below int64
	for i := len(days) - 1; i >= 0; i-- {
		d := days[i]
		chart.Days = append(chart.Days, d)
		chart.Total, chart.Held, chart.Gone = chart.Total+d.Made, chart.Held+d.Held, chart.Gone+d.Deleted
		above, below = max(above, d.Made), max(below, d.Deleted)
	}
	chart.Most, chart.First, chart.Last = above, days[0].Day, days[len(days)-1].Day
	scale := float64(chartHeight-2) / float64(max(1, above+below))
	line := float64(above)*scale + 1
	chart.Line = coordinate(line)
	step := float64(chartWidth) / float64(len(days))
	for i, d := range days {
		title := fmt.Sprintf("%s: %d signed up, %d of them held; %d deleted", d.Day, d.Made, d.Held, d.Deleted)
		add := func(class string, from, height float64) {
			if height > 0 {
				chart.Boxes = append(chart.Boxes, box{
					coordinate(float64(i)*step + step*0.1), coordinate(from), coordinate(step * 0.8), coordinate(height), class, title,
				})
			}
		}
		held, made := float64(d.Held)*scale, float64(d.Made)*scale
		add("held", line-held, held)
		add("free", line-made, made-held)
		add("gone", line, float64(d.Deleted)*scale)
	}
	return chart
}

// lagChart is a line over the last day, of the consumer that was furthest behind.
type lagChart struct {
	Line  string // the points of a polyline
	Area  string // and of what is below it
	Most  int64
	Hours []lagHour // the last first
}

type lagHour struct {
	From      string
	Consumers int64 // at most
	Most      int64
}

func drawLag(history []operatorapi.Lag, now time.Time) lagChart {
	var chart lagChart
	for _, l := range history {
		chart.Most = max(chart.Most, l.Most)
	}
	var line []string
	for _, l := range history {
		at := l.At.Time()
		x := chartWidth * (1 - now.Sub(at).Hours()/24)
		y := 1 + (chartHeight-2)*(1-float64(l.Most)/float64(max(1, chart.Most)))
		line = append(line, coordinate(min(max(x, 0), chartWidth))+","+coordinate(y))

		hour := at.UTC().Truncate(time.Hour).Format("2 Jan, 15:04")
		if n := len(chart.Hours); n == 0 || chart.Hours[0].From != hour {
			chart.Hours = append([]lagHour{{From: hour}}, chart.Hours...)
		}
		h := &chart.Hours[0]
		h.Consumers, h.Most = max(h.Consumers, l.Consumers), max(h.Most, l.Most)
	}
	if len(line) > 1 {
		first, _, _ := strings.Cut(line[0], ",")
		last, _, _ := strings.Cut(line[len(line)-1], ",")
		chart.Line = strings.Join(line, " ")
		chart.Area = first + "," + coordinate(chartHeight) + " " + chart.Line + " " + last + "," + coordinate(chartHeight)
	}
	return chart
}

func coordinate(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }
