package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)

func TestDebianVersion(t *testing.T) {
	for _, tt := range []struct{ describe, want string }{
		{"v1.2.3", "1.2.3"},
		{"1.2.3", "1.2.3"},
		{"v1.2.3-dirty", "1.2.3+dirty"},
		{"v1.2.3-4-g88e7e5b", "1.2.3+4.g88e7e5b"},
		{"v1.2.3-4-g88e7e5b-dirty", "1.2.3+4.g88e7e5b+dirty"},
		{"v1.2.0-rc.1", "1.2.0~rc.1"},
		{"v1.2.0-rc.1-7-gabcdef0", "1.2.0~rc.1+7.gabcdef0"},
		{"88e7e5b", "0~git20260203040506.88e7e5b"},
		{"1234567-dirty", "0~git20260203040506.1234567+dirty"},
		{"", ""},
		{"main", ""},
		{"1.2.3; rm -r /", ""},
		{"1:2.3", ""},
		{"v1.2.3_4", ""},
	} {
		got, err := debianVersion(tt.describe, at)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%q: %q, %v; want %q", tt.describe, got, err, tt.want)
		}
	}
}

// What dpkg gets is what was meant: members and files in their order, each folder once and
// before what is in it, everything of root and as old as was said; and the same each time.
func TestWriteDeb(t *testing.T) {
	control := []file{{"control", 0o644, []byte("Package: x\n")}, {"postinst", 0o755, []byte("#!/bin/sh\n")}}
	files := []file{{"usr/bin/x", 0o755, []byte("odd")}, {"usr/share/doc/x/a", 0o644, nil}, {"usr/share/doc/x/b", 0o644, []byte("b")}}
	var deb, again bytes.Buffer
	for _, w := range []io.Writer{&deb, &again} {
		if err := writeDeb(w, at, control, files); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(deb.Bytes(), again.Bytes()) {
		t.Error("two packages of the same are not the same")
	}

	rest, ok := bytes.CutPrefix(deb.Bytes(), []byte("!<arch>\n"))
	if !ok {
		t.Fatal("it is no archive")
	}
	var got []string
	for len(rest) > 0 {
		var name, end string
		var seconds, size, uid, gid, mode int
		if _, err := fmt.Sscanf(string(rest[:60]), "%s %d %d %d %o %d%s\n", &name, &seconds, &uid, &gid, &mode, &size, &end); err != nil {
			t.Fatalf("%q: %v", rest[:60], err)
		}
		if int64(seconds) != at.Unix() || uid != 0 || gid != 0 || mode != 0o100644 || end != "`" {
			t.Errorf("%q", rest[:60])
		}
		data := rest[60 : 60+size]
		rest = rest[60+size+size%2:]
		got = append(got, name)
		if strings.HasSuffix(name, ".gz") {
			got = append(got, list(t, data)...)
		} else {
			got = append(got, string(data))
		}
	}
	want := []string{
		"debian-binary", "2.0\n",
		"control.tar.gz", "755 ./", `644 ./control "Package: x\n"`, `755 ./postinst "#!/bin/sh\n"`,
		"data.tar.gz", "755 ./", "755 ./usr/", "755 ./usr/bin/", `755 ./usr/bin/x "odd"`,
		"755 ./usr/share/", "755 ./usr/share/doc/", "755 ./usr/share/doc/x/", `644 ./usr/share/doc/x/a ""`, `644 ./usr/share/doc/x/b "b"`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nnot %q", got, want)
	}
}

func list(t *testing.T, data []byte) (all []string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "root" || !h.ModTime.Equal(at) {
			t.Errorf("%+v", h)
		}
		line := fmt.Sprintf("%o %s", h.Mode, h.Name)
		if h.Typeflag == tar.TypeReg {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			line += fmt.Sprintf(" %q", data)
		}
		all = append(all, line)
	}
}

// What a package is for is read in the program itself.
func TestArchitecture(t *testing.T) {
	for _, tt := range []struct {
		machine elf.Machine
		order   binary.ByteOrder
		want    string
	}{
		{elf.EM_X86_64, binary.LittleEndian, "amd64"},
		{elf.EM_AARCH64, binary.LittleEndian, "arm64"},
		{elf.EM_PPC64, binary.LittleEndian, "ppc64el"},
		{elf.EM_PPC64, binary.BigEndian, ""},
		{elf.EM_S390, binary.BigEndian, "s390x"},
		{elf.EM_SPARCV9, binary.BigEndian, ""},
	} {
		head := elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(tt.machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Shentsize: 64,
		}
		if tt.order == binary.BigEndian {
			head.Ident[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
		}
		var b bytes.Buffer
		if err := binary.Write(&b, tt.order, head); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(path, b.Bytes(), 0o755); err != nil {
			t.Fatal(err)
		}
		got, static, err := architecture(path)
		if got != tt.want || (err == nil) != (tt.want != "") || static != (tt.want != "") {
			t.Errorf("%v %v: %q, static %v, %v; want %q", tt.machine, tt.order, got, static, err, tt.want)
		}
	}
}
