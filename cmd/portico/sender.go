package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	netmail "net/mail"
	"net/url"
	"strings"

	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// senders hands what moderators write to a mail server of their own, or under an
// address of their own.
type senders struct{ usual, moderation outbox.Sender }

func (s senders) Send(ctx context.Context, l mail.Letter) error {
	if l.Moderation && s.moderation != nil {
		return s.moderation.Send(ctx, l)
	}
	return s.usual.Send(ctx, l)
}

// sender returns the way to the mail servers, nil where none is configured.
func sender(s *settings, log *slog.Logger) (outbox.Sender, error) {
	if s.SMTPURL == nil {
		return nil, nil
	}
	var all senders
	var err error
	if all.usual, err = smtp("PDS_EMAIL_SMTP_URL", s.SMTPURL, s.EmailFrom, log); err != nil {
		return nil, err
	}
	if s.ModerationEmail == nil {
		return all.usual, nil
	}
	variable := "PDS_EMAIL_SMTP_URL"
	if s.ModerationSMTPURL != nil {
		variable = "PDS_MODERATION_EMAIL_SMTP_URL"
	}
	all.moderation, err = smtp(variable, cmp.Or(s.ModerationSMTPURL, s.SMTPURL), s.ModerationEmail, log)
	return all, err
}

func smtp(variable string, u *url.URL, from *netmail.Address, log *slog.Logger) (*mail.SMTP, error) {
	sender, err := mail.NewSMTP(u, from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	if ignored := sender.Ignored(); len(ignored) > 0 {
		log.Warn(variable+" has options that are ignored", "options", ignored)
	}
	return sender, nil
}

func setSMTP(name string, at func(*settings) **url.URL) func(*settings, string) error {
	return func(s *settings, v string) error {
		u, err := mail.ParseURL(v)
		if err != nil {
			return err
		}
		*at(s) = u
		if u.Scheme == "smtp" && u.Port() == "465" {
			s.Warnings = append(s.Warnings, name+" is smtp:// with port 465, where mail servers expect encryption from the start: use smtps://")
		}
		return nil
	}
}

// checkMail finds options of mail servers that can't be.
func (s *settings) checkMail(add func(variable, text string)) {
	for _, at := range []struct {
		variable string
		url      *url.URL
		from     *netmail.Address
	}{
		{"PDS_EMAIL_SMTP_URL", s.SMTPURL, s.EmailFrom},
		{"PDS_MODERATION_EMAIL_SMTP_URL", s.ModerationSMTPURL, s.ModerationEmail},
	} {
		if at.url == nil || at.from == nil {
			continue
		}
		if _, err := mail.NewSMTP(at.url, at.from); err != nil {
			add(at.variable, strings.TrimPrefix(err.Error(), "mail server: "))
		}
	}
}
