// Deb makes a Debian package of a built binary, as "make deb" does:
//
//	go run ./cmd/internal/deb -version v1.2.3 -maintainer 'Ann <ann@example.com>' bin/portico dist
//
// The architecture is the one that the binary was built for, wherever this runs. What is in
// the package depends on the binary, the working tree and the flags alone: with the same
// SOURCE_DATE_EPOCH, the time of the commit, two packages are the same to the byte.
package main

import (
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"debug/elf"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"
)

func main() {
	version := flag.String("version", "", "what git describe says of the `REVISION`")
	maintainer := flag.String("maintainer", "", "who answers for the package: `NAME <ADDRESS>`")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: make deb")
		os.Exit(2)
	}
	file, err := run(flag.Arg(0), flag.Arg(1), *version, *maintainer)
	if err != nil {
		fmt.Fprintln(os.Stderr, "deb:", err)
		os.Exit(1)
	}
	fmt.Println(file)
}

func run(program, out, describe, maintainer string) (file string, err error) {
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return "", errors.New("SOURCE_DATE_EPOCH is not set to the time of the commit, in seconds since 1970")
	}
	if !maintainers.MatchString(maintainer) {
		return "", fmt.Errorf("%q is no maintainer: say MAINTAINER='Name <address@host>'", maintainer)
	}
	p := &about{Maintainer: maintainer, Revision: describe, Time: time.Unix(seconds, 0).UTC()}
	if p.Version, err = debianVersion(describe, p.Time); err != nil {
		return "", err
	}
	var static bool
	if p.Architecture, static, err = architecture(program); err != nil {
		return "", err
	}
	if !static {
		return "", fmt.Errorf("%s needs libraries, and the package depends on none: make build makes it without", program)
	}
	files, err := p.contents(program)
	if err != nil {
		return "", err
	}
	scripts, err := p.control(files)
	if err != nil {
		return "", err
	}
	var deb bytes.Buffer
	if err := writeDeb(&deb, p.Time, scripts, files); err != nil {
		return "", err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	file = filepath.Join(out, fmt.Sprintf("portico_%s_%s.deb", p.Version, p.Architecture))
	part := file + ".part" // a file with the name of a package is a whole one
	if err := os.WriteFile(part, deb.Bytes(), 0o644); err != nil {
		return "", err
	}
	return file, os.Rename(part, file)
}

// about is what the texts of the package are filled in with.
type about struct {
	Version, Architecture, Maintainer string
	Revision                          string // as the source calls it
	Time                              time.Time
	Size                              int64 // KiB, installed
}

var maintainers = regexp.MustCompile(`^[^<>\n]+ <[^<>@\s]+@[^<>@\s]+>$`)

var (
	tagged   = regexp.MustCompile(`^v?(\d[0-9A-Za-z.]*)(-[a-z]+[0-9.]*)?(?:-(\d+)-g([0-9a-f]+))?$`)
	untagged = regexp.MustCompile(`^[0-9a-f]{7,40}$`)
)

// debianVersion is the version for Debian of what git describe --always --dirty says. Later
// commits have higher ones: those before any tag by their time, and a tag v1.2.0-rc.1 comes
// before v1.2.0.
func debianVersion(describe string, at time.Time) (version string, err error) {
	revision, dirty := strings.CutSuffix(describe, "-dirty")
	// A revision may look like a version, but no tag is without a dot.
	if m := tagged.FindStringSubmatch(revision); untagged.MatchString(revision) {
		version = "0~git" + at.Format("20060102150405") + "." + revision
	} else if m == nil {
		return "", fmt.Errorf("version %q is neither a tag such as v1.2.3 nor a revision: say VERSION=1.2.3", describe)
	} else {
		version = m[1] + strings.Replace(m[2], "-", "~", 1)
		if m[3] != "" {
			version += "+" + m[3] + ".g" + m[4]
		}
	}
	if dirty {
		version += "+dirty"
	}
	return version, nil
}

