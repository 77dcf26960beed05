package node

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// CopiesDir is the folder of the data folder where programs that submit put
// copies of unsaved work, each in a folder of its own with any name. The
// daemon removes them: the program may have ended long before.
const CopiesDir = "copies"

// abandoned is when a copy that no job speaks of is taken to be left behind.
const abandoned = 24 * time.Hour

// copies removes copies that are stored, or that nobody submitted.
type copies struct {
	dir  string
	jobs *dispatch.Dispatcher
	log  *slog.Logger
	read map[string]bool // folders that a job has read from
}

func (c *copies) run(ctx context.Context) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	for _, s := range c.jobs.List() {
		c.seen(s.Job)
	}
	c.tidy()
	for e := range c.jobs.Watch(ctx, "", 0) {
		if e.Type == job.EventState {
			c.seen(e.Job)
			c.tidy()
		}
	}
	return ctx.Err()
}

// seen remembers the folder that a job's input lies in, if it is one of ours.
func (c *copies) seen(id job.ID) {
	input, ok := c.jobs.Input(id)
	if ok && filepath.Dir(filepath.Dir(input)) == c.dir {
		c.read[filepath.Dir(input)] = true
	}
}

func (c *copies) tidy() {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		c.log.Warn("copies of unsaved work are not removed", "error", err)
		return
	}
	needed := map[string]bool{}
	for input := range c.jobs.Reads() {
		needed[filepath.Dir(input)] = true
	}
	for _, e := range entries {
		dir := filepath.Join(c.dir, e.Name())
		fi, err := e.Info()
		if needed[dir] || err != nil || (!c.read[dir] && time.Since(fi.ModTime()) < abandoned) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			c.log.Warn("a copy of unsaved work is not removed", "error", err)
			continue
		}
		delete(c.read, dir)
	}
}
