package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"idlewild/job"
)

const (
	somePeer = "12D3KooWHtxZ8EJeE8LfkXBz9CP6rrgVtsPBMBX5mxZrF6Hd8G9L"
	someJob  = job.ID("01M83V4KV39HQYB0VWD469WA6N")
)

func somePeerID(t testing.TB) peer.ID {
	p, err := peer.Decode(somePeer)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var refs = cmp.Comparer(func(a, b job.Ref) bool { return a == b })

func task() job.Task {
	return job.Task{
		Kind: "echo", Params: []byte{1, 2}, Label: "7", Rank: 3, Timeout: time.Minute,
		Outputs: []job.OutputRule{{Name: "a/b.exr", Media: job.MediaEXR, Final: "b.exr"}},
		Needs:   job.Needs{Require: map[string]string{"echo": "1"}, Device: "gpu", VRAMBytes: 1 << 30, Latency: job.Interactive},
		Part:    job.Part{Tile: job.Rect{X1: 5, Y1: 6}},
		Check:   job.Check{Method: job.CheckCrop, Output: "a/b.exr"},
	}
}

func order() job.Order {
	first := task()
	second := task()
	second.After = []job.TaskKey{first.Key()}
	prior := job.Prior{Task: first.Key(), Outputs: []job.Output{{Name: "a/b.exr", Media: job.MediaEXR, File: first.Key(), Bytes: 9, Pixels: make([]byte, 32)}}}
	return job.Order{
		Epoch: 1 << 60, BeatEvery: time.Second, Resting: "why not",
		Leases: []job.Lease{{
			ID: job.LeaseID(someJob), Job: someJob, Device: "cpu", Epoch: 2, TTL: time.Minute,
			Tasks: []job.Granted{{Task: first, Fence: 4, SecretHash: []byte("h")}, {Task: second, Prior: []job.Prior{prior}}},
			Read:  job.Signed{Body: []byte("b"), Sig: []byte("s")}, Memory: true, Disks: job.RefOf(first.Key().Cid),
		}},
		Stops:   []job.Stop{{Lease: job.LeaseID(someJob), Reason: "no more"}},
		Settled: []job.Settled{{Job: someJob, Lease: job.LeaseID(someJob), Task: first.Key(), Ruling: job.Unsure, Reason: "r", Secret: []byte("x")}},
	}
}

func report() job.Report {
	return job.Report{
		Session:  "s",
		Machine:  &job.Machine{Facts: map[string][]string{"a": {"1", "2"}}, Devices: []job.Device{{Name: "cpu", Type: "cpu", Model: "m", Class: "c", MemoryBytes: 7}}},
		Bids:     []job.Bid{{Device: "cpu", Want: 2, Price: 0.25, Jobs: []job.ID{someJob}}},
		Progress: []job.Progress{{Lease: job.LeaseID(someJob), Task: -1, Fraction: 0.5, Phase: "fetching"}},
		Receipts: []job.Signed{{Body: []byte("b"), Sig: []byte("s")}},
		Inline:   []job.Block{{CID: task().Key(), Data: []byte("d")}},
		Leaving:  "lunch", Partial: [][]byte{{1}}, Commitments: [][]byte{{2}},
	}
}

func TestOrderRoundTrips(t *testing.T) {
	w, err := FromOrder(order())
	if err != nil {
		t.Fatal(err)
	}
	got, err := through(t, w, &Order{}).Value()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(order(), got, refs); d != "" {
		t.Error(d)
	}
}

func TestReportRoundTrips(t *testing.T) {
	got, err := through(t, FromReport(report()), &Report{}).Value()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(report(), got, refs); d != "" {
		t.Error(d)
	}
}

func TestOfferRoundTripsInAKilobyte(t *testing.T) {
	want := job.Offer{
		Job: someJob, Requester: somePeerID(t), Kind: "blender", InputBytes: 1 << 40, Open: 9, MaxPrice: 1.5,
		Needs: job.Needs{Require: map[string]string{"blender": "4.5.1", "oidn": "yes"}, Device: "gpu", MemoryBytes: 1 << 35, VRAMBytes: 1 << 34}, Expires: time.UnixMilli(1e12),
	}
	w := FromOffer(want)
	if n := proto.Size(&Gossip{Body: &Gossip_Offer{Offer: w}}); n > MaxGossip {
		t.Errorf("%d bytes", n)
	}
	got, err := through(t, w, &Offer{}).Value()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// through sends a message over a stream.
func through[M proto.Message](t *testing.T, in, out M) M {
	t.Helper()
	var b bytes.Buffer
	n, err := Write(&b, in, MaxSync)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Read(bufio.NewReader(iotest.OneByteReader(&b)), out, MaxSync)
	if err != nil || m != n {
		t.Fatalf("%d of %d bytes: %v", m, n, err)
	}
	return out
}

func TestConversionRefusesWhatIsOutOfBounds(t *testing.T) {
	for name, change := range map[string]func(*Report){
		"bid":              func(r *Report) { r.Bids[0].Want = 1 << 30 },
		"price":            func(r *Report) { r.Bids[0].Price = math.NaN() },
		"job":              func(r *Report) { r.Bids[0].Jobs[0] = "x" },
		"lease":            func(r *Report) { r.Progress[0].Lease = "x" },
		"fraction":         func(r *Report) { r.Progress[0].Fraction = 2 },
		"task":             func(r *Report) { r.Progress[0].Task = -2 },
		"receipt":          func(r *Report) { r.Receipts[0].Body = make([]byte, job.MaxReceiptBytes+1) },
		"receipts":         func(r *Report) { r.Receipts = make([]*Signed, 257) },
		"inline cid":       func(r *Report) { r.Inline[0].Cid = []byte{1} },
		"inline":           func(r *Report) { r.Inline[0].Data = make([]byte, job.MaxInlineBytes+1) },
		"fact twice":       func(r *Report) { r.Machine.Facts = append(r.Machine.Facts, r.Machine.Facts[0]) },
		"devices":          func(r *Report) { r.Machine.Devices = make([]*Device, job.MaxDevices+1) },
		"facts":            func(r *Report) { r.Machine.Facts[0].Values = make([]string, job.MaxFacts) },
		"partial results":  func(r *Report) { r.Partial = make([][]byte, 257) },
		"session too long": func(r *Report) { r.Session = strings.Repeat("x", 200) },
	} {
		r := FromReport(report())
		change(r)
		if _, err := r.Value(); err == nil {
			t.Errorf("report: %s accepted", name)
		}
	}
	for name, change := range map[string]func(*Order){
		"task":         func(o *Order) { o.Leases[0].Tasks[0].Task = []byte{0xff} },
		"no task":      func(o *Order) { o.Leases[0].Tasks[0].Task = nil },
		"large task":   func(o *Order) { o.Leases[0].Tasks[0].Task = make([]byte, job.MaxTaskBytes+1) },
		"disks":        func(o *Order) { o.Leases[0].Disks = []byte{1} },
		"no tasks":     func(o *Order) { o.Leases[0].Tasks = nil },
		"many tasks":   func(o *Order) { o.Leases[0].Tasks = make([]*Granted, job.MaxTasksPerLease+1) },
		"prior":        func(o *Order) { o.Leases[0].Tasks[1].Prior = nil },
		"lease":        func(o *Order) { o.Leases[0].Id = "x" },
		"time":         func(o *Order) { o.Leases[0].TtlNs = -1 },
		"grant":        func(o *Order) { o.Leases[0].Read.Body = make([]byte, MaxSignedBytes+1) },
		"stop":         func(o *Order) { o.Stops[0].Lease = "" },
		"ruling":       func(o *Order) { o.Settled[0].Ruling = strings.Repeat("x", 33) },
		"settled task": func(o *Order) { o.Settled[0].Task = nil },
		"settled job":  func(o *Order) { o.Settled[0].Job = "../" },
		"beat":         func(o *Order) { o.BeatEveryNs = -1 },
		"hash":         func(o *Order) { o.Leases[0].Tasks[0].SecretHash = make([]byte, 65) },
	} {
		o, err := FromOrder(order())
		if err != nil {
			t.Fatal(err)
		}
		change(o)
		if _, err := o.Value(); err == nil {
			t.Errorf("order: %s accepted", name)
		}
	}
	escaping := order()
	escaping.Leases[0].Tasks[0].Task.Outputs[0].Name = "../../etc/passwd"
	o, err := FromOrder(escaping)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Value(); err == nil {
		t.Error("an output outside its folder was accepted")
	}
}

// A ruling of a later version settles the work all the same.
func TestUnknownRulingIsUnsure(t *testing.T) {
	o, err := FromOrder(order())
	if err != nil {
		t.Fatal(err)
	}
	o.Settled[0].Ruling = "postponed"
	got, err := o.Value()
	if err != nil {
		t.Fatal(err)
	}
	if got.Settled[0].Ruling != job.Unsure || len(got.Leases) == 0 {
		t.Errorf("%+v", got)
	}
}

func TestTextForPeopleAlwaysTravels(t *testing.T) {
	r := job.Report{Leaving: "bad \xff utf-8 " + strings.Repeat("ä", job.MaxReasonBytes)}
	got, err := through(t, FromReport(r), &Report{}).Value()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(got.Leaving, "bad  utf-8") {
		t.Errorf("%.20q", got.Leaving)
	}
}

func TestFrameBounds(t *testing.T) {
	long := &Bye{Reason: strings.Repeat("x", 100)}
	if _, err := Append(nil, long, 50); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	b, err := Append(nil, long, 200)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Read(bufio.NewReader(bytes.NewReader(b)), &Bye{}, 50); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	body := len(b) - 1 // behind a length of one byte
	for most, tooLarge := range map[int]bool{body: false, body - 1: true} {
		if _, err := Append(nil, long, most); errors.Is(err, ErrTooLarge) != tooLarge {
			t.Errorf("%d bytes where %d are allowed: %v", body, most, err)
		}
		if _, err := Read(bufio.NewReader(bytes.NewReader(b)), &Bye{}, most); errors.Is(err, ErrTooLarge) != tooLarge {
			t.Errorf("%d bytes where %d are allowed: %v", body, most, err)
		}
	}
	for i := range b {
		_, err := Read(bufio.NewReader(bytes.NewReader(b[:i])), &Bye{}, 200)
		if want := io.ErrUnexpectedEOF; i > 0 && !errors.Is(err, want) {
			t.Errorf("cut at %d: %v", i, err)
		} else if i == 0 && err != io.EOF {
			t.Errorf("nothing: %v", err)
		}
	}
	for name, bad := range map[string][]byte{
		"endless length":        bytes.Repeat([]byte{0x80}, 20),
		"length not shortest":   {0x80, 0x00},
		"length in three bytes": append([]byte{byte(body)&0x7f | 0x80, 0x80, 0x00}, b[1:]...),
		"length beyond 35 bits": {0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		if _, err := Read(bufio.NewReader(bytes.NewReader(bad)), &Bye{}, 1<<30); err == nil {
			t.Errorf("%s accepted", name)
		}
	}
}

// A peer that announces much and sends little costs little.
func TestAnnouncedLengthTakesNoMemory(t *testing.T) {
	head := binary.AppendUvarint(nil, MaxSync)
	got := testing.AllocsPerRun(10, func() {
		if _, err := Read(bufio.NewReader(bytes.NewReader(head)), &Sync{}, MaxSync); err == nil {
			t.Error("no error")
		}
	})
	if got > 20 {
		t.Errorf("%v allocations", got)
	}
	if b, err := readBounded(bytes.NewReader(make([]byte, 300_000)), 300_000); err != nil || len(b) != 300_000 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	res := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			_, _ = readBounded(bytes.NewReader(nil), MaxSync)
		}
	})
	if res.AllocedBytesPerOp() > 128<<10 {
		t.Errorf("%d bytes for a frame that never came", res.AllocedBytesPerOp())
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = ReadPayload(bytes.NewReader(nil), MaxPayloadsPer) }); n > 3 {
		t.Errorf("%v allocations for a payload that never came", n)
	}
	for _, n := range []int{0, 1, payloadFirst, 2 * payloadFirst, 2*payloadFirst + 1, MaxPayloadsPer} {
		want := bytes.Repeat([]byte{7, 11, 13}, n/3+1)[:n]
		if b, err := ReadPayload(bytes.NewReader(want), n); err != nil || !bytes.Equal(b, want) {
			t.Errorf("payload of %d bytes: %d, %v", n, len(b), err)
		}
		if _, err := ReadPayload(bytes.NewReader(want[:max(n-1, 0)]), n); n > 0 && err != io.ErrUnexpectedEOF {
			t.Errorf("a byte of %d is missing: %v", n, err)
		}
	}
	if _, err := ReadPayload(bytes.NewReader(nil), MaxPayloadsPer+1); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a payload that is too large: %v", err)
	}
}

