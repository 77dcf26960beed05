package kad_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"go.uber.org/goleak"

	"idlewild/p2p/kad"
)

var fast = kad.Pace{Search: 200 * time.Millisecond, Say: time.Second, Refresh: time.Second}

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// finder is who is told what a table finds.
type finder struct {
	mu    sync.Mutex
	found map[peer.ID]peer.AddrInfo
	news  chan struct{}
}

func newFinder() *finder {
	return &finder{found: map[peer.ID]peer.AddrInfo{}, news: make(chan struct{}, 1)}
}

func (f *finder) Found(p peer.AddrInfo) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.found[p.ID] = p
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *finder) await(t *testing.T, p peer.ID) peer.AddrInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		f.mu.Lock()
		v, ok := f.found[p]
		f.mu.Unlock()
		if ok {
			return v
		}
		select {
		case <-f.news:
		case <-ctx.Done():
			t.Fatalf("%s is not found", p)
		}
	}
}

func start(t *testing.T, h host.Host, farm string, f *finder, provide, public bool, boot ...peer.AddrInfo) *kad.Table {
	t.Helper()
	table, err := kad.Start(kad.Config{
		Host: h, Farm: farm, Bootstraps: boot, Pace: fast, Found: f.Found,
		Provide: func() bool { return provide }, Public: func() bool { return public },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

// TestTwoThatKnowABootstrap: that one of the bootstraps is away does no harm, nor
// that the one who is found answers nobody.
func TestTwoThatKnowABootstrap(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("", func(t *testing.T) {
		boot, gone, a, b, foreign := newHost(t), newHost(t), newHost(t), newHost(t), newHost(t)
		away := info(gone)
		if err := gone.Close(); err != nil {
			t.Fatal(err)
		}
		nobody, finds := newFinder(), newFinder()
		start(t, boot, "farm", nobody, false, true)
		client := start(t, a, "farm", nobody, true, false, away, info(boot))
		// One of another farm that does the same, by the same bootstrap, is apart.
		start(t, foreign, "other", nobody, true, true, info(boot))
		start(t, b, "farm", finds, false, false, info(boot), away)
		got := finds.await(t, a.ID())
		if len(got.Addrs) == 0 {
			t.Errorf("found without an address")
		}
		if s := client.State(); s.Server || s.Nodes == 0 {
			t.Errorf("state of one that only asks %+v", s)
		}
		finds.mu.Lock()
		defer finds.mu.Unlock()
		if len(finds.found) != 1 {
			t.Errorf("found %v", finds.found)
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p/p2p/transport/tcpreuse.(*ConnMgr).background"))
}

// TestAnswersWhenReachable: who can be dialled from outside answers, who cannot
// any more does not.
func TestAnswersWhenReachable(t *testing.T) {
	a, b := newHost(t), newHost(t)
	var mu sync.Mutex
	public := false
	table, err := kad.Start(kad.Config{Host: a, Farm: "farm", Pace: fast, Found: newFinder().Found, Public: func() bool { mu.Lock(); defer mu.Unlock(); return public }})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	answers := func() bool {
		if err := b.Connect(t.Context(), info(a)); err != nil {
			t.Fatal(err)
		}
		s, err := b.NewStream(t.Context(), a.ID(), kad.Prefix("farm")+"/kad/1.0.0")
		if err == nil {
			s.Reset()
		}
		_ = b.Network().ClosePeer(a.ID())
		return err == nil
	}
	if answers() {
		t.Fatal("answers though nobody can reach it")
	}
	for _, want := range []bool{true, false, true} {
		mu.Lock()
		public = want
		mu.Unlock()
		deadline := time.Now().Add(time.Minute)
		for table.Look(); table.State().Server != want; {
			if time.Now().After(deadline) {
				t.Fatalf("still not %v", want)
			}
		}
		if got := answers(); got != want {
			t.Errorf("answers: %v, want %v", got, want)
		}
	}
}
