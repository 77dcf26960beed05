package node

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"idlewild/internal/ondisk"
	"idlewild/job"
	"idlewild/verify"
)

// canariesFile keeps what was learnt of how far honest machines are apart, in
// the data folder.
const canariesFile = "canaries.json"

// maxCanaries bounds the classes and programs of which something is kept.
const maxCanaries = 4096

// canaries are the tolerances of replication: one for each device class and
// program, learnt from pairs of renders neither of which was a claim.
type canaries struct {
	path string // empty: nothing is kept
	log  *slog.Logger

	mu    sync.Mutex
	known map[string]verify.Tolerance
}

func openCanaries(path string, log *slog.Logger) *canaries {
	c := &canaries{path: path, log: log, known: map[string]verify.Tolerance{}}
	if path == "" {
		return c
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &c.known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what was learnt of device classes is forgotten", "error", err)
		c.known = map[string]verify.Tolerance{}
	}
	return c
}

// canaryOf names the tolerance that counts for a result.
func canaryOf(t job.Task, leaf job.Leaf) string {
	return leaf.DeviceClass + "|" + leaf.Build + "|" + string(t.Kind) + "|" + string(t.Check.Params)
}

func (c *canaries) tolerance(name string) verify.Tolerance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[name]
}

// learn takes in a pair and returns the tolerance with it.
func (c *canaries) learn(name string, pair verify.Distance) verify.Tolerance {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.known[name]
	if _, here := c.known[name]; !here && len(c.known) >= maxCanaries || !t.Learn(pair) {
		return t
	}
	c.known[name] = t
	if c.path != "" {
		b, err := json.Marshal(c.known)
		if err == nil {
			err = ondisk.WriteFile(c.path, b, 0o600)
		}
		if err != nil {
			c.log.Warn("what was learnt of a device class is not kept", "error", err)
		}
	}
	return t
}
