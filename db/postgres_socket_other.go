//go:build !linux

package db

import "syscall"

// boundAnswers leaves it to the system for how long it waits for what nobody receives.
func boundAnswers(string, string, syscall.RawConn) error { return nil }
