package phone

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"portico/db"
	"portico/impl/keyring"
	"portico/impl/mail"
	"portico/impl/mail/outbox"
)

// life is how long a code can be used.
const life = 10 * time.Minute

// KindCode is what the outbox calls a text message with a code.
const KindCode = "phone_code"

// Outbox is the [Provider] of a development server: it leaves its text messages in the
// outbox of mails, where the developer reads them. A code has six digits, works for
// ten minutes, and rests as a keyed hash; using one voids the others that the number
// has. How many there are, and how often one may guess, are budgets of [Verification].
type Outbox struct {
	DB      *db.DB
	Keys    *keyring.Ring
	Outbox  *outbox.Outbox
	Service func() string // how the text messages call the server
	Now     func() time.Time
	Rand    io.Reader // a secure source
}

var _ Provider = (*Outbox)(nil)

// Send implements [Provider].
func (o *Outbox) Send(ctx context.Context, n Number) error {
	random, err := rand.Int(o.Rand, big.NewInt(1e6))
	if err != nil {
		return fmt.Errorf("make phone code: %w", err)
	}
	code := fmt.Sprintf("%06d", random)
	letter := mail.Letter{
		To: n.String(), Subject: "Text message",
		Text: "To " + string(n) + ":\n\n" + code + " is your verification code for " + o.Service() + ". It works for 10 minutes.\n",
	}
	expires := o.Now().Add(life)
	return o.DB.Write(ctx, func(tx *db.Tx) error {
		if err := tx.InsertPhoneCode(ctx, numberMAC(o.Keys, n), o.mac(n, code), expires); err != nil {
			return err
		}
		return o.Outbox.Post(ctx, tx, "", KindCode, letter, expires)
	})
}

// Check implements [Provider].
func (o *Outbox) Check(ctx context.Context, n Number, code string) (bool, error) {
	err := o.DB.Write(ctx, func(tx *db.Tx) error {
		return tx.UsePhoneCode(ctx, numberMAC(o.Keys, n), o.mac(n, code), o.Now())
	})
	if errors.Is(err, db.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (o *Outbox) mac(n Number, code string) []byte {
	mac := o.Keys.MAC("phone-code", []byte(string(n)+"\x00"+code))
	return mac[:]
}
