// Package wording puts into words what a scope lets an app do, for the pages where owners
// allow it, and where they see what they allowed.
package wording

import (
	"slices"
	"strings"

	"portico/impl/oauth/scope"
	"portico/impl/page"
	"portico/impl/page/words"
)

// An Entry is something that an app wants to do, in words.
type Entry struct {
	Title  string
	Text   string
	Names  []string // of what that is about, as apps write them
	Danger bool
	Set    string // the permission set that says so, "" for none: its words are a stranger's
	Items  []Entry
}

// Items puts what a scope says into words of a language; see [scope.Describe].
func Items(language string, items []scope.Item) []Entry { return wording{language}.items(items) }

// A wording puts what a scope says into words of a language.
type wording struct{ language string }

func (w wording) say(english string, args ...any) string {
	return words.Say(w.language, english, args...)
}

// plain is say for texts without verbs.
func (w wording) plain(english string) string { return words.Say(w.language, english, []any(nil)...) }

// maxSetText is how much is shown of what a permission set says of itself, in bytes.
const (
	maxSetTitle = 200
	maxSetText  = 1000
)

func (w wording) items(items []scope.Item) (all []Entry) {
	for _, item := range items {
		all = append(all, w.item(item)...)
	}
	return all
}

func (w wording) item(item scope.Item) []Entry {
	one := func(title, text string, names ...string) []Entry {
		return []Entry{{Title: w.plain(title), Text: w.plain(text), Names: names, Danger: item.Dangerous}}
	}
	manages := slices.Contains(item.Actions, "manage")
	switch item.Kind {
	case scope.Identify:
		return one("Who you are", "Know which account is yours.")
	case scope.FullIdentity:
		return one("Your whole identity", "Change everything by which the network knows you: your handle, your keys, and the server that you are on. Your account can be broken by that, or be taken from you for good.")
	case scope.Handle:
		return one("Handle", "Change your handle.")
	case scope.Status:
		if manages {
			return one("Account", "Deactivate your account for a while, and activate it again.")
		}
		return one("Account", "See whether your account is active.")
	case scope.Email:
		if manages {
			return one("Email", "Read and change your email address.")
		}
		return one("Email", "Read your email address.")
	case scope.Generic:
		return slices.Concat(
			one("Bluesky", "Manage your profile, posts, likes and follows, and read your private preferences."),
			one("Your data", "Create, change and delete any of your public data."),
			one("In your name", "Act in your name towards any service."))
	case scope.Chat:
		return one("Chats", "Read your private messages, and send some in your name.")
	case scope.Repository:
		if manages {
			return one("Your data", "Replace all of your public data at once.")
		}
		return one("Your data", "Read your public data.")
	case scope.Records:
		return w.records(item)
	case scope.Blobs:
		if slices.Contains(item.Names, "*/*") {
			return one("Files", "Upload files of any kind.")
		}
		return one("Files", "Upload files of these kinds:", item.Names...)
	case scope.Calls:
		return w.calls(item)
	case scope.Included:
		return w.included(item)
	}
	var names []string // which apps wrote as they liked
	for _, name := range item.Names {
		names = append(names, page.Printable(name, maxSetTitle))
	}
	return one("Not understood", "This server does not know what these mean, and they permit nothing:", names...)
}

// doing are the actions on records, in words.
func (w wording) doing(actions []string) string {
	if len(actions) == 3 {
		return w.say("create, change and delete")
	}
	var all []string
	for _, a := range actions {
		switch a {
		case "create":
			all = append(all, w.say("create"))
		case "update":
			all = append(all, w.say("change"))
		case "delete":
			all = append(all, w.say("delete"))
		}
	}
	return strings.Join(all, w.say(" and "))
}

func (w wording) records(item scope.Item) []Entry {
	e := Entry{Title: w.say("Your data"), Danger: item.Dangerous}
	switch doing := w.doing(item.Actions); {
	case slices.Contains(item.Names, "*"):
		e.Text = w.say("It may %s any of your public data.", doing)
	case item.Bluesky:
		e.Title, e.Text, e.Names = w.say("Bluesky"), w.say("Kinds of your data on Bluesky that it may %s:", doing), item.Names
	default:
		e.Text, e.Names = w.say("Kinds of your public data that it may %s:", doing), item.Names
	}
	return []Entry{e}
}

func (w wording) calls(item scope.Item) []Entry {
	e := Entry{Title: w.say("In your name"), Danger: item.Dangerous, Names: item.Names}
	anything := slices.Contains(item.Names, "*")
	if anything {
		e.Names = nil
	}
	switch to := page.Printable(item.Audience, 300); {
	case to == "*":
		e.Text = w.say("Do this in your name, with any service:")
	case anything:
		e.Text = w.say("Do anything in your name with the service %s.", to)
	default:
		e.Text = w.say("Do this in your name, with the service %s:", to)
	}
	return []Entry{e}
}

func (w wording) included(item scope.Item) []Entry {
	e := Entry{Title: w.say("A set of permissions"), Set: item.Include.NSID.String(), Danger: item.Dangerous, Items: w.items(item.Items)}
	if item.Set == nil {
		e.Text = w.say("What it permits could not be found out.")
		return []Entry{e}
	}
	in := func(texts map[string]string) string {
		if text, ok := texts[w.language]; ok {
			return text
		}
		return texts[""]
	}
	if title := page.Printable(in(item.Set.Title), maxSetTitle); title != "" {
		e.Title = title
	}
	e.Text = page.Printable(in(item.Set.Detail), maxSetText)
	return []Entry{e}
}
