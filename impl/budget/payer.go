package budget

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A Payer is who pays for something. The zero Payer is nobody: it spends nothing, and
// always has something left.
type Payer struct {
	who   string // who it is, told apart from all other kinds of payers
	wide  string // who pays beside it, up to wideShare times as much; "" for nobody
	share string // which share of what who has; "" for the main one
}

// wideShare is how many times what one /64 may spend a /48 of IPv6 may: providers give
// customers anything between the two.
const wideShare = 8

// Account pays for what its sessions with the account password cause.
func Account(did syntax.DID) Payer { return Payer{who: accountKey(did)} }

// App pays for what sessions of an account's app passwords cause, apart from [Account]:
// apps cannot spend what is the owner's.
func App(did syntax.DID) Payer { return Payer{who: accountKey(did), share: "app"} }

// Operator pays for what the operator and moderators do to an account, apart from its
// owner: neither keeps the other from anything.
func Operator(did syntax.DID) Payer { return Payer{who: accountKey(did), share: "operator"} }

// Recipient is a mailbox that somebody has letters sent to: all addresses that differ in
// capitals and in what follows a "+" are one.
func Recipient(address string) Payer { return Payer{who: "recipient " + mailbox(address)} }

// RecipientOf is Recipient for the letters of one account.
func RecipientOf(did syntax.DID, address string) Payer {
	return Payer{who: "recipient " + mailbox(address) + " of " + did.String()}
}

// mailbox is what most mail servers deliver to the same mailbox as address. It is for
// counting alone: on some servers these are different people.
func mailbox(address string) string {
	local, domain, ok := strings.Cut(strings.ToLower(address), "@")
	if plain, _, tagged := strings.Cut(local, "+"); ok && tagged && plain != "" {
		local = plain
	}
	return local + "@" + domain
}

// Number is a telephone; mac stands for its number.
func Number(mac []byte) Payer { return Payer{who: "number " + string(mac)} }

// MailDomain is all mailboxes of a domain, in lower case.
func MailDomain(domain string) Payer { return Payer{who: "mail domain " + domain} }

// Server is the whole server.
func Server() Payer { return Payer{who: "server"} }

func accountKey(did syntax.DID) string { return "account " + did.String() }

// Nobody reports whether ip is nobody's address in particular: it is none, one of this
// machine or of a private network, for which a proxy that hides its clients stands too,
// or one that the operator exempts. It does not pay, and is never known.
func (l *Ledger) Nobody(ip netip.Addr) bool {
	ip = ip.Unmap()
	return !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() ||
		l.Exempt != nil && slices.ContainsFunc(l.Exempt(), func(exempt netip.Addr) bool { return exempt.Unmap() == ip })
}

// Caller pays with its address: IPv4 as it is, IPv6 by /64, because a household or a
// rented server owns a whole one, and with a cap for the /48 around it.
func (l *Ledger) Caller(ip netip.Addr) Payer {
	if l.Nobody(ip) {
		return Payer{}
	}
	p := Payer{who: "address " + Address(ip)}
	if network := Network(ip); network != "" {
		p.wide = "address " + network
	}
	return p
}

// Address is how a caller's address is told apart from others: itself, or its /64 for
// IPv6.
func Address(ip netip.Addr) string {
	if ip = ip.Unmap(); ip.Is6() {
		return prefix(ip, 64)
	}
	return ip.String()
}

// Network is the /48 around an address of IPv6, of which somebody may have all addresses;
// "" for IPv4.
func Network(ip netip.Addr) string {
	if ip = ip.Unmap(); ip.Is6() {
		return prefix(ip, 48)
	}
	return ""
}

func prefix(ip netip.Addr, bits int) string {
	p, _ := ip.WithZone("").Prefix(bits) // an IPv6 address has as many
	return p.String()
}

// ParsePayer reads what an operator names a payer by: a DID, an address of the network,
// a /64 or /48 of IPv6, or a mailbox.
func ParsePayer(text string) (Payer, bool) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return Payer{who: "address " + Address(ip)}, true
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return Payer{who: "address " + p.Masked().String()}, true
	}
	if did, err := syntax.ParseDID(text); err == nil {
		return Account(did), true
	}
	if strings.Contains(text, "@") {
		return Recipient(text), true
	}
	return Payer{}, false
}
