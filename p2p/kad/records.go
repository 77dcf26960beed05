package kad

import (
	"context"
	"encoding/base32"
	"sync"

	lru "github.com/hashicorp/golang-lru/simplelru"
	ds "github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	provided "github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/multiformats/go-multihash"
)

// maxRecords bounds who is remembered to have said that it lets others in.
const maxRecords = 1024

// records are what others say under the farm's key. Under another one nobody of
// this farm looks, and whoever can reach this node may say something: none of that
// is kept, and of the farm's key so much and no more.
type records struct {
	ds.Datastore
	under ds.Key

	mu   sync.Mutex
	kept map[ds.Key]struct{}
}

var _ ds.Batching = (*records)(nil)

func newRecords(key multihash.Multihash) *records {
	return &records{
		Datastore: dssync.MutexWrap(ds.NewMapDatastore()), kept: map[ds.Key]struct{}{},
		under: ds.NewKey(provided.ProvidersKeyPrefix + base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)),
	}
}

// Put keeps a record, in place of any other where there is no room: a flood of
// liars keeps nobody out for long, because who is here says so again and again.
func (r *records) Put(ctx context.Context, k ds.Key, v []byte) error {
	if !r.under.IsAncestorOf(k) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, had := r.kept[k]; !had && len(r.kept) >= maxRecords {
		for other := range r.kept { // in no order
			if err := r.Datastore.Delete(ctx, other); err != nil {
				return err
			}
			delete(r.kept, other)
			break
		}
	}
	r.kept[k] = struct{}{}
	return r.Datastore.Put(ctx, k, v)
}

// Delete implements ds.Write.
func (r *records) Delete(ctx context.Context, k ds.Key) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.kept, k)
	return r.Datastore.Delete(ctx, k)
}

// Batch implements ds.BatchingFeature.
func (r *records) Batch(context.Context) (ds.Batch, error) { return ds.NewBasicBatch(r), nil }

// noCache remembers nothing. The DHT's own keeps all that was ever said under a key
// that is asked for; the records are in memory anyhow.
type noCache struct{ lru.LRUCache }

// Get implements lru.LRUCache.
func (noCache) Get(any) (any, bool) { return nil, false }

// Add implements lru.LRUCache.
func (noCache) Add(any, any) bool { return false }
