package p2p

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"idlewild/internal/beat"
	"idlewild/p2p/kad"
	"idlewild/p2p/wire"
)

// Config of a Host. Key and DataDir are required.
type Config struct {
	Key     crypto.PrivKey // this node's identity, ed25519
	DataDir string         // the farm is kept in its folder "farm"
	Log     *slog.Logger   // nil: nothing is logged

	// Listen holds multiaddrs; if empty, TCP and QUIC on every address. A port
	// 0 is that of the last start where it is still free.
	Listen  []string
	Name    string // of this node, for people; empty: the host name
	Version string // of the program, shown to peers
	MDNS    bool   // find members on the local network, and be found
	Codec   Codec  // deltas of blocks; nil: none are asked for
	Editor  Editor // documents of edits; nil: none are given
	Words   Words  // what is said of other members; nil: nothing
	// MaxPeers is how many members are dialled to stay connected; 0: 256, less: none.
	// Members that dial us come on top of it.
	MaxPeers int
	// UpBytes and DownBytes bound the bytes of blocks that pass in a second; 0:
	// no bound.
	UpBytes, DownBytes int64
	// Exchange is what moves blocks: ExchangeOurs or ExchangeBitswap. Documents
	// of edits are always ours.
	Exchange string

	// Traverse reaches members across routers: this node lets itself be reached
	// through members that relay, and punches holes. Without it there is the
	// local network, and what can be dialled.
	Traverse bool
	// PortMap asks the router to pass our port on (UPnP, NAT-PMP, PCP).
	PortMap bool
	// RelayBytes is what this node carries for members who cannot reach each
	// other, in a day; 0: it is no relay. It needs Traverse.
	RelayBytes int64

	// Strangers is asked about peers that are no members and may be here because
	// the farm is open; nil: none are let in.
	Strangers Strangers

	// DHT takes part in a DHT of the farm while that is open to strangers. Nodes
	// that are asked first there are the Bootstraps, multiaddrs with a peer ID.
	DHT        bool
	Bootstraps []string

	// Tests have a DHT that is faster, and answers though nobody outside could
	// reach it; or they say at which addresses a node may be reached from outside,
	// private ones as well.
	pace    kad.Pace
	public  bool
	outside func() []ma.Multiaddr

	// Release is for tests of releases that are apart; nil: this one.
	Release *Release
}

// Host is this machine on the network.
type Host struct {
	// constant after construction
	cfg     Config
	log     *slog.Logger
	up      *throttle // of blocks
	down    *throttle
	host    host.Host
	guarded host.Host // host, for members only
	shared  host.Host // host, for members and strangers that were let in
	members *Membership
	gate    *gate
	keeper  *keeper
	offers  *offers
	pubsub  *pubsub.PubSub
	paths   *paths
	release Release
	skews   skews
	// where Config.Traverse is set
	reserver *reserver
	puncher  *puncher
	reach    *reachability
	ctx      context.Context // ends with Close
	stop     context.CancelFunc
	stats    counters
	callers  callers
	metered  atomic.Bool

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // guarded by mu against Add after Wait
	mdns   closer
	kad    *kad.Table // nil: not now
	coord  Coordinator
	blocks *blockServer
	fetch  fetchSource
	shares shares
	swap   *bitswapExchange // nil: our own exchange
	// engaged counts the sync streams with a member.
	engaged  map[peer.ID]int
	renewing atomic.Bool      // a new certificate of this node is looked for
	working  atomic.Bool      // this node works for its certificate as a stranger
	taking   map[peer.ID]bool // members that take strangers, by their word
	// abilities are the capabilities that members told of themselves.
	abilities map[peer.ID]uint32
}

type closer interface{ Close() error }

// Stats counts what went over this host since it began.
type Stats struct {
	SyncSent, SyncReceived int64 // messages
	SyncDropped            int64 // messages that were queued when their stream was cut
	SyncCut                int64 // streams that were cut, not closed
	BlockBytesOut          int64 // as they crossed the network, heads included
	BlockBytesIn           int64
	Refused                int64 // streams and gossip of strangers
	Malformed              int64 // messages that could not be read
	Unknown                int64 // messages of a sort that only a newer program knows, left out
	OffersDropped          int64
	BlocksTwice            int64 // blocks that came once more than needed
	Relayed                int64 // bytes carried for other members
}

type counters struct {
	syncSent, syncReceived, syncDropped, syncCut atomic.Int64
	blocksOut, blocksIn                          atomic.Int64
	refused, malformed, dropped, blocksTwice     atomic.Int64
	unknown                                      atomic.Int64
	relayed                                      atomic.Int64
}

// Stats returns the counters.
func (h *Host) Stats() Stats {
	c := &h.stats
	return Stats{
		SyncSent: c.syncSent.Load(), SyncReceived: c.syncReceived.Load(), SyncDropped: c.syncDropped.Load(), SyncCut: c.syncCut.Load(),
		BlockBytesOut: c.blocksOut.Load(), BlockBytesIn: c.blocksIn.Load(),
		Refused: c.refused.Load(), Malformed: c.malformed.Load(), Unknown: c.unknown.Load(), OffersDropped: c.dropped.Load(),
		Relayed:     c.relayed.Load(),
		BlocksTwice: c.blocksTwice.Load(),
	}
}

