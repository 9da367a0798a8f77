package db

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const receivedWithin = 15_000 // milliseconds

// boundAnswers has the kernel give up a connection when what was sent is not received within
// 15 seconds: without it that takes a quarter of an hour.
func boundAnswers(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var set error
	if err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, receivedWithin)
	}); err != nil {
		return err
	}
	return set
}
