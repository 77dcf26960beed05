package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// fetch returns the tree of one of a lease's inputs with what its tasks read in
// it. It stays until it is released.
func (w *Worker) fetch(ctx context.Context, requester peer.ID, l job.Lease, in job.Ref, progress func(float64)) (*tree, error) {
	wants := l.Wants(in)
	log := func(what string, c Content) {
		w.log.Debug(what, "requester", requester, "job", l.Job, "input", in, "moved_bytes", c.Moved)
	}
	for again := false; ; again = true {
		t, err := w.trees.acquire(ctx, requester, in, wants.Key(), func(ctx context.Context, dir string, progress func(float64)) (Content, error) {
			unpacked := func(in job.Ref) (string, time.Time, func()) { return w.trees.hold(requester, in) }
			c, err := w.deps.Assets.Materialize(ctx, requester, l, in, dir, unpacked, progress)
			if err == nil {
				log("content unpacked", c)
			}
			return c, err
		}, progress)
		if err != nil {
			return nil, err
		}
		err = w.trees.more(t, wants.Key(), func(room int64) error {
			c, err := w.deps.Assets.Extend(ctx, requester, l, in, t.dir, room, progress)
			if err == nil {
				log("more of a content unpacked", c)
			}
			return err
		})
		if err == nil {
			return t, nil
		}
		// Files of earlier leases fill it: another one begins with those of this.
		full := errors.Is(err, ErrNoRoom)
		if full {
			w.trees.drop(t)
		}
		w.trees.release(t)
		if !full || again {
			return nil, fmt.Errorf("more files of the content: %w", err)
		}
	}
}
