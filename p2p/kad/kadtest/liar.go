// Package kadtest makes hostile nodes of a farm's DHT.
package kadtest

import (
	"bufio"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protodelim"

	"idlewild/p2p/kad"
)

// Lie has h answer every question of a farm's DHT: the nearest nodes, and those
// who let others in, are all. asked is called each time.
func Lie(h host.Host, farm string, all func() []peer.AddrInfo, asked func()) {
	h.SetStreamHandler(kad.Prefix(farm)+"/kad/1.0.0", func(s network.Stream) {
		defer s.Close()
		r := bufio.NewReader(s)
		for {
			var q pb.Message
			if err := protodelim.UnmarshalFrom(r, &q); err != nil {
				return
			}
			asked()
			if q.GetType() == pb.Message_ADD_PROVIDER {
				continue
			}
			liars := pb.RawPeerInfosToPBPeers(all())
			a := &pb.Message{Type: q.GetType(), Key: q.GetKey(), CloserPeers: liars, ProviderPeers: liars}
			if q.GetType() == pb.Message_PING {
				a = &q
			}
			if _, err := protodelim.MarshalTo(s, a); err != nil {
				return
			}
		}
	})
}

// Near is how many leading bits of a peer's place are those of the farm's key.
func Near(p peer.ID, farm string) int {
	return kb.CommonPrefixLen(kb.ConvertPeerID(p), kb.ConvertKey(string(kad.Key(farm).Hash())))
}
