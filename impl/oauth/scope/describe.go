package scope

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// A Kind is what an [Item] is about.
type Kind string

// Kinds, in the order in which [Describe] lists them.
const (
	// Identify lets the app know which account it is.
	Identify Kind = "identify"
	// FullIdentity lets it change everything of the identity: the account can be lost for good.
	FullIdentity Kind = "full-identity"
	// Handle lets it change the handle.
	Handle Kind = "handle"
	// Status lets it see (Actions "read") or change ("manage") whether the account is active.
	Status Kind = "status"
	// Email lets it read or ("manage") change the address.
	Email Kind = "email"
	// Generic is nearly all that a session by password lets it do, towards any service, chats
	// aside.
	Generic Kind = "generic"
	// Chat is to read and send messages.
	Chat Kind = "chat"
	// Repository lets it ("manage") replace all records at once; "read" is nothing that is not public.
	Repository Kind = "repository"
	// Records lets it write records: Names are collections, or "*"; Actions "create", "update",
	// "delete".
	Records Kind = "records"
	// Blobs lets it upload files: Names are MIME types and patterns of such.
	Blobs Kind = "blobs"
	// Calls lets it act towards a service: Names are methods, or "*"; Audience is the service,
	// or "*".
	Calls Kind = "calls"
	// Included is what a permission set gives: its Set, nil if that could not be had; Items.
	Included Kind = "included"
	// Unknown is what is not understood here, and permits nothing: Names are the values.
	Unknown Kind = "unknown"
)

// An Item is one thing that a scope lets an app do. It has no words: pages find them.
type Item struct {
	Kind      Kind
	Dangerous bool     // nobody can undo what the app could do
	Bluesky   bool     // of Records and Calls: all Names are Bluesky's
	Names     []string // sorted
	Actions   []string
	Audience  string
	Include   Include // of Included, with what it gives
	Set       *PermissionSet
	Items     []Item
	// Values are those of the scope that the item stands for.
	Values []string
}

// kinds is their order.
var kinds = []Kind{Identify, FullIdentity, Handle, Status, Email, Generic, Chat, Repository, Records, Blobs, Calls, Included, Unknown}

// Describe says what values, which an app asks for, let it do. sets are the permission sets
// that they include. What several values say of one thing is one item. Nothing is left out.
func Describe(values []string, sets map[syntax.NSID]*PermissionSet) []Item {
	var d description
	for _, text := range values {
		d.add(text, sets)
	}
	for name, of := range d.collections {
		item := d.item(Item{Kind: Records, Bluesky: bluesky(name), Actions: of.actions.names()})
		item.Names = append(item.Names, name)
		item.Values = append(item.Values, of.values...)
	}
	for kind, of := range d.account {
		action := "read"
		if of.actions&manage != 0 {
			action = "manage" // which contains the other
		}
		d.item(Item{Kind: kind, Actions: []string{action}}).Values = of.values
	}
	all := make([]Item, len(d.items))
	for i, item := range d.items {
		item.Values = sorted(item.Values)
		if item.Kind != Unknown {
			item.Names = sorted(item.Names)
		}
		all[i] = *item
	}
	slices.SortStableFunc(all, func(a, b Item) int {
		return cmp.Or(
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
			slices.Compare(a.Names, b.Names),
			cmp.Compare(a.Audience, b.Audience),
			slices.Compare(a.Actions, b.Actions))
	})
	return all
}

// A description is items in the making.
type description struct {
	items       []*Item
	byKey       map[string]*Item
	collections map[string]of
	account     map[Kind]of
}

// of is what may be done with a collection or a part of the account, and which values say so.
type of struct {
	actions actions
	values  []string
}

// item returns the item that is like this one in all but names and values.
func (d *description) item(like Item) *Item {
	key := strings.Join(append([]string{string(like.Kind), strconv.FormatBool(like.Bluesky), like.Audience,
		string(like.Include.NSID), like.Include.Audience}, like.Actions...), " ")
	if d.byKey[key] == nil {
		put(&d.byKey, key, &like)
		d.items = append(d.items, &like)
	}
	return d.byKey[key]
}

func (d *description) add(text string, sets map[syntax.NSID]*PermissionSet) {
	add := func(like Item, names ...string) {
		item := d.item(like)
		item.Names = append(item.Names, names...)
		item.Values = append(item.Values, text)
	}
	switch text {
	case ATProto:
		add(Item{Kind: Identify})
		return
	case TransitionGeneric:
		add(Item{Kind: Generic})
		return
	case TransitionChat:
		add(Item{Kind: Chat})
		return
	case TransitionEmail:
		d.addAccount(Email, read, text)
		return
	}
	v, ok := parse(text)
	if !ok {
		add(Item{Kind: Unknown}, text)
		return
	}
	switch v.resource {
	case repo:
		for _, name := range sorted(v.names) {
			have := d.collections[name]
			put(&d.collections, name, of{have.actions | v.actions, append(have.values, text)})
		}
	case rpc:
		for _, name := range v.names {
			add(Item{Kind: Calls, Bluesky: bluesky(name), Audience: v.audience}, name)
		}
	case blob:
		add(Item{Kind: Blobs}, v.names...)
	case account:
		d.addAccount(kindOf[v.names[0]], v.actions, text)
	case identity:
		if v.names[0] == "*" {
			add(Item{Kind: FullIdentity, Dangerous: true})
		} else {
			add(Item{Kind: Handle})
		}
	case include:
		i := Include{syntax.NSID(v.names[0]), v.audience}
		item := Item{Kind: Included, Include: i, Set: sets[i.NSID]}
		if item.Set != nil {
			item.Items = Describe(i.Expand(item.Set), nil)
		}
		add(item)
	}
}

var kindOf = map[string]Kind{"email": Email, "repo": Repository, "status": Status}

func (d *description) addAccount(kind Kind, actions actions, text string) {
	have := d.account[kind]
	put(&d.account, kind, of{have.actions | actions, append(have.values, text)})
}

// bluesky says whether a name is one of Bluesky's.
func bluesky(name string) bool {
	return strings.HasPrefix(name, "app.bsky.") || strings.HasPrefix(name, chat)
}
