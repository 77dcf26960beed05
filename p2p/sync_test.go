package p2p

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"

	"idlewild/job"
	"idlewild/p2p/wire"
)

func protoID(s string) protocol.ID { return protocol.ID(s) }

// coordinator is one for tests: it hands each opened session over.
type coordinator struct {
	mu       sync.Mutex
	sessions chan *coordSession
}

type coordSession struct {
	worker peer.ID
	in     chan job.Report
	out    chan job.Order
	ctx    context.Context
}

func newCoordinator() *coordinator { return &coordinator{sessions: make(chan *coordSession, 16)} }

func (c *coordinator) Open(ctx context.Context, worker peer.ID) (chan<- job.Report, <-chan job.Order) {
	s := &coordSession{worker, make(chan job.Report), make(chan job.Order), ctx}
	if c.sessions != nil {
		c.sessions <- s
	}
	return s.in, s.out
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: channel closed", what)
		}
		return v
	case <-time.After(within):
		t.Fatalf("%s: nothing came", what)
	}
	panic("unreachable")
}

func closed[T any](t *testing.T, c <-chan T, what string) {
	t.Helper()
	deadline := time.After(within)
	for {
		select {
		case _, ok := <-c:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatalf("%s: not closed", what)
		}
	}
}

var cmpRefs = cmp.Comparer(func(a, b job.Ref) bool { return a == b })

func sampleOrder() job.Order {
	task := job.Task{Kind: "echo", Params: []byte("{}"), Label: "1", Outputs: []job.OutputRule{{Name: "a.txt", Media: job.MediaFile}}}
	return job.Order{
		Epoch: 3, BeatEvery: 20 * time.Second,
		Leases: []job.Lease{{
			ID: job.NewLeaseID(time.Now()), Job: job.NewID(time.Now()), Device: "cpu", Epoch: 3, TTL: time.Minute,
			Tasks: []job.Granted{{Task: task, Fence: 1, SecretHash: job.HashSecret([]byte("s"))}},
			Read:  job.Signed{Body: []byte{1}, Sig: []byte{2}},
		}},
		Stops:   []job.Stop{{Lease: job.NewLeaseID(time.Now()), Reason: "cancelled"}},
		Settled: []job.Settled{{Job: job.NewID(time.Now()), Lease: job.NewLeaseID(time.Now()), Task: task.Key(), Ruling: job.Accepted, Secret: []byte("s")}},
	}
}

func sampleReport() job.Report {
	return job.Report{
		Session:  "s1",
		Machine:  &job.Machine{Facts: map[string][]string{"echo": {"1"}}, Devices: []job.Device{{Name: "cpu", Type: "cpu", MemoryBytes: 1 << 30}}},
		Bids:     []job.Bid{{Device: "cpu", Want: 2, Jobs: []job.ID{job.NewID(time.Now())}}},
		Progress: []job.Progress{{Lease: job.NewLeaseID(time.Now()), Task: -1, Phase: "fetching"}},
		Receipts: []job.Signed{{Body: []byte("r"), Sig: []byte("s")}},
		Inline:   []job.Block{{CID: job.RefOf(block([]byte("b"))), Data: []byte("b")}},
	}
}

func TestSyncBothWays(t *testing.T) {
	farm := newFarm(t, 2)
	for name, worker := range map[string]*Host{"network": farm[1], "itself": farm[0]} {
		t.Run(name, func(t *testing.T) {
			c := newCoordinator()
			farm[0].ServeSync(c)
			link, err := worker.Join(t.Context(), farm[0].ID())
			if err != nil {
				t.Fatal(err)
			}
			want := sampleReport()
			if err := link.Send(t.Context(), want); err != nil {
				t.Fatal(err)
			}
			s := receive(t, c.sessions, "session")
			if s.worker != worker.ID() {
				t.Errorf("session of %s", s.worker)
			}
			if d := cmp.Diff(want, receive(t, s.in, "report"), cmpRefs); d != "" {
				t.Error(d)
			}
			order := sampleOrder()
			go func() { s.out <- order }()
			for got := range link.Orders() {
				if d := cmp.Diff(order, got, cmpRefs); d != "" {
					t.Error(d)
				}
				break
			}
			// What was sent before the close arrives.
			for range 5 {
				if err := link.Send(t.Context(), want); err != nil {
					t.Fatal(err)
				}
			}
			go link.Close()
			for range 5 {
				receive(t, s.in, "report before close")
			}
			closed(t, s.in, "reports")
			<-s.ctx.Done()
			close(s.out)
			if err := link.Err(); err != nil {
				t.Errorf("closed in order: %v", err)
			}
			if err := link.Send(t.Context(), want); !errors.Is(err, ErrLinkCut) {
				t.Errorf("send after close: %v", err)
			}
		})
	}
}

