package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/account"
	"portico/impl/account/adopted"
	"portico/impl/account/factor"
	"portico/impl/keyring"
	"portico/impl/mail/outbox"
)

// canaryName is where the database keeps the canary of its key-encryption key.
const canaryName = "key canary"

// openKeys makes the key ring and checks it against the database: the key that
// sealed what is in there must be configured. What an old key has sealed is sealed
// anew, so that the old one can be taken out of the configuration at the next
// start.
func openKeys(ctx context.Context, s *settings, store *db.DB) (*keyring.Ring, error) {
	ring, err := keyring.New(rand.Reader, s.KeyEncryptionKey, s.OldKeyEncryptionKey...)
	if err != nil {
		return nil, fmt.Errorf("PORTICO_KEY_ENCRYPTION_KEY: %w", err)
	}
	canary, err := openCanary(ctx, store, ring)
	if err != nil {
		return nil, err
	}
	if err := unlock(ring, canary); err != nil {
		return nil, err
	}
	// The canary tells only what the first to start with the new key did: another
	// process may have sealed with the old one after that.
	if !ring.Current(canary) || len(s.OldKeyEncryptionKey) > 0 {
		if err := reseal(ctx, store, ring, canary); err != nil {
			return nil, fmt.Errorf("seal with the new key: %w", err)
		}
	}
	return ring, nil
}

