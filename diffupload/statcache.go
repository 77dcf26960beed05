package diffupload

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// StatCache remembers as what a file was stored, so that a file
// whose size, times and identity are as they were need not be read. It is a
// hint and never trusted for more: that the blocks are still there is checked
// each time. It is safe for concurrent use.
//
// A file whose times are less than two seconds older than the reading is not
// remembered: it could be written again within the same tick of the clock.
//
// The file (see statfile.go) is replaced as a whole.
type StatCache struct {
	Now func() time.Time // nil: time.Now; set before use

	path string

	mu      sync.Mutex
	entries map[string]cacheEntry
	dirty   bool
}

type cacheEntry struct {
	Stamp Stamp
	Entry Entry // without a name
	Seen  int64 // unix seconds of the last reading or use
}

const (
	maxStatCacheFile = 1 << 30
	maxStatEntries   = 1 << 20
)

// OpenStatCache reads the cache at path. A file that is missing, damaged or of
// another version gives an empty cache; one that cannot be read is an error.
func OpenStatCache(path string) (*StatCache, error) {
	c := &StatCache{path: path, entries: map[string]cacheEntry{}}
	st, err := os.Stat(path)
	if os.IsNotExist(err) {
		return c, nil
	} else if err != nil {
		return nil, fmt.Errorf("stat cache: %w", err)
	}
	if st.Size() > maxStatCacheFile {
		return c, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("stat cache: %w", err)
	}
	if m, err := decodeStatFile(b); err == nil {
		c.entries = m
	}
	return c, nil
}

func (c *StatCache) clock() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// Len is the number of files remembered.
func (c *StatCache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

// Save writes the cache to its file, where it changed. Files that were not met
// for 90 days are forgotten, and the oldest where there are too many.
func (c *StatCache) Save() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirty {
		return nil
	}
	age := 90 * 24 * time.Hour
	for {
		old := c.clock().Add(-age).Unix()
		for k, e := range c.entries {
			if e.Seen < old {
				delete(c.entries, k)
			}
		}
		if len(c.entries) <= maxStatEntries || age < time.Second {
			break
		}
		age /= 2
	}
	tmp, err := os.CreateTemp(filepath.Dir(c.path), filepath.Base(c.path)+".*")
	if err != nil {
		return fmt.Errorf("stat cache: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(encodeStatFile(c.entries))
	// Not synced: what a power cut leaves of it is read as empty.
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), c.path)
	}
	if err != nil {
		return fmt.Errorf("stat cache: %w", err)
	}
	c.dirty = false
	return nil
}

// cacheHow names how files are stored.
func cacheHow(o Options) string {
	p := o.Chunk
	how := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %x %t %d", p.Min, p.Avg, p.Max, p.Key, o.Exact, o.Hash))
	return hex.EncodeToString(how[:8]) + " "
}

func cacheKey(how, path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return how + path
}

// get returns the entry, without a name, of a file that is as it was.
func (c *StatCache) get(how, path string, now Stamp) (Entry, bool) {
	key := cacheKey(how, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok || e.Stamp != now {
		return Entry{}, false
	}
	if day := c.clock().Unix(); day-e.Seen > 24*3600 {
		e.Seen = day
		c.entries[key] = e
		c.dirty = true
	}
	return e.Entry, true
}

func (c *StatCache) put(how, path string, s Stamp, scan time.Time, e Entry) {
	key := cacheKey(how, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Settled(scan) {
		if _, ok := c.entries[key]; ok {
			delete(c.entries, key)
			c.dirty = true
		}
		return
	}
	c.entries[key] = cacheEntry{Stamp: s, Entry: e, Seen: scan.Unix()}
	c.dirty = true
}
