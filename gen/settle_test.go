package gen_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"portico/gen"
	"portico/gen/model"
	"portico/gen/source"
)

// tangled are documents of which none can be generated as it is.
func tangled() fstest.MapFS {
	fsys := fstest.MapFS{}
	for nsid, defs := range map[string]string{
		// Two authorities need each other, as do two namespaces of a third.
		"com.ex.a.one":   `"main": {"type": "object", "properties": {"x": {"type": "ref", "ref": "org.ex.b.one"}}}`,
		"org.ex.b.one":   `"main": {"type": "object", "properties": {"x": {"type": "ref", "ref": "com.ex.a.one"}}}`,
		"net.mart.a.two": `"main": {"type": "object", "properties": {"x": {"type": "ref", "ref": "net.mart.b.two"}}}`,
		"net.mart.b.two": `"main": {"type": "object", "properties": {"x": {"type": "ref", "ref": "net.mart.a.two"}}}`,
		// A definition has the name of a body, and its property that of one of the body.
		"com.shop.cart.put": `"main": {"type": "procedure", "parameters": {"type": "params", "properties": {"id": {"type": "string"}}},
			"input": {"encoding": "application/json", "schema": {"type": "object", "properties": {"item": {"type": "object", "properties": {}}}}},
			"output": {"encoding": "application/json", "schema": {"type": "ref", "ref": "#output"}}},
			"input": {"type": "object", "properties": {"item": {"type": "object", "properties": {}}}},
			"output": {"type": "object", "properties": {}}, "params": {"type": "token"}`,
		"com.shop.cart.odd": `"main": {"type": "object", "properties": {"a-b": {"type": "string"}, "aB": {"type": "string"}, "a_b": {"type": "string"}}}`,
		// No package can be called so, and two have one folder.
		"com.shop.import.x": `"main": {"type": "token"}`,
		"org.shop.cart.x":   `"main": {"type": "token"}`,
		// One file, one name.
		"com.shop.case.getUrl": `"main": {"type": "query"}`,
		"com.shop.case.getURL": `"main": {"type": "query"}`,
		// What is wrong, and what needs it.
		"com.bad.x.wrong": `"main": {"type": "qery"}`,
		"com.bad.x.needs": `"main": {"type": "object", "properties": {"x": {"type": "ref", "ref": "com.bad.x.wrong"}}}`,
		"com.bad.x.fine":  `"main": {"type": "token"}`,
	} {
		fsys["lexicons/"+nsid+".json"] = &fstest.MapFile{Data: []byte(`{"lexicon": 1, "id": "` + nsid + `", "defs": {` + defs + `}}`)}
	}
	fsys["lexicons/broken.json"] = &fstest.MapFile{Data: []byte(`{`)}
	return fsys
}

func TestSettle(t *testing.T) {
	c := gen.Config{Lexicons: "lexicons", Out: "api", Model: model.Config{Emit: []string{"*"}, Import: "x/api", Initialisms: initialisms}}
	s, err := c.Settle(tangled(), gen.Settling{Decide: true, LeaveOut: true})
	if err != nil {
		t.Fatal(err)
	}
	if files, err := s.Config.Generate(tangled()); err != nil || files["api/ex/a/com_ex_a_one_gen.go"] == nil {
		t.Errorf("what was settled makes %d files: %v", len(files), err)
	}
	for _, of := range []struct {
		what      string
		got, want any
	}{
		{"Merge", s.Config.Model.Merge, map[string]string{"com.ex.a": "ex/a", "org.ex.b": "ex/a", "net.mart": "mart"}},
		{"Folders", s.Config.Model.Folders, map[string]string{"com.shop.import": "shop/ximport", "com.shop.case": "shop/xcase", "org.shop.cart": "org/shop/cart"}},
		{"Rename", s.Config.Model.Rename, map[string]string{
			"com.shop.cart.odd:/defs/main/properties/aB":  "ABField",
			"com.shop.cart.odd:/defs/main/properties/a_b": "ABField2",
			"com.shop.cart.put:/defs/input":               "PutInputObject",
			"com.shop.cart.put:/defs/main/output/schema":  "PutOutputBody",
			"com.shop.cart.put:/defs/params":              "PutParamsToken",
			"com.shop.case.getUrl:/defs/main":             "GetURLQuery",
			"com.shop.case.getUrl:/id":                    "get_url_lexicon",
		}},
		{"Exclude", s.Config.Exclude, []string{"broken.json", "com.bad.x.wrong.json", "com.bad.x.needs.json"}},
		{"Added", fmt.Sprintln(len(s.Added), s.Added[0], s.Added[len(s.Added)-1]), "13 " +
			"com.shop.case is the package shop/xcase: \"case\" cannot be a package " +
			"com.shop.case.getUrl:/id is called get_url_lexicon: get_url is taken\n"},
	} {
		if diff := cmp.Diff(of.want, of.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", of.what, diff)
		}
	}
	var left []string
	for _, p := range s.LeftOut {
		left = append(left, p.String())
	}
	want := []string{
		`lexicons/broken.json:1:1: unexpected end of JSON input; mend the JSON there`,
		`lexicons/com.bad.x.wrong.json:1:67: /defs/main/type: unknown type "qery" (did you mean "query"?)`,
		`lexicons/com.bad.x.needs.json:1:120: /defs/main/properties/x/ref: "com.bad.x.wrong" was left out; leave this document out too, or take such refs for raw JSON with -dangling=raw`,
	}
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}

	again, err := s.Config.Settle(tangled(), gen.Settling{})
	if err != nil || len(again.Added) > 0 || len(again.LeftOut) > 0 {
		t.Errorf("what is settled is not: %+v, %v", again, err)
	}
}

// TestSettleOnlyWhatItMay holds Settle to what it is allowed.
func TestSettleOnlyWhatItMay(t *testing.T) {
	c := gen.Config{Lexicons: "lexicons", Out: "api", Model: model.Config{Emit: []string{"*"}, Import: "x/api", Initialisms: initialisms}}
	fsys := tangled()
	for may, want := range map[gen.Settling]string{
		{}:               "package cycle com.ex.a → org.ex.b → com.ex.a",
		{LeaveOut: true}: "package cycle com.ex.a → org.ex.b → com.ex.a",
		{Decide: true}:   "unknown type",
	} {
		_, err := c.Settle(fsys, may)
		if _, ok := err.(source.Error); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", may, err)
		}
	}
	if len(c.Model.Merge)+len(c.Exclude) > 0 {
		t.Error("the configuration itself was changed")
	}
}

// TestSettleCorpus settles all documents of four authorities.
func TestSettleCorpus(t *testing.T) {
	c := four()
	c.Model.Merge, c.Model.Rename = nil, nil
	s, err := c.Settle(os.DirFS(indigo(t)), gen.Settling{Decide: true, LeaveOut: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []gen.Decision{
		{"Merge", "app.bsky", "appbsky", "app.bsky.actor, app.bsky.embed, app.bsky.feed, app.bsky.graph, app.bsky.labeler, app.bsky.notification need each other"},
		{"Merge", "chat.bsky", "chatbsky", "chat.bsky.convo, chat.bsky.embed, chat.bsky.group need each other"},
		{"Rename", "app.bsky.embed.record:/defs/view/properties/record", "EmbedRecordViewRecordUnion", "EmbedRecordViewRecord is taken"},
	}
	if diff := cmp.Diff(want, s.Added); diff != "" || len(s.LeftOut) > 0 {
		t.Errorf("(-want +got):\n%s%v", diff, s.LeftOut)
	}
	generate(t, s.Config, os.DirFS(indigo(t)))
}