// New brings this machine onto the network. The host lives until Close.
func New(cfg Config) (*Host, error) {
	if cfg.Key == nil || cfg.DataDir == "" {
		return nil, errors.New("p2p: key and data folder are required")
	}
	self, err := peer.IDFromPrivateKey(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("p2p: key: %w", err)
	}
	if _, err := infosFrom(cfg.Bootstraps); err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	members, g, err := prepare(self, &cfg)
	if err != nil {
		return nil, err
	}
	rm, err := newResourceManager()
	if err != nil {
		return nil, fmt.Errorf("p2p: limits: %w", err)
	}
	cm, err := connmgr.NewConnManager(maxConns/2, maxConns*3/4, connmgr.WithGracePeriod(time.Minute))
	if err != nil {
		return nil, fmt.Errorf("p2p: connection manager: %w", err)
	}
	lh, err := libp2p.New(append(traversal(cfg),
		libp2p.Identity(cfg.Key),
		libp2p.NoListenAddrs, // below, one by one
		libp2p.Transport(tcp.NewTCPTransport, tcp.WithConnectionTimeout(5*time.Second)),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Security(libp2ptls.ID, libp2ptls.New),
		Muxer(),
		libp2p.ResourceManager(rm),
		libp2p.ConnectionManager(cm),
		libp2p.ConnectionGater(g),
		libp2p.UserAgent("idlewild/"+cfg.Version),
		libp2p.ProtocolVersion("idlewild/1"),
		libp2p.Ping(false), // answered below, for members
		libp2p.DisableMetrics(),
		libp2p.WithDialTimeout(10*time.Second),
		libp2p.DialRanker(rankDials),
	)...)
	if err != nil {
		return nil, fmt.Errorf("p2p: %w", err)
	}
	beat.From(time.Now()) // libp2p's own looks began just now
	if err := listen(lh, cfg); err != nil {
		lh.Close()
		return nil, err
	}
	h, err := wrap(lh, cfg, members, g)
	if err != nil {
		return nil, err
	}
	h.goRun(h.watchMachine)
	if cfg.Traverse {
		if err := errors.Join(h.startRelay(), h.startChecks()); err != nil {
			h.Close()
			return nil, err
		}
		h.goRun(h.observe)
		h.goRun(h.reserver.run)
		h.goRun(h.puncher.run)
	}
	return h, nil
}

// traversal are the options that decide about routers and relays.
func traversal(cfg Config) []libp2p.Option {
	var out []libp2p.Option
	if cfg.PortMap && !onlyLoopback(cfg.Listen) {
		out = append(out, libp2p.NATPortMap())
	}
	if !cfg.Traverse {
		return append(out, libp2p.DisableRelay())
	}
	return append(out, libp2p.EnableRelay())
}

// Wrap makes a Host out of a libp2p host that exists already, as tests with
// networks in memory do. It owns lh from then on. The limits on strangers that
// need a connection gater are missing there.
func Wrap(lh host.Host, cfg Config) (*Host, error) {
	members, g, err := prepare(lh.ID(), &cfg)
	if err != nil {
		return nil, err
	}
	cfg.Traverse, cfg.PortMap = false, false
	return wrap(lh, cfg, members, g)
}

func prepare(self peer.ID, cfg *Config) (*Membership, *gate, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Log = cfg.Log.With("part", "p2p")
	if cfg.Name == "" {
		cfg.Name, _ = os.Hostname()
	}
	if len(cfg.Version) > wire.MaxVersionBytes {
		return nil, nil, fmt.Errorf("p2p: version of %d bytes", len(cfg.Version))
	}
	if checkName(cfg.Name) != nil {
		s := self.String()
		cfg.Name = "node-" + s[len(s)-6:]
	}
	if cfg.MaxPeers == 0 {
		cfg.MaxPeers = 256
	}
	members, err := openMembership(self, cfg.Name, cfg.DataDir, cfg.Log)
	if err != nil {
		return nil, nil, err
	}
	most := maxQuarantined
	if cfg.DHT {
		most = maxAsking
	}
	return members, newGate(members, most, cfg.Log), nil
}

