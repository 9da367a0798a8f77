//go:build !linux

package password

func mapMemory(bytes int) ([]byte, error) { return make([]byte, bytes), nil }

func unmapMemory([]byte) {} // the garbage collector does
