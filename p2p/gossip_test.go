package p2p

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// A stranger that knows the topic neither hears offers nor makes any heard.
func TestStrangerOnTheTopic(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	lh, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer lh.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ps, err := pubsub.NewGossipSub(ctx, lh, pubsub.WithFloodPublish(true))
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join(topicName(farm[0].Membership().FarmID()))
	if err != nil {
		t.Fatal(err)
	}
	sub, err := topic.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan struct{}, 16)
	go func() {
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if m.GetFrom() != lh.ID() {
				heard <- struct{}{}
			}
		}
	}()
	for _, h := range farm {
		if err := lh.Connect(ctx, peer.AddrInfo{ID: h.ID(), Addrs: h.host.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
	forged := job.Offer{Job: job.NewID(time.Now()), Requester: lh.ID(), Kind: "echo", Open: 1, Expires: time.Now().Add(time.Minute)}
	b, err := proto.Marshal(&wire.Gossip{Body: &wire.Gossip_Offer{Offer: wire.FromOffer(forged)}})
	if err != nil {
		t.Fatal(err)
	}
	real := offer(farm[1])
	got := make(chan job.Offer, 16)
	go func() {
		for o := range farm[0].Offers(ctx) {
			got <- o
		}
	}()
	for lh.Network().Connectedness(farm[0].ID()) == network.Connected || lh.Network().Connectedness(farm[1].ID()) == network.Connected {
		if err := topic.Publish(ctx, b); err != nil {
			t.Fatal(err)
		}
		if err := farm[1].Announce(ctx, real); err != nil {
			t.Fatal(err)
		}
		select {
		case o := <-got:
			if o.Requester == lh.ID() {
				t.Fatal("a stranger's offer was heard")
			}
		case <-heard:
			t.Fatal("a stranger heard an offer")
		case <-time.After(200 * time.Millisecond):
		}
	}
}
