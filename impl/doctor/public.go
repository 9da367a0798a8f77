package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	syncapi "portico/api/atproto/sync"
	operatorapi "portico/api/portico/operator"
	"portico/api/xrpc"
	"portico/impl/identity/host/proof"
	"portico/impl/identity/resolve"
)

const httpsPort = 443

// addresses is what DNS says of the server's name.
type addresses struct {
	list []netip.Addr
	err  error
}

func (e *Examination) lookUp(ctx context.Context, name string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	resolver := e.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	// The last dot keeps the resolver from trying the machine's own domains.
	list, err := resolver.LookupNetIP(ctx, "ip", name+".")
	for i := range list {
		list[i] = list[i].Unmap()
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), err
}

func (e *Examination) find(ctx context.Context) addresses {
	return e.found.get(func() addresses {
		list, err := e.lookUp(ctx, e.Host)
		return addresses{list, err}
	})
}

// reach is what came of a try to reach the server at one of its addresses.
type reach struct {
	address netip.Addr
	connection
	err      error // no answer after that
	proven   bool  // it is the server that listens on this machine
	status   int
	to       string // Location, of an answer that sends elsewhere
	software string // Server
}

// connection is how far a connection came.
type connection struct {
	dial  error               // nobody takes it
	shown []*x509.Certificate // what was shown, none if TLS did not come so far
	tls   error               // there is no TLS, or none that can be believed
}

// noted is a connection, as those note it who make it. They may go on when nobody waits
// for it any more.
type noted struct {
	mu sync.Mutex
	c  connection
}

func (n *noted) note(change func(*connection)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(&n.c)
}

// until is how far it came until a request over it ended, with err.
func (n *noted) until(err error) connection {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.c
	if err != nil && c.dial == nil && c.shown == nil {
		c.tls = err // the handshake did not come to a certificate
	}
	return c
}

// failure is what kept the server from being reached, nil if it was.
func (r *reach) failure() error { return errors.Join(r.dial, r.tls, r.err) }

// dialTo returns a dialer that goes to one address, whatever name is asked for.
func (e *Examination) dialTo(to netip.AddrPort, n *noted) func(context.Context, string, string) (net.Conn, error) {
	dial := e.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: stepTime}).DialContext
	}
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, stepTime)
		defer cancel()
		c, err := dial(ctx, network, to.String())
		if err != nil {
			n.note(func(c *connection) { c.dial = err })
		}
		return c, err
	}
}

// at is a client that reaches a name at one address, over TLS that can be believed, and
// what it notes of its connection.
func (e *Examination) at(address netip.Addr) (*http.Client, *noted) {
	n := new(noted)
	config := &tls.Config{RootCAs: e.Roots, Time: e.Now, InsecureSkipVerify: true}
	// What the library verifies by itself it does not show when that fails.
	config.VerifyConnection = func(state tls.ConnectionState) error {
		err := e.verify(state.ServerName, state.PeerCertificates)
		n.note(func(c *connection) { c.shown, c.tls = state.PeerCertificates, err })
		return err
	}
	return client(&http.Transport{
		DialContext: e.dialTo(netip.AddrPortFrom(address, httpsPort), n), TLSClientConfig: config, ResponseHeaderTimeout: 2 * stepTime,
	}), n
}

func (e *Examination) verify(name string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return errors.New("no certificate")
	}
	others := x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	// The name first: that somebody else's certificate has ended is not what is wrong.
	if err := chain[0].VerifyHostname(name); err != nil {
		return err
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: e.Roots, Intermediates: others, CurrentTime: e.Now()})
	return err
}

// reachAll tries all addresses of the server.
func (e *Examination) reachAll(ctx context.Context) []reach {
	return e.reached.get(func() []reach {
		local := e.ask(ctx)
		list := e.find(ctx).list
		all := make([]reach, min(len(list), 8))
		var trying sync.WaitGroup
		for i := range all {
			trying.Go(func() { all[i] = e.reach(ctx, list[i], local) })
		}
		trying.Wait()
		return all
	})
}

