package kad

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/ipfs/go-datastore"
	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"google.golang.org/protobuf/encoding/protodelim"
)

func testHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// asker is somebody who asks a node of the DHT.
func asker(t *testing.T, of host.Host) (open func() network.Stream) {
	t.Helper()
	h := testHost(t)
	if err := h.Connect(t.Context(), peer.AddrInfo{ID: of.ID(), Addrs: of.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return func() network.Stream {
		s, err := h.NewStream(t.Context(), of.ID(), Prefix("farm")+"/kad/1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Reset() })
		return s
	}
}

// ping reports whether a question is answered.
func ping(s network.Stream) bool {
	if _, err := protodelim.MarshalTo(s, &pb.Message{Type: pb.Message_PING}); err != nil {
		return false
	}
	var a pb.Message
	return protodelim.UnmarshalFrom(bufio.NewReader(s), &a) == nil
}

// ends waits for a stream's end.
func ends(t *testing.T, s network.Stream) {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := s.Read(b[:]); err == nil {
		t.Error("an answer")
	} else if te, ok := err.(interface{ Timeout() bool }); ok && te.Timeout() {
		t.Error("the stream is still there")
	}
}

// TestHostileAskers: long messages, more streams than one peer needs, and streams
// that say nothing keep a node from nobody else's questions.
func TestHostileAskers(t *testing.T) {
	node := testHost(t)
	table, err := Start(Config{Host: node, Farm: "farm", Found: func(peer.AddrInfo) {}, Public: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for name, b := range map[string][]byte{
		"4 MiB":             binary.AppendUvarint(nil, 4<<20-1),
		"one byte too long": binary.AppendUvarint(nil, maxMessage+1),
		"as much as can be": bytes.Repeat([]byte{0xff}, 20),
		"a long nothing":    append(bytes.Repeat([]byte{0x80}, 9), 0),
		"no message":        append(binary.AppendUvarint(nil, 4), 0xff, 0xff, 0xff, 0xff),
		"the second": append(func() []byte {
			var w bytes.Buffer
			_, _ = protodelim.MarshalTo(&w, &pb.Message{Type: pb.Message_ADD_PROVIDER, Key: []byte("k")})
			return w.Bytes()
		}(), 0xff, 0xff, 0x7f),
	} {
		t.Run(name, func(t *testing.T) {
			s := asker(t, node)()
			if _, err := s.Write(b); err != nil {
				t.Fatal(err)
			}
			ends(t, s)
		})
	}
	crowd := asker(t, node)
	answered := 0
	for range 4 * maxServedEach {
		s := crowd()
		if ping(s) { // and it stays open
			answered++
		}
	}
	if answered != maxServedEach {
		t.Errorf("%d streams of one peer are served", answered)
	}
	silent := asker(t, node)
	for range maxServedEach {
		if _, err := silent().Write([]byte{0x10}); err != nil {
			t.Fatal(err)
		}
	}
	if !ping(asker(t, node)()) {
		t.Error("nobody else is answered")
	}
}

// TestRecordsHaveABound: about the farm's key alone, as many as there is room for.
func TestRecordsHaveABound(t *testing.T) {
	ctx := t.Context()
	key := Key("farm")
	opts, err := keeps(key)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dht.New(testHost(t), append(opts, dht.Mode(dht.ModeServer), dht.ProtocolPrefix(Prefix("farm")), dht.DisableValues())...)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	store := d.ProviderStore()
	other := Key("another")
	for i := range 3 * maxRecords {
		id, err := multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		p := peer.AddrInfo{ID: peer.ID(id)}
		for _, k := range [][]byte{key.Hash(), other.Hash()} {
			if err := store.AddProvider(ctx, k, p); err != nil {
				t.Fatal(err)
			}
		}
		if i%100 == 0 { // whoever asks makes no second copy
			if _, err := store.GetProviders(ctx, key.Hash()); err != nil {
				t.Fatal(err)
			}
		}
	}
	const pending = 256 // the library writes that many at once
	if got, err := store.GetProviders(ctx, key.Hash()); err != nil || len(got) < maxRecords/2 || len(got) > maxRecords+pending {
		t.Errorf("%d records are kept, %v", len(got), err)
	}
	if got, err := store.GetProviders(ctx, other.Hash()); err != nil || len(got) > pending {
		t.Errorf("%d records about another key, %v", len(got), err)
	}
}

func TestRecordStore(t *testing.T) {
	ctx := context.Background()
	s := &recordStore{MapDatastore: datastore.NewMapDatastore(), about: datastore.NewKey(records.ProvidersKeyPrefix + "KEY")}
	at := func(i int) datastore.Key { return s.about.ChildString(fmt.Sprint(i)) }
	for i := range 2 * maxRecords {
		for range 2 {
			if err := s.Put(ctx, at(i), []byte{1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Put(ctx, datastore.NewKey(records.ProvidersKeyPrefix+"ANOTHER/1"), nil); err != nil {
		t.Fatal(err)
	}
	there := 0
	for i := range 2 * maxRecords {
		if ok, _ := s.Has(ctx, at(i)); ok {
			there++
			if err := s.Delete(ctx, at(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if there != maxRecords || len(s.held) != 0 {
		t.Errorf("%d records, %d after all were deleted", there, len(s.held))
	}
}

// FuzzFrames holds the follower against a reader of whole messages, however the
// stream is cut.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 0, 1, 9}, uint8(2))
	f.Add(binary.AppendUvarint(nil, maxMessage+1), uint8(1))
	f.Add(bytes.Repeat([]byte{0x80}, 12), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		want := true
		for rest := b; len(rest) > 0; {
			n, head := binary.Uvarint(rest)
			if head == 0 {
				// Not at its end yet: too long as soon as it must be.
				v := uint64(0)
				for i, c := range rest {
					if v |= uint64(c&0x7f) << (7 * i); v > maxMessage || i > 3 {
						want = false
						break
					}
				}
				break
			}
			if head < 0 || n > maxMessage || head > 4 {
				want = false
				break
			}
			rest = rest[head:]
			rest = rest[min(n, uint64(len(rest))):]
		}
		var v frames
		got := true
		step := int(cut)%7 + 1
		for i := 0; i < len(b) && got; i += step {
			got = v.take(b[i:min(i+step, len(b))])
		}
		if got != want {
			t.Errorf("%x: passes %v, want %v", b, got, want)
		}
		if v.left > maxMessage {
			t.Errorf("a message of %d bytes is under way", v.left)
		}
	})
}