func TestFramesKeepTheirContent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var buf bytes.Buffer
		var want [][]byte
		for range rapid.IntRange(1, 5).Draw(t, "frames") {
			data := rapid.SliceOfN(rapid.Byte(), 0, 200_000).Draw(t, "data")
			want = append(want, data)
			if _, err := Write(&buf, &Block{Data: data}, MaxSync); err != nil {
				t.Fatal(err)
			}
		}
		r := bufio.NewReader(&buf)
		for _, w := range want {
			var b Block
			if _, err := Read(r, &b, MaxSync); err != nil || !bytes.Equal(b.Data, w) {
				t.Fatalf("%v", err)
			}
		}
	})
}

func FuzzSync(f *testing.F) {
	o, err := FromOrder(order())
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range []*Sync{{Seq: 1, Body: &Sync_Order{o}}, {Seq: 2, Ack: 1, Body: &Sync_Report{FromReport(report())}}, {Seq: 3}} {
		b, err := Append(nil, m, MaxSync)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Sync
		if _, err := Read(bufio.NewReader(bytes.NewReader(b)), &m, MaxSync); err != nil {
			return
		}
		// What was accepted can be said again, and means the same.
		if v, err := m.GetReport().Value(); m.GetReport() != nil && err == nil {
			again, err := FromReport(v).Value()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(v, again, refs); d != "" {
				t.Fatal(d)
			}
		}
		if v, err := m.GetOrder().Value(); m.GetOrder() != nil && err == nil {
			w, err := FromOrder(v)
			if err != nil {
				return // longer in our encoding than in theirs
			}
			if _, err := w.Value(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzGossip(f *testing.F) {
	b, err := proto.Marshal(&Gossip{Body: &Gossip_Offer{FromOffer(job.Offer{Job: someJob, Requester: "x", Kind: "echo", Open: 1})}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var g Gossip
		if proto.Unmarshal(b, &g) != nil || g.GetOffer() == nil {
			return
		}
		v, err := g.GetOffer().Value()
		if err != nil {
			return
		}
		if _, err := FromOffer(v).Value(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzBlocks(f *testing.F) {
	b, err := Append(nil, &Ask{Scope: &Scope{Job: string(someJob)}, Wants: []*Want{{Index: 1, Cid: []byte{1}}}}, MaxAsk)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		_, _ = Read(r, &Ask{}, MaxAsk)
		r = bufio.NewReader(bytes.NewReader(b))
		var head Answers
		if _, err := Read(r, &head, MaxAnswers); err != nil {
			return
		}
		for _, a := range head.Answers {
			if p, err := ReadPayload(r, int(a.Size)); err == nil && len(p) != int(a.Size) {
				t.Fatal("short payload")
			}
		}
	})
}

// BenchmarkReadPayload is what it takes to have one block in memory.
func BenchmarkReadPayload(b *testing.B) {
	for _, n := range []int{76 << 10, 256 << 10, MaxBlock} {
		b.Run(fmt.Sprint(n>>10, "KiB"), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ReadPayload(bytes.NewReader(data), n); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(n>>10, "KiB in steps"), func(b *testing.B) {
			data := make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := readBounded(bytes.NewReader(data), n); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
