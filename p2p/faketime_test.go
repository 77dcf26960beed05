package p2p

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	mocknet "github.com/libp2p/go-libp2p/p2p/net/mock"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// pipeStream is the end of a stream in memory; what is not used panics.
type pipeStream struct {
	network.Stream
	r *io.PipeReader
	w *io.PipeWriter
}

func streamPair() (a, b *pipeStream) {
	ar, bw := io.Pipe()
	br, aw := io.Pipe()
	return &pipeStream{r: ar, w: aw}, &pipeStream{r: br, w: bw}
}

func (s *pipeStream) Read(b []byte) (int, error)  { return s.r.Read(b) }
func (s *pipeStream) Write(b []byte) (int, error) { return s.w.Write(b) }
func (s *pipeStream) Reset() error {
	s.r.CloseWithError(network.ErrReset)
	s.w.CloseWithError(network.ErrReset)
	return nil
}
func (s *pipeStream) Close() error {
	s.r.Close()
	return s.w.Close()
}

func TestSessionBeatsAndDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stats counters
		a, b := streamPair()
		x, y := newSession(a, &stats), newSession(b, &stats)
		none := func(*wire.Sync) error { return nil }
		go x.write()
		go x.read(none)
		go y.write()
		go y.read(none)
		time.Sleep(10 * time.Minute) // nothing to say: beats keep it alive
		synctest.Wait()
		select {
		case <-x.done:
			t.Fatalf("idle link died: %v", x.cause())
		default:
		}
		if n := x.received.Load(); n < 59 || n > 61 {
			t.Errorf("%d beats in 10 minutes", n)
		}
		x.end()
		synctest.Wait()
		<-y.done
		if x.cause() != nil || y.cause() != nil {
			t.Errorf("ended in order: %v, %v", x.cause(), y.cause())
		}
	})
}

func TestSilentPeerIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stats counters
		a, b := streamPair()
		x := newSession(a, &stats)
		go x.write()
		go x.read(func(*wire.Sync) error { return nil })
		go io.Copy(io.Discard, b) // takes everything, says nothing
		start := time.Now()
		<-x.done
		if d := time.Since(start); d != deadAfter {
			t.Errorf("after %v", d)
		}
		if !errors.Is(x.cause(), errSilent) {
			t.Errorf("%v", x.cause())
		}
	})
}

func TestPeerThatTakesNothingIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stats counters
		a, b := streamPair()
		x := newSession(a, &stats)
		go x.write()
		go x.read(func(*wire.Sync) error { return nil })
		go func() { // shows life, reads nothing
			for i := uint64(1); ; i++ {
				if _, err := wire.Write(b, &wire.Sync{Seq: i}, wire.MaxSync); err != nil {
					return
				}
				time.Sleep(beatAfter)
			}
		}()
		x.offer(&wire.Sync{Body: &wire.Sync_Order{Order: &wire.Order{}}})
		start := time.Now()
		<-x.done
		if d := time.Since(start); d != writeTime {
			t.Errorf("after %v", d)
		}
		time.Sleep(beatAfter) // the other side ends too
		synctest.Wait()
		if stats.syncDropped.Load() != 1 {
			t.Errorf("%d drops", stats.syncDropped.Load())
		}
	})
}

// inFakeTime runs f in a bubble on one processor: where two goroutines of a
// bubble read the channel of a due timer at once, as the streams of mocknet
// do, the race detector falls over (golang/go#78156).
func inFakeTime(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, f)
}

// fakeFarm is a farm on a network in memory. It must be closed inside the
// bubble that it was made in.
type fakeFarm struct {
	net   mocknet.Mocknet
	hosts []*Host
	keys  []crypto.PrivKey
	dirs  []string
}

