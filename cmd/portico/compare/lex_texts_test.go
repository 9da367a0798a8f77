//go:build compare

package compare

import "strings"

const (
	aLink  = "bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
	rawCID = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"
	pbCID  = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"
	oldCID = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN"
)

// wellFormed are texts of each format, some of which few would think of.
var wellFormed = map[string][]string{
	"at-identifier": {"alice.test", "did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:example.com"},
	"at-uri":        {"at://alice.test", "at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/com.example.post/self", "at://a.test/com.example.post"},
	"cid":           {aLink, rawCID, pbCID, oldCID},
	"datetime":      {"2026-01-02T03:04:05.678Z", "1985-04-12T23:20:50Z", "1985-04-12T23:20:50.12345678912345Z", "1985-04-12T23:20:50+01:45"},
	"did":           {"did:plc:ewvi7nxzyoun6zhxrhs64oiz", "did:web:localhost%3A1234", "did:key:zQ3shZc2QzApp2oymGvQbzP8eKheVshBHbU4ZYjeXqwSKEn6N"},
	"handle":        {"alice.test", "a.b.example.com", "xn--ls8h.test", "8.cn"},
	"language":      {"de", "de-AT", "zh-Hant-TW", "i-klingon", "en-a-bbb-x-a-ccc"},
	"nsid":          {"com.example.post", "a-0.b-1.c", "com.example.fooBar9"},
	"record-key":    {"self", "3jzfcijpj2z2a", "a:b", "~1.2-3_", "_"},
	"tid":           {"3jzfcijpj2z2a", "7777777777777", "2222222222222"},
	"uri":           {"https://example.com/a?b#c", "at://alice.test", "mailto:a@example.com", "urn:x:y", "data:,x"},
}