func TestCoordinatorHangsUp(t *testing.T) {
	farm := newFarm(t, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	for _, worker := range []*Host{farm[1], farm[0]} {
		link, err := worker.Join(t.Context(), farm[0].ID())
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Send(t.Context(), job.Report{Session: "s"}); err != nil {
			t.Fatal(err)
		}
		s := receive(t, c.sessions, "session")
		receive(t, s.in, "report")
		s.out <- job.Order{Epoch: 1}
		close(s.out)
		n := 0
		for range link.Orders() {
			n++
		}
		if n != 1 {
			t.Errorf("%d orders", n)
		}
		closed(t, s.in, "reports")
	}
}

func TestLinkCutIsNoticedOnBothSides(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	link, err := farm[1].Join(t.Context(), farm[0].ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := link.Send(t.Context(), job.Report{Session: "s"}); err != nil {
		t.Fatal(err)
	}
	s := receive(t, c.sessions, "session")
	receive(t, s.in, "report")
	farm[0].host.Network().ClosePeer(farm[1].ID())
	closed(t, s.in, "reports")
	close(s.out)
	for range link.Orders() {
	}
	<-link.done
	if err := link.Err(); !errors.Is(err, ErrLinkCut) {
		t.Errorf("%v", err)
	}
	eventually(t, within, "joined again", func() bool {
		link, err := farm[1].Join(t.Context(), farm[0].ID())
		if err != nil {
			return false
		}
		defer link.Close()
		return link.Send(t.Context(), job.Report{Session: "s"}) == nil
	})
	s = receive(t, c.sessions, "second session")
	receive(t, s.in, "report")
	close(s.out)
}

// A worker that does not read is cut; the coordinator never waits for it.
func TestSlowReaderIsCut(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	raw, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolSync))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Reset()
	if _, err := wire.Write(raw, &wire.Sync{Seq: 1}, wire.MaxSync); err != nil {
		t.Fatal(err)
	}
	s := receive(t, c.sessions, "session")
	order := sampleOrder()
	order.Resting = string(bytes.Repeat([]byte("x"), job.MaxReasonBytes))
	for i := 0; s.ctx.Err() == nil; i++ {
		select {
		case s.out <- order:
		case <-time.After(within):
			t.Fatalf("order %d held the coordinator up", i)
		}
		if i > 100_000 {
			t.Fatal("never cut")
		}
	}
	closed(t, s.in, "reports")
	close(s.out)
	if farm[0].Stats().SyncDropped == 0 {
		t.Error("drops are not counted")
	}
}

func TestSyncRefusesWhatIsWrong(t *testing.T) {
	farm := newFarm(t, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	frame := func(m *wire.Sync) []byte {
		b, err := wire.Append(nil, m, wire.MaxSync)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bad := wire.FromReport(job.Report{})
	bad.Bids = []*wire.Bid{{Want: 1 << 31}}
	for name, b := range map[string][]byte{
		"over the bound":  binary.AppendUvarint(nil, wire.MaxSync+1),
		"endless length":  bytes.Repeat([]byte{0x80}, 12),
		"not protobuf":    append([]byte{4}, 0xff, 0xff, 0xff, 0xff),
		"gap in sequence": frame(&wire.Sync{Seq: 2}),
		"zero sequence":   frame(&wire.Sync{}),
		"acks the future": frame(&wire.Sync{Seq: 1, Ack: 99}),
		"invalid report":  frame(&wire.Sync{Seq: 1, Body: &wire.Sync_Report{Report: bad}}),
	} {
		t.Run(name, func(t *testing.T) {
			before := farm[0].Stats()
			raw, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolSync))
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Reset()
			if _, err := raw.Write(b); err != nil {
				t.Fatal(err)
			}
			s := receive(t, c.sessions, "session")
			closed(t, s.in, "reports")
			close(s.out)
			if farm[0].Stats().SyncCut == before.SyncCut {
				t.Error("not cut")
			}
		})
	}
}