func newFakeFarm(t *testing.T, n int) *fakeFarm {
	t.Helper()
	f := &fakeFarm{net: mocknet.New()}
	for i := range n {
		key := newKey(t)
		addr := ma.StringCast("/ip4/10.0.0." + string(rune('1'+i)) + "/tcp/4001")
		lh, err := f.net.AddPeer(key, addr)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		h, err := Wrap(lh, Config{Key: key, DataDir: dir, Name: "n", Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		f.hosts, f.keys, f.dirs = append(f.hosts, h), append(f.keys, key), append(f.dirs, dir)
	}
	if err := f.net.LinkAll(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.hosts[0].Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	for _, h := range f.hosts[1:] {
		joinFarm(t, f.hosts[0], h)
	}
	return f
}

// close parts the hosts before it closes them: mocknet opens a stream on a
// closed connection and never ends it, and the bubble would wait for that.
func (f *fakeFarm) close(t *testing.T) {
	synctest.Wait()
	peers := f.net.Peers()
	for i, a := range peers {
		for _, b := range peers[i+1:] {
			if len(f.net.LinksBetweenPeers(a, b)) == 0 {
				continue
			}
			if err := errors.Join(f.net.UnlinkPeers(a, b), f.net.DisconnectPeers(a, b)); err != nil {
				t.Error(err)
			}
		}
	}
	synctest.Wait()
	for _, h := range f.hosts {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	f.net.Close()
}

func TestBackWithinTenSecondsOfAHealedCut(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		f := newFakeFarm(t, 2)
		defer f.close(t)
		a, b := f.hosts[0], f.hosts[1]
		for _, cut := range []time.Duration{3 * time.Minute, 40 * time.Minute} {
			if err := f.net.UnlinkPeers(a.ID(), b.ID()); err != nil {
				t.Fatal(err)
			}
			if err := f.net.DisconnectPeers(a.ID(), b.ID()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(cut)
			if connected(a, b.ID()) {
				t.Fatal("the cut does not cut")
			}
			o := offer(a)
			if err := a.Announce(t.Context(), o); err != nil { // said while nobody hears
				t.Fatal(err)
			}
			if _, err := f.net.LinkPeers(a.ID(), b.ID()); err != nil {
				t.Fatal(err)
			}
			healed := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			found := false
			for v := range b.Offers(ctx) {
				if v.Job == o.Job {
					found = true
					break
				}
			}
			cancel()
			if d := time.Since(healed); !found || d > 10*time.Second {
				t.Errorf("cut of %v: offer heard (%v) after %v", cut, found, d)
			}
		}
	})
}

func TestLinkOverMemory(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		f := newFakeFarm(t, 2)
		defer f.close(t)
		c := newCoordinator()
		f.hosts[0].ServeSync(c)
		link, err := f.hosts[1].Join(t.Context(), f.hosts[0].ID())
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Send(t.Context(), job.Report{Session: "s"}); err != nil {
			t.Fatal(err)
		}
		s := <-c.sessions
		<-s.in
		time.Sleep(time.Hour) // an idle link stays
		if s.ctx.Err() != nil {
			t.Error("idle link ended")
		}
		go func() {
			for range s.in {
			}
			close(s.out)
		}()
		if err := link.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestStrangerInFakeTime(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		f := newFakeFarm(t, 1)
		defer f.close(t)
		lh, err := f.net.GenPeer()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.net.LinkAll(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := lh.Connect(t.Context(), peer.AddrInfo{ID: f.hosts[0].ID(), Addrs: f.hosts[0].host.Addrs()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(quarantine / 2)
		synctest.Wait()
		if lh.Network().Connectedness(f.hosts[0].ID()) != network.Connected {
			t.Errorf("closed before its time: at %v", time.Since(start))
		}
		time.Sleep(quarantine / 2)
		synctest.Wait()
		if lh.Network().Connectedness(f.hosts[0].ID()) == network.Connected {
			t.Error("not closed")
		}
	})
}

func TestOfferEnds(t *testing.T) {
	inFakeTime(t, func(t *testing.T) {
		f := newFakeFarm(t, 1)
		defer f.close(t)
		h := f.hosts[0]
		if err := h.Announce(t.Context(), offer(h)); err != nil { // good for a minute
			t.Fatal(err)
		}
		if len(h.offers.ownOpen()) != 1 {
			t.Error("not open")
		}
		time.Sleep(time.Minute + time.Second)
		if len(h.offers.ownOpen()) != 0 {
			t.Error("still open")
		}
	})
}

func TestBackoffBounds(t *testing.T) {
	for n := 1; n < 100; n++ {
		for range 20 {
			if d := backoff(n, true); d < 500*time.Millisecond || d > 6*time.Second {
				t.Fatalf("recent, failure %d: %v", n, d)
			}
			if d := backoff(n, false); d > 40*time.Second {
				t.Fatalf("failure %d: %v", n, d)
			}
		}
	}
}
