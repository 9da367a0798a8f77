package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"portico/impl/identity/plc"
)

const (
	// askedAtOnce is how many DIDs the directory is asked about before any answer, and
	// pause what lies between two of them after the first few: 20 a second.
	askedAtOnce = 4
	unpaused    = 20
	pause       = 50 * time.Millisecond
	// unansweredAtMost is how many DIDs in a row may stay without an answer before no more
	// is asked.
	unansweredAtMost = 20
	// owners is how many accounts there must be at least to say that the server has another
	// key: the owners of fewer may have removed it, and are listed.
	owners = 3
)

// An answer is what the directory said about a DID.
type answer struct {
	data  plc.Data
	err   error
	asked bool
}

// identities compares the accounts with what the directory says about their DIDs. An active
// one of which that is not known is as one that the server cannot act for.
func (p *planner) identities(ctx context.Context) error {
	asked := slices.DeleteFunc(slices.Clone(p.accounts), func(one planned) bool { return one.did.Method() != "plc" })
	if p.Directory != nil {
		p.ownersAlone()
	}
	if len(asked) == 0 {
		return nil
	}
	if p.Directory == nil {
		p.found(Finding{Name: "identities-not-asked", Text: "the PLC directory was not asked what it has about the accounts"})
		return nil
	}
	rotation, err := p.Rotation.PublicKey()
	if err != nil {
		return err
	}
	answers, err := p.ask(ctx, asked)
	if err != nil {
		return err
	}
	here, managed := 0, 0
	for i, one := range asked {
		if a := answers[i]; !a.asked || a.err != nil {
			p.unanswered(one, a)
			continue
		}
		data := answers[i].data
		has := slices.Contains(data.RotationKeys, rotation.DIDKey())
		p.compare(one, data, has)
		if p.namesThis(data) {
			here++
		}
		if has {
			managed++
		}
	}
	if here >= owners && managed == 0 {
		p.found(Finding{Name: "wrong-rotation-key", Grave: true,
			Text: "no DID has the rotation key " + rotation.DIDKey() + ": PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is of another server"})
	}
	return nil
}

// ownersAlone names the active accounts whose documents the directory has not. They are where
// their owners put them, who alone can change them, and are not asked for from here.
func (p *planner) ownersAlone() {
	for _, one := range p.accounts {
		if one.active && one.did.Method() == "web" {
			p.found(Finding{Name: "identity-of-owner", DID: one.did, Text: "the document is its owner's to keep, and was not looked at: " +
				"it has to name " + p.Endpoint + " as the server, and " + one.public + " as the signing key"})
		}
	}
}

// ask asks the directory about accounts, at a bounded rate and those without an answer
// twice, until it seems to be out of reach.
func (p *planner) ask(ctx context.Context, about []planned) ([]answer, error) {
	answers := make([]answer, len(about))
	ticks := time.NewTicker(pause)
	defer ticks.Stop()
	var mu sync.Mutex // for what follows
	done, inARow := 0, 0
	for round := range 2 {
		var group errgroup.Group
		group.SetLimit(askedAtOnce)
		for i, one := range about {
			mu.Lock()
			skip, stop := answers[i].asked && !again(answers[i].err) || round > 0 && !answers[i].asked, inARow >= unansweredAtMost
			mu.Unlock()
			if skip {
				continue
			}
			if stop || ctx.Err() != nil {
				break
			}
			if i >= unpaused {
				<-ticks.C
			}
			group.Go(func() error {
				data, err := p.Directory.Data(ctx, one.did)
				mu.Lock()
				defer mu.Unlock()
				answers[i] = answer{data: data, err: err, asked: true}
				inARow++
				if !again(err) {
					inARow = 0
				}
				if done++; done <= len(about) {
					p.progress("identities", int64(done), int64(len(about)))
				}
				return nil
			})
		}
		_ = group.Wait() // what failed is among the answers
	}
	return answers, ctx.Err()
}

// again reports whether to ask again may help.
func again(err error) bool { return err != nil && !errors.Is(err, plc.ErrNotFound) }

func (p *planner) unanswered(one planned, a answer) {
	f := Finding{Name: "identity-unknown", DID: one.did, Text: "the PLC directory was not asked: it is out of reach"}
	switch {
	case errors.Is(a.err, plc.ErrNotFound):
		f.Name, f.Text = "identity-not-found", "the PLC directory does not know the DID, or it has ended"
	case a.asked:
		f.Text = "the PLC directory was asked in vain: " + a.err.Error()
	}
	p.found(f)
	p.unmanaged(one)
}

// namesThis reports whether a DID is at home here.
func (p *planner) namesThis(data plc.Data) bool {
	return strings.TrimSuffix(data.Services["atproto_pds"].Endpoint, "/") == strings.TrimSuffix(p.Endpoint, "/")
}

// compare says where an account and the document of its DID differ. has says that the
// server's key is among its rotation keys.
func (p *planner) compare(one planned, data plc.Data, has bool) {
	tell := func(name, format string, args ...any) {
		p.found(Finding{Name: name, DID: one.did, Text: fmt.Sprintf(format, args...)})
	}
	state := "not active"
	if one.active {
		state = "active"
	}
	if !p.namesThis(data) {
		tell("identity-elsewhere", "the document names %q as the server of this account, which is %s here", data.Services["atproto_pds"].Endpoint, state)
		if !one.active {
			return // it has moved away, or not yet here: the rest is as it must be
		}
	}
	key := data.VerificationMethods["atproto"]
	if one.public != "" && key != one.public {
		tell("signing-key-differs", "the document has the signing key %q, and the account, which is %s, has %s", key, state, one.public)
	}
	if !has {
		tell("rotation-key-missing", "the server's key is not among the rotation keys: it cannot change the document of this account, which is %s", state)
	}
	if handle := data.Handle(); one.handle != "" && !strings.EqualFold(handle, one.handle.String()) {
		tell("handle-differs", "the document has the handle %q, and the account has %s", handle, one.handle)
	}
	if !has || key != one.public {
		p.unmanaged(one)
	}
}
