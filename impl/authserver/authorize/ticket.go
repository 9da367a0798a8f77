package authorize

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/db"
)

// A ticket says who is signed in for a request, and what they were shown of it. It waits in the
// forms of the request's pages, where nobody can read or change it.
type ticket struct {
	DID    syntax.DID `json:"did"`
	Proved time.Time  `json:"proved"`
	Until  time.Time  `json:"until"`
	Shown  []byte     `json:"shown"` // see digest
}

// ticketLasts is how long somebody is signed in who is for one request.
const ticketLasts = 15 * time.Minute

const sealing = "portico/page authorize"

// holder is whom tickets are for: the browser, and the request.
func (q *ask) holder() string { return q.Binding() + " " + q.uri }

// ticket is one for the forms of the page that is shown next.
func (q *ask) ticket(account *db.Account, proved time.Time, granted string) (string, error) {
	text, err := json.Marshal(ticket{account.DID, proved, q.Now().Add(ticketLasts), digest(granted)})
	if err != nil {
		return "", err
	}
	sealed, err := q.Keys.Seal(sealing, q.holder(), text)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// brought is the ticket that a form brought, nil for none that is good.
func (q *ask) brought() *ticket {
	sealed, err := base64.RawURLEncoding.DecodeString(q.Form("ticket"))
	if err != nil {
		return nil
	}
	text, err := q.Keys.Open(sealing, q.holder(), sealed)
	if err != nil {
		return nil
	}
	t := new(ticket)
	if json.Unmarshal(text, t) != nil || !q.Now().Before(t.Until) {
		return nil
	}
	return t
}

// digest stands for what a scope was spelled out.
func digest(granted string) []byte {
	sum := sha256.Sum256([]byte(granted))
	return sum[:]
}
