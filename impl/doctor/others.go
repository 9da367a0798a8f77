package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	syncapi "portico/api/atproto/sync"
	"portico/api/xrpc"
	"portico/impl/identity/resolve"
)

// nobodysDID is one that no directory has: nobody has the key that would hash to it.
const nobodysDID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

func (e *Examination) directory(ctx context.Context) Result {
	if e.Directory == "" {
		return notTried("the server has a directory of its own, for development")
	}
	answer, body, err := get(ctx, e.others(), e.Directory+"/"+nobodysDID, nil)
	const reachable = "Look at whether this machine can reach it (curl), at the firewall's rules for outgoing connections, and at PDS_DID_PLC_URL: without it nobody signs up or changes a handle"
	switch {
	case err != nil:
		return failed(fmt.Sprintf("%s gives no answer (%v)", e.Directory, reason(err)), reachable)
	case answer.StatusCode == http.StatusTooManyRequests:
		return warning(e.Directory+" wants to be asked less for now", "Wait, and look at what else on this address asks it")
	case answer.StatusCode >= 500:
		return failed(fmt.Sprintf("%s answers %d", e.Directory, answer.StatusCode), "Wait for it (https://status.bsky.app tells of plc.directory): until then nobody signs up or changes a handle")
	case answer.StatusCode != http.StatusNotFound || text(body, "message") == "":
		return failed(fmt.Sprintf("what answers at %s is no PLC directory (status %d)", e.Directory, answer.StatusCode), "Set PDS_DID_PLC_URL to a directory; the one of the network is https://plc.directory")
	}
	return ok("%s answers", e.Directory)
}

// How far the clock may be off. Tokens for other services are good for a minute.
const (
	offALittle = 5 * time.Second
	offTooMuch = 30 * time.Second
)

// clock holds the clock against the dates of several servers. One that is wrong itself
// says nothing against it as long as another agrees.
func (e *Examination) clock(ctx context.Context) Result {
	var hosts []string
	if e.Directory != "" {
		hosts = append(hosts, e.Directory)
	}
	for _, s := range e.Services {
		hosts = append(hosts, s.URL)
	}
	hosts = append(hosts, e.Crawlers...)
	var mu sync.Mutex
	var least *time.Duration
	by := ""
	var asking sync.WaitGroup
	for _, host := range hosts[:min(len(hosts), 6)] {
		asking.Go(func() {
			before := e.Now()
			answer, _, err := get(ctx, e.others(), host, nil)
			after := e.Now()
			if err != nil {
				return
			}
			date, err := http.ParseTime(answer.Header.Get("Date"))
			if err != nil {
				return
			}
			// It was written at some time between, and says a whole second.
			off := time.Duration(0)
			switch {
			case date.Add(time.Second).Before(before):
				off = before.Sub(date.Add(time.Second))
			case date.After(after):
				off = -date.Sub(after)
			}
			mu.Lock()
			defer mu.Unlock()
			if least == nil || off.Abs() < least.Abs() {
				least, by = &off, host
			}
		})
	}
	asking.Wait()
	if least == nil {
		return notTried("no other server answers with a date")
	}
	way := "ahead of the clock of"
	if *least < 0 {
		way = "behind the clock of"
	}
	const do = "Have it set from the network (timedatectl set-ntp true, or chrony): other services refuse tokens of another time"
	found := fmt.Sprintf("it is %v %s %s", least.Abs().Round(time.Second), way, by)
	switch {
	case least.Abs() > offTooMuch:
		return failed(found, do)
	case least.Abs() > offALittle:
		return warning(found, do)
	}
	return ok("agrees with %s", by)
}

func (e *Examination) service(ctx context.Context, s Service) Result {
	if s.URL == "" {
		return notTried(s.Setting + "_URL is not set")
	}
	answer, _, err := get(ctx, e.others(), s.URL+"/xrpc/_health", nil)
	switch {
	case err != nil:
		return failed(fmt.Sprintf("%s gives no answer (%v)", s.URL, reason(err)), "Look at "+s.Setting+"_URL, and whether this machine can reach it (curl)")
	case answer.StatusCode >= 500:
		return failed(fmt.Sprintf("%s answers %d", s.URL, answer.StatusCode), "Wait for it; if it stays so, look at "+s.Setting+"_URL")
	}
	dids := resolve.DIDs{Directory: e.Directory, PLC: e.others(), Web: e.others(), Timeout: stepTime}
	document, err := dids.Fetch(ctx, s.DID)
	if err != nil && s.DID.Method() == "plc" && !errors.Is(err, resolve.ErrNotFound) {
		return warning(fmt.Sprintf("%s answers, but %s could not be looked up", s.URL, s.DID), "Mend what stands at directory, and try again")
	}
	if err != nil {
		return failed(fmt.Sprintf("%s answers, but %s leads nowhere (%v)", s.URL, s.DID, brief(err.Error())), "Set "+s.Setting+"_DID to its DID: it refuses tokens for another")
	}
	var elsewhere []string
	here := false
	for _, d := range document.Services {
		var at string
		if json.Unmarshal(d.Endpoint, &at) != nil {
			continue
		}
		if here = here || sameHost(at, s.URL); !here {
			elsewhere = append(elsewhere, brief(at))
		}
	}
	if !here {
		return failed(fmt.Sprintf("%s is not that of %s: its services are at %s", s.DID, s.URL, strings.Join(elsewhere[:min(len(elsewhere), 5)], ", ")),
			"Set "+s.Setting+"_DID to the DID of "+s.URL+": it refuses tokens for another")
	}
	local := e.ask(ctx)
	if !s.AppView || local.account == nil || e.Development {
		return ok("%s, %s", s.URL, s.DID)
	}
	a := local.account
	answer, body, err := get(ctx, e.others(), s.URL+"/xrpc/app.bsky.actor.getProfile?actor="+url.QueryEscape(a.DID.String()), nil)
	if err == nil && answer.StatusCode == http.StatusBadRequest {
		return warning(fmt.Sprintf("%s does not show %s (%s)", s.URL, a.Handle, brief(text(body, "message"))),
			"Once a relay has read what the account writes it does: see crawlers. Where it stays so, portico account repair "+a.DID.String())
	}
	return ok("%s, %s", s.URL, s.DID)
}

