package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"portico/impl/doctor"
)

// kinds are file systems that a database should not be on, by their magic numbers
// (statfs(2)).
var kinds = map[uint32]string{
	0x01021994: "tmpfs", 0x858458f6: "ramfs", 0x794c7630: "overlay",
	0x00006969: "nfs", 0x0000517b: "smb", 0xff534d42: "cifs", 0xfe534d42: "smb", 0x00c36400: "ceph", 0x5346414f: "afs",
}

// diskOf is the file system that a folder is on.
func diskOf(path string) (doctor.Disk, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return doctor.Disk{}, err
	}
	const write = 2
	size := uint64(st.Bsize)
	return doctor.Disk{
		Free: st.Bavail * size, Size: st.Blocks * size, FreeFiles: st.Ffree, Files: st.Files,
		Kind: kinds[uint32(st.Type)], Writable: syscall.Access(path, write),
	}, nil
}

// openFilesOf is how many files a process may have open.
func openFilesOf(pid int) (uint64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, fmt.Errorf("the limits of the server's process: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "Max open files"); ok {
			fields := strings.Fields(rest)
			if len(fields) > 0 {
				return strconv.ParseUint(fields[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("process %d does not say how many files it may have open", pid)
}

// ownerOf is the name of the user that a file belongs to, or their number.
func ownerOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	id := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}
