package xrpc

import (
	"fmt"
	"strings"
	"testing"
)

// A Node finds what a text has where it stands, as the reference reads JSON: keys are
// compared exactly and decoded, and the last of several equal ones counts.
func TestNode(t *testing.T) {
	text := ` {"a": 1, "A":2, "a":{"\u0062" :["x", {"c":"\u00e9"} , []]}, "n":null}`
	n, err := Unknown().Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if n.Start() != 1 || n.End() != len(text) || string(n.Raw()) != text[1:] {
		t.Errorf("value from %d to %d: %s", n.Start(), n.End(), n.Raw())
	}
	var items []string
	for item := range n.Member("a", "b").Items() {
		items = append(items, fmt.Sprintf("%s %q %q", item.Raw(), item.Text(), item.Member("c").Text()))
	}
	if got, want := strings.Join(items, "|"), `"x" "x" ""|{"c":"\u00e9"} "" "é"|[] "" ""`; got != want {
		t.Errorf("items %s, want %s", got, want)
	}
	var members []string
	for name, value := range n.Members() {
		members = append(members, name+"="+string(value.Raw()))
	}
	if got, want := strings.Join(members, ";"), `a=1;A=2;a={"\u0062" :["x", {"c":"\u00e9"} , []]};n=null`; got != want {
		t.Errorf("members %s, want %s", got, want)
	}
	for name, none := range map[string]Node{"zero": {}, "missing": n.Member("b"), "below": n.Member("A", "b"), "null": n.Member("n", "b")} {
		if none != (Node{}) || none.IsObject() || none.IsArray() || none.Text() != "" || none.Raw() != nil || none.End() != 0 {
			t.Errorf("%s: %v", name, none)
		}
		for range none.Items() {
			t.Errorf("%s has items", name)
		}
		for range none.Members() {
			t.Errorf("%s has members", name)
		}
	}
}

// What does not fit is no Node.
func TestNodeOfWhatDoesNotFit(t *testing.T) {
	for _, text := range []string{"", "[]", `{"a":1.5}`, `{"a":1}x`, strings.Repeat(`{"a":`, 129) + "1" + strings.Repeat("}", 129)} {
		if _, err := Unknown().Parse([]byte(text)); err == nil {
			t.Errorf("%.20s was parsed", text)
		}
	}
}