func (e *Examination) reach(ctx context.Context, address netip.Addr, local *running) reach {
	ctx, cancel := context.WithTimeout(ctx, 2*stepTime)
	defer cancel()
	r := reach{address: address}
	header := http.Header{}
	if local.challenge != "" {
		header.Set(proof.Challenge, local.challenge)
	}
	c, n := e.at(address)
	answer, _, err := get(ctx, c, "https://"+e.Host+proof.Path, header)
	if r.connection = n.until(err); err != nil {
		if r.dial == nil && r.tls == nil {
			r.err = err
		}
		return r
	}
	r.status, r.to, r.software = answer.StatusCode, answer.Header.Get("Location"), answer.Header.Get("Server")
	r.proven = local.answer != "" && answer.Header.Get(proof.Answer) == local.answer
	return r
}

// way is an address at which the server can be asked over its public name; the reason if
// there is none.
func (e *Examination) way(ctx context.Context) (netip.Addr, string) {
	if why := e.ask(ctx); why.err != nil {
		return netip.Addr{}, "the server does not run"
	}
	for _, r := range e.reachAll(ctx) {
		if r.proven {
			return r.address, ""
		}
	}
	return netip.Addr{}, "the public URL does not lead to this server yet"
}

func (e *Examination) dns(ctx context.Context) Result {
	found := e.find(ctx)
	record := fmt.Sprintf("Let an A record (and AAAA) of %s lead to this machine", e.Host)
	if own := e.own(false); len(own) > 0 {
		record = fmt.Sprintf("Let the A record of %s say %s", e.Host, own[0])
	}
	var dns *net.DNSError
	switch {
	case errors.As(found.err, &dns) && dns.IsNotFound, found.err == nil && len(found.list) == 0:
		return failed(e.Host+" has no address", record)
	case found.err != nil:
		return failed("no answer of DNS ("+reason(found.err)+")", "Look at the name servers of this machine (/etc/resolv.conf)")
	}
	all := []Result{ok("%s → %s", e.Host, join(found.list))}
	reached := e.reachAll(ctx)
	proven := slices.ContainsFunc(reached, func(r reach) bool { return r.proven })
	for _, r := range reached {
		kind := "A"
		if r.address.Is6() {
			kind = "AAAA"
		}
		own := e.own(r.address.Is6())
		switch {
		case r.proven || slices.Contains(own, r.address):
		case !resolve.Public(r.address):
			all = append(all, warning(fmt.Sprintf("%s leads to %s, which is no public address", e.Host, r.address),
				"Let the record lead to the public address, unless DNS tells others another one"))
		case noRoute(r.dial):
			all = append(all, warning(fmt.Sprintf("%s has the %s record %s, but this machine has no way to such addresses", e.Host, kind, r.address),
				fmt.Sprintf("Remove the %s record, unless a proxy elsewhere has that address", kind)))
		case proven:
			all = append(all, failed(fmt.Sprintf("the %s record %s of %s does not lead to this server, where others do (%s)", kind, r.address, e.Host, r.instead()),
				fmt.Sprintf("Correct or remove the %s record %s of %s: who gets that address finds no server", kind, r.address, e.Host)))
		case len(own) > 0 && e.ask(ctx).err == nil:
			all = append(all, failed(fmt.Sprintf("%s leads to %s, where this server does not answer (%s); this machine has %s", e.Host, r.address, r.instead(), join(own)),
				fmt.Sprintf("Let the %s record of %s say %s", kind, e.Host, own[0])))
		}
	}
	return worst(all...)
}

// instead is what is at an address in the place of the server.
func (r *reach) instead() string {
	if err := r.failure(); err != nil {
		return reason(err)
	}
	return "another server answers"
}

