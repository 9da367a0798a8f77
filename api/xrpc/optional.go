package xrpc

// ValueOf is the value of an optional field, zero where it is absent.
func ValueOf[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// NonZero is an optional field with v in it, absent where v is zero.
func NonZero[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}
