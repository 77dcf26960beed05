package node

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
)

// grants decides who may read which block: a job's content whoever shows its
// requester's read grant, a job's results its requester alone, a Blender that is
// shared every member.
type grants struct {
	self peer.ID
	pins diffupload.Pinner
	// allows reports whether the lists of a job of this machine let a peer have
	// its content.
	allows func(job.ID, peer.ID) bool
	// trees reports whether a peer may have a block of the Blenders that this
	// machine shares; nil: it shares none.
	trees func(p peer.ID, block cid.Cid) bool

	mu sync.Mutex
	// opened remembers grants whose signature was checked; it is emptied
	// rather than let grow.
	opened map[[32]byte]job.ReadGrant
}

const maxOpenedGrants = 4096

func newGrants(self peer.ID, pins diffupload.Pinner, allows func(job.ID, peer.ID) bool) *grants {
	return &grants{self: self, pins: pins, allows: allows, opened: map[[32]byte]job.ReadGrant{}}
}

// Allow implements p2p.Grants.
func (g *grants) Allow(p, requester peer.ID, id job.ID, grant job.Signed, block cid.Cid) bool {
	pinned := func(owner string) bool {
		ok, err := g.pins.Pinned(context.Background(), owner, block)
		return err == nil && ok
	}
	if requester != g.self && (p == requester || delegated(p, requester, id, grant)) {
		return pinned(output(requester, id)) || p == requester && pinned(wardOf(requester, id))
	}
	if id == treesJob {
		return requester == g.self && g.trees != nil && g.trees(p, block)
	}
	if !g.granted(p, requester, id, grant) {
		return false
	}
	if requester == g.self {
		// A worker on a later task may need what an earlier one gave back.
		return pinned(ownContent(id)) || pinned(ownResults(id))
	}
	return pinned(input(requester, id))
}

// delegated reports whether p is a steward of that job, who may have what its
// workers did for the requester.
func delegated(p, requester peer.ID, id job.ID, s job.Signed) bool {
	if len(s.Body) == 0 {
		return false
	}
	d, by, err := job.OpenDelegation(s, time.Now())
	return err == nil && by == requester && d.Job == id && d.Rank(p) >= 0
}

// Had implements p2p.Grants. Edits say of the earlier manifest what it shares
// with the new one, so they may go only to who could read it before, and its
// job has ended by then: nothing is pinned under it any more, here or there.
// What lasts is the read grant that the requester signed for this reader and
// that names the root. It is shown again; that it has expired does not matter,
// because what could be read then is no secret from the reader now. Neither
// side has to keep a history of the other, and a root that was learnt
// elsewhere, of another's job say, opens nothing.
func (g *grants) Had(p, requester peer.ID, past job.Signed, root cid.Cid) bool {
	r, err := job.OpenReadGrant(past, requester, p, time.Time{}) // before every end
	return err == nil && root.Defined() && r.Root.Cid == root
}

func (g *grants) granted(reader, requester peer.ID, id job.ID, s job.Signed) bool {
	now := time.Now()
	key := sha256.Sum256([]byte(requester.String() + "\x00" + reader.String() + "\x00" + string(s.Sig) + string(s.Body)))
	g.mu.Lock()
	r, ok := g.opened[key]
	g.mu.Unlock()
	if !ok {
		var err error
		if r, err = job.OpenReadGrant(s, requester, reader, now); err != nil {
			return false
		}
		if requester == g.self && !g.allows(r.Job, reader) {
			return false
		}
		g.mu.Lock()
		if len(g.opened) >= maxOpenedGrants {
			clear(g.opened)
		}
		g.opened[key] = r
		g.mu.Unlock()
	}
	return r.Job == id && now.Before(r.Expires)
}