func sameHost(a, b string) bool {
	x, errX := url.Parse(a)
	y, errY := url.Parse(b)
	return errX == nil && errY == nil && x.Scheme == y.Scheme && strings.EqualFold(x.Host, y.Host)
}

func (e *Examination) crawlers(ctx context.Context) Result {
	if len(e.Crawlers) == 0 {
		return warning("no relay is asked to read what is written here", "Set PDS_CRAWLERS=https://bsky.network, unless somebody else tells relays")
	}
	all := make([]Result, len(e.Crawlers))
	var asking sync.WaitGroup
	for i, host := range e.Crawlers {
		asking.Go(func() { all[i] = e.crawler(ctx, host) })
	}
	asking.Wait()
	return worst(all...)
}

func (e *Examination) crawler(ctx context.Context, host string) Result {
	c := syncapi.Client{Client: xrpc.Client{Host: host, HTTP: e.others(), MaxAnswer: maxBody}}
	out, err := c.GetHostStatus(ctx, &syncapi.GetHostStatusParams{Hostname: e.Host})
	local := e.ask(ctx)
	reads := ""
	if local.events != nil {
		reads = fmt.Sprintf("; %d %s the events of this server now", len(local.events.Consumers), plural(len(local.events.Consumers), "follows", "follow"))
	}
	answered, isAnswer := errors.AsType[*xrpc.Error](err)
	switch {
	case errors.Is(err, syncapi.ErrGetHostStatusHostNotFound) && local.events != nil && local.events.Last == 0:
		return warning(host+" does not know "+e.Host+" yet"+reads, "Nothing to do: the server asks it to read (requestCrawl) at every start and when something is written, and so far nothing was. It takes an account")
	case errors.Is(err, syncapi.ErrGetHostStatusHostNotFound):
		return warning(host+" does not know "+e.Host+reads,
			"The server asks it to read (requestCrawl) at every start and when something is written, at most every 20 minutes. If it stays so, mend what stands at public URL and websocket; the log says when it refuses (crawler was not told)")
	case isAnswer && (answered.Status == http.StatusNotFound || answered.Status == http.StatusNotImplemented):
		return ok("%s does not say whom it knows%s", host, reads)
	case err != nil && isAnswer:
		return warning(fmt.Sprintf("%s answers %d %s", host, answered.Status, brief(answered.Message)), "Try again later")
	case err != nil:
		return failed(fmt.Sprintf("%s gives no answer (%v)", host, reason(err)), "Look at PDS_CRAWLERS, and whether this machine can reach it (curl)")
	}
	status := ""
	if out.Status != nil {
		status = string(*out.Status)
	}
	switch status {
	case "banned":
		return failed(host+" has banned "+e.Host, "Ask who runs it why; until then nobody who reads there sees what is written here")
	case "throttled":
		return warning(host+" throttles "+e.Host+": new accounts are not seen"+reads, "Ask who runs it to raise the limit of accounts for "+e.Host+", and see PORTICO_SIGNUP_QUARANTINE")
	case "offline":
		return failed(host+" finds "+e.Host+" offline", "Mend what stands at public URL and websocket, then restart the server, which asks it to read again")
	}
	found := fmt.Sprintf("%s knows %s", host, e.Host)
	if status != "" {
		found += " (" + brief(status) + ")"
	}
	if out.Seq != nil && local.events != nil {
		behind := local.events.Last - *out.Seq
		if behind < 0 {
			return failed(fmt.Sprintf("%s has read event %d, but the last one here is %d: it takes new ones for old", host, *out.Seq, local.events.Last),
				fmt.Sprintf("Set PORTICO_SEQUENCE_START=%d and restart the server", *out.Seq+1000))
		}
		found += fmt.Sprintf(", and has read up to event %d of %d", *out.Seq, local.events.Last)
	}
	return ok("%s%s", found, reads)
}
