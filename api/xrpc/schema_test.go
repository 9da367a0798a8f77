package xrpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/google/go-cmp/cmp"
)

const (
	someCID = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
	rawCID  = "bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
)

type Tree struct {
	Name     string `json:"name"`
	Children []Tree `json:"children,omitzero"`
}

var treeTable = new(Schema)

func init() {
	treeTable.Set(Object(Required("name", String()), Optional("children", Array(treeTable))))
}

var (
	pictureTable = Object(Required("blob", Blob(Accept("image/*"), MaxSize(100))))
	recordTable  = Record("com.example.toy.record", Object(Required("text", String())))
	statusTable  = Typed("a.b.c#status", Object(Required("applied", Boolean())))
	statusesOf   = Object(Optional("one", statusTable), Optional("list", Array(statusTable)), Optional("main", Typed("a.b.d", Object())))
	openTable    = OpenUnion(Variant("com.example.toy.defs#tree", treeTable), Variant("com.example.toy.record", recordTable))
	closedTable  = ClosedUnion(Variant("a.b.c#x", treeTable), Variant("a.b.c#y", treeTable))
)

// TestIssues has texts of the reference, most of them asked from a running one.
func TestIssues(t *testing.T) {
	x := strings.Repeat("x", 300)
	for _, tt := range []struct {
		name string
		s    *Schema
		data string
		want string
	}{
		{"missing first in lexicon order", echoTable, `{"count":"x"}`, `Missing required key "name" at $`},
		{"lexicon order", echoTable, `{"count":"x","name":5}`, `Expected string value type (got 5) at $.name`},
		{"default", echoTable, `{"name":"a"}`, ``},
		{"null is not absent", echoTable, `{"name":"a","did":null}`, `Expected string value type (got null) at $.did`},
		{"null where a default is", echoTable, `{"name":"a","count":null}`, `Expected integer value type (got null) at $.count`},
		{"nullable", echoTable, `{"name":"a","maybe":null}`, ``},
		{"nullable of other type", echoTable, `{"name":"a","maybe":1}`, `Expected string value type (got 1) at $.maybe`},
		{"no coercion", echoTable, `{"name":"a","flag":"true"}`, `Expected boolean value type (got "true") at $.flag`},
		{"DID", echoTable, `{"name":"a","did":"x"}`, `Invalid DID (got "x") at $.did`},
		{"handle", echoTable, `{"name":"a","handle":"x"}`, `Invalid handle (got "x") at $.handle`},
		{"NSID", echoTable, `{"name":"a","nsid":"x"}`, `Invalid NSID (got "x") at $.nsid`},
		{"AT identifier", echoTable, `{"name":"a","at":"x"}`, `Invalid AT identifier (got "x") at $.at`},
		{"datetime", echoTable, `{"name":"a","when":"2030-01-01"}`, `Invalid datetime (got "2030-01-01") at $.when`},
		{"datetime with comma", echoTable, `{"name":"a","when":"2030-02-20T00:00:00,5Z"}`, `Invalid datetime (got "2030-02-20T00:00:00,5Z") at $.when`},
		{"datetime of minus zero", echoTable, `{"name":"a","when":"2030-02-20T00:00:00-00:00"}`, `Invalid datetime (got "2030-02-20T00:00:00-00:00") at $.when`},
		{"datetime of a leap second", echoTable, `{"name":"a","when":"2030-02-20T00:00:60Z"}`, `Invalid datetime (got "2030-02-20T00:00:60Z") at $.when`},
		{"datetime in lower case", echoTable, `{"name":"a","when":"2030-02-20T00:00:00z"}`, `Invalid datetime (got "2030-02-20T00:00:00z") at $.when`},
		{"datetime of a time zone of a day", echoTable, `{"name":"a","when":"2030-02-20T00:00:00+24:00"}`, `Invalid datetime (got "2030-02-20T00:00:00+24:00") at $.when`},
		{"datetime of one of a day less a minute", echoTable, `{"name":"a","when":"2030-02-20T00:00:00-23:59"}`, ``},
		{"good datetime", echoTable, `{"name":"a","when":"2030-02-20T00:00:00.123+02:00"}`, ``},
		{"uri", String(FormatURI), `"x"`, `Invalid uri (got "x") at $`},
		{"uri without more", String(FormatURI), `"https://"`, `Invalid uri (got "https://") at $`},
		{"uri of slashes", String(FormatURI), `"http:///x"`, `Invalid uri (got "http:///x") at $`},
		{"uri with white space", String(FormatURI), `"https://a.test/\u00a0"`, `Invalid uri (got "https://a.test/` + "\u00a0" + `") at $`},
		{"uri with a dash", String(FormatURI), `"a-b:c"`, `Invalid uri (got "a-b:c") at $`},
		{"uri without a scheme", String(FormatURI), `":c"`, `Invalid uri (got ":c") at $`},
		{"uri in another script", String(FormatURI), `"https://de.wikipedia.org/wiki/Käse_Ω"`, ``},
		{"uri in capitals", String(FormatURI), `"HTTP://A"`, ``},
		{"uri of a number", String(FormatURI), `"1_a:b"`, ``},
		{"graphemes of conjuncts", String(MaxGraphemes(3)), `"क्षिക്ഷស្រី"`, ``},
		{"too many graphemes of conjuncts", String(MaxGraphemes(2)), `"क्षिക്ഷស្រី"`, `grapheme too big (maximum 2, got 3) at $`},
		{"const", Boolean(ConstBoolean(true)), `null`, `Expected true (got null) at $`},
		{"token", Token("a.b.c#t"), `5`, `Expected token value type (got 5) at $`},
		{"other token", Token("a.b.c#t"), `"x"`, `Expected "a.b.c#t" (got "x") at $`},
		{"link in capitals", CIDLink(), `{"$link":"` + strings.ToUpper(someCID) + `"}`, `Expected cid value type (got {"$link": ...}) at $`},
		{"object that looks like a link", String(), `{"$link":"` + strings.ToUpper(someCID) + `"}`, `Expected string value type (got {"$link": ...}) at $`},
		{"at-uri", String(FormatATURI), `"x"`, `Invalid at-uri (got "x") at $`},
		{"CID string", String(FormatCID), `"5"`, `Invalid CID string (got "5") at $`},
		{"CID", String(FormatCID), `"` + someCID + `"`, ``},
		{"CID of version 0", String(FormatCID), `"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN"`, ``},
		{"CID that looks like one", String(FormatCID), `"nonsense"`, `Invalid CID string (got "nonsense") at $`},
		{"CID in base58", String(FormatCID), `"zdpuAyvkgEDQm9TenwGkd5eNaosSxjgEYd8QatfPetgB1CdEZ"`,
			`Invalid CID string (got "zdpuAyvkgEDQm9TenwGkd5eNaosSxjgEYd8QatfPetgB1CdEZ") at $`},
		{"CID in capitals", String(FormatCID), `"BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ"`,
			`Invalid CID string (got "BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ") at $`},
		{"CID with bits left over", String(FormatCID), `"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwr"`,
			`Invalid CID string (got "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwr") at $`},
		{"TID string", String(FormatTID), `"q"`, `Invalid TID string (got "q") at $`},
		{"record key", String(FormatRecordKey), `"!"`, `Invalid record key (got "!") at $`},
		{"language", String(FormatLanguage), `"!"`, `Invalid language (got "!") at $`},
		{"item", echoTable, `{"name":"a","accounts":["did:plc:abc",5]}`, `Expected string value type (got 5) at $.accounts[1]`},
		{"item's format", echoTable, `{"name":"a","accounts":["a"]}`, `Invalid DID (got "a") at $.accounts[0]`},
		{"array too big", echoTable, `{"name":"a","accounts":[1,2,3]}`, `array too big (maximum 2, got 3) at $.accounts`},
		{"array too small", Array(Any(), MinLength(1)), `[ ]`, `array too small (minimum 1, got 0) at $`},
		{"not an array", echoTable, `{"name":"a","accounts":"did:plc:abc"}`, `Expected array value type (got "did:plc:abc") at $.accounts`},
		{"deep", echoTable, `{"name":"a","list":[{},{"deep":6}]}`, `integer too big (maximum 5, got 6) at $.list[1].deep`},
		{"too small", echoTable, `{"name":"a","inner":{"deep":-6}}`, `integer too small (minimum -5, got -6) at $.inner.deep`},
		{"bytes, not characters", echoTable, `{"name":"` + strings.Repeat("é", 151) + `"}`, `string too big (maximum 300, got 302) at $.name`},
		{"empty", echoTable, `{"name":""}`, `string too small (minimum 1, got 0) at $.name`},
		{"graphemes", echoTable, `{"name":"a","inner":{"other":"👨‍👩‍👧👨‍👩‍👧👨‍👩‍👧"}}`, ``},
		{"too many graphemes", echoTable, `{"name":"a","inner":{"other":"👨‍👩‍👧abc"}}`, `grapheme too big (maximum 3, got 4) at $.inner.other`},
		{"too few graphemes", String(MinGraphemes(2)), `"👨‍👩‍👧"`, `grapheme too small (minimum 2, got 1) at $`},
		{"no grapheme", String(MinGraphemes(1)), `""`, `grapheme too small (minimum 1, got 0) at $`},
		{"enum", echoTable, `{"name":"a","sort":"foo"}`, `Expected one of "recent" or "usage" (got "foo") at $.sort`},
		{"enum of other type", echoTable, `{"name":"a","sort":5}`, `Expected one of "recent" or "usage" (got 5) at $.sort`},
		{"const", String(Const("x")), `"y"`, `Expected "x" (got "y") at $`},
		{"const integer", Integer(ConstInteger(5)), `6`, `Expected 5 (got 6) at $`},
		{"enum of integers", Integer(EnumInteger(1, 2, 3)), `6`, `Expected one of 1, 2 or 3 (got 6) at $`},
		{"const boolean", Boolean(ConstBoolean(true)), `false`, `Expected true (got false) at $`},
		{"odd name", Object(Required("a-b", Object(Required("c", Null())))), `{"a-b":{"c":1}}`, `Expected null value type (got 1) at $["a-b"].c`},
		{"unknown", Unknown(), `[]`, `Expected object value type (got []) at $`},
		{"unknown object", Unknown(), `{"a":[1.0,{},[-1e2]]}`, ``},
		{"fraction in an unknown object", Unknown(), `{"x":{"a-b":[0,1.5]}}`,
			`Expected one of null, boolean, integer, string, cid, bytes, array or object value type (got 1.5) at $.x["a-b"][1]`},
		{"unsafe integer in an unknown object", Unknown(), `{"a":9007199254740992}`,
			`Expected one of null, boolean, integer, string, cid, bytes, array or object value type (got 9007199254740992) at $.a`},
		{"any", Any(), ` null `, ``},
		{"recursive", treeTable, `{"name":"a","children":[{"name":"b"},{"children":[]}]}`, `Missing required key "name" at $.children[1]`},

		{"1.0", Integer(), `1.0`, ``},
		{"1e3", Integer(), `1e3`, ``},
		{"1.5", Integer(), `1.5`, `Expected integer value type (got 1.5) at $`},
		{"largest", Integer(), `9007199254740991`, ``},
		{"unsafe", Integer(), `9007199254740993`, `Expected integer value type (got 9007199254740992) at $`},
		{"infinite", Integer(), `1e400`, `Expected integer value type (got Infinity) at $`},
		{"minus infinite", Integer(), `-1e400`, `Expected integer value type (got -Infinity) at $`},
		{"large", Integer(), `1e21`, `Expected integer value type (got 1e+21) at $`},
		{"larger", Integer(), `123456789012345678901234567890`, `Expected integer value type (got 1.2345678901234568e+29) at $`},
		{"not so large", Integer(), `123456789012345678901`, `Expected integer value type (got 123456789012345680000) at $`},
		{"small", Integer(), `-1e-7`, `Expected integer value type (got -1e-7) at $`},
		{"not so small", Integer(), `0.000001`, `Expected integer value type (got 0.000001) at $`},

		{"escapes", Integer(), `"a\u0001\n\u2028<>&\"é\ud800\/"`, "Expected integer value type (got \"a\\u0001\\n\u2028<>&\\\"é\\ud800/\") at $"},
		{"surrogates", Integer(), `"\ud83d\ude00\ude00"`, `Expected integer value type (got "😀\ude00") at $`},
		{"not UTF-8", Integer(), "\"\xff\"", "Expected integer value type (got \"\ufffd\") at $"},
		{"255 characters", Integer(), `"` + x[:255] + `"`, `Expected integer value type (got "` + x[:255] + `") at $`},
		{"256 characters", Integer(), `"` + x[:256] + `"`, `Expected integer value type (got "` + x[:255] + `…") at $`},
		{"cut in a pair", Integer(), `"` + strings.Repeat("😀", 200) + `"`, `Expected integer value type (got "` + strings.Repeat("😀", 127) + `\ud83d…") at $`},
		{"empty array", Integer(), `[]`, `Expected integer value type (got []) at $`},
		{"array of one", Integer(), `[1]`, `Expected integer value type (got [1]) at $`},
		{"array of two", Integer(), `["abc",null]`, `Expected integer value type (got ["abc", null]) at $`},
		{"nested arrays", Integer(), `[[1,2,3],{"a":1},3]`, `Expected integer value type (got [[1, 2, ...], {"a": ...}, ...]) at $`},
		{"empty object", Integer(), `{}`, `Expected integer value type (got {}) at $`},
		{"object of two", Integer(), `{"a":1,"b":2}`, `Expected integer value type (got {"a": ..., "b": ...}) at $`},
		{"object of three", Integer(), `{"a":1,"b":2,"c":3}`, `Expected integer value type (got {"a": ..., "b": ..., ...}) at $`},
		{"integer keys", Integer(), `{"b":1,"10":2,"2":2,"c":3,"02":4}`, `Expected integer value type (got {"2": ..., "10": ..., ...}) at $`},
		{"keys given twice", Integer(), `{"b":1,"\u0062":2,"c\"x":3}`, `Expected integer value type (got {"b": ..., "c\"x": ...}) at $`},
		{"link", Integer(), `[{"$link":"` + someCID + `"},{"$bytes":"AAAA"},3]`, `Expected integer value type (got [cid, object, ...]) at $`},
		{"no link", Integer(), `{"$link":"x"}`, `Expected integer value type (got {"$link": ...}) at $`},
		{"no bytes", Integer(), `{"$bytes":"!"}`, `Expected integer value type (got {"$bytes": ...}) at $`},

		{"link is no object", treeTable, `{"$link":"` + someCID + `"}`, `Expected object value type (got cid) at $`},
		{"bytes are no object", Unknown(), `{"$bytes":"AA=="}`, `Expected object value type (got object) at $`},

		{"bytes", Bytes(MaxLength(3)), `{"$bytes":"AAAA"}`, ``},
		{"bytes of URLs", Bytes(), `{"$bytes":"_-A="}`, ``},
		{"bytes with some padding", Bytes(), `{"$bytes":"AA="}`, ``},
		{"bytes with too much padding", Bytes(), `{"$bytes":"AA==="}`, `Expected bytes value type (got {"$bytes": ...}) at $`},
		{"bytes of nothing but padding", Bytes(), `{"$bytes":"===="}`, `Expected bytes value type (got {"$bytes": ...}) at $`},
		{"bytes too big", Bytes(MaxLength(2)), `{"$bytes":"AAAA"}`, `bytes too big (maximum 2, got 3) at $`},
		{"not bytes", Bytes(), `"AAAA"`, `Expected bytes value type (got "AAAA") at $`},
		{"bytes and more", Bytes(), `{"$bytes":"AAAA","x":1}`, `Expected bytes value type (got {"$bytes": ..., "x": ...}) at $`},
		{"cid-link", CIDLink(), `{"$link":"` + someCID + `"}`, ``},
		{"not a cid-link", CIDLink(), `"` + someCID + `"`, `Expected cid value type (got "` + someCID + `") at $`},
		{"blob", pictureTable, `{"blob":{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png","size":100}}`, ``},
		{"blob too big", pictureTable, `{"blob":{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png","size":101}}`, `blob too big (maximum 100, got 101) at $.blob`},
		{"blob of other type", pictureTable, `{"blob":{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"a/b","size":1}}`, `Expected "image/*" (got "a/b") at $.blob.mimeType`},
		{"not a blob", pictureTable, `{"blob":{"$type":"blob"}}`, `Expected blob value type (got {"$type": ...}) at $.blob`},
		{"blob and more", pictureTable, `{"blob":{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png","size":1,"x":1}}`, `Expected blob value type (got {"$type": ..., "ref": ..., ...}) at $.blob`},
		{"blob of half a type", pictureTable, `{"blob":{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image","size":1}}`, `Expected blob value type (got {"$type": ..., "ref": ..., ...}) at $.blob`},
		{"blob without size", pictureTable, `{"blob":{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png","size":-1}}`, `Expected blob value type (got {"$type": ..., "ref": ..., ...}) at $.blob`},
		{"legacy blob", pictureTable, `{"blob":{"cid":"` + rawCID + `","mimeType":"image/png"}}`, `Expected blob value type (got {"cid": ..., "mimeType": ...}) at $.blob`},

		{"record", recordTable, `{"$type":"com.example.toy.record","text":"x"}`, ``},
		{"other record", recordTable, `{"$type":"com.example.toy.other","text":"x"}`, `Expected "com.example.toy.record" (got "com.example.toy.other") at $.$type`},
		{"record without type", recordTable, `{"text":"x"}`, `Expected "com.example.toy.record" (got undefined) at $.$type`},
		{"definition without type", statusesOf, `{"$type":"x","one":{"applied":true}}`, ``},
		{"definition", statusesOf, `{"one":{"applied":true,"$type":"a.b.c#status"},"main":{"\u0024type":"a.b.d"}}`, ``},
		{"definition of other type", statusesOf, `{"one":{"$type":"x","applied":true}}`, `Expected "a.b.c#status" (got "x") at $.one.$type`},
		{"type comes before properties", statusesOf, `{"one":{"$type":"x"}}`, `Expected "a.b.c#status" (got "x") at $.one.$type`},
		{"the last type counts", statusesOf, `{"one":{"$type":"a.b.c#status","applied":true,"$type":null}}`, `Expected "a.b.c#status" (got null) at $.one.$type`},
		{"type of an object", statusesOf, `{"list":[{"applied":true},{"$type":{"q":1},"applied":true}]}`, `Expected "a.b.c#status" (got {"q": ...}) at $.list[1].$type`},
		{"type with #main", statusesOf, `{"main":{"$type":"a.b.d#main"}}`, `Expected "a.b.d" (got "a.b.d#main") at $.main.$type`},
		{"union", openTable, `{"$type":"com.example.toy.defs#tree","name":"x"}`, ``},
		{"variant is checked", openTable, `{"$type":"com.example.toy.defs#tree"}`, `Missing required key "name" at $`},
		{"unknown variant", openTable, `{"$type":"x","name":5}`, ``},
		{"no type", openTable, `{"name":"x"}`, `Expected an object which includes the "$type" property value type (got {"name": ...}) at $`},
		{"no object", openTable, `5`, `Expected an object which includes the "$type" property value type (got 5) at $`},
		{"type is no string", openTable, `{"$type":5}`, `Expected string value type (got 5) at $.$type`},
		{"closed union", closedTable, `{"$type":"a.b.c#z"}`, `Expected one of "a.b.c#x" or "a.b.c#y" (got "a.b.c#z") at $.$type`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.s.Check([]byte(tt.data))
			if got := errorText(err); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if _, ok := errors.AsType[*Issue](err); err != nil && !ok {
				t.Errorf("error is a %T", err)
			}
		})
	}
}