// own are the public addresses of this machine, of one family.
func (e *Examination) own(six bool) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(e.Addresses), func(a netip.Addr) bool { return a.Is6() != six || !resolve.Public(a) })
}

func noRoute(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

func join(list []netip.Addr) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// nobodys is the first label of names that cannot be anybody's handle here: it is too long.
const nobodys = "portico-doctor-looks-for-nobody"

func (e *Examination) wildcard(ctx context.Context) Result {
	host := e.find(ctx)
	var all []Result
	for _, domain := range e.domainNames(ctx) {
		list, err := e.lookUp(ctx, nobodys+domain)
		var dns *net.DNSError
		to := "this machine"
		if len(host.list) > 0 {
			to = join(host.list)
		}
		switch {
		case errors.As(err, &dns) && dns.IsNotFound, err == nil && len(list) == 0:
			all = append(all, failed("*"+domain+" has no address: no handle under it can be proven", fmt.Sprintf("Add a record of *%s like that of %s (%s)", domain, e.Host, to)))
		case err != nil:
			all = append(all, failed("no answer of DNS about *"+domain+" ("+reason(err)+")", "Look at the name servers of this machine (/etc/resolv.conf)"))
		case len(host.list) > 0 && !slices.ContainsFunc(list, func(a netip.Addr) bool { return slices.Contains(host.list, a) }):
			all = append(all, warning(fmt.Sprintf("*%s → %s, but %s → %s", domain, join(list), e.Host, join(host.list)),
				fmt.Sprintf("Let the record of *%s say %s, unless another way leads from there to this server", domain, to)))
		default:
			all = append(all, ok("*%s → %s", domain, join(list)))
		}
	}
	if len(all) == 0 {
		return notTried("there is no domain of handles")
	}
	return worst(all...)
}

func (e *Examination) certificate(ctx context.Context) Result {
	var all []Result
	for _, r := range e.reachAll(ctx) {
		if r.dial == nil {
			all = append(all, e.shown(e.Host, &r.connection))
		}
	}
	if len(all) == 0 {
		return notTried("nobody takes connections at " + e.Host + ", port 443")
	}
	all = slices.Compact(all)
	return worst(all...)
}

// shown says what is wrong with the certificate of a name, or until when it is good.
func (e *Examination) shown(name string, r *connection) Result {
	const caddy = "Caddy says in its log why it has none (journalctl -u caddy); for nginx, certbot makes one"
	if len(r.shown) == 0 {
		return failed(fmt.Sprintf("no certificate is shown for %s (%v)", name, reason(r.tls)), "Let the proxy speak TLS at port 443, with a certificate for "+name+". "+caddy)
	}
	leaf := r.shown[0]
	if _, is := errors.AsType[x509.HostnameError](r.tls); is {
		return failed(fmt.Sprintf("the certificate is for %s, not for %s", names(leaf), name), fmt.Sprintf("Give the proxy a certificate for %s, unless DNS leads to another machine. %s", name, caddy))
	}
	if _, is := errors.AsType[x509.UnknownAuthorityError](r.tls); is {
		return failed(fmt.Sprintf("the certificate of %s comes from %q, whom nobody trusts", name, brief(leaf.Issuer.CommonName)),
			"Give the proxy one of an authority that browsers know, with all certificates in between (nginx: fullchain.pem). "+caddy)
	}
	now := e.Now()
	left, life := leaf.NotAfter.Sub(now), leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case left <= 0:
		return failed(fmt.Sprintf("the certificate of %s ended on %s", name, day(leaf.NotAfter)), "Renew it (certbot renew, then systemctl reload nginx), and look at why that was not done by itself. "+caddy)
	case now.Before(leaf.NotBefore):
		return failed(fmt.Sprintf("the certificate of %s begins on %s", name, day(leaf.NotBefore)), "Look at this machine's clock (timedatectl)")
	case r.tls != nil:
		return failed(fmt.Sprintf("the certificate of %s is not good (%v)", name, reason(r.tls)), "Give the proxy another. "+caddy)
	case left < min(14*24*time.Hour, life/6):
		return warning(fmt.Sprintf("the certificate of %s ends on %s, and should be renewed by now", name, day(leaf.NotAfter)), "Renew it (certbot renew, then systemctl reload nginx). "+caddy)
	}
	return ok("for %s, good until %s", names(leaf), day(leaf.NotAfter))
}

