package node

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
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
// might make them, and those of two device classes, where a third machine vouched
// for what looked wrong. The zero value is ready.
type jobCanaries struct {
	mu   sync.Mutex
	jobs []canaryJob // the one that was used last at the end
}

type canaryJob struct {
	key     [32]byte
	numbers []map[string]float64
	vouched []dispatch.Vouched // one of a worker and pair of classes
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
	return slices.Clone(c.job(key).numbers)
}

// between returns what was measured of claims of one class by renders of another
// that the first found right: of each worker once, and nothing while a single
// member has vouched for all of them.
func (c *jobCanaries) between(key [32]byte, class, against string) (out []map[string]float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := map[peer.ID]bool{}
	for _, v := range c.job(key).vouched {
		if v.Class == class && v.Against == against {
			by[v.By] = true
			out = append(out, v.Found.Numbers)
		}
	}
	if len(by) < 2 {
		return nil
	}
	return out
}

// job is what is remembered of one. mu is held.
func (c *jobCanaries) job(key [32]byte) canaryJob {
	for _, j := range c.jobs {
		if j.key == key {
			return j
		}
	}
	return canaryJob{key: key}
}

func (c *jobCanaries) add(key [32]byte, numbers []map[string]float64) {
	if len(numbers) == 0 {
		return
	}
	c.change(key, func(j *canaryJob) {
		j.numbers = append(j.numbers, numbers...)
		j.numbers = j.numbers[max(0, len(j.numbers)-canaryEach):]
	})
}

// vouch takes in what two classes make of honest work.
func (c *jobCanaries) vouch(key [32]byte, v dispatch.Vouched) {
	c.change(key, func(j *canaryJob) {
		j.vouched = slices.DeleteFunc(j.vouched, func(o dispatch.Vouched) bool {
			return o.Worker == v.Worker && o.Class == v.Class && o.Against == v.Against
		})
		j.vouched = append(j.vouched, v)
		j.vouched = j.vouched[max(0, len(j.vouched)-canaryEach):]
	})
}

func (c *jobCanaries) change(key [32]byte, f func(*canaryJob)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.job(key)
	f(&found)
	c.jobs = slices.DeleteFunc(c.jobs, func(j canaryJob) bool { return j.key == key })
	c.jobs = append(c.jobs, found)
	c.jobs = c.jobs[max(0, len(c.jobs)-canaryJobs):]
}
