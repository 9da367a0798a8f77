package password

import "syscall"

func mapMemory(bytes int) ([]byte, error) {
	memory, err := syscall.Mmap(-1, 0, bytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, err
	}
	// Where the system has none, small pages do.
	_ = syscall.Madvise(memory, syscall.MADV_HUGEPAGE)
	return memory, nil
}

func unmapMemory(memory []byte) { _ = syscall.Munmap(memory) }