// nearlyFormed are texts at the edges of the formats.
var nearlyFormed = map[string][]string{
	"did": {
		"did", "did:", "did::x", "did:plc", "did:plc:", "did:plc:a", "did:PLC:x", "DID:plc:x", "did:p1:x", "did:plc:a:", "did:plc::a", "did:plc:a%", "did:plc:a%4", "did:plc:a%41",
		"did:plc:a%zz", "did:plc:a/b", "did:plc:a#b", "did:plc:a?b", "did:a:b_c-d.e", " did:plc:x", "did:plc:x ", "did:plc:x\n", "did:plc:é", "did:web:", "did:web:a.b:c:d", "did:plc:a\u0000",
		"did:m:" + strings.Repeat("a", 2042), "did:m:" + strings.Repeat("a", 2043), "did:m:v.", "did:m:-", "did:m:_", "did:m:.", "did:method:-:_:.-:",
	},
	"handle": {
		"a.b", "a", "", ".a.test", "a.test.", "a..test", "-a.test", "a-.test", "a.-t", "a.t-", "a.t1", "a.1t", "a.1", "A.TEST", "a_b.test", "é.test", "@a.test", "a.test\n", " a.test", "a.test ", "localhost",
		"127.0.0.1", "handle.invalid", "a.local", "a.arpa", "a.onion", "a.internal", "a.localhost", "a.example", "a.alt", "xn--a.test", "a.xn--p1ai", "a.b c",
		strings.Repeat("a", 63) + ".test", strings.Repeat("a", 64) + ".test", strings.Repeat("a.", 124) + "test", strings.Repeat("a.", 125) + "test", "a." + strings.Repeat("b", 63), "a." + strings.Repeat("b", 64), "www.masełkowski.pl.com", "john.test/x",
	},
	"at-identifier": {"@", "", "a", "did", "did:plc:", "a..b", "did:plc:a/b", "alice.test.", "DID:plc:x", "did.test", "did:.test"},
	"at-uri": {
		"at:/a.test", "at:a.test", "AT://a.test", "At://a.test", "at://", "at:///", "at://a", "at://a.test/", "at://a.test//", "at://a.test/com", "at://a.test/com.ex", "at://a.test/com.ex.a", "at://a.test/com.ex.a/", "at://a.test/com.ex.a/b",
		"at://a.test/com.ex.a/b/", "at://a.test/com.ex.a/b/c", "at://a.test/com.ex.a/b#c", "at://a.test/com.ex.a/b#/c", "at://a.test#/x", "at://a.test#", "at://a.test?x=y", "at://a.test/com.ex.a?x=y", "at://a.test/com.ex.a/.", "at://a.test/com.ex.a/..", "at://a.test/com.ex.a/...",
		"at://a.test/com.ex.a/a b", "at://a.test/com.ex.a/a%20b", "at://a.test/com.ex.a/a%", "at://a.test/com.ex.a/a$b", "at://a.test/com.ex.a/a@b", "at://a.test/com.ex.a/é", "at://a.test/COM.ex.a", "at://a.test/com.ex.A1", "at://A.test", "at://did:plc:a/com.ex.a/b", "at://did:web:a%3A1/com.ex.a/b", "at://did:plc:/x",
		" at://a.test", "at://a.test ", "at://a.test\n", "at://user:pass@a.test", "at://a.test:80", "https://a.test", "at://a.test/com.ex.a/" + strings.Repeat("b", 512), "at://a.test/com.ex.a/" + strings.Repeat("b", 513),
		"at://a.test/com.ex.a/" + strings.Repeat("b", 8170), "at://a.test/com.ex.a/" + strings.Repeat("b", 8171), "at://a.test/com.ex.a/b#/c/d[0]", "at://a.test/com.ex.a/b#/c%20", "at://a.test/com.ex.a#c", "at://a.test/1.2.3/b",
	},
	"cid": {
		"", "b", "bafy", "bafyrei", aLink + "a", aLink[:58], strings.ToUpper(aLink), " " + aLink, aLink + " ", aLink + "\n", oldCID[:45], oldCID + "a", "zQmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKyVnN", "zdpuAmTWuq3bqYf5SUFEErZrh5G6uBcVHcm7u6ZPXcsrQNBGo",
		"f01711220" + strings.Repeat("00", 32), "F01711220" + strings.Repeat("00", 32), "mAXESIA" + strings.Repeat("A", 42), "uAXESIA" + strings.Repeat("A", 42), "bafyreibvjvcv745gig4mvqs4hctx4zfkono4rjejm2ta6gtyzkqxfjeily======", "bagiacgzah24drzou2jlkixpblbgbg6nxfrasoklzttzoht5hixhxz3rlncyq", "QM" + oldCID[2:], "k51qzi5uqu5dh9ihj4p2v5sl3hxvv27ryx2w0xrsv6jmmqi91t9xp8p9kaipc2", "bafkqaaa", "bafyrei0lp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq", "zb2rhe5P4gXftAwvA4eXQ5HJwsER2owDyS9sKaQRRVQPn93bA",
	},
	"datetime": {
		"1985-04-12T23:20:50.123Z", "1985-04-12T23:20:50", "1985-04-12", "1985-04-12T23:20Z", "1985-04-12T23Z", "1985-04-12t23:20:50z", "1985-04-12 23:20:50Z", "1985-04-12T23:20:50.Z", "1985-04-12T23:20:50,1Z", "1985-4-12T23:20:50Z", "85-04-12T23:20:50Z", "01985-04-12T23:20:50Z", "-1985-04-12T23:20:50Z", "+001985-04-12T23:20:50Z",
		"0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "0010-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "1985-13-12T23:20:50Z", "1985-00-12T23:20:50Z", "1985-04-31T23:20:50Z", "1985-02-29T00:00:00Z", "1984-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "1985-04-00T23:20:50Z", "1985-04-32T23:20:50Z", "1985-04-12T24:00:00Z", "1985-04-12T24:00:01Z", "1985-04-12T25:00:00Z", "1985-04-12T23:60:50Z", "1985-04-12T23:59:60Z", "1985-04-12T23:59:61Z", "2016-12-31T23:59:60Z",
		"1985-04-12T23:20:50+00:00", "1985-04-12T23:20:50-00:00", "1985-04-12T23:20:50+0000", "1985-04-12T23:20:50+00", "1985-04-12T23:20:50+24:00", "1985-04-12T23:20:50+23:59", "1985-04-12T23:20:50+23:60", "1985-04-12T23:20:50-14:30", "1985-04-12T23:20:50Z+00:00", " 1985-04-12T23:20:50Z", "1985-04-12T23:20:50Z ", "1985-04-12T23:20:50Z\n", "1985-04-12T23:20:50.1234567890123456789012345678901234567890Z", "1985-04-12T23:20:50." + strings.Repeat("1", 43) + "Z", "1985-04-12T23:20:50." + strings.Repeat("1", 44) + "Z", "1985-04-12T23:20:50.0Z", "0000-00-00T00:00:00Z", "0000-01-01T00:00:00+01:00", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01",
		"Thu, 01 Jan 1970 00:00:00 GMT", "now", "1985-04-12T23:20:50.123z", "1985-04-12T23:20:50\u2212 01:00", "1985-104T23:20:50Z", "19850412T232050Z", "１985-04-12T23:20:50Z",
	},
	"language": {
		"", "d", "DE", "de-", "-de", "de--AT", "de_AT", "german", "deutschland", "en-US", "en-us", "EN-us", "zh-cmn-Hans-CN", "sl-rozaj-biske-1994", "de-CH-1901", "en-GB-oed", "i-default", "i-x", "x-a", "x", "x-", "a-DE", "ar-a-aaa-b-bbb-a-ccc", "de-419-DE", "x-whatever", "qaa-Qaaa-QM-x-southern", "zh-min-nan", "sgn-BE-FR", "cel-gaulish", "en-x", "en-a", "de-1", "de-12", "de-123", "de-1234", "de-12345", "de-abcdefgh", "de-abcdefghi", "123", "e1", "en US", "en-US ", "en-u-ca-buddhist", "und", "jbo", "ast", "hy-Latn-IT-arevela", "ja-JP-u-ca-japanese-x-lvariant", "i-KLINGON", "art-lojban", "ｅｎ",
	},
	"nsid": {
		"", "a", "a.b", "a.b.c", "com.example", "com.example.", ".com.example.a", "com..example.a", "com.example.3", "com.example.a3", "com.example.3a", "com.3xample.a", "3om.example.a", "com.example.a-b", "com.exa-mple.a", "com.-example.a", "com.example-.a", "COM.example.a", "com.EXAMPLE.a", "com.example.A", "com.example.a_b", "com.example.é", "com.exämple.a", "com.example.*", "com.example.a#b", "com.example.a ", " com.example.a", "com.example.a\n", "com.example/a", "cn.8.lex.stuff", "a.0.c", "0.b.c", "one.two.three.four-and.FiVe",
		"com." + strings.Repeat("a", 63) + ".x", "com." + strings.Repeat("a", 64) + ".x", "com.example." + strings.Repeat("a", 63), "com.example." + strings.Repeat("a", 64), "com." + strings.Repeat("middle.", 40) + "x", "com." + strings.Repeat("middle.", 50) + "x", strings.Repeat("a", 63) + ".b.c", strings.Repeat("a", 64) + ".b.c", "com." + strings.Repeat("b.", 123) + "cc" + strings.Repeat("d", 63), "com." + strings.Repeat("b.", 124) + "c",
	},
	"record-key": {
		"", ".", "..", "...", "a", "a/b", "a b", "a#b", "a?b", "a%20", "a$b", "a@b", "a+b", "a(b", "a:b", ":", "::", "~", "-", "_", "a\n", " a", "a ", "é", "a\"b", "a'b", "a*b", "a,b", "a;b", "a=b", "a!b", "a&b", "a[b", "a\\b", "literal:self", strings.Repeat("a", 512), strings.Repeat("a", 513), "pre:fix", "dHJ1ZQ==", "any space",
	},
	"tid": {
		"", "3jzfcijpj2z2", "3jzfcijpj2z2aa", "3JZFCIJPJ2Z2A", "3jzfcijpj2z21", "3jzfcijpj2z20", "3jzfcijpj2z28", "3jzfcijpj2z29", "kjzfcijpj2z2a", "jzzzzzzzzzzzz", "zzzzzzzzzzzzz", "0000000000000", "3jzf-cij-pj2z-2a", "3jzfcijpj2z2a\n", " 3jzfcijpj2z2a", "3jzfcijpj2z2é", "1jzfcijpj2z2a", "ajzfcijpj2z2a", "2jzfcijpj2z2a", "8jzfcijpj2z2a",
	},
	"uri": {
		"", "a", "a:", "a:b", "a b", "http:", "http:/", "http://", "http://a", "http://a b", "http:// a", "//a", "/a", "?a", "#a", "://a", "1a:b", "a1:b", "a+b:c", "a-b:c", "a.b:c", "a_b:c", "A:b", "HTTP://A", "a:b c", "a:b\tc", "a:b\n", " a:b", "a:b ", "at://a.test/com.ex.a/b", "dns:a", "did:plc:a", "go:a", "a:é", "é:a", "https://é.test/é", "a:\"", "a:<>", "a:[", "a:%", "a:%zz", "https://[::1]/", "https://a:b@c/", "a:\\", "tel:+1", "mailto:", "data:text/plain,x", "javascript:alert(1)", "blob:https://a/b", "a://",
		"https://a/" + strings.Repeat("b", 8180), "https://a/" + strings.Repeat("b", 8190), "a:\u0000", "a:\u00a0", "a:\u2028", "a:\u3000b", strings.Repeat("a", 80) + ":b", strings.Repeat("a", 81) + ":b", strings.Repeat("a", 82) + ":b",
	},
}

