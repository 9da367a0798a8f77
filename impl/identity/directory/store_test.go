package directory_test

import (
	"testing"

	"portico/impl/identity/directory"
	"portico/impl/identity/directory/directorytest"
)

func TestMemory(t *testing.T) {
	directorytest.Run(t, func(testing.TB) directory.Store { return directory.NewMemory() })
}
