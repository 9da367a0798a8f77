package main

import "syscall"

// freeBytes is how many bytes the disk of a path has left for this process.
func freeBytes(path string) (int64, bool) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(path, &s); err != nil {
		return 0, false
	}
	return int64(s.Bavail) * s.Bsize, true
}
