package reference

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A lock is one also when its process has no number here, as those of another container
// have none.
func TestHolderOf(t *testing.T) {
	for _, tt := range []struct {
		lock unix.Flock_t
		want string
	}{
		{unix.Flock_t{Type: unix.F_UNLCK}, ""},
		{unix.Flock_t{Type: unix.F_UNLCK, Pid: 7}, ""},
		{unix.Flock_t{Type: unix.F_RDLCK, Pid: 7}, "process 7"},
		{unix.Flock_t{Type: unix.F_RDLCK, Pid: 0}, "a process of another container"},
		{unix.Flock_t{Type: unix.F_WRLCK, Pid: -1}, "a process of another container"},
	} {
		if got := holderOf(tt.lock); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.lock, got, tt.want)
		}
	}
}