// What is listed is compared with the text of the query, before all else and in its order, as
// the reference does.
func TestListedParams(t *testing.T) {
	table := Object(
		Optional("short", String(MaxLength(1))), Optional("number", Integer()), Optional("choice", String(Enum("a", "b"))),
		Optional("seven", Integer(ConstInteger(7))), Optional("yes", Boolean(ConstBoolean(true))), Optional("numbers", Array(Integer(EnumInteger(1, 2, 30)))),
	)
	for query, want := range map[string]string{
		"choice=a&seven=7&yes=true&numbers=30&numbers=1": ``,
		"choice=z&number=x":        `Expected one of "a" or "b" (got "z")`,
		"short=abc&choice=z":       `Expected one of "a" or "b" (got "z")`,
		"number=x&choice=z":        `Expected integer value type (got "x")`,
		"yes=on":                   `Expected true (got "on")`,
		"yes=false":                `Expected true (got "false")`,
		"seven=8":                  `Expected 7 (got "8")`,
		"seven=07":                 `Expected 7 (got "07")`,
		"numbers=1&numbers=x":      `Expected one of 1, 2 or 30 (got "x")`,
		"numbers=01":               `Expected one of 1, 2 or 30 (got "01")`,
		"short=abc&seven=&yes=":    `string too big (maximum 1, got 3)`,
		"choice=a&choice=b&yes=no": `Expected true (got "no")`,
	} {
		got := ""
		if issue := parseParams(table, query, false, new(Values)); issue != nil {
			got = issue.Text
		}
		if got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestNotJSON(t *testing.T) {
	for _, data := range []string{
		``, ` `, `{`, `}`, `[`, `[1`, `[1,`, `[1,]`, `[,]`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{1:1}`,
		`01`, `-`, `+1`, `1.`, `.5`, `1e`, `1e+`, `0x1`, `NaN`, `nul`, `nulll`, `tru`, `True`, `"`, `"\"`, `"\x"`, `"\u12"`, `"\u12g4"`, "\"\n\"", "\"\x00\"",
		`1 2`, `{}{}`, `[]]`, `'a'`, `/**/1`, "\v1", strings.Repeat("[", 1000), strings.Repeat("[", 200) + strings.Repeat("]", 200),
	} {
		err := Any().Check([]byte(data))
		if _, ok := errors.AsType[*SyntaxError](err); !ok {
			t.Errorf("%q: %v", data, err)
		}
	}
	for _, data := range []string{` 1 `, `-0`, `0.5e-7`, `1E+5`, `"\u00e9\/"`, "\t[\r\n]", `{"":{}}`, `"` + "\x7f\xff" + `"`, strings.Repeat("[", 128) + strings.Repeat("]", 128)} {
		if err := Any().Check([]byte(data)); err != nil {
			t.Errorf("%q: %v", data, err)
		}
	}
}

func TestUnmarshal(t *testing.T) {
	const data = `{"\u006eame":"\ud800x","NAME":[],"count":1e2,"inner":{"deep":-0.0,"Deep":"x"},"list":[{"deep":1},{"DEEP":{},"deep":2.0}],"inner":{"other":"é"},"Inner":null,"ſort":5}`
	kept := data
	var got EchoInput
	if err := Unmarshal(echoTable, []byte(data), &got); err != nil {
		t.Fatal(err)
	}
	want := EchoInput{Name: "\ufffdx", Count: 100, Inner: &EchoInputInner{Other: new("é")},
		List: []EchoInputInner{{Deep: new(int64(1))}, {Deep: new(int64(2))}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if kept != data {
		t.Error("data was changed")
	}
	type bytesOf struct {
		B atdata.Bytes `json:"b"`
	}
	var b bytesOf
	if err := Unmarshal(Object(Required("b", Bytes())), []byte(`{"b":{"$bytes":"YQ=="}}`), &b); err != nil || string(b.B) != "a" {
		t.Errorf("%v %q", err, b.B)
	}
	var d struct {
		A string `json:"a"`
		B bool   `json:"b"`
		C int64  `json:"c"`
	}
	table := Object(Optional("a", String(Default("x\"y"))), Optional("b", Boolean(DefaultBoolean(true))), Optional("c", Integer(DefaultInteger(-1))))
	if err := Unmarshal(table, []byte(` { } `), &d); err != nil || d.A != `x"y` || !d.B || d.C != -1 {
		t.Errorf("%v %+v", err, d)
	}
}

// Types that the generator did not write are decoded by encoding/json where they are not as it
// would have written them, and what they cannot hold is an error.
func TestUnmarshalOtherTypes(t *testing.T) {
	type text string
	type embedded struct {
		Tree
		Extra int `json:"extra"`
	}
	table := Object(
		Optional("text", String(Default("d"))), Optional("number", Integer(DefaultInteger(7))), Optional("flag", Boolean(DefaultBoolean(true))),
		Optional("any", Any()), Optional("map", Unknown()), Optional("list", Array(Integer())), Optional("tree", treeTable), Optional("raw", Array(String())),
	)
	type other struct {
		Text   *text           `json:"text"`
		Number int8            `json:"number"`
		Flag   any             `json:"flag"`
		Any    any             `json:"any"`
		Map    map[string]int  `json:"map"`
		List   [2]int          `json:"list"`
		Tree   embedded        `json:"tree"`
		Raw    json.RawMessage `json:"raw"`
	}
	var got other
	err := Unmarshal(table, []byte(`{"any":[1,"a"],"map":{"a":1},"list":[1,2],"tree":{"name":"t","extra":5},"raw": [ "x" ] }`), &got)
	want := other{new(text("d")), 7, true, []any{1.0, "a"}, map[string]int{"a": 1}, [2]int{1, 2}, embedded{Tree{Name: "t"}, 5}, json.RawMessage(`[ "x" ]`)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Error(err, diff)
	}
	err = Unmarshal(table, []byte(`{"number":300}`), &got)
	if text := errorText(err); text != "decode *xrpc.other: json: cannot unmarshal number 300 into Go value of type int8" {
		t.Error(text)
	}
	for _, v := range []any{nil, other{}, (*other)(nil)} {
		if err := Unmarshal(table, []byte(`{}`), v); err == nil {
			t.Errorf("%T was decoded into", v)
		}
	}
}

// What is decoded stays what it was when the data becomes something else.
func TestUnmarshalKeepsNothing(t *testing.T) {
	data := []byte(`{"text":"some text","did":"did:plc:a","unknown":{"a":"b"},"bytes":{"$bytes":"YWJj"},"texts":["a","b"],` +
		`"union":{"$type":"com.example.other","x":"y"},"blob":{"$type":"blob","ref":{"$link":"` + someCID + `"},"mimeType":"a/b","size":1}}`)
	var got, want everything
	if err := errors.Join(Unmarshal(everythingTable, data, &got), Unmarshal(everythingTable, bytes.Clone(data), &want)); err != nil {
		t.Fatal(err)
	}
	clear(data)
	one, err := Marshal(&got)
	two, err2 := Marshal(&want)
	if string(one) != string(two) || got.Union.Type() != "com.example.other" || err != nil || err2 != nil {
		t.Errorf("%s, %v\nwas %s, %v", one, err, two, err2)
	}
}

// A list that is wrong takes no memory for what comes behind.
func TestUnmarshalWrongLists(t *testing.T) {
	data := []byte(`{"text":"","list":[{}` + strings.Repeat(`,{}`, 50_000) + `]}`)
	least := uint64(math.MaxUint64) // of several times, since others may take memory meanwhile
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := Unmarshal(everythingTable, data, new(everything))
		runtime.ReadMemStats(&after)
		if errorText(err) != `Missing required key "text" at $.list[0]` {
			t.Fatal(err)
		}
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	if least > 64<<10 {
		t.Errorf("%d bytes", least)
	}
}

// Answers are written as encoding/json writes them when it is told not to escape HTML.
func TestMarshal(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    any
		want string
		err  string
	}{
		{"all that JSON escapes", &everything{Text: "a\"\\/\b\f\n\r\t\x00\x1f\x7f<>&é\u2028\u2029\xff😀"}, `{"text":"a\"\\/\b\f\n\r\t\u0000\u001f` + "\x7f" + `<>&é\u2028\u2029\ufffd😀"}`, ``},
		{"raw JSON loses its white space", &everything{Unknown: json.RawMessage(" { \"a b\" : [ 1 ,\t2 ] ,\r\n\"c\" : \" \\\" \" } ")}, `{"text":"","unknown":{"a b":[1,2],"c":" \" "}}`, ``},
		{"raw JSON of any depth", &everything{Any: json.RawMessage(strings.Repeat("[", 300) + strings.Repeat("]", 300))}, `{"text":"","any":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, ``},
		{"raw JSON that is none", &everything{Any: json.RawMessage(`{"a":`)}, ``, `raw JSON: unexpected end of JSON input`},
		{"raw JSON of two values", &everything{Any: json.RawMessage(`1 2`)}, ``, `raw JSON: invalid character '2' after top-level value`},
		{"raw JSON of nothing", &everything{Any: json.RawMessage{}}, ``, `raw JSON: unexpected end of JSON input`},
		{"null", &everything{Maybe: Nullable[int64]{Set: true}}, `{"text":"","maybe":null}`, ``},
		{"lists", &everything{List: []everything{}, Texts: []string{"a"}}, `{"text":"","list":[],"texts":["a"]}`, ``},
		{"union", &everything{Union: unionOf{&everything{Text: "x"}}}, `{"text":"","union":{"$type":"com.example.toy.defs#everything","text":"x"}}`, ``},
		{"unknown variant", &everything{Union: unionOf{&UnknownVariant{"x", json.RawMessage(`{ "$type": "x" }`)}}}, `{"text":"","union":{"$type":"x"}}`, ``},
		{"variant without JSON", &everything{Union: unionOf{&UnknownVariant{Type: "x"}}}, ``, `union variant "x" without JSON`},
		{"data", &everything{Bytes: atdata.Bytes("ab"), Blob: &atdata.Blob{MimeType: "a/<", Size: 1}}, ``, "json: error calling MarshalJSON for type *xrpc.everything: json: error calling MarshalJSON for type *atdata.Blob: json: error calling MarshalJSON for type atdata.CIDLink: tried to marshal nil or undefined cid-link"},
		{"what contains itself", &loopy{Name: "a"}, ``, "a value contains itself, or nests too deep"},
		{"other types", map[string]any{"a": "<"}, `{"a":"<"}`, ``},
		{"nil", nil, `null`, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if l, ok := tt.v.(*loopy); ok {
				l.Next = l
			}
			got, err := Marshal(tt.v)
			if string(got) != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.HasSuffix(err.Error(), tt.err[strings.LastIndex(tt.err, ": ")+1:]) {
				t.Errorf("got %s, %v", got, err)
			}
		})
	}
}

// loopy may contain itself.
type loopy struct {
	Name string `json:"name"`
	Next *loopy `json:"next,omitzero"`
}

func (*loopy) Schema() *Schema { return treeTable }

func TestVariants(t *testing.T) {
	for _, tt := range []struct {
		v    any
		want string
	}{
		{Tree{Name: "<"}, `{"$type":"a.b#c","name":"<"}`},
		{struct{}{}, `{"$type":"a.b#c"}`},
		{json.RawMessage(`{"$type":"own"}`), `{"$type":"own"}`},
	} {
		if got, err := MarshalVariant("a.b#c", tt.v); err != nil || string(got) != tt.want {
			t.Errorf("%s %v", got, err)
		}
	}
	if _, err := MarshalVariant("a.b#c", 5); err == nil {
		t.Error("5 is no object")
	}
	for data, want := range map[string]string{
		`{"$TYPE":"x","$type":"a"}`: "a", `{"$type":"a","\u0024type":"b"}`: "b", ` {"x":{"$type":"a"},"$type":"c"}`: "c",
		`{}`: "", `5`: "", `{"$type":5}`: "", `{"$type":"a"`: "", `{"$type":5,"$type":"d"}`: "d",
	} {
		if got, err := VariantType([]byte(data)); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q %v", data, got, err)
		}
	}
}

func TestNullable(t *testing.T) {
	type T struct {
		N Nullable[int] `json:"n,omitzero"`
	}
	for data, want := range map[string]T{
		`{}`: {}, `{"n":null}`: {Nullable[int]{Set: true}}, `{"n":5}`: {Nullable[int]{true, new(5)}},
	} {
		var got T
		if err := json.Unmarshal([]byte(data), &got); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %+v %v", data, got, err)
		}
		if back, err := json.Marshal(got); err != nil || string(back) != data {
			t.Errorf("%s: %s %v", data, back, err)
		}
	}
}

func TestData(t *testing.T) {
	got, err := Data(json.RawMessage(`{"a":1,"b":{"$bytes":"YQ"}}`))
	if err != nil || cmp.Diff(map[string]any{"a": int64(1), "b": atdata.Bytes("a")}, got) != "" {
		t.Error(got, err)
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	data := []byte(`{"name":"alice.test","did":"did:plc:abcdefghijklmnopqrstuvwx","count":3,"inner":{"deep":1},"list":[{"deep":1},{"other":"x"}],"when":"2030-01-01T00:00:00Z","x":{"y":[1,2]}}`)
	if n := testing.AllocsPerRun(100, func() {
		if err := echoTable.Check(data); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
