package dispatch

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"idlewild/internal/recordlog"
	"idlewild/internal/recordlog/faulty"
)

// shared is a faulty disk that the test fills while a Dispatcher uses it.
type shared struct {
	*faulty.Disk
	mu sync.Mutex
}

func (s *shared) fill(full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Full = full
}

func (s *shared) Open(path string, flag int) (recordlog.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.Disk.Open(path, flag)
	if err != nil {
		return nil, err
	}
	return sharedFile{f, s}, nil
}

type sharedFile struct {
	recordlog.File
	s *shared
}

func (f sharedFile) WriteAt(b []byte, at int64) (int, error) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.File.WriteAt(b, at)
}

// TestAFullDiskAcknowledgesNothing: the disk fills up in the middle of a job.
// Nobody is told of anything until there is room, one sentence says why, and
// then the job goes on to its end; a start from what a power cut leaves has all
// that was acknowledged.
func TestAFullDiskAcknowledgesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		d := &shared{Disk: faulty.New(rand.New(rand.NewPCG(1, 1)))}
		w.disk = d
		dir := t.TempDir()
		f := startFarm(t, w, dir)
		a := newFakeWorker(t, w, "a", time.Second)
		f.add(a)
		const frames = 30
		id := f.submit(fakeParams{Frames: frames})
		for f.status(id).Delivered < 5 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		d.fill(true)
		told := func() int {
			a.mu.Lock()
			defer a.mu.Unlock()
			n := 0
			for _, k := range a.settled {
				n += k
			}
			return n
		}
		time.Sleep(10 * time.Second) // what was on its way has arrived
		synctest.Wait()
		was := told()
		acked := make(chan error, 1)
		f.wg.Go(func() { _, err := f.d.Submit(f.ctx, spec(fakeParams{Frames: 1})); acked <- err })
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := told(); n != was {
			t.Errorf("%d results were acknowledged on a full disk", n-was)
		}
		select {
		case err := <-acked:
			t.Errorf("a job was acknowledged on a full disk: %v", err)
		default:
		}
		why := f.status(id).Reason
		if !strings.Contains(why, "nothing can be recorded") || !strings.Contains(why, "no space left on device") || strings.Contains(why, "\n") {
			t.Errorf("reason %q", why)
		}
		d.fill(false)
		if err := <-acked; err != nil {
			t.Error(err)
		}
		for told() < frames {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		left := d.Cut() // before stopping writes what is still in memory
		f.stop()
		w.disk = left
		f = startFarm(t, w, dir)
		defer f.stop()
		if s := f.status(id); s.Accepted != frames {
			t.Errorf("%d of %d acknowledged results came back", s.Accepted, frames)
		}
	})
}
