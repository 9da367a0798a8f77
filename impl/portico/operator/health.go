package operator

import (
	"context"
	"log/slog"
	"time"

	api "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/answer"
	"portico/impl/logging"
)

// Health is what a process knows of itself.
type Health struct {
	Version string
	Began   time.Time
	// Check is nil while the server works.
	Check   func(context.Context) error
	Notices *logging.Notices
}

// GetHealth says how the server is.
func (s *Service) GetHealth(ctx context.Context) (*api.GetHealthOutput, error) {
	out := &api.GetHealthOutput{Version: s.Health.Version, StartedAt: answer.Datetime(s.Health.Began), Working: true}
	if err := s.Health.Check(ctx); err != nil {
		out.Working, out.Problem = false, new(err.Error()) // only the operator reads it
	}
	for _, n := range s.Health.Notices.Latest() {
		level := api.WarningLevelWarning
		if n.Level >= slog.LevelError {
			level = api.WarningLevelError
		}
		out.Warnings = append(out.Warnings, api.Warning{
			At: answer.Datetime(n.At), Level: level, Message: n.Message, Detail: xrpc.NonZero(n.Detail), Count: int64(n.Count),
		})
	}
	return out, nil
}

// GetFirehose says who follows the events of this process, and how far behind they are.
func (s *Service) GetFirehose(context.Context) (*api.GetFirehoseOutput, error) {
	last, consumers := s.Firehose.Consumers()
	out := &api.GetFirehoseOutput{Last: last}
	for _, c := range consumers {
		out.Consumers = append(out.Consumers, api.Consumer{
			Address: xrpc.NonZero(c.Address), Since: answer.Datetime(c.Since), Seq: c.Seq, Lag: c.Lag,
		})
	}
	for _, l := range s.Firehose.History() {
		out.History = append(out.History, api.Lag{At: answer.Datetime(l.At), Consumers: int64(l.Consumers), Most: l.Most})
	}
	return out, nil
}

// GetSignUps counts the accounts that were made on each of the last days.
func (s *Service) GetSignUps(ctx context.Context, p *api.GetSignUpsParams) (*api.GetSignUpsOutput, error) {
	today := s.Now().UTC().Truncate(24 * time.Hour)
	days, err := s.DB.SignUps(ctx, today.AddDate(0, 0, 1-int(p.Days)), today)
	if err != nil {
		return nil, err
	}
	out := new(api.GetSignUpsOutput)
	for _, d := range days {
		out.Days = append(out.Days, api.SignUps{
			Day: d.Day.Format(time.DateOnly), Made: int64(d.Made), Held: int64(d.Held), Deleted: int64(d.Deleted),
		})
	}
	return out, nil
}
