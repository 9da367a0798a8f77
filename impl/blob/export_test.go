package blob

// OnStep has f told what the store is about to do to a path, and fail it.
func (d *Disk) OnStep(f func(step, path string) error) { d.step = f }

// Path is where a name leads, Dir the folder of an area.
func (d *Disk) Path(n Name) (string, error) { return d.path(n) }
func (d *Disk) Dir(a Area) string           { return d.dirs[a] }
