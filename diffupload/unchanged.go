package diffupload

import "os"

// Unchanged reports whether a file is as it was when it was stored last, by its
// size, times and identity.
func (c *StatCache) Unchanged(path string, o Options) bool {
	st, err := os.Stat(path)
	if err != nil {
		return false
	}
	_, ok := c.get(cacheHow(o), path, StampOf(st))
	return ok
}
