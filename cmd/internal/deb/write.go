package main

import (
	"archive/tar"
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"path"
	"time"
)

// A file is one of the package, by its path from the root.
type file struct {
	path string
	mode int64
	data []byte
}

// writeDeb writes a package of the format 2.0, deb(5): an archive of three members, the
// version of the format and two tars. control are the files that are for dpkg. Every file
// and folder is of root, and as old as at says. Ours because nfpm brings some sixty modules
// along for it, among them git and OpenPGP, and dpkg-deb is where Debian is.
func writeDeb(w io.Writer, at time.Time, control, files []file) error {
	members := []file{{path: "debian-binary", data: []byte("2.0\n")}, {path: "control.tar.gz"}, {path: "data.tar.gz"}}
	for i, files := range [][]file{control, files} {
		data, err := tarball(at, files)
		if err != nil {
			return fmt.Errorf("%s: %w", members[i+1].path, err)
		}
		members[i+1].data = data
	}
	if _, err := io.WriteString(w, "!<arch>\n"); err != nil {
		return err
	}
	for _, m := range members {
		head := fmt.Sprintf("%-16s%-12d%-6d%-6d%-8o%-10d`\n", m.path, at.Unix(), 0, 0, 0o100644, len(m.data))
		if len(m.data)%2 != 0 {
			m.data = append(m.data, '\n') // members begin at even places
		}
		if _, err := w.Write(append([]byte(head), m.data...)); err != nil {
			return err
		}
	}
	return nil
}

// tarball is a compressed tar of the files, in their order, each folder before what is in it.
func tarball(at time.Time, files []file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	head := func(h tar.Header) error {
		h.ModTime, h.Uname, h.Gname, h.Format = at, "root", "root", tar.FormatGNU
		return w.WriteHeader(&h)
	}
	made := make(map[string]bool)
	var folder func(dir string) error
	folder = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		name := "./"
		if dir != "." {
			if err := folder(path.Dir(dir)); err != nil {
				return err
			}
			name += dir + "/"
		}
		return head(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
	}
	for _, f := range files {
		if err := folder(path.Dir(f.path)); err != nil {
			return nil, err
		}
		if err := head(tar.Header{Typeflag: tar.TypeReg, Name: "./" + f.path, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return compress(b.Bytes())
}

// sums are what dpkg --verify compares the installed files with.
func sums(files []file) []byte {
	var b bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&b, "%x  %s\n", md5.Sum(f.data), f.path)
	}
	return b.Bytes()
}
