package job

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func newPeer(t *testing.T) (crypto.PrivKey, peer.ID) {
	t.Helper()
	priv, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return priv, id
}

func sampleTask() Task {
	return Task{
		Kind:    "echo",
		Params:  []byte(`{"n":1}`),
		Outputs: []OutputRule{{Name: "a/b.txt", Media: MediaFile, Final: "b.txt"}},
		Label:   "1",
		Needs:   Needs{Require: map[string]string{"echo": "1"}},
	}
}

func TestTaskKeyCoversWhatDeterminesOutputsAndNothingElse(t *testing.T) {
	base := sampleTask()
	key := base.Key()
	same := []func(*Task){
		func(x *Task) { x.Label = "other" },
		func(x *Task) { x.Needs = Needs{} },
		func(x *Task) { x.Place = AtRequester },
		func(x *Task) { x.Timeout = time.Hour },
		func(x *Task) { x.Rank = 9 },
		func(x *Task) { x.Check.Method = CheckExact },
		func(x *Task) { x.After = []TaskKey{} },
	}
	for i, f := range same {
		c := sampleTask()
		f(&c)
		if c.Key() != key {
			t.Errorf("same[%d]: key changed", i)
		}
	}
	other := []func(*Task){
		func(x *Task) { x.Kind = "blender" },
		func(x *Task) { x.Params = []byte(`{"n":2}`) },
		func(x *Task) { x.Input = key },
		func(x *Task) { x.Part.Tile = Rect{0, 0, 1, 1} },
		func(x *Task) { x.Part.Samples = Range{0, 1} },
		func(x *Task) { x.Outputs[0].Name = "c" },
		func(x *Task) { x.After = []TaskKey{key} },
	}
	for i, f := range other {
		c := sampleTask()
		f(&c)
		if c.Key() == key {
			t.Errorf("other[%d]: key did not change", i)
		}
	}
}

func TestTaskEncodingRoundTrips(t *testing.T) {
	want := sampleTask()
	want.After = []TaskKey{want.Key()}
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Task
	if err := Decode(b, MaxTaskBytes, &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b Ref) bool { return a == b })); d != "" {
		t.Error(d)
	}
	if got.Key() != want.Key() {
		t.Error("key changed on the way")
	}
	if err := Decode(b, len(b)-1, &got); err == nil {
		t.Error("size bound not kept")
	}
	if err := Decode(append(b, 0), MaxTaskBytes, &got); err == nil {
		t.Error("trailing byte accepted")
	}
}

