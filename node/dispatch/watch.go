package dispatch

import (
	"context"
	"iter"
	"sync"

	"idlewild/job"
)

// ringSize is how many events a watcher may be behind.
const ringSize = 4096

// ring holds the newest events for those who watch.
type ring struct {
	mu    sync.Mutex
	first uint64 // number of the first event ever
	next  uint64
	buf   []job.Event
	news  chan struct{} // closed with the next event
}

func newRing(first uint64) *ring {
	return &ring{first: first, next: first, news: make(chan struct{})}
}

func (r *ring) add(e job.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.Seq = r.next
	r.next++
	if len(r.buf) < ringSize {
		r.buf = append(r.buf, e)
	} else {
		r.buf[(e.Seq-r.first)%ringSize] = e
	}
	close(r.news)
	r.news = make(chan struct{})
}

// after returns the events behind seq that are still here, and what to wait
// for if there are none.
func (r *ring) after(seq uint64) ([]job.Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := max(seq+1, r.first)
	if n := uint64(len(r.buf)); from+n < r.next {
		from = r.next - n
	}
	var out []job.Event
	for ; from < r.next; from++ {
		out = append(out, r.buf[(from-r.first)%ringSize])
	}
	return out, r.news
}

func (r *ring) last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next - 1
}

// Watch implements localapi.Views.
func (d *Dispatcher) Watch(ctx context.Context, id job.ID, seq uint64) iter.Seq[job.Event] {
	if seq == 0 {
		seq = d.ring.last()
	}
	return func(yield func(job.Event) bool) {
		seq := seq
		for {
			es, news := d.ring.after(seq)
			for _, e := range es {
				seq = e.Seq
				if (id == "" || e.Job == id) && !yield(e) {
					return
				}
			}
			if len(es) > 0 {
				continue
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			case <-d.ctx.Done():
				return
			}
		}
	}
}
