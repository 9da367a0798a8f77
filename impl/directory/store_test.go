package directory_test

import (
	"testing"

	"portico/impl/directory"
	"portico/impl/directory/directorytest"
)

func TestMemory(t *testing.T) {
	directorytest.Run(t, func(testing.TB) directory.Store { return directory.NewMemory() })
}