// architecture is Debian's name of what a program was built for. It is static if it needs no
// libraries.
func architecture(program string) (name string, static bool, err error) {
	f, err := elf.Open(program)
	if err != nil {
		return "", false, fmt.Errorf("%s is no program for Linux: %w", program, err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", program, err)
	}
	name = map[elf.Machine]string{
		elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_386: "i386", elf.EM_ARM: "armhf", elf.EM_RISCV: "riscv64",
		elf.EM_S390: "s390x", elf.EM_PPC64: "ppc64el", elf.EM_LOONGARCH: "loong64",
	}[f.Machine]
	if name == "" || f.Machine == elf.EM_PPC64 && f.ByteOrder != binary.LittleEndian {
		return "", false, fmt.Errorf("%s: Debian has no name for its machine, %v", program, f.Machine)
	}
	return name, len(libraries) == 0, nil
}

//go:embed package
var texts embed.FS

func (p *about) text(name string) ([]byte, error) {
	t, err := template.ParseFS(texts, "package/"+name)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b.Bytes(), nil
}

const (
	deploy   = "cmd/portico/deploy"
	doc      = "usr/share/doc/portico/"
	examples = doc + "examples/"
)

// contents are the files of the package.
func (p *about) contents(program string) (files []file, err error) {
	var failed error
	add := func(path string, mode int64, data []byte, err error) {
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", path, err))
		}
		files = append(files, file{path, mode, data})
	}
	compressed := func(data []byte, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return compress(data)
	}
	read := func(name string) ([]byte, error) { return os.ReadFile(filepath.FromSlash(name)) }

	if program, err = filepath.Abs(program); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(program)
	add("usr/bin/portico", 0o755, data, err)
	unit, err := read(deploy + "/portico.service")
	if there := bytes.Contains(unit, []byte("/usr/local/bin/portico")); err == nil && !there {
		err = errors.New("does not start /usr/local/bin/portico")
	}
	add("usr/lib/systemd/system/portico.service", 0o644, bytes.ReplaceAll(unit, []byte("/usr/local/bin/portico"), []byte("/usr/bin/portico")), err)
	data, err = compressed(p.ask(program, "man"))
	add("usr/share/man/man1/portico.1.gz", 0o644, data, err)
	data, err = p.ask(program, "completion", "bash")
	add("usr/share/bash-completion/completions/portico", 0o644, data, err)
	documents, err := filepath.Glob("cmd/portico/*.md")
	if err != nil {
		return nil, err
	}
	for _, name := range documents {
		data, err = os.ReadFile(name)
		add(doc+filepath.Base(name), 0o644, data, err)
	}
	data, err = p.text("copyright")
	add(doc+"copyright", 0o644, data, err)
	data, err = compressed(p.text("changelog"))
	add(doc+"changelog.gz", 0o644, data, err)
	data, err = compressed(notices(program))
	add(doc+"notices.gz", 0o644, data, err)
	data, err = p.text("lintian-overrides")
	add("usr/share/lintian/overrides/portico", 0o644, data, err)

	err = fs.WalkDir(os.DirFS(deploy), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == "portico.service" {
			return err
		}
		mode := int64(0o644)
		if path.Ext(name) == ".sh" {
			mode = 0o755
		}
		data, err := read(deploy + "/" + name)
		add(examples+name, mode, data, err)
		return nil
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, err
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return files, nil
}

// control are the files that tell dpkg about the package.
func (p *about) control(files []file) (scripts []file, err error) {
	folders := make(map[string]bool)
	for _, f := range files {
		p.Size += (int64(len(f.data)) + 1023) / 1024
		for dir := path.Dir(f.path); dir != "."; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	p.Size += int64(len(folders))
	for _, f := range []struct {
		name string
		mode int64
	}{{"control", 0o644}, {"postinst", 0o755}, {"postrm", 0o755}, {"prerm", 0o755}} {
		data, err := p.text(f.name)
		if err != nil {
			return nil, err
		}
		scripts = append(scripts, file{f.name, f.mode, data})
	}
	return append(scripts, file{"md5sums", 0o644, sums(files)}), nil
}

// ask is what the program prints, or where it is for another machine, what that of the
// working tree does.
func (p *about) ask(program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	if p.Architecture != here() {
		cmd = exec.Command("go", append([]string{"run", "-ldflags=-X main.release=" + p.Revision, "./cmd/portico"}, args...)...)
	}
	cmd.Stderr = os.Stderr
	return cmd.Output()
}

// here is Debian's name of this machine, or empty.
func here() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	name, _, err := architecture(self)
	if err != nil {
		return "" // a system that is not Linux, say
	}
	return name
}

// notices are the licences of Go and of the modules that the program is linked with, which
// those who pass it on have to pass on too.
func notices(program string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	type module struct{ Path, Version, Dir string }
	all := []module{{"Go", info.GoVersion, strings.TrimSpace(string(root))}}
	args := []string{"mod", "download", "-json"}
	for _, d := range info.Deps {
		if d.Replace != nil {
			d = d.Replace
		}
		args = append(args, d.Path+"@"+d.Version)
	}
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var m module
		if err := d.Decode(&m); err != nil {
			return nil, fmt.Errorf("go mod download: %w", err)
		}
		all = append(all, m)
	}
	if len(all) != 1+len(info.Deps) {
		return nil, fmt.Errorf("go mod download tells of %d modules of %d", len(all)-1, len(info.Deps))
	}
	b := bytes.NewBufferString("Portico is linked with what follows, each under the terms of its own.\n")
	for _, m := range all {
		names, err := filepath.Glob(filepath.Join(m.Dir, "*"))
		if err != nil {
			return nil, err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !licence.MatchString(filepath.Base(name)) })
		if len(names) == 0 {
			return nil, fmt.Errorf("%s has no licence in %s", m.Path, m.Dir)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(b, "\n%s\n%s %s, %s\n\n%s", strings.Repeat("-", 80), m.Path, m.Version, filepath.Base(name), data)
		}
	}
	return b.Bytes(), nil
}

var licence = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([-.].*)?$`)

func compress(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, bytes.NewReader(data)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
