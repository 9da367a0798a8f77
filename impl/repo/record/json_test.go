package record_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"

	"portico/impl/repo/dagcbor"
	"portico/impl/repo/record"
)

// Names and values as the reference (0.5.35) gave them for the same records.
func TestJSON(t *testing.T) {
	for _, tt := range []struct{ name, in, cid, out string }{
		{"empty-ish", `{"$type":"com.example.thing","a":1}`,
			"bafyreidlhma7iacrjsdskfx5uzyb5uwneffkwkd4vmkbv7hx2cc66janoi", `{"a":1,"$type":"com.example.thing"}`},
		{"kinds", `{"$type":"com.example.thing","n":null,"t":true,"f":false,"i":-5,"s":"x","arr":[1,"a",{}],"o":{"z":1,"yy":2,"a":3}}`,
			"bafyreie67pjhhp3rrnk34oeovjietyiffwuht4p6f4ghob2kdaaacqpaye", `{"f":false,"i":-5,"n":null,"o":{"a":3,"z":1,"yy":2},"s":"x","t":true,"arr":[1,"a",{}],"$type":"com.example.thing"}`},
		{"link", `{"$type":"com.example.thing","l":{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"}}`,
			"bafyreig4ekokfzs2uo6qyap53afobewjkevoc5ounrsfdppsvwnkjjqc4y", `{"l":{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"$type":"com.example.thing"}`},
		{"bytes", `{"$type":"com.example.thing","b":{"$bytes":"AQID"},"c":{"$bytes":"AQ=="},"d":{"$bytes":"AQ"},"e":{"$bytes":""}}`,
			"bafyreidqmcxl7t7g7uygpqa6onlymdm2dln7hodzlezpzd7mbriza4dlx4", `{"b":{"$bytes":"AQID"},"c":{"$bytes":"AQ"},"d":{"$bytes":"AQ"},"e":{"$bytes":""},"$type":"com.example.thing"}`},
		{"bytes urlsafe", `{"$type":"com.example.thing","b":{"$bytes":"-_8"}}`,
			"bafyreibj6j432yhuuakhyiusa5ovdji44pa445zkqf3xcqk43qmxio6qim", `{"b":{"$bytes":"+/8"},"$type":"com.example.thing"}`},
		{"bytes bad", `{"$type":"com.example.thing","b":{"$bytes":"!"},"c":{"$bytes":"AQ="},"d":{"$bytes":5},"e":{"$bytes":"AQID","x":1}}`,
			"bafyreicdh4vuc5m3n46ijghq7bebzszheiymkueqg3le3plbf4gy6y54s4", `{"b":{"$bytes":"!"},"c":{"$bytes":"AQ"},"d":{"$bytes":5},"e":{"x":1,"$bytes":"AQID"},"$type":"com.example.thing"}`},
		{"bytes trailing bits", `{"$type":"com.example.thing","b":{"$bytes":"AR=="}}`,
			"bafyreieqhzoypnflq6uf3bhep6bykjhed3ni2oqfiebrkrcx2zryd2fl6q", `{"b":{"$bytes":"AQ"},"$type":"com.example.thing"}`},
		{"bytes one char", `{"$type":"com.example.thing","b":{"$bytes":"A"}}`,
			"bafyreicf4zfpp57ynd4vitbtwnc6qk4vbvgigsf4hd2rv2ghpsczcxubfy", `{"b":{"$bytes":"A"},"$type":"com.example.thing"}`},
		{"link bad", `{"$type":"com.example.thing","l":{"$link":"x"},"m":{"$link":5},"n":{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","x":1}}`,
			"bafyreifndroluz6oqc4cgoiuzsy3h2xgr2ur3pqhgunmtz3fw56lyjlwtm", `{"l":{"$link":"x"},"m":{"$link":5},"n":{"x":1,"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"$type":"com.example.thing"}`},
		{"link v0", `{"$type":"com.example.thing","l":{"$link":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN"}}`,
			"bafyreif3o6knh7xno652miefl7rbdc6e5dqyqqxucjdfrijgfz7smxzpr4", `{"l":{"$link":"QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN"},"$type":"com.example.thing"}`},
		{"link identity", `{"$type":"com.example.thing","l":{"$link":"bafkqaaa"}}`,
			"bafyreibotadodblhc4xfvjdpnta2nhsthc4xwzfsmugg4oubkanm2ku2t4", `{"l":{"$link":"bafkqaaa"},"$type":"com.example.thing"}`},
		{"link dag-pb", `{"$type":"com.example.thing","l":{"$link":"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"}}`,
			"bafyreib5dozcp4llrpsng4f5usvmsk5ql7yhmtj72cceoz6eehrt36n4sm", `{"l":{"$link":"bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"},"$type":"com.example.thing"}`},
		{"link base58", `{"$type":"com.example.thing","l":{"$link":"zdpuAyvkgEDQm9TenwGkd5eNaosSxjgEYd8QatfPetgB1CdEZ"}}`,
			"bafyreiddeykp27qwm44dpnvbctczpbfrfcb3p5je22z7b7d5e3oaxvwbzq", `{"l":{"$link":"bafyreigivjmlrue5db7rpwmbonv7oq57hvnp7yzhlsoy3fbwi5jzhwgali"},"$type":"com.example.thing"}`},
		{"link upper", `{"$type":"com.example.thing","l":{"$link":"BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ"}}`,
			"bafyreicpx27jgxu7qqmo3dk7bptmfmhgpdx47opto2emlmlkwo25p7piyu", `{"l":{"$link":"BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ"},"$type":"com.example.thing"}`},
		{"link leftover bits", `{"$type":"com.example.thing","l":{"$link":"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwr"}}`,
			"bafyreicnsfbhxoyl5kf35m3rv5sxiece5sek6x22mbwx3ifboahmsx7ede", `{"l":{"$link":"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwr"},"$type":"com.example.thing"}`},
		{"link cafe", `{"$type":"com.example.thing","l":{"$link":"mAXESIGUGKlpYAH4tufHpRCM8y8Fbgk5KNESJM2iR0JF0Gjk9"}}`,
			"bafyreiahs3vuj5wlctj4gb5kgem6tbbcgwyloiqornm7prjp3imjo3dv4i", `{"l":{"$link":"mAXESIGUGKlpYAH4tufHpRCM8y8Fbgk5KNESJM2iR0JF0Gjk9"},"$type":"com.example.thing"}`},
		{"dup keys", `{"$type":"com.example.thing","a":1,"b":2,"a":3}`,
			"bafyreidcq3lfbz4mz7tz3a7vx5hixwevvouj6zgwmgsefdgvyp2glb32fu", `{"a":3,"b":2,"$type":"com.example.thing"}`},
		{"integer keys", `{"$type":"com.example.thing","b":1,"10":2,"2":2,"02":3,"4294967295":1,"4294967294":2,"a":1}`,
			"bafyreig7zjlof2ck3jgxyexud52fbecmno4pzix3bnji4zq6xpc33rwinm", `{"2":2,"10":2,"4294967294":2,"a":1,"b":1,"02":3,"$type":"com.example.thing","4294967295":1}`},
		{"one", `{"$type":"com.example.thing","a":1.0,"b":1e2,"c":-0,"d":9007199254740991,"e":-9007199254740991}`,
			"bafyreign6zxli2kufjbcsu4dyg7qcrakaagdtjeigh7gu47fl2nn65rl5a", `{"a":1,"b":100,"c":0,"d":9007199254740991,"e":-9007199254740991,"$type":"com.example.thing"}`},
		{"escapes", `{"$type":"com.example.thing","a":"\u0000\u001f\b\f\n\r\t\"\\/<>&\u2028\u007f\ud83d\ude00é"}`,
			"bafyreiduhe2dcc46rm2rwjcivbaqkh7hb4nvw5hi3zab6b4zv2wfqg7r3e", "{\"a\":\"\\u0000\\u001f\\b\\f\\n\\r\\t\\\"\\\\/<>&\u2028\u007f😀é\",\"$type\":\"com.example.thing\"}"},
		{"lone surrogate", `{"$type":"com.example.thing","a":"\ud800x"}`,
			"bafyreibsu36ssktfpnbsd3fa4s5e5rnzng5bklmxpv6yokx65gi6bwkdma", "{\"a\":\"\ufffdx\",\"$type\":\"com.example.thing\"}"},
		{"empty key", `{"$type":"com.example.thing","":1,"a":{"":{}}}`,
			"bafyreif344ksec5lgqamfpclqdqq5w3nozl6wuwiwrjpkh7gfxl5vm6ewa", `{"":1,"a":{"":{}},"$type":"com.example.thing"}`},
		{"constructor", `{"$type":"com.example.thing","constructor":1,"toString":2}`,
			"bafyreid45n5dsywb7eurpatpxbd7nvgwo4f6pvjexsql66eg2rcxsgpdxi", `{"$type":"com.example.thing","toString":2,"constructor":1}`},
		{"blob", `{"$type":"com.example.thing","b":{"$type": "blob", "ref": {"$link": "bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"}, "mimeType": "image/png", "size": 28}}`,
			"bafyreiaakhaf4fld5obhbtzyeniagqezsrev422gxdwgyl2pihzw6k4nom", `{"b":{"ref":{"$link":"bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"},"size":28,"$type":"blob","mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"blob -1", `{"$type":"com.example.thing","b":{"$type":"blob","ref":{"$link":"bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"},"mimeType":"image/png","size":-1}}`,
			"bafyreifr5rx2ylx3d4ucxrykq7es5vqqokl7usj2o5e7mupdlcerak77qi", `{"b":{"ref":{"$link":"bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"},"size":-1,"$type":"blob","mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"blob -2", `{"$type":"com.example.thing","b":{"$type":"blob","ref":{"$link":"bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"},"mimeType":"image/png","size":-2}}`,
			"bafyreihbj3425tlpsdfpgye4pttvrzp22mehb437zdoptcsrwckad54dna", `{"b":{"ref":{"$link":"bafkreia3dkp2iseistmwdtewl6fz4ucl6bzft7w2kfqj5as24vwugesalu"},"size":-2,"$type":"blob","mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"blob other extra", `{"$type":"com.example.thing","b":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image/png","size":1,"x":1}}`,
			"bafyreigpxdunp2jqvy4252tztenhsdilqqngplzhot5wrxvch6h2bgvxya", `{"b":{"x":1,"ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"size":1,"$type":"blob","mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"blob other nomime", `{"$type":"com.example.thing","b":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image","size":1}}`,
			"bafyreidzf3rse4ud4qouzsuykeiha6t65awj2saiobpg77bivvjzlugz5a", `{"b":{"ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"size":1,"$type":"blob","mimeType":"image"},"$type":"com.example.thing"}`},
		{"blob other string ref", `{"$type":"com.example.thing","b":{"$type":"blob","ref":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png","size":1}}`,
			"bafyreifnzpyqtjgx3xfqsggdpmuo4fgzc5w64i7vdce3dkhs2dqilk3kcu", `{"b":{"ref":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","size":1,"$type":"blob","mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"blob size string", `{"$type":"com.example.thing","b":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"image/png","size":"1"}}`,
			"bafyreihvj247g3m3ozrofaebqidtg4d5uzjgismyt5pr3xfuved2sswmqq", `{"b":{"ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"size":"1","$type":"blob","mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"legacy extra", `{"$type":"com.example.thing","b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":"image/png","size":1}}`,
			"bafyreid7rdfxn6ompo537x6bqxvvkut6ckr6v7puyowrfv222nv44e2phi", `{"b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","size":1,"mimeType":"image/png"},"$type":"com.example.thing"}`},
		{"legacy empty mime", `{"$type":"com.example.thing","b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":""}}`,
			"bafyreictxy6ylu7vweczfkqkbff32awrb4363eza2glierig3xo5b5grfa", `{"b":{"cid":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a","mimeType":""},"$type":"com.example.thing"}`},
		{"legacy badcid", `{"$type":"com.example.thing","b":{"cid":"x","mimeType":"image/png"}}`,
			"bafyreihv4zxv54pxpahjrwggx45pp7trdxripavdrksywbosmtcsxaglvy", `{"b":{"cid":"x","mimeType":"image/png"},"$type":"com.example.thing"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			value, err := record.FromJSON([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			r, err := record.Read("com.example.thing", value)
			if err != nil {
				t.Fatal(err)
			}
			if r.CID.String() != tt.cid {
				t.Errorf("CID %s of %x, want %s", r.CID, value, tt.cid)
			}
			out, err := record.AppendJSON([]byte("before:"), value)
			if err != nil || string(out) != "before:"+tt.out {
				t.Errorf("got  %s, %v\nwant %s", out, err, tt.out)
			}
		})
	}
}

func TestFromJSONRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"deep", deep(128), nil},
		{"too deep", deep(129), record.ErrJSON},
		{"far too deep", deep(400_000), record.ErrJSON},
		{"deep with a bottom", strings.Repeat("[", 128) + "1" + strings.Repeat("]", 128), nil},
		{"nothing", "", record.ErrJSON},
		{"cut short", `{"a":[1`, record.ErrJSON},
		{"trailing", `{} {}`, record.ErrJSON},
		{"control character", "\"\x00\"", record.ErrJSON},
		{"leading zero", `01`, record.ErrJSON},
		{"fraction", `1.5`, record.ErrNumber},
		{"2^53", `9007199254740992`, record.ErrNumber},
		{"-2^53", `[-9007199254740992]`, record.ErrNumber},
		{"2^64", `18446744073709551616`, record.ErrNumber},
		{"infinite", `1e400`, record.ErrNumber},
		{"tiny", `1e-400`, nil},
		{"a million digits", strings.Repeat("1", 1_000_000), record.ErrNumber},
	} {
		if _, err := record.FromJSON([]byte(tt.in)); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %.100v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"largest integer", "1bffffffffffffffff", "18446744073709551615"},
		{"smallest integer", "3bffffffffffffffff", "-18446744073709551616"},
		{"beyond JavaScript", "3b0020000000000000", "-9007199254740993"},
		{"keys out of order", "a2616201616101", ""},
		{"keys twice", "a2616101616101", ""},
		{"float", "fb3ff8000000000000", ""},
		{"undefined", "f7", ""},
		{"other tag", "c100", ""},
		{"link without prefix", "d82a4101", ""},
		{"link to nothing", "d82a4100", ""},
		{"link to no CID", "d82a43000101", ""},
		{"trailing", "0000", ""},
		{"cut short", "8201", ""},
		{"not UTF-8", "61ff", ""},
		{"key not UTF-8", "a161ff00", ""},
		{"huge map", "bbffffffffffffffff", ""},
		{"too deep", strings.Repeat("81", 129) + "00", ""},
	} {
		in, err := hex.DecodeString(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record.AppendJSON(nil, in)
		if string(got) != tt.want || (tt.want == "") != errors.Is(err, record.ErrRecord) {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, tt.want)
		}
	}
}

// value makes up a JSON value of at most the given depth.
func value(r *rand.Rand, depth int) any {
	texts := []string{"", "a", "b", "text", "é", "😀", "\u2028", "\"", "\\", "\x00", "10", "2", "$type", "$link", "createdAt", strings.Repeat("x", 300)}
	kind := r.IntN(9)
	if depth == 0 {
		kind = r.IntN(6)
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return r.IntN(2) == 0
	case 2:
		return r.Int64N(1<<(1+r.IntN(53))) - r.Int64N(1<<(1+r.IntN(52)))
	case 3, 4:
		return texts[r.IntN(len(texts))]
	case 5:
		return map[string]any{"$bytes": "AQID"}
	case 6:
		items := []any{}
		for range r.IntN(30) {
			items = append(items, value(r, depth-1))
		}
		return items
	default:
		object := map[string]any{}
		for range r.IntN(30) {
			object[fmt.Sprint(texts[r.IntN(len(texts))], r.IntN(20))] = value(r, depth-1)
		}
		return object
	}
}

// What goes through DAG-CBOR comes back the same, and atdata, where it takes it, makes
// the same bytes.
func TestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	same := 0
	for range 500 {
		data, err := json.Marshal(map[string]any{"a": value(r, 3), "$type": "com.example.thing"})
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := record.FromJSON(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		again, err := record.AppendJSON(nil, encoded)
		if err != nil || !equalJSON(t, data, again) {
			t.Fatalf("%s came back as %s, %v", data, again, err)
		}
		if object, err := atdata.UnmarshalJSON(data); err == nil {
			if other, err := atdata.MarshalCBOR(object); err == nil {
				same++
				if !bytes.Equal(other, encoded) {
					t.Fatalf("%s\nhere %x\nthere %x", data, encoded, other)
				}
			}
		}
	}
	if same < 100 {
		t.Errorf("only %d were compared", same)
	}
}

func equalJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var values [2]any
	for i, data := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(data))
		d.UseNumber()
		if err := d.Decode(&values[i]); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// Bodies of a megabyte, made up to be slow, take memory in proportion.
func TestJSONOfAMegabyte(t *testing.T) {
	var descending, nested strings.Builder
	for i := 100_000; i > 0; i-- {
		fmt.Fprintf(&descending, `"%06d":0,`, i)
	}
	for range 120 {
		nested.WriteString(`{"zz":0,"b":1,"a":`)
	}
	for name, in := range map[string]string{
		"one key":                 "{" + strings.Repeat(`"":0,`, 200_000) + `"":1}`,
		"descending keys":         "{" + descending.String() + `"z":0}`,
		"unsorted at every depth": nested.String() + `"` + strings.Repeat("x", 1_000_000) + `"` + strings.Repeat("}", 120),
		"arrays":                  "[" + strings.Repeat("[],", 333_000) + "[]]",
		"indices":                 `{"a":{` + strings.Repeat(" ", 900_000) + `"b":1,"2":2,"10":3}}`,
		"escapes":                 `"` + strings.Repeat(`\u0000`, 160_000) + `"`,
		"links":                   `[` + strings.Repeat(`{"$link":"bafkqaaa"},`, 47_000) + `0]`,
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			value, err := record.FromJSON([]byte(in))
			if err != nil {
				t.Fatal(err)
			}
			if _, err = record.Read("com.example.thing", dagcborMap(value)); err != nil {
				t.Fatal(err)
			}
			out, err := record.AppendJSON(nil, value)
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 {
				t.Errorf("%d MB were allocated", n)
			}
			if len(value) > 2*len(in) || len(out) > 2*len(in) {
				t.Errorf("%d bytes of JSON are %d of DAG-CBOR and %d of JSON again", len(in), len(value), len(out))
			}
		})
	}
}

// dagcborMap makes a record with the value in it.
func dagcborMap(value []byte) []byte {
	return append(dagcbor.AppendText(dagcbor.AppendMap(nil, 1), "a"), value...)
}

func FuzzFromJSON(f *testing.F) {
	f.Add([]byte(`{"$type":"a.b.c","b":{"$link":"bafkqaaa"},"a":[1.0,{"$bytes":"AQ=="}],"2":null}`))
	f.Add([]byte(`{"b":{"$type":"blob","ref":{"$link":"bafkreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"},"mimeType":"a/b","size":-1},"b":"\ud800\u0000"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := record.FromJSON(data)
		if err != nil {
			return
		}
		out, err := record.AppendJSON(nil, value)
		if err != nil {
			t.Fatalf("%q became %x, which is %v", data, value, err)
		}
		again, err := record.FromJSON(out)
		if err != nil || !bytes.Equal(value, again) {
			t.Fatalf("%q became %x, then %q, then %x, %v", data, value, out, again, err)
		}
		if _, err := record.Read("app.bsky.feed.like", dagcborMap(value)); err != nil {
			t.Fatalf("%x cannot be read: %v", value, err)
		}
	})
}

func FuzzAppendJSON(f *testing.F) {
	f.Add([]byte("\xa2aa\x01ab\x82\xf6\xf5"))
	f.Add([]byte("\xa3a1\x01aa\xd8\x2a\x45\x00\x01\x55\x00\x00bab\x42\x01\x02"))
	f.Fuzz(func(t *testing.T, value []byte) {
		out, err := record.AppendJSON(nil, value)
		_, readErr := record.Read("app.bsky.graph.follow", value)
		if len(value) > 0 && value[0]>>5 == 5 && (err == nil) != (readErr == nil) {
			t.Fatalf("%x: to JSON %v, read %v", value, err, readErr)
		}
		if err != nil {
			return
		}
		if !json.Valid(out) {
			t.Fatalf("%x became %q", value, out)
		}
		if _, err := record.FromJSON(out); err != nil && !errors.Is(err, record.ErrNumber) && !errors.Is(err, record.ErrJSON) {
			t.Fatalf("%q cannot be read: %v", out, err)
		}
	})
}

const post = `{"$type":"app.bsky.feed.post","text":"Hello, this is a post of usual length with a link: example.com","facets":[{"index":{"byteStart":51,"byteEnd":62},"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]}],"langs":["en"],"createdAt":"2026-11-28T18:00:00.000Z"}`

func BenchmarkFromJSON(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.FromJSON([]byte(post)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	value, err := record.FromJSON([]byte(post))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.AppendJSON(buf, value); err != nil {
			b.Fatal(err)
		}
	}
}
