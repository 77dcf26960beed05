package node

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"idlewild/job"
	"idlewild/verify"
)

// Bounds of what is remembered of canaries.
const (
	canaryJobs   = 64 // jobs
	canaryEach   = 32 // comparisons of each
	canaryEnough = 9  // from then on no more are rendered
)

// jobCanaries remembers, per job, how much renders that are known to be honest
// differ: the checker's own, made once as they are and once as other hardware
// might make them. The zero value is ready.
type jobCanaries struct {
	mu   sync.Mutex
	jobs []canaryJob // the one that was used last at the end
}

type canaryJob struct {
	key     [32]byte
	numbers []map[string]float64
}

// canaryKey is the same for all frames of a job with the same settings.
func canaryKey(t job.Task) [32]byte {
	h := sha256.New()
	fmt.Fprintln(h, t.Input)
	h.Write(t.Check.Params)
	return [32]byte(h.Sum(nil))
}

// wanted is how many canaries the next check should render: enough to go by at
// once, then one at a time, then none.
func (c *jobCanaries) wanted(key [32]byte) int {
	switch n := len(c.of(key)); {
	case n < verify.Canaries:
		return verify.Canaries
	case n < canaryEnough:
		return 1
	}
	return 0
}

func (c *jobCanaries) of(key [32]byte) []map[string]float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		if j.key == key {
			return slices.Clone(j.numbers)
		}
	}
	return nil
}

func (c *jobCanaries) add(key [32]byte, numbers []map[string]float64) {
	if len(numbers) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var found canaryJob
	c.jobs = slices.DeleteFunc(c.jobs, func(j canaryJob) bool {
		if j.key == key {
			found = j
		}
		return j.key == key
	})
	found.key = key
	found.numbers = append(found.numbers, numbers...)
	found.numbers = found.numbers[max(0, len(found.numbers)-canaryEach):]
	c.jobs = append(c.jobs, found)
	c.jobs = c.jobs[max(0, len(c.jobs)-canaryJobs):]
}
