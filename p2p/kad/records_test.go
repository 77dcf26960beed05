package kad

import (
	"fmt"
	"testing"

	dsq "github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// Anybody may tell a node of the DHT something, under any key and as often as it
// likes: what is kept of it has a bound, and the farm's own is found all the same.
func TestRecordsAreFew(t *testing.T) {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	table, err := Start(Config{Host: h, Farm: "farm", Found: func(peer.AddrInfo) {}, Public: func() bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	store := table.dht.ProviderStore()
	say := func(key multihash.Multihash, n int) {
		sum, err := multihash.Sum(fmt.Appendf(nil, "peer %d", n), multihash.SHA2_256, -1)
		if err == nil {
			err = store.AddProvider(t.Context(), key, peer.AddrInfo{ID: peer.ID(sum)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for n := range 2 * maxRecords {
		other, err := multihash.Sum(fmt.Appendf(nil, "key %d", n), multihash.SHA2_256, -1)
		if err != nil {
			t.Fatal(err)
		}
		say(other, 0)
	}
	count := func() int {
		t.Helper()
		found, err := table.records.Query(t.Context(), dsq.Query{KeysOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		all, err := found.Rest()
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	if n := count(); n != 0 {
		t.Errorf("%d records under keys that nobody looks for", n)
	}
	const unwritten = 256  // that the DHT holds back
	for round := range 2 { // also when it was asked for before
		for n := range 2 * maxRecords {
			say(table.key.Hash(), round*2*maxRecords+n)
		}
		found, err := store.GetProviders(t.Context(), table.key.Hash())
		if err != nil {
			t.Fatal(err)
		}
		if n := count(); n == 0 || n > maxRecords || len(found) < n || len(found) > n+unwritten {
			t.Errorf("%d records, and %d are found", n, len(found))
		}
	}
}