func wrap(lh host.Host, cfg Config, members *Membership, g *gate) (*Host, error) {
	h := &Host{cfg: cfg, log: cfg.Log, up: newThrottle(cfg.UpBytes), down: newThrottle(cfg.DownBytes), host: lh, members: members, gate: g,
		paths: newPaths(), engaged: map[peer.ID]int{}, taking: map[peer.ID]bool{}, release: thisRelease}
	if cfg.Release != nil {
		h.release = *cfg.Release
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	refused := func() { h.stats.refused.Add(1) }
	h.guarded, h.shared = membersHost{lh, members, refused, false}, membersHost{lh, members, refused, true}
	h.paths.member = members.Known
	h.offers = newOffers(h)
	h.keeper = newKeeper(h)
	h.reserver = newReserver(h)
	h.puncher = &puncher{h: h}
	h.reach = &reachability{h: h}
	members.host = h
	ps, err := pubsub.NewGossipSub(h.ctx, h.guarded,
		pubsub.WithPeerFilter(func(p peer.ID, _ string) bool { return members.Known(p) }),
		pubsub.WithAppSpecificRpcInspector(func(p peer.ID, _ *pubsub.RPC) error {
			if !members.Known(p) {
				return ErrNotMember
			}
			return nil
		}),
		// What we say ourselves goes to every subscriber at once: the mesh
		// takes a heartbeat to form, and what is published before is lost.
		pubsub.WithFloodPublish(true),
		pubsub.WithGossipSubParams(gossipParams()),
		pubsub.WithMaxMessageSize(64<<10), // frames of the protocol; the validator holds ours to 1 kB
		pubsub.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		h.stop()
		lh.Close()
		return nil, fmt.Errorf("p2p: gossip: %w", err)
	}
	h.pubsub = ps
	lh.Network().Notify(g)
	lh.Network().Notify(h.keeper)
	for p, f := range map[Protocol]network.StreamHandler{ProtocolAdmit: h.answerAdmit, ProtocolHello: h.answerHello} {
		for _, id := range h.ids(p) {
			lh.SetStreamHandler(id, f) // strangers are answered too
		}
	}
	h.servePing()
	h.serveProbe()
	h.goRun(h.keeper.run)
	h.farmReady()
	return h, nil
}

// goRun runs f until it returns; Close waits for it. f must end with its ctx.
// It reports false, and runs nothing, after Close.
func (h *Host) goRun(f func(ctx context.Context)) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Go(func() { f(h.ctx) })
	return true
}

// farmReady starts what needs a farm, once there is one.
func (h *Host) farmReady() {
	f, ok := h.members.Farm()
	if !ok || f.Revoked {
		return
	}
	// Members do not gossip with strangers: those hear of offers with a hello.
	if f.Role == RoleStranger {
		for _, c := range h.members.firstContacts() {
			h.keeper.found(c, byOpening)
		}
		h.goRun(h.workAnew)
	} else if err := h.offers.start(h.ctx, h.pubsub, f.ID); err != nil {
		h.log.Error("offers not started", "err", err)
	}
	if h.cfg.MDNS {
		h.startMDNS(f.ID)
	}
	h.tendDHT()
	h.keeper.wake()
}

// farmGone ends what belongs to a farm.
func (h *Host) farmGone() {
	h.offers.stop()
	h.mu.Lock()
	mdns := h.mdns
	h.mdns = nil
	h.mu.Unlock()
	if mdns != nil {
		mdns.Close()
	}
	h.tendDHT()
	h.mu.Lock()
	clear(h.taking)
	h.mu.Unlock()
	h.keeper.forget()
	h.skews.forget()
	h.keeper.wake()
}

// SetMetered says whether each byte costs this machine: then it passes nothing
// of others' jobs on to other workers. What its own jobs need, and what it owes
// to the requesters it works for, goes on.
func (h *Host) SetMetered(yes bool) { h.metered.Store(yes) }

// Close leaves the network: streams end, then what is known of the members is
// written. It may be called twice.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	mdns, table := h.mdns, h.kad
	h.mu.Unlock()
	h.stop()
	if mdns != nil {
		mdns.Close()
	}
	if table != nil {
		_ = table.Close() // of what was found nothing is kept
	}
	h.gate.close()
	h.mu.Lock()
	swap := h.swap
	h.mu.Unlock()
	if swap != nil {
		swap.bs.Close()
	}
	err := h.host.Close()
	h.wg.Wait()
	return errors.Join(err, h.members.save(true))
}

// ID is this node's peer ID.
func (h *Host) ID() peer.ID { return h.host.ID() }

// Addrs are the multiaddrs where this node is to be reached, those by way of
// relays last, each with its peer ID.
func (h *Host) Addrs() []ma.Multiaddr {
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.addrs()})
	if err != nil {
		return nil
	}
	return addrs
}

// addrs leaves room for relays where there are many addresses.
func (h *Host) addrs() []ma.Multiaddr {
	own, via := h.direct(), h.reserver.addrs()
	return append(own[:min(len(own), wire.MaxAddrs-len(via))], via...)
}

// direct are the addresses without a relay, first those of a router's outside
// at which somebody came in.
func (h *Host) direct() []ma.Multiaddr {
	out, _ := h.reach.known()
	for _, a := range h.host.Addrs() {
		if !ma.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// Membership decides who is in the farm.
func (h *Host) Membership() *Membership { return h.members }

// clearBackoff makes libp2p forget failed dials to p: it would refuse to dial
// for up to minutes, while our own loop has its own pace.
func (h *Host) clearBackoff(p peer.ID) {
	if s, ok := h.host.Network().(*swarm.Swarm); ok {
		s.Backoff().Clear(p)
	}
}