func TestUnknownBodyIsSkipped(t *testing.T) {
	farm := newFarm(t, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	raw, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolSync))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Reset()
	m := &wire.Sync{Seq: 1}
	m.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 14, protowire.VarintType), 7))
	if _, err := wire.Write(raw, m, wire.MaxSync); err != nil {
		t.Fatal(err)
	}
	if _, err := wire.Write(raw, &wire.Sync{Seq: 2, Body: &wire.Sync_Report{Report: wire.FromReport(job.Report{Session: "later"})}}, wire.MaxSync); err != nil {
		t.Fatal(err)
	}
	s := receive(t, c.sessions, "session")
	if r := receive(t, s.in, "report"); r.Session != "later" || farm[0].Stats().Unknown != 1 {
		t.Errorf("%+v, %+v", r, farm[0].Stats())
	}
	close(s.out)
}

func TestAcksAndSequenceOnTheWire(t *testing.T) {
	farm := newFarm(t, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	raw, err := farm[1].host.NewStream(t.Context(), farm[0].ID(), idOf(ProtocolSync))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Reset()
	r := bufio.NewReader(raw)
	for i := uint64(1); i <= 3; i++ {
		rep := &wire.Sync_Report{Report: wire.FromReport(job.Report{Session: "s"})}
		if _, err := wire.Write(raw, &wire.Sync{Seq: i, Ack: i - 1, Body: rep}, wire.MaxSync); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			s := receive(t, c.sessions, "session")
			go func() {
				for range s.in {
					s.out <- job.Order{Epoch: 1}
				}
				close(s.out)
			}()
		}
		var m wire.Sync
		if _, err := wire.Read(r, &m, wire.MaxSync); err != nil {
			t.Fatal(err)
		}
		if m.Seq != i || m.Ack != i || m.GetOrder() == nil {
			t.Errorf("message %v where seq and ack %d were due", &m, i)
		}
	}
}

func TestLargeMessagesAreSplit(t *testing.T) {
	var r job.Report
	r.Session, r.Progress = "s", []job.Progress{{Lease: job.NewLeaseID(time.Now())}}
	for i := range 9 {
		r.Receipts = append(r.Receipts, job.Signed{Body: bytes.Repeat([]byte{byte(i)}, 900<<10), Sig: []byte{1}})
	}
	ms, err := splitReport(r)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range ms {
		m.Seq, m.Ack = 1<<60, 1<<60
		if _, err := wire.Append(nil, m, wire.MaxSync); err != nil {
			t.Error(err)
		}
		if m.GetReport().Session != "s" || len(m.GetReport().Progress) != 1 {
			t.Error("a part is not complete in itself")
		}
		for _, x := range m.GetReport().Receipts {
			if x.Body[0] != byte(n) {
				t.Error("receipts out of order")
			}
			n++
		}
	}
	if n != 9 {
		t.Errorf("%d receipts", n)
	}

	o := sampleOrder()
	for range 60 {
		l := o.Leases[0]
		l.ID = job.NewLeaseID(time.Now())
		l.Tasks = append([]job.Granted(nil), l.Tasks...)
		l.Tasks[0].Task.Params = make([]byte, 60<<10)
		o.Leases = append(o.Leases, l)
	}
	ms, err = splitOrder(o)
	if err != nil {
		t.Fatal(err)
	}
	n = 0
	for _, m := range ms {
		if _, err := wire.Append(nil, m, wire.MaxSync); err != nil {
			t.Error(err)
		}
		n += len(m.GetOrder().Leases)
	}
	if n != 61 || len(ms) < 2 {
		t.Errorf("%d leases in %d messages", n, len(ms))
	}
	if _, err := splitReport(job.Report{Receipts: []job.Signed{{Body: make([]byte, 3<<20)}}}); !errors.Is(err, wire.ErrTooLarge) {
		t.Errorf("a receipt over the bound: %v", err)
	}
}

