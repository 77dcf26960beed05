package p2p

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Limits for a studio of many nodes behind one address. libp2p's own (8
// connections and one new one in 5 s per IPv4 address) are for a public
// network of strangers.
const (
	connsPerAddress = 1024
	dialsPerSecond  = 64 // per address, with a burst of connsPerAddress
	maxConns        = 2048
	maxTransient    = 512
	// leastMemory is what all streams together may have as their windows, on a
	// small machine too: a studio's 200 nodes have some five streams each.
	leastMemory = 2 << 30
)

func newResourceManager() (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	scaled := scaling.AutoScale()
	partial := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Memory: max(leastMemory, scaled.ToPartialLimitConfig().System.Memory),
			Conns:  maxConns, ConnsInbound: maxConns, ConnsOutbound: maxConns,
			Streams: 16 * maxConns, StreamsInbound: 16 * maxConns, StreamsOutbound: 16 * maxConns,
		},
		Transient: rcmgr.ResourceLimits{
			Conns: maxTransient, ConnsInbound: maxTransient, ConnsOutbound: maxTransient,
			Streams: 2 * maxTransient, StreamsInbound: 2 * maxTransient, StreamsOutbound: 2 * maxTransient,
		},
	}
	limits := partial.Build(scaled)
	v6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: connsPerAddress}, {PrefixLength: 48, ConnCount: maxConns}}
	perSecond := rate.Limit{RPS: dialsPerSecond, Burst: connsPerAddress}
	return rcmgr.NewResourceManager(
		rcmgr.NewFixedLimiter(limits),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet([]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: connsPerAddress}}, v6),
		rcmgr.WithConnRateLimiters(&rate.Limiter{
			NetworkPrefixLimits: []rate.PrefixLimit{
				{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
				{Prefix: netip.MustParsePrefix("::1/128")},
			},
			SubnetRateLimiter: rate.SubnetLimiter{
				IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: perSecond}},
				IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: perSecond}},
				GracePeriod:      time.Minute,
			},
		}),
	)
}
