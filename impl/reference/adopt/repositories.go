package adopt

import "context"

func (a *Adoption) repositories(ctx context.Context) error { return nil }