func offer(h *Host) job.Offer {
	return job.Offer{Job: job.NewID(time.Now()), Requester: h.ID(), Kind: "echo", Open: 3, InputBytes: 10, Expires: time.Now().Add(time.Minute)}
}

func TestOffersReachEverybody(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 3)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	early := offer(farm[0])
	if err := farm[0].Announce(ctx, early); err != nil {
		t.Fatal(err)
	}
	got := make([]chan job.Offer, len(farm))
	for i, h := range farm {
		got[i] = make(chan job.Offer, 16)
		go func() {
			for o := range h.Offers(ctx) {
				got[i] <- o
			}
		}()
	}
	late := offer(farm[1])
	late.Needs.Require = map[string]string{"echo": "1"}
	late.Needs.Latency = job.Interactive
	late.MaxPrice = 0.5
	if err := farm[1].Announce(ctx, late); err != nil {
		t.Fatal(err)
	}
	for i := range farm {
		seen := map[job.ID]job.Offer{}
		for len(seen) < 2 {
			o := receive(t, got[i], "offer")
			seen[o.Job] = o
		}
		if o := seen[late.Job]; o.MaxPrice != 0.5 || o.Needs.Latency != job.Interactive || o.Needs.Require["echo"] != "1" || o.Requester != farm[1].ID() {
			t.Errorf("host %d: %+v", i, o)
		}
	}
	// A newcomer hears of both at once.
	start := time.Now()
	fresh := newHost(t, "fresh")
	joinFarm(t, farm[0], fresh)
	seen := map[job.ID]bool{}
	for o := range fresh.Offers(ctx) {
		if seen[o.Job] = true; len(seen) == 2 {
			break
		}
	}
	if d := time.Since(start); d > within {
		t.Errorf("late joiner waited %v", d)
	}
}

func TestOffersThatAreRefused(t *testing.T) {
	h := newFarm(t, 1)[0]
	for name, change := range map[string]func(*job.Offer){
		"of another peer": func(o *job.Offer) { o.Requester = peer.ID("x") },
		"expired":         func(o *job.Offer) { o.Expires = time.Now().Add(-time.Second) },
		"no job":          func(o *job.Offer) { o.Job = "" },
		"too large": func(o *job.Offer) {
			o.Needs.Require = map[string]string{"a": string(bytes.Repeat([]byte("x"), 1000))}
		},
	} {
		o := offer(h)
		change(&o)
		if err := h.Announce(t.Context(), o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A member can shout over the topic only within the rules.
func TestHostileGossip(t *testing.T) {
	farm := newFarm(t, 2)
	eventually(t, within, "subscribed", func() bool { return len(farm[1].offers.topic.ListPeers()) == 1 })
	foreign := wire.FromOffer(offer(farm[0])) // signed by farm[1] on the topic
	if err := farm[1].offers.topic.Publish(t.Context(), []byte("nonsense")); err == nil {
		t.Error("nonsense was published")
	}
	if err := farm[1].offers.publish(&wire.Gossip{Body: &wire.Gossip_Offer{Offer: foreign}}); err == nil {
		t.Error("an offer in another's name was published")
	}
}

// BenchmarkSyncRoundTrip is a report and the order that answers it.
func BenchmarkSyncRoundTrip(b *testing.B) {
	farm := newFarm(b, 2)
	c := newCoordinator()
	farm[0].ServeSync(c)
	link, err := farm[1].Join(b.Context(), farm[0].ID())
	if err != nil {
		b.Fatal(err)
	}
	order, report := sampleOrder(), sampleReport()
	go func() {
		s := <-c.sessions
		defer close(s.out)
		for range s.in {
			s.out <- order
		}
	}()
	next, stop := iter.Pull(link.Orders())
	defer stop()
	for b.Loop() {
		if err := link.Send(b.Context(), report); err != nil {
			b.Fatal(err)
		}
		if _, ok := next(); !ok {
			b.Fatal(link.Err())
		}
	}
	link.Close()
}
