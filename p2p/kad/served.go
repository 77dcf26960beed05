package kad

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/simplelru"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dsync "github.com/ipfs/go-datastore/sync"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-base32"
)

// Bounds of what a node does for others who ask it. They are nobody: the library
// would take messages of 4 MiB from each of their streams, and keep every record
// about every key for two days.
const (
	maxServed     = 128      // streams
	maxServedEach = 8        // of one peer
	maxMessage    = 16 << 10 // a question, or a record with its addresses
	maxRecords    = 512
	recordTime    = 2 * time.Hour // Pace.Say is shorter
)

// servingHost is a host on which a DHT answers within bounds.
type servingHost struct {
	host.Host

	mu     sync.Mutex
	served map[peer.ID]int // streams
	all    int
}

func newServingHost(h host.Host) *servingHost {
	return &servingHost{Host: h, served: map[peer.ID]int{}}
}

// SetStreamHandler implements host.Host.
func (h *servingHost) SetStreamHandler(id protocol.ID, f network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) {
		p := s.Conn().RemotePeer()
		if !h.enter(p) {
			s.Reset()
			return
		}
		defer h.leave(p)
		f(&boundStream{Stream: s})
	})
}

func (h *servingHost) enter(p peer.ID) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= maxServed || h.served[p] >= maxServedEach {
		return false
	}
	h.all++
	h.served[p]++
	return true
}

func (h *servingHost) leave(p peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if h.served[p]--; h.served[p] == 0 {
		delete(h.served, p)
	}
}

// boundStream ends where a message begins that is too long: before whoever reads
// it takes memory for it.
type boundStream struct {
	network.Stream
	frames frames
}

var errTooLong = errors.New("kad: message over its bound")

// Read implements network.Stream.
func (s *boundStream) Read(b []byte) (int, error) {
	n, err := s.Stream.Read(b)
	if !s.frames.take(b[:n]) {
		s.Reset()
		return 0, errTooLong
	}
	return n, err
}

// frames follows a stream of messages, each behind its length as a varint.
type frames struct {
	head uint64
	bits uint
	left uint64 // of the present message
}

// take reports whether none that begins in b is longer than maxMessage.
func (f *frames) take(b []byte) bool {
	for len(b) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(b)))
			f.left -= n
			b = b[n:]
			continue
		}
		c := b[0]
		b = b[1:]
		f.head |= uint64(c&0x7f) << f.bits
		if f.head > maxMessage || f.bits > 21 { // also one that is written longer than it is
			return false
		}
		if c >= 0x80 {
			f.bits += 7
			continue
		}
		f.left, f.head, f.bits = f.head, 0, 0
	}
	return true
}

// keeps are the options by which a DHT keeps records about one key, and of those a
// bounded number.
func keeps(key cid.Cid) ([]dht.Option, error) {
	none, err := lru.NewLRU(1, nil)
	if err != nil {
		return nil, err
	}
	about := datastore.NewKey(records.ProvidersKeyPrefix + base32.RawStdEncoding.EncodeToString(key.Hash()))
	return []dht.Option{
		dht.ProviderDatastore(dsync.MutexWrap(&recordStore{MapDatastore: datastore.NewMapDatastore(), about: about})),
		dht.ProviderManagerOpts(records.Cache(uncached{none}), records.ProvideValidity(recordTime), records.ProviderAddrTTL(recordTime)),
	}, nil
}

// recordStore holds what others said about one key. Where it is full, one that is
// drawn makes room: of those who say it again and again, some are always there.
type recordStore struct {
	*datastore.MapDatastore
	about datastore.Key
	held  []datastore.Key
}

var _ datastore.Batching = (*recordStore)(nil)

// Put implements datastore.Write.
func (s *recordStore) Put(ctx context.Context, k datastore.Key, v []byte) error {
	if !s.about.IsAncestorOf(k) {
		return nil
	}
	if there, err := s.Has(ctx, k); err != nil || there {
		return errors.Join(err, s.MapDatastore.Put(ctx, k, v))
	}
	if len(s.held) >= maxRecords {
		if err := s.Delete(ctx, s.held[rand.IntN(len(s.held))]); err != nil {
			return err
		}
	}
	s.held = append(s.held, k)
	return s.MapDatastore.Put(ctx, k, v)
}

// Delete implements datastore.Write.
func (s *recordStore) Delete(ctx context.Context, k datastore.Key) error {
	for i, h := range s.held {
		if h == k {
			last := len(s.held) - 1
			s.held[i] = s.held[last]
			s.held = s.held[:last]
			break
		}
	}
	return s.MapDatastore.Delete(ctx, k)
}

// Batch implements datastore.Batching.
func (s *recordStore) Batch(context.Context) (datastore.Batch, error) {
	return datastore.NewBasicBatch(s), nil
}

// uncached is a cache that holds nothing: a set of records that it held would grow
// beside the store.
type uncached struct{ *lru.LRU }

// Get implements lru.LRUCache.
func (uncached) Get(any) (any, bool) { return nil, false }

// Add implements lru.LRUCache.
func (uncached) Add(any, any) bool { return false }