// checkKeys returns an error unless the configured keys open what the database has.
func checkKeys(ctx context.Context, s *settings, tx *db.Tx) error {
	canary, err := tx.Meta(ctx, canaryName)
	if errors.Is(err, db.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	ring, err := keyring.New(rand.Reader, s.KeyEncryptionKey, s.OldKeyEncryptionKey...)
	if err != nil {
		return fmt.Errorf("PORTICO_KEY_ENCRYPTION_KEY: %w", err)
	}
	return unlock(ring, canary)
}

// unlock makes the ring ready with the database's canary.
func unlock(ring *keyring.Ring, canary []byte) error {
	if err := ring.Unlock(canary); errors.Is(err, keyring.ErrUnknownKey) {
		return unfit(errors.New("PORTICO_KEY_ENCRYPTION_KEY is not the key that this database was sealed with: " +
			"set the right one, or put it into PORTICO_KEY_ENCRYPTION_KEY_OLD. Without it the signing keys of " +
			"all accounts are lost"))
	} else if err != nil {
		return fmt.Errorf("key canary of the database: %w", err)
	}
	return nil
}

// openCanary reads the canary, or makes it in a new database. Of several
// processes that start at once one makes it, and all get the same.
func openCanary(ctx context.Context, store *db.DB, ring *keyring.Ring) (canary []byte, err error) {
	fresh, err := ring.NewCanary()
	if err != nil {
		return nil, err
	}
	err = store.Write(ctx, func(tx *db.Tx) error {
		canary, err = tx.MetaOr(ctx, canaryName, fresh)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open key canary: %w", err)
	}
	return canary, nil
}

// reseal seals every key of an account, every one that is reserved for one, the mails that
// wait, what is kept of an adopted server, and the secrets of authenticator apps, with the current key, the canary last: a start that was
// interrupted begins again. What is sealed with a key that is not configured stays as
// it is: nobody could use it before either, and the repair of its account says so.
func reseal(ctx context.Context, store *db.DB, ring *keyring.Ring, canary []byte) error {
	if err := resealSigningKeys(ctx, store, ring); err != nil {
		return err
	}
	if err := resealReservedKeys(ctx, store, ring); err != nil {
		return err
	}
	if err := resealMails(ctx, store, ring); err != nil {
		return err
	}
	if err := resealAdopted(ctx, store, ring); err != nil {
		return err
	}
	if err := resealFactors(ctx, store, ring); err != nil {
		return err
	}
	sealed, err := ring.ResealCanary(canary)
	if err != nil {
		return err
	}
	return store.Write(ctx, func(tx *db.Tx) error { return tx.PutMeta(ctx, canaryName, sealed) })
}

// resealed is sealed under the current key, nil when it stays as it is.
func resealed(ring *keyring.Ring, purpose, id string, sealed []byte) ([]byte, error) {
	if ring.Current(sealed) {
		return nil, nil
	}
	again, err := ring.Reseal(purpose, id, sealed)
	if errors.Is(err, keyring.ErrUnknownKey) {
		return nil, nil
	}
	return again, err
}

// resealPage is how many keys are sealed in one transaction.
const resealPage = 500

func resealSigningKeys(ctx context.Context, store *db.DB, ring *keyring.Ring) error {
	var last db.SigningKey
	for {
		keys, err := store.SigningKeys(ctx, last.DID, last.Purpose, resealPage)
		if err != nil {
			return err
		}
		sealed := make([][]byte, len(keys))
		for i, k := range keys {
			if sealed[i], err = resealed(ring, k.Purpose, k.DID.String(), k.Sealed); err != nil {
				return fmt.Errorf("signing key of %s: %w", k.DID, err)
			}
			last = k
		}
		err = store.Write(ctx, func(tx *db.Tx) error {
			for i, k := range keys {
				if sealed[i] == nil {
					continue
				}
				if err := tx.ResealSigningKey(ctx, k, sealed[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(keys) < resealPage {
			return err
		}
	}
}

func resealReservedKeys(ctx context.Context, store *db.DB, ring *keyring.Ring) error {
	last := ""
	for {
		keys, err := store.ReservedKeys(ctx, last, resealPage)
		if err != nil {
			return err
		}
		sealed := make([][]byte, len(keys))
		for i, k := range keys {
			if sealed[i], err = resealed(ring, account.ReservedPurpose, k.ID, k.Sealed); err != nil {
				return fmt.Errorf("reserved key %s: %w", k.ID, err)
			}
			last = k.ID
		}
		err = store.Write(ctx, func(tx *db.Tx) error {
			for i, k := range keys {
				if sealed[i] == nil {
					continue
				}
				if err := tx.ResealReservedKey(ctx, k, sealed[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(keys) < resealPage {
			return err
		}
	}
}

func resealMails(ctx context.Context, store *db.DB, ring *keyring.Ring) error {
	last := int64(0)
	for {
		mails, err := store.SealedMails(ctx, last, resealPage)
		if err != nil {
			return err
		}
		err = store.Write(ctx, func(tx *db.Tx) error {
			for _, m := range mails {
				sealed, err := outbox.Reseal(ring, &m)
				if errors.Is(err, keyring.ErrUnknownKey) || errors.Is(err, keyring.ErrSealed) {
					continue // it could not be sent before either, and the outbox will say so
				}
				if err != nil {
					return err
				}
				if err := tx.ResealMail(ctx, m, sealed); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(mails) < resealPage {
			return err
		}
		last = mails[len(mails)-1].ID
	}
}

func resealAdopted(ctx context.Context, store *db.DB, ring *keyring.Ring) error {
	var last db.AdoptedSecret
	for {
		secrets, err := store.AdoptedSecrets(ctx, last, resealPage)
		if err != nil {
			return err
		}
		err = store.Write(ctx, func(tx *db.Tx) error {
			for _, s := range secrets {
				if ring.Current(s.Sealed) {
					continue
				}
				sealed, err := adopted.Reseal(ring, s)
				if errors.Is(err, keyring.ErrUnknownKey) {
					continue
				}
				if err == nil {
					err = tx.ResealAdoptedSecret(ctx, s, sealed)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(secrets) < resealPage {
			return err
		}
		last = secrets[len(secrets)-1]
	}
}

func resealFactors(ctx context.Context, store *db.DB, ring *keyring.Ring) error {
	last := syntax.DID("")
	for {
		all, err := store.TOTPs(ctx, last, resealPage)
		if err != nil {
			return err
		}
		err = store.Write(ctx, func(tx *db.Tx) error {
			for _, o := range all {
				if ring.Current(o.Sealed) {
					continue
				}
				sealed, err := factor.Reseal(ring, o)
				if errors.Is(err, keyring.ErrUnknownKey) {
					continue
				}
				if err == nil {
					err = tx.ResealTOTP(ctx, o, sealed)
				}
				if err != nil {
					return fmt.Errorf("authenticator app of %s: %w", o.DID, err)
				}
			}
			return nil
		})
		if err != nil || len(all) < resealPage {
			return err
		}
		last = all[len(all)-1].DID
	}
}