func names(c *x509.Certificate) string {
	list := slices.Clone(c.DNSNames[:min(len(c.DNSNames), 5)])
	if len(c.DNSNames) > len(list) {
		list = append(list, "…")
	}
	if len(list) == 0 {
		return "no name"
	}
	return brief(strings.Join(list, ", "))
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (e *Examination) public(ctx context.Context) Result {
	local := e.ask(ctx)
	reached := e.reachAll(ctx)
	at := "https://" + e.Host
	switch {
	case len(reached) == 0:
		return notTried(e.Host + " has no address")
	case local.err != nil:
		return notTried("the server does not run")
	case local.answer == "":
		return notTried(local.unknown)
	case slices.ContainsFunc(reached, func(r reach) bool { return r.proven }):
		return ok("%s leads to this server", at)
	}
	listens := strings.TrimPrefix(e.Local, "http://")
	var all []Result
	for _, r := range reached {
		where := netip.AddrPortFrom(r.address, httpsPort)
		switch {
		case r.dial != nil && errors.Is(r.dial, syscall.ECONNREFUSED):
			all = append(all, failed(fmt.Sprintf("nothing listens at %s", where), "Start the proxy (systemctl start caddy, or nginx), and let it listen at port 443"))
		case r.dial != nil:
			all = append(all, failed(fmt.Sprintf("no connection to %s (%s)", where, reason(r.dial)),
				"Open port 443 in the firewall. Where this machine cannot reach its own public address, try from another: curl "+at+"/xrpc/_health"))
		case r.tls != nil:
			all = append(all, notTried("there is no TLS that can be believed (see certificate)"))
		case r.err != nil:
			all = append(all, failed(fmt.Sprintf("%s: no answer after the TLS handshake (%s)", where, reason(r.err)), "Look at the proxy's log; it has to pass requests on to "+listens))
		case r.status == http.StatusBadGateway || r.status == http.StatusServiceUnavailable || r.status == http.StatusGatewayTimeout:
			all = append(all, failed(fmt.Sprintf("the proxy answers %d: it does not reach the server", r.status),
				fmt.Sprintf("Let it pass requests on to where the server listens (Caddy: reverse_proxy %s; nginx: proxy_pass http://%s;), or change PDS_PORT and PORTICO_BIND", listens, listens)))
		case r.to != "":
			all = append(all, failed(fmt.Sprintf("%s sends elsewhere, to %s", at, brief(r.to)), "Let the proxy pass requests on to "+listens+" instead"))
		default:
			found := fmt.Sprintf("another server answers at %s, with status %d", at, r.status)
			if r.software != "" {
				found += " (" + brief(r.software) + ")"
			}
			all = append(all, failed(found, fmt.Sprintf("Look at the DNS record of %s, and let the proxy pass its requests, below every path, on to %s", e.Host, listens)))
		}
	}
	return worst(slices.Compact(all)...)
}

// arrival is how a request arrives that is sent to the public name.
type arrival struct {
	out *operatorapi.GetRequestOutput
	why string // it is not known
}

// forged is an address that nobody has (RFC 5737), which is told for the client's.
var forged = netip.MustParseAddr("203.0.113.77")

func (e *Examination) arrives(ctx context.Context) arrival {
	return e.seen.get(func() arrival {
		address, why := e.way(ctx)
		if why == "" {
			why = e.ask(ctx).knows()
		}
		if why != "" {
			return arrival{why: why}
		}
		c, _ := e.at(address)
		out, err := e.operator("https://"+e.Host, c, http.Header{"X-Forwarded-For": {forged.String()}}).GetRequest(ctx)
		if err != nil {
			return arrival{why: "asked over the public URL, the server does not say: " + brief(err.Error())}
		}
		return arrival{out: out}
	})
}

func (e *Examination) hostHeader(ctx context.Context) Result {
	a := e.arrives(ctx)
	if a.out == nil {
		return notTried(a.why)
	}
	if !strings.EqualFold(a.out.Name, e.Host) {
		return failed(fmt.Sprintf("asked for %s, the server gets a request for %s: no handle can be proven", e.Host, brief(a.out.Name)),
			"Let the proxy pass on the name that was asked for (nginx: proxy_set_header Host $host; Apache: ProxyPreserveHost On; Caddy and HAProxy do, unless header_up Host or set-header Host says otherwise)")
	}
	return ok("%s arrives as such", e.Host)
}

// forwarded holds what the server makes of X-Forwarded-For against what the proxies wrote
// there. They write behind what the client sent, or in its place, so what is behind the
// forged address is theirs, one address each.
func (e *Examination) forwarded(ctx context.Context) Result {
	a := e.arrives(ctx)
	if a.out == nil {
		return notTried(a.why)
	}
	list := a.out.ForwardedFor
	at := slices.Index(list, forged.String())
	written := list[at+1:]
	const line = "nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; HAProxy: option forwardfor; Caddy does it by itself"
	proxies := int64(len(written))
	set := fmt.Sprintf("Set PORTICO_TRUSTED_PROXIES=%d and restart the server: so many proxies wrote into X-Forwarded-For", proxies)
	switch {
	case proxies == 0 && at >= 0 && a.out.Address == forged.String():
		return failed("the proxy passes on what the client wrote and adds nothing: anybody can be any address", "Let the proxy add the client's address ("+line+")")
	case proxies == 0:
		return failed(fmt.Sprintf("the proxy does not say where requests come from: all of them have the address %s", brief(a.out.Address)), "Let the proxy add the client's address ("+line+")")
	}
	client := address(written[0])
	switch got := address(a.out.Address); {
	case !client.IsValid():
		return failed(fmt.Sprintf("the proxy writes %q, which is no address", brief(written[0])), "Let it write the client's address ("+line+")")
	case got == forged && a.out.TrustedProxies == 0:
		return warning(fmt.Sprintf("the server takes the word of a client with the private address %s, as this machine has: with such an address anybody can be any other", client), set)
	case got == forged || a.out.TrustedProxies > proxies:
		return failed(fmt.Sprintf("the server counts on %d %s, but %d wrote there: what the client wrote is taken for its address", a.out.TrustedProxies, plural(int(a.out.TrustedProxies), "proxy", "proxies"), proxies), set)
	case got != client:
		return failed(fmt.Sprintf("the server counts on %d %s, but %d wrote there: it takes %s, a proxy, for the client", a.out.TrustedProxies, plural(int(a.out.TrustedProxies), "proxy", "proxies"), proxies, got), set)
	}
	return ok("%d %s, and what the client writes is not believed", proxies, plural(int(proxies), "proxy adds to it", "proxies add to it"))
}

func plural(n int, one, more string) string {
	if n == 1 {
		return one
	}
	return more
}

// address reads one that a proxy wrote, which may have a port.
func address(text string) netip.Addr {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr().Unmap()
	}
	a, _ := netip.ParseAddr(strings.Trim(text, "[]"))
	return a.Unmap()
}

