package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
	"portico/impl/identity/plc"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// Recover gives a, an account that its owner gets back into, the password with this
// hash, and shuts every other way in that somebody may have made: sessions, app
// passwords, passkeys and the codes that were mailed. What is asked for beside the password
// stays. But where nobody had confirmed the address before, whoever signed up with it was
// perhaps somebody else: signing in no longer asks for a code, emailed or of an authenticator
// app, and the phone number is no longer the account's. The owner is told of it, and of the
// keys that this server cannot take away. from is as in SetPassword.
func (c Credentials) Recover(
	ctx context.Context, tx *db.Tx, a *db.Account, hash string, from netip.Addr, keys ForeignKeys,
) error {
	apps, err := tx.DeleteAppPasswords(ctx, a.DID)
	if err != nil {
		return fmt.Errorf("recover account: %w", err)
	}
	if err := tx.DeleteCodes(ctx, a.DID); err != nil {
		return fmt.Errorf("recover account: %w", err)
	}
	ended, phone := mail.Recovery{ForeignKeys: keys.Keys, KeysUnknown: keys.Unknown}, false
	if ended.Passkeys, err = tx.DeletePasskeys(ctx, a.DID); err != nil {
		return fmt.Errorf("recover account: %w", err)
	}
	if a.EmailConfirmedAt == nil {
		ended.SignInCodeOff = a.EmailAuthFactor
		a.EmailAuthFactor = false
		if ended.AuthenticatorOff, _, err = tx.DeleteFactors(ctx, a.DID); err != nil {
			return fmt.Errorf("recover account: %w", err)
		}
		if phone, err = tx.ReleasePhone(ctx, a.DID); err != nil {
			return fmt.Errorf("recover account: %w", err)
		}
	}
	if err := c.setPassword(ctx, tx, a, hash, from, recoveryDetail(apps, phone, ended)); err != nil {
		return err
	}
	letter := c.Brand().Recovered(a.Email, outbox.Named(a), c.Now(), ended)
	return c.Outbox.Announce(ctx, tx, a.DID, mail.KindPasswordChanged, letter)
}

// recoveryDetail is what the record says of a recovery.
func recoveryDetail(apps int64, phone bool, r mail.Recovery) string {
	var said []string
	if apps > 0 {
		said = append(said, fmt.Sprintf("app passwords revoked: %d", apps))
	}
	if r.SignInCodeOff {
		said = append(said, "sign-in codes off")
	}
	if r.AuthenticatorOff {
		said = append(said, "authenticator app off")
	}
	if r.Passkeys > 0 {
		said = append(said, fmt.Sprintf("passkeys removed: %d", r.Passkeys))
	}
	if phone {
		said = append(said, "phone number forgotten")
	}
	if len(r.ForeignKeys) > 0 {
		said = append(said, "rotation keys that are not the server's: "+strings.Join(r.ForeignKeys, " "))
	}
	if r.KeysUnknown {
		said = append(said, "rotation keys unknown: the directory did not answer")
	}
	return strings.Join(said, "; ")
}

// ForeignKeys are the rotation keys of an account's DID that are not this server's.
// Whoever has one can change the DID, and move it away from here.
type ForeignKeys struct {
	Keys    []string // did:keys, the strongest first
	Unknown bool     // nobody could tell
}

const (
	// keysPatience is how long somebody waits for the directory's word about keys, who
	// can do without.
	keysPatience = 5 * time.Second
	// maxKeys and maxKeyLength are more than a directory takes: what it says is kept.
	maxKeys, maxKeyLength = 10, 200
)

// ForeignKeys asks the directory. Other DIDs than those of did:plc have no such keys.
// It never fails: the answer is for people, and what it comes with does not wait.
func (v *Verifier) ForeignKeys(ctx context.Context, did syntax.DID) ForeignKeys {
	if did.Method() != "plc" {
		return ForeignKeys{}
	}
	own, err := v.Accounts.ownKeys()
	if err != nil {
		return ForeignKeys{Unknown: true}
	}
	ctx, cancel := context.WithTimeout(ctx, keysPatience)
	defer cancel()
	data, err := v.data(ctx, did)
	if errors.Is(err, plc.ErrNotFound) {
		return ForeignKeys{} // tombstoned: nothing changes it any more
	}
	if err != nil {
		v.Accounts.Log.InfoContext(ctx, "rotation keys not read", "did", did, "error", err)
		return ForeignKeys{Unknown: true}
	}
	keys := slices.DeleteFunc(data.RotationKeys, func(key string) bool {
		return slices.Contains(own, key) || len(key) > maxKeyLength
	})
	return ForeignKeys{Keys: keys[:min(len(keys), maxKeys)]}
}
