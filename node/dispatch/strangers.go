package dispatch

import (
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// strangerRate is the least share of a stranger's results that is checked,
// whatever the job and the settings say: what it has done here so far costs it
// nothing to lose.
const strangerRate = 0.1

// stranger reports whether p is no member of the farm.
func (b *Board) stranger(p peer.ID) bool {
	return b.o.Member != nil && p != b.self && !b.o.Member(p)
}

// wants reports whether the job may be worked on by w: its lists, and whether it
// is for strangers.
func (j *jobState) wants(w *worker) bool {
	return (!w.stranger || j.forStrangers()) && j.allows(w.peer)
}

// forStrangers reports whether strangers may work on the job. Its requester has
// to say so, and this machine has to be able to check each of its tasks without
// the help of others.
func (j *jobState) forStrangers() bool {
	if !j.spec.Policy.Strangers || len(j.tasks) == 0 {
		return false
	}
	if j.proved != len(j.tasks) {
		j.proved, j.provable = len(j.tasks), true
		for _, t := range j.tasks {
			if t.Place != job.Anywhere {
				continue // not for them
			}
			switch t.Check.Method {
			case job.CheckExact, job.CheckCrop, job.CheckRerun:
			default:
				j.provable = false
			}
		}
	}
	return j.provable
}