func (e *Examination) websocket(ctx context.Context) Result {
	at, why := e.way(ctx)
	if why != "" {
		return notTried(why)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*stepTime)
	defer cancel()
	straight, _ := e.at(at)
	c := syncapi.Client{Client: xrpc.Client{Host: "https://" + e.Host, HTTP: straight, MaxAnswer: maxBody}}
	came := errors.New("an event came")
	// A cursor that no event has yet: the server says so in a frame, and ends.
	err := c.SubscribeRepos(ctx, &syncapi.SubscribeReposParams{Cursor: new(int64(1) << 52)},
		xrpc.Receive(func(context.Context, syncapi.SubscribeReposMessage) error { return came }))
	const do = "Let the proxy pass websockets on (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; Caddy and HAProxy do by themselves): without, no relay reads what is written here"
	answered, is := errors.AsType[*xrpc.Error](err)
	switch {
	case errors.Is(err, syncapi.ErrSubscribeReposFutureCursor), errors.Is(err, came):
		return ok("subscribeRepos answers through the proxy")
	case errors.Is(err, context.DeadlineExceeded):
		return failed("a websocket opens, but nothing comes through it", "Let the proxy not hold back what it passes on (nginx: proxy_buffering off;)")
	case is:
		return failed(fmt.Sprintf("no websocket: status %d %s", answered.Status, brief(answered.Message)), do)
	case err == nil:
		return failed("the websocket ends without a word", do)
	}
	return failed("no websocket: "+reason(err), do)
}

