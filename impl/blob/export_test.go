package blob

// OnStep has f told what the store is about to do to a path, and fail it.
func (d *Disk) OnStep(f func(step, path string) error) { d.step = f }