// counted are texts whose bytes, UTF-16 units and graphemes are of different number.
var counted = []string{
	"é", "e\u0301", "👍", "👍🏽", "👩\u200d👩\u200d👧", "🇩🇪", "🇩🇪🇦🇹", "🇩", "\r\n", "\n\r", "각", "\u1100\u1161\u11a8", "क्षि", "क्\u200dष", "นี่", "\u200d", "\u200b", "\ufeff", "\ufe0f", "❤\ufe0f", "1\ufe0f⃣", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "a\u0308\u0308\u0308", "ﷺ", "\u0600a", "ਸਿ", "ᄀ", "가", "\u0000", "\u001f", "𝒜", "日本", "日本語", "Z͑ͫ̓ͪ̂ͫ", "🧑🏽\u200d🤝\u200d🧑🏻", "\u00ad", "\u180e", "\u061c", "ക്ഷ", "ಸ್ತ್ರೀ", "සිංහල", "ခွေး", "ស្រី", "ལྷ",
}

// jsonTexts are JSON texts of all kinds.
var jsonTexts = []string{
	"null", "true", "false", "0", "1", "-1", "-0", "1.0", "1.5", "-1.5", "1e2", "1E2", "1e-2", "0.1e1", "1.0000000000000001", "9007199254740991", "9007199254740992", "-9007199254740991", "-9007199254740992", "9007199254740993", "1e400", "-1e400", "1e-400", "123456789012345678901234567890", "1e21", "0.000001", "1e-7",
	`""`, `"x"`, `"1"`, `"true"`, `"null"`, `"a\u0062c"`, `"\ud83d\udc4d"`, `"\ud83d"`, `"\u0000"`, `"\/"`, `"a\nb"`, "\"\u2028\"", "\"\u007f\"",
	"[]", "[null]", "[1,2,3]", `["a"]`, "[[]]", "[{}]", "[[],[],[]]", `[{"a":1}]`, "{}", `{"a":1}`, `{"a":1,"b":2,"c":3}`, `{"$type":"x"}`, `{"$type":5}`, `{"$type":null}`, `{"$type":""}`, `{"$type":"com.example.unheard.of","n":1.5}`, `{"$type":"com.example.lex.defs#item","name":"a"}`,
	`{"$link":"` + aLink + `"}`, `{"$link":"` + oldCID + `"}`, `{"$link":"x"}`, `{"$link":5}`, `{"$link":"` + aLink + `","a":1}`, `{"$link":"` + rawCID + `"}`, `{"$link":"` + strings.ToUpper(aLink) + `"}`, `{"a":{"$link":"` + aLink + `"}}`, `{"$link":""}`, `{"$link":null}`,
	`{"$bytes":"AAAA"}`, `{"$bytes":""}`, `{"$bytes":"AA=="}`, `{"$bytes":"AA"}`, `{"$bytes":"A"}`, `{"$bytes":"AA="}`, `{"$bytes":"AAA="}`, `{"$bytes":"!"}`, `{"$bytes":"A A A A"}`, `{"$bytes":"AAA-"}`, `{"$bytes":"__8"}`, `{"$bytes":"//8"}`, `{"$bytes":"AB"}`, `{"$bytes":5}`, `{"$bytes":"AAAA","a":1}`, `{"$bytes":"AAAA\n"}`, `{"$bytes":null}`, `{"$bytes":"===="}`, `{"$bytes":"AA==AA"}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png","size":10}`, `{"$type":"blob"}`, `{"cid":"` + rawCID + `","mimeType":"image/png"}`,
	`{"__proto__":{"a":1}}`, `{"constructor":1}`, `{"toString":1}`, `{"a":{"b":{"c":{"d":1.5}}}}`, `{"a":[{"b":9007199254740993}]}`, `{"":1}`, `{"a":1,"a":2}`,
}