// handles looks at a handle as everybody else does who wants to know whose it is.
func (e *Examination) handles(ctx context.Context) Result {
	local := e.ask(ctx)
	if why := local.knows(); why != "" {
		return notTried(why)
	}
	if local.account == nil {
		return notTried("nobody has a handle here yet: once there is an account, its handle is tried")
	}
	handle := local.account.Handle.String()
	list, err := e.lookUp(ctx, handle)
	if err != nil || len(list) == 0 {
		return failed(handle+" has no address", "Add a record of *"+local.under(handle)+" that leads to this server")
	}
	c, n := e.at(list[0])
	answer, body, err := get(ctx, c, "https://"+handle+"/.well-known/atproto-did", nil)
	r := n.until(err)
	const wildcards = "Let the proxy have certificates for handles (Caddy: tls { on_demand } in the site *%s, with on_demand_tls { ask %s/tls-check }; nginx: one for *%s, by certbot certonly --preferred-challenges dns)"
	domain := local.under(handle)
	certificates := fmt.Sprintf(wildcards, domain, e.Local, domain)
	switch {
	case r.dial != nil:
		return failed(fmt.Sprintf("no connection to %s, port 443 (%s)", list[0], reason(r.dial)), "Let *"+domain+" lead to where "+e.Host+" does")
	case r.tls != nil:
		shown := e.shown(handle, &r)
		shown.Do = certificates
		return shown
	case err != nil:
		return failed(handle+" gives no answer ("+reason(err)+")", "Look at the proxy's log")
	case answer.StatusCode == http.StatusOK && strings.TrimSpace(string(body)) == local.account.DID.String():
		return ok("%s is proven by what it serves", handle)
	case answer.StatusCode == http.StatusNotFound && strings.HasPrefix(string(body), "User not found"):
		return failed(handle+" is answered with User not found, so that its name does not arrive", "Let the proxy pass on the name that was asked for, for *"+domain+" too (nginx: proxy_set_header Host $host;)")
	}
	return failed(fmt.Sprintf("%s/.well-known/atproto-did answers %d %s, not %s", handle, answer.StatusCode, brief(string(body)), local.account.DID),
		"Let the proxy pass *"+domain+" on to "+strings.TrimPrefix(e.Local, "http://")+", below every path")
}

