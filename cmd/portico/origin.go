package main

import (
	"context"
	"fmt"
	"log/slog"

	"portico/db"
)

// warnOfChange tells the operator that the server was started with another rotation
// key or public URL than the last time. Both stand in the DIDs of the accounts, so a
// change by mistake is found out at the start and not when a DID has to be changed.
func warnOfChange(ctx context.Context, s *settings, store *db.DB, log *slog.Logger) error {
	public, err := s.RotationKey.PublicKey()
	if err != nil {
		return fmt.Errorf("rotation key: %w", err)
	}
	for _, part := range []struct{ name, now, meaning string }{
		{"rotation key", public.DIDKey(), "the DIDs of accounts from before name the old key, and this server cannot change " +
			"them without it. If that is not meant, set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX back"},
		{"public URL", s.PublicURL.String(), "the DIDs of accounts from before name the old one as their server. " +
			"If that is not meant, set PDS_HOSTNAME back (PDS_PORT on a development server)"},
	} {
		var before []byte
		err := store.Write(ctx, func(tx *db.Tx) (err error) {
			before, err = tx.MetaOr(ctx, part.name, []byte(part.now))
			if err != nil || string(before) == part.now {
				return err
			}
			return tx.PutMeta(ctx, part.name, []byte(part.now))
		})
		if err != nil {
			return fmt.Errorf("compare %s with that of the last start: %w", part.name, err)
		}
		if string(before) != part.now {
			log.WarnContext(ctx, "the "+part.name+" is another one than at the last start: "+part.meaning, "before", string(before), "now", part.now)
		}
	}
	return nil
}