func TestSafeName(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "../a", "/a", "a/../b", "a//b", "a\\b", "c:x", "a\x00", "a/", "\xff"} {
		if SafeName(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	for _, good := range []string{"a", "a/b", "ä b/0001.png", "..a"} {
		if err := SafeName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestReceiptIsBoundToWorkerRequesterAndBytes(t *testing.T) {
	key, worker := newPeer(t)
	_, requester := newPeer(t)
	_, other := newPeer(t)
	leaf := Leaf{Task: sampleTask().Key(), Fence: 3, Outcome: Succeeded}
	s, err := SignReceipt(key, Receipt{Version: 1, Worker: worker.String(), Requester: requester.String(), Leaves: []Leaf{leaf}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReceipt(s, worker, requester); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReceipt(s, other, requester); err == nil {
		t.Error("accepted as another worker's")
	}
	if _, err := OpenReceipt(s, worker, other); err == nil {
		t.Error("accepted for another requester")
	}
	for i := range s.Body {
		bad := Signed{Body: append([]byte(nil), s.Body...), Sig: s.Sig}
		bad.Body[i] ^= 1
		if _, err := OpenReceipt(bad, worker, requester); err == nil {
			t.Fatalf("accepted with byte %d flipped", i)
		}
	}
	if err := s.Open(worker, ContextOffer, MaxReceiptBytes, new(Receipt)); err == nil {
		t.Error("signature valid in another context")
	}
}

func TestReadGrantExpires(t *testing.T) {
	key, requester := newPeer(t)
	_, reader := newPeer(t)
	now := time.Unix(1e9, 0)
	s, err := Sign(key, ContextRead, ReadGrant{Version: 1, Reader: reader.String(), Expires: now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReadGrant(s, requester, reader, now); err != nil {
		t.Error(err)
	}
	if _, err := OpenReadGrant(s, requester, reader, now.Add(time.Second)); err == nil {
		t.Error("expired grant accepted")
	}
	if _, err := OpenReadGrant(s, requester, requester, now); err == nil {
		t.Error("grant of another reader accepted")
	}
}

func TestMachineHas(t *testing.T) {
	m := Machine{Facts: map[string][]string{"blender": {"3.4.1", "4.2.1"}}}
	cpu := Device{Name: "cpu", Type: "cpu"}
	if !m.Has(Needs{Require: map[string]string{"blender": "4.2.1"}}, cpu) {
		t.Error("has it")
	}
	for _, n := range []Needs{
		{Require: map[string]string{"blender": "5.0.0"}},
		{Require: map[string]string{"oidn": "yes"}},
		{Device: "gpu"},
	} {
		if m.Has(n, cpu) || m.Lacks(n, cpu) == "" {
			t.Errorf("%v: has it not, and should say so: %q", n, m.Lacks(n, cpu))
		}
	}
}

func FuzzDecodeReceipt(f *testing.F) {
	b, _ := Encode(Receipt{Version: 1, Leaves: []Leaf{{Outcome: Succeeded}}})
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Receipt
		if Decode(b, MaxReceiptBytes, &r) != nil {
			return
		}
		again, err := Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		var r2 Receipt
		if err := Decode(again, 2*MaxReceiptBytes, &r2); err != nil {
			t.Fatalf("what was encoded does not decode: %v", err)
		}
	})
}

func TestFactsOfATypeOfDevice(t *testing.T) {
	m := Machine{Facts: map[string][]string{"onnx@cpu": {"1"}, "ai": {"1"}}}
	n := Needs{Require: map[string]string{"onnx": "1", "ai": "1"}}
	if !m.Has(n, Device{Type: "cpu"}) || m.Has(n, Device{Type: "gpu"}) {
		t.Error("a fact of the CPU")
	}
	if why := m.Lacks(n, Device{Type: "gpu"}); !strings.Contains(why, "onnx 1, which is not here") {
		t.Error(why)
	}
}

func TestMachineHasMemory(t *testing.T) {
	cpu := Device{Name: "cpu", Type: "cpu", MemoryBytes: 32 << 30}
	card := Device{Name: "GPU-1", Type: "gpu", Model: "RTX 3070", MemoryBytes: 8 << 30}
	old := Device{Name: "GPU-2", Type: "gpu"}
	m := Machine{Devices: []Device{cpu, card, old}}
	for _, c := range []struct {
		n    Needs
		d    Device
		want string
	}{
		{Needs{VRAMBytes: 8 << 30}, card, ""},
		{Needs{VRAMBytes: 93 << 30 / 10}, card, "needs 9.3 GB of GPU memory, RTX 3070 has 8.0 GB"},
		{Needs{VRAMBytes: 8<<30 + 1}, card, "needs 8193 MB of GPU memory, RTX 3070 has 8192 MB"},
		{Needs{VRAMBytes: 1 << 60}, cpu, ""},                                                                                 // it takes none of it
		{Needs{VRAMBytes: 1 << 60, MemoryBytes: 1 << 60}, old, "needs 1073741824.0 GB of memory, here work may use 32.0 GB"}, // of its own it says nothing
		{Needs{MemoryBytes: 32 << 30}, cpu, ""},
		{Needs{MemoryBytes: 33 << 30}, cpu, "needs 33.0 GB of memory, here work may use 32.0 GB"},
		{Needs{MemoryBytes: 33 << 30}, card, "needs 33.0 GB of memory, here work may use 32.0 GB"},
		{Needs{MemoryBytes: 33 << 30}, Device{Name: "cpu", Type: "cpu"}, ""},
	} {
		if m.Has(c.n, c.d) != (c.want == "") || m.Lacks(c.n, c.d) != c.want {
			t.Errorf("%+v on %s: %q, want %q", c.n, c.d.Name, m.Lacks(c.n, c.d), c.want)
		}
	}
	if !(Machine{}).Has(Needs{MemoryBytes: 1 << 60}, card) {
		t.Error("a machine that does not say how much memory it has is as before")
	}
}

func TestMemoryOfADeviceIsBounded(t *testing.T) {
	for bytes, ok := range map[int64]bool{-1: false, 0: true, MaxMemoryBytes: true, MaxMemoryBytes + 1: false, 1<<63 - 1: false} {
		m := Machine{Devices: []Device{{Name: "cpu", Type: "cpu", MemoryBytes: bytes}}}
		if err := m.Validate(); (err == nil) != ok {
			t.Errorf("%d bytes: %v", bytes, err)
		}
	}
}

// A requester that does not read of memory gets an account that it understands.
func TestLeaseReadable(t *testing.T) {
	short := Leaf{Outcome: OutOfVRAM, Meter: Meter{VRAM: 5, Peak: 6}}
	if got := (Lease{Memory: true}).Readable(short); got.Outcome != OutOfVRAM || got.Meter.VRAM != 5 {
		t.Errorf("%+v", got)
	}
	old := Lease{}.Readable(short)
	if old.Outcome != Broken || old.Meter.VRAM != 0 || old.Meter.Peak != 6 {
		t.Errorf("%+v", old)
	}
	b, err := Encode(old)
	if err != nil || strings.Contains(string(b), "vram") {
		t.Errorf("an old program refuses it: %q, %v", b, err)
	}
}

// A job that is larger than every device by estimate is warned of, no more.
func TestDoubts(t *testing.T) {
	gpu := func(gb int64) Device { return Device{Name: "GPU-1", Type: "gpu", Model: "Card", MemoryBytes: gb << 30} }
	cpu := func(gb int64) Device { return Device{Name: "cpu", Type: "cpu", MemoryBytes: gb << 30} }
	for _, c := range []struct {
		n       Needs
		devices []Device
		want    []string
	}{
		{Needs{}, []Device{gpu(8)}, nil},
		{Needs{VRAMBytes: 8 << 30, MemoryBytes: 8 << 30}, []Device{gpu(8), cpu(8)}, nil},
		{Needs{VRAMBytes: 9 << 30, MemoryBytes: 9 << 30}, []Device{gpu(8), gpu(24), cpu(8), cpu(16)}, nil},
		{Needs{VRAMBytes: 9 << 30}, nil, nil}, // nobody is known yet
		{Needs{VRAMBytes: 9 << 30}, []Device{gpu(8), gpu(0)}, nil},
		{Needs{VRAMBytes: 9 << 30, MemoryBytes: 10 << 30}, []Device{gpu(6), gpu(8), cpu(16)},
			[]string{"about 9.0 GB of GPU memory by estimate, and the most that a device here has for work is 8.0 GB (Card); CPUs do"}},
		{Needs{VRAMBytes: 9 << 30, MemoryBytes: 20 << 30}, []Device{gpu(8), cpu(16), {Name: HomeDevice, Type: "cpu", MemoryBytes: 1 << 40}},
			[]string{"9.0 GB of GPU memory by estimate, and the most that a device here has for work is 8.0 GB (Card); let a machine", "20.0 GB of memory"}},
		{Needs{Device: "cpu", VRAMBytes: 9 << 30, MemoryBytes: 1 << 30}, []Device{gpu(8), cpu(16)}, nil},
	} {
		in := Inspection{Estimate: c.n}
		found := in.Doubts([]Machine{{Devices: c.devices}})
		if len(found) != len(c.want) {
			t.Errorf("%+v: %v, want %q", c.n, found, c.want)
			continue
		}
		for i, p := range found {
			if p.Severity != SeverityWarning || !strings.Contains(strings.ReplaceAll(p.Message+"; "+p.Remedy, "\n", " "), c.want[i]) {
				t.Errorf("%+v: %v, want %q", c.n, p, c.want[i])
			}
		}
	}
}