// madeUp tries whether the proxy makes certificates for names that nobody has. The name is
// always the same one, so that one certificate is all that comes of it where it does.
func (e *Examination) madeUp(ctx context.Context) Result {
	if _, why := e.way(ctx); why != "" {
		return notTried(why)
	}
	var all []Result
	for _, domain := range e.domainNames(ctx) {
		name := nobodys + domain
		list, err := e.lookUp(ctx, name)
		if err != nil || len(list) == 0 {
			continue
		}
		step, cancel := context.WithTimeout(ctx, 2*stepTime)
		c, n := e.at(list[0])
		_, _, err = get(step, c, "https://"+name+"/", nil)
		r := n.until(err)
		cancel()
		ask := fmt.Sprintf("Let Caddy ask first: on_demand_tls { ask %s/tls-check }", e.Local)
		switch {
		case r.dial != nil:
		case late(err) && r.shown == nil:
			all = append(all, warning("asked for "+name+", the proxy neither shows nor refuses a certificate in time: it may be getting one", ask))
		case len(r.shown) > 0 && slices.ContainsFunc(r.shown[0].DNSNames, func(n string) bool { return strings.EqualFold(n, name) }):
			all = append(all, failed("the proxy has made a certificate for "+name+", which is nobody's: anybody can have it make any number", ask))
		case r.tls == nil && r.shown != nil:
			all = append(all, ok("*%s has one certificate for all", domain))
		default:
			all = append(all, ok("no certificate is made for a name that nobody has under %s", domain))
		}
	}
	if len(all) == 0 {
		return notTried("made-up handles lead nowhere")
	}
	return worst(all...)
}

// past tries whether the server can be reached past the proxy, where anybody writes into
// X-Forwarded-For what they like.
func (e *Examination) past(ctx context.Context) Result {
	if e.Bind.IsLoopback() {
		return ok("the server listens at %s alone", strings.TrimPrefix(e.Local, "http://"))
	}
	local := e.ask(ctx)
	if local.answer == "" {
		return notTried("the server does not run")
	}
	list := e.find(ctx).list
	if len(list) == 0 {
		return notTried(e.Host + " has no address")
	}
	for _, a := range list[:min(len(list), 8)] {
		where := netip.AddrPortFrom(a, uint16(e.Port))
		step, cancel := context.WithTimeout(ctx, stepTime)
		answer, _, err := get(step, client(&http.Transport{DialContext: e.dialTo(where, new(noted))}), "http://"+where.String()+proof.Path, http.Header{proof.Challenge: {local.challenge}})
		cancel()
		if err == nil && answer.Header.Get(proof.Answer) == local.answer {
			return warning(fmt.Sprintf("the server answers at http://%s past the proxy: who gets there can give any address for theirs, and sends passwords unencrypted", where),
				"Set PORTICO_BIND=127.0.0.1, unless the proxy is on another machine or a firewall keeps all others out")
		}
	}
	return ok("port %d is not reached past the proxy", e.Port)
}

func (e *Examination) signUp(ctx context.Context) Result {
	r := e.ask(ctx)
	var all []Result
	if !e.RateLimits {
		all = append(all, warning("requests are not limited", "Set PDS_RATE_LIMITS_ENABLED=true"))
	}
	if why := r.knows(); why != "" {
		return worst(append(all, notTried(why))...)
	}
	for _, d := range r.domains {
		if d.InvitePolicy != operatorapi.DomainInvitePolicyOpen {
			continue
		}
		if !e.SignUpLimits && !e.RateLimits {
			return worst(append(all, warning("anybody can sign up under "+d.Domain+", and nothing bounds how many accounts that makes",
				"Set PORTICO_SIGNUPS_PER_DAY, PORTICO_SIGNUP_QUARANTINE=confirmed or PORTICO_PHONE_PROVIDER, or ask for invite codes (portico domain add "+strings.TrimPrefix(d.Domain, ".")+" --invites invite)"))...)
		}
		return worst(append(all, ok("open to anybody, within limits"))...)
	}
	return worst(append(all, ok("not open to anybody"))...)
}

// text is a text of a JSON object, "" if there is none.
func text(body []byte, name string) string {
	var object map[string]json.RawMessage
	var s string
	if json.Unmarshal(body, &object) != nil || json.Unmarshal(object[name], &s) != nil {
		return ""
	}
	return s
}
