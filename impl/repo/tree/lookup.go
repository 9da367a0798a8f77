package tree

import (
	"fmt"

	"portico/impl/repo/car"
	"portico/impl/repo/dagcbor"
)

// Lookup returns the name of a key's record in a tree, or zero, from the nodes on the key's
// search path, which get has by their names: what somebody sends as a proof. Each is hashed,
// and no step leads back to a node before it. Errors are ErrNode, car.ErrHash and those of get.
func Lookup(root dagcbor.CID, get func(dagcbor.CID) ([]byte, error), key string) (dagcbor.CID, error) {
	for name := root; name != (dagcbor.CID{}); {
		data, err := get(name)
		if err == nil {
			err = car.Block{CID: name, Data: data}.Check()
		}
		var n *node
		if err == nil {
			n, err = decode(data)
		}
		if err != nil {
			return dagcbor.CID{}, fmt.Errorf("look up %s: %w", key, err)
		}
		i := search(n.keys, key)
		if i < len(n.keys) && n.keys[i].key == key {
			return n.keys[i].value, nil
		}
		name = n.kids[i]
	}
	return dagcbor.CID{}, nil
}