// harmless are those that may be anywhere in a value of type unknown.
var harmless = []string{
	"null", "true", "false", "0", "-1", "1.0", "1e2", "9007199254740991", "-9007199254740991", `""`, `"x"`, `"a\u0062c"`, `"\ud83d\udc4d"`, "\"\u2028\"",
	"[]", "[null]", "[1,2,3]", `[[],{},"a"]`, "{}", `{"a":1,"b":[2]}`, `{"$type":"x"}`, `{"$type":5}`, `{"$link":"` + aLink + `"}`, `{"$link":"x"}`, `{"$link":5}`, `{"$bytes":"AAAA"}`, `{"$bytes":"!"}`, `{"$bytes":5}`, `{"$bytes":"AAAA","a":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png","size":10}`, `{"$type":"blob"}`, `{"cid":"` + rawCID + `","mimeType":"image/png"}`, `{"":1}`,
}

// blobs are those at the edges of what a blob is; %s is a media type that is taken, and %d
// the largest size.
var blobs = []string{
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":%d}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":1%d}`,
	`{"$type":"blob","ref":{"$link":"` + aLink + `"},"mimeType":"%s","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + pbCID + `"},"mimeType":"%s","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + oldCID + `"},"mimeType":"%s","size":1}`,
	`{"$type":"blob","ref":{"$link":"x"},"mimeType":"%s","size":1}`,
	`{"$type":"blob","ref":"` + rawCID + `","mimeType":"%s","size":1}`,
	`{"$type":"blob","mimeType":"%s","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s"}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"x","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"text/plain","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"IMAGE/PNG","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/png; charset=x","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"/png","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"/","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"*/*","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"image/*","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"imagex/png","size":1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":0}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":-1}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":1.5}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":1.0}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":"1"}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":9007199254740993}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":null}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":1,"extra":true}`,
	`{"$type":"Blob","ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":1}`,
	`{"ref":{"$link":"` + rawCID + `"},"mimeType":"%s","size":1}`,
	`{"cid":"` + rawCID + `","mimeType":"%s"}`,
	`{"cid":"` + rawCID + `","mimeType":"text/plain"}`,
	`{"cid":"` + rawCID + `","mimeType":""}`,
	`{"cid":"x","mimeType":"%s"}`,
	`{"cid":"` + rawCID + `"}`,
	`{"cid":"` + rawCID + `","mimeType":"%s","size":1}`,
	`{"cid":{"$link":"` + rawCID + `"},"mimeType":"%s"}`,
	`{"$type":"blob","cid":"` + rawCID + `","mimeType":"%s"}`,
	`{"$type":"blob","ref":{"$link":"` + rawCID + `","x":1},"mimeType":"%s","size":1}`,
	`{"size":1,"mimeType":"%s","ref":{"$link":"` + rawCID + `"},"$type":"blob"}`,
}
