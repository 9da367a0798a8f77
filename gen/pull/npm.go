package pull

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"portico/gen/source"
)

// Bounds on what a registry may answer, in bytes. The package has 3 MB, of which the
// documents are 1 MB.
const (
	maxManifest = 4 << 20
	maxArchive  = 64 << 20
	maxUnpacked = 256 << 20
	maxLiterals = 32 << 20
)

// Registry is a registry of npm.
type Registry struct {
	URL    string       // https://registry.npmjs.org
	Client *http.Client // nil: one that gives up after a minute
}

// Package is a version of a package that carries lexicons.
type Package struct {
	Name, Version string

	docs  []*source.Document // ordered by NSID
	texts map[string][]byte  // of each, by NSID, as upstream writes them
}

var version = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+-]*$`)

// Fetch returns a package, whose archive has the checksum that the registry names, with
// all its documents: the object literal schemaDict in dist/client/lexicons.js, of which
// nothing is evaluated. Problems of documents are left to who takes them.
func (r Registry) Fetch(ctx context.Context, name, of string) (*Package, error) {
	if !version.MatchString(of) {
		return nil, fmt.Errorf("%q is no version of a package", of)
	}
	// One request for this version alone, as npm's own client does not.
	text, err := r.get(ctx, strings.TrimSuffix(r.URL, "/")+"/"+strings.ReplaceAll(name, "/", "%2F")+"/"+of, maxManifest)
	if missing := new(statusError); errors.As(err, &missing) && missing.code == http.StatusNotFound {
		return nil, fmt.Errorf("the registry has no %s %s: %w", name, of, err)
	}
	if err != nil {
		return nil, fmt.Errorf("fetch %s %s: %w", name, of, err)
	}
	var manifest struct {
		Version string
		Dist    struct{ Tarball, Integrity string }
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, fmt.Errorf("fetch %s %s: the registry's answer: %w", name, of, err)
	}
	if !version.MatchString(manifest.Version) {
		return nil, fmt.Errorf("fetch %s %s: the registry's answer names no version", name, of)
	}
	archive, err := r.get(ctx, manifest.Dist.Tarball, maxArchive)
	if err != nil {
		return nil, fmt.Errorf("fetch %s %s: %w", name, of, err)
	}
	if err := verify512(archive, manifest.Dist.Integrity); err != nil {
		return nil, fmt.Errorf("fetch %s %s: %s: %w", name, of, manifest.Dist.Tarball, err)
	}
	p := &Package{Name: name, Version: manifest.Version, texts: map[string][]byte{}}
	if err := p.read(archive); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", name, manifest.Version, err)
	}
	return p, nil
}

// get is the body at address, of no more than most bytes.
func (r Registry) get(ctx context.Context, address string, most int64) ([]byte, error) {
	client := r.Client
	if client == nil {
		client = &http.Client{Timeout: time.Minute}
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("the address %q: %w", address, err)
	}
	answer, err := client.Do(request)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err // the rest is said here
		}
		return nil, fmt.Errorf("ask %s: %w", address, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", address, err)
	case answer.StatusCode != http.StatusOK:
		return nil, &statusError{answer.StatusCode, fmt.Sprintf("%s answers %s%s", address, answer.Status, reason(body))}
	case int64(len(body)) > most:
		return nil, fmt.Errorf("%s has more than %d bytes", address, most)
	}
	return body, nil
}

type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// reason is what a registry says of a failure: a string, or an object with one.
func reason(body []byte) string {
	var text string
	if json.Unmarshal(body, &text) != nil {
		var object struct{ Error, Message string }
		_ = json.Unmarshal(body, &object) // or there is none
		if text = object.Error; object.Message != "" {
			text = object.Message
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 200 {
		text = text[:200]
	}
	if text == "" {
		return ""
	}
	return ": " + strings.ToValidUTF8(text, "")
}

// verify512 holds data to one of the checksums in integrity that is a SHA-512.
func verify512(data []byte, integrity string) error {
	sum := sha512.Sum512(data)
	want := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	all := strings.Fields(integrity)
	if !slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, "sha512-") }) {
		return errors.New("the registry names no SHA-512 of it")
	}
	if !slices.Contains(all, want) {
		return errors.New("it has not the SHA-512 that the registry names")
	}
	return nil
}

const (
	literalsFile = "dist/client/lexicons.js"
	literalsName = "export const schemaDict ="
)

// read reads the documents of an archive.
func (p *Package) read(archive []byte) error {
	code, err := unpack(archive)
	if err != nil {
		return err
	}
	at := bytes.Index(code, []byte("\n"+literalsName))
	if at < 0 {
		return fmt.Errorf("%s has no line %q: has the package another form now?", literalsFile, literalsName)
	}
	entries, err := literals(code, at+len("\n"+literalsName))
	if err != nil {
		return fmt.Errorf("%s:%w", literalsFile, err)
	}
	for _, e := range entries {
		if err := p.add(e.value); err != nil {
			return fmt.Errorf("%s: %s: %w", literalsFile, e.key, err)
		}
	}
	slices.SortFunc(p.docs, func(a, b *source.Document) int { return strings.Compare(a.NSID, b.NSID) })
	return nil
}

// unpack is the file with the literals in an archive.
func unpack(archive []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	var code []byte
	bounded := &io.LimitedReader{R: z, N: maxUnpacked}
	for t := tar.NewReader(bounded); ; {
		h, err := t.Next()
		switch {
		case err == io.EOF && code != nil:
			return code, nil
		case err == io.EOF:
			return nil, fmt.Errorf("there is no %s: has the package another form now?", literalsFile)
		case err != nil && bounded.N == 0:
			return nil, fmt.Errorf("unpacked it has more than %d bytes", maxUnpacked)
		case err != nil:
			return nil, fmt.Errorf("unpack: %w", err)
		}
		if _, name, _ := strings.Cut(h.Name, "/"); name != literalsFile {
			continue
		}
		if h.Typeflag != tar.TypeReg || code != nil || h.Size > maxLiterals {
			return nil, fmt.Errorf("%s is no file, is there twice, or has more than %d bytes", literalsFile, maxLiterals)
		}
		if code, err = io.ReadAll(t); err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
	}
}

// add takes a document whose refs are all in the long form, "lex:com.example.x#y".
func (p *Package) add(text []byte) error {
	var plain any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&plain); err != nil {
		return err
	}
	object, _ := plain.(map[string]any)
	id, _ := object["id"].(string)
	if _, err := syntax.ParseNSID(id); err != nil {
		return fmt.Errorf("the id %q is no NSID", id)
	}
	if p.texts[id] != nil {
		return fmt.Errorf("%s comes twice", id)
	}
	order := new(source.Value)
	if doc := source.Parse(id, text, new(source.Problems)); doc != nil {
		order = doc.Root()
	}
	shorten(plain, id)
	var b bytes.Buffer
	if err := print(&b, plain, order, "", "", 0); err != nil {
		return err
	}
	b.WriteByte('\n')
	p.texts[id] = b.Bytes()
	if doc := source.Parse(id, b.Bytes(), new(source.Problems)); doc != nil {
		p.docs = append(p.docs, doc)
	}
	return nil
}

// shorten gives every ref below value the form that it has in the documents of upstream.
func shorten(value any, id string) {
	short := func(ref any) any {
		text, ok := ref.(string)
		if !ok {
			return ref
		}
		text = strings.TrimPrefix(text, "lex:")
		if strings.HasPrefix(text, id+"#") {
			return text[len(id):]
		}
		return strings.TrimSuffix(text, "#main")
	}
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			shorten(item, id)
		}
	case map[string]any:
		if ref, ok := value["ref"]; ok && value["type"] == "ref" {
			value["ref"] = short(ref)
		}
		if refs, ok := value["refs"].([]any); ok && value["type"] == "union" {
			for i := range refs {
				refs[i] = short(refs[i])
			}
		}
		for _, member := range value {
			shorten(member, id)
		}
	}
}

// Only are the documents that emit names (NSIDs or "com.example.*"), with the documents
// that they refer to, as a folder. All that is named has to be there.
func (p *Package) Only(emit []string) (fs.FS, error) {
	docs := map[string]*source.Document{}
	for _, d := range p.docs {
		docs[d.NSID] = d
	}
	var queue []string
	for _, pattern := range emit {
		n := len(queue)
		for _, d := range p.docs {
			if source.Matches(pattern, d.NSID) {
				queue = append(queue, d.NSID)
			}
		}
		if n == len(queue) {
			return nil, fmt.Errorf("%s %s has no %s", p.Name, p.Version, pattern)
		}
	}
	folder := fstest.MapFS{}
	for i := 0; i < len(queue); i++ {
		name := strings.ReplaceAll(queue[i], ".", "/") + ".json"
		if folder[name] != nil {
			continue
		}
		folder[name] = &fstest.MapFile{Data: p.texts[queue[i]]}
		for _, ref := range docs[queue[i]].Refs() {
			if docs[ref] == nil {
				return nil, fmt.Errorf("%s %s has no %s, which %s refers to", p.Name, p.Version, ref, queue[i])
			}
			queue = append(queue, ref)
		}
	}
	return folder, nil
}

// Subscriptions are the NSIDs of all subscriptions in the package, sorted.
func (p *Package) Subscriptions() []string {
	var all []string
	for _, d := range p.docs {
		if main := d.Root().Get("defs").Get("main"); main != nil && main.String("type") == "subscription" {
			all = append(all, d.NSID)
		}
	}
	return all
}
