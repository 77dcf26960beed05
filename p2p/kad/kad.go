// Package kad finds the members of an open farm by a Kademlia DHT of its own
// (Maymounkov and Mazières, 2002), one way of several: what it says is where
// somebody may be, and nothing about who that is.
//
// Every node of the farm takes part, under a protocol that has the farm's name:
// those that can be dialled from outside answer, the others only ask. A node
// that takes strangers says so under the farm's key.
package kad

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	provided "github.com/libp2p/go-libp2p-kad-dht/records"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multihash"
)

const (
	// MaxFound bounds what one search brings.
	MaxFound = 32

	searchTime = 20 * time.Second
	sayTime    = 30 * time.Second
)

// Pace says how often what is done. The zero value is the usual one.
type Pace struct {
	Search  time.Duration // while nobody was found; four times as long after that. 0: 30 s
	Say     time.Duration // again; 0: 30 min. Records are kept for a day or two
	Refresh time.Duration // of the routing table; 0: 10 min
}

func (p Pace) filled() Pace {
	fill := func(v *time.Duration, usual time.Duration) {
		if *v <= 0 {
			*v = usual
		}
	}
	fill(&p.Search, 30*time.Second)
	fill(&p.Say, 30*time.Minute)
	fill(&p.Refresh, 10*time.Minute)
	return p
}

// Config of a Table. Host, Farm and Found are required.
type Config struct {
	Host       host.Host // on which anybody is answered
	Farm       string    // its name among machines
	Bootstraps []peer.AddrInfo
	Log        *slog.Logger // nil: nothing is logged
	Pace       Pace

	// Provide reports whether this node lets others in, and is to be found.
	Provide func() bool
	// Public reports whether this node can be dialled from outside, as far as it
	// knows. It is asked before every search.
	Public func() bool
	// Known are nodes of the farm that the routing table may begin with.
	Known func() []peer.AddrInfo
	// Found is told where somebody may be who lets others in.
	Found func(peer.AddrInfo)
	// Enough reports whether nobody more has to be found for now.
	Enough func() bool
}

// Table is this node's part in a farm's DHT.
type Table struct {
	cfg  Config
	key  cid.Cid
	stop context.CancelFunc
	done chan struct{}
	poke chan struct{}

	mu      sync.Mutex
	dht     *dht.IpfsDHT
	records *records // of it
	server  bool
}

// Prefix is what the protocol of a farm's DHT begins with.
func Prefix(farm string) protocol.ID { return protocol.ID("/idlewild/" + farm) }

// Key is under which the nodes of a farm are found that let others in.
func Key(farm string) cid.Cid {
	sum := sha256.Sum256([]byte("idlewild open farm 1\x00" + farm))
	mh, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // it is a digest of that length
	}
	return cid.NewCidV1(cid.Raw, mh)
}

// Start takes part until Close.
func Start(cfg Config) (*Table, error) {
	if cfg.Host == nil || cfg.Farm == "" || cfg.Found == nil {
		return nil, errors.New("kad: host, farm and who is told are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Pace = cfg.Pace.filled()
	t := &Table{cfg: cfg, key: Key(cfg.Farm), done: make(chan struct{}), poke: make(chan struct{}, 1)}
	if err := t.open(cfg.Public != nil && cfg.Public()); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	go t.run(ctx)
	return t, nil
}

// Close ends it.
func (t *Table) Close() error {
	t.stop()
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	t.silence()
	return t.dht.Close()
}

// Look searches at once.
func (t *Table) Look() {
	select {
	case t.poke <- struct{}{}:
	default:
	}
}

// State is how this node takes part.
type State struct {
	Server bool // it answers
	Nodes  int  // in its routing table
}

// State returns it.
func (t *Table) State() State {
	t.mu.Lock()
	defer t.mu.Unlock()
	return State{t.server, t.dht.RoutingTable().Size()}
}

// open makes the DHT in one mode or the other; mu is held, or nobody else is
// there yet. Which one it is has to be ours to say: libp2p's own notion of
// whether it is reachable comes from a check that asks anybody.
func (t *Table) open(server bool) error {
	mode := dht.ModeClient
	if server {
		mode = dht.ModeServer
	}
	kept := newRecords(t.key.Hash())
	d, err := dht.New(t.cfg.Host,
		dht.Mode(mode),
		dht.Datastore(kept),
		dht.ProviderManagerOpts(provided.Cache(noCache{})),
		dht.ProtocolPrefix(Prefix(t.cfg.Farm)),
		dht.DisableValues(),
		dht.RoutingTableRefreshPeriod(t.cfg.Pace.Refresh),
		dht.RoutingTableRefreshQueryTimeout(searchTime),
		dht.BootstrapPeersFunc(t.beginnings),
		// Who has many addresses of one network has no more places for it.
		dht.RoutingTablePeerDiversityFilter(dht.NewRTPeerDiversityFilter(t.cfg.Host, 8, 32)),
	)
	if err != nil {
		return fmt.Errorf("kad: %w", err)
	}
	t.dht, t.records, t.server = d, kept, server
	return nil
}

// beginnings are the nodes that are asked where the routing table is empty.
func (t *Table) beginnings() []peer.AddrInfo {
	out := append([]peer.AddrInfo(nil), t.cfg.Bootstraps...)
	if t.cfg.Known != nil {
		out = append(out, t.cfg.Known()...)
	}
	return out
}

func (t *Table) run(ctx context.Context) {
	defer close(t.done)
	next := time.NewTimer(0)
	defer next.Stop()
	var said time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-t.poke:
		}
		d := t.inMode()
		t.begin(ctx, d)
		if t.cfg.Provide != nil && t.cfg.Provide() && (said.IsZero() || time.Since(said) >= t.cfg.Pace.Say) {
			if t.say(ctx, d) {
				said = time.Now()
			}
		}
		pause := t.cfg.Pace.Search
		if t.cfg.Enough != nil && t.cfg.Enough() {
			pause *= 4
		} else {
			t.search(ctx, d)
		}
		if !next.Stop() {
			select {
			case <-next.C:
			default:
			}
		}
		next.Reset(pause)
	}
}

// inMode returns the DHT, made anew where this node can be reached now and could
// not be, or the other way round.
func (t *Table) inMode() *dht.IpfsDHT {
	server := t.cfg.Public != nil && t.cfg.Public()
	t.mu.Lock()
	defer t.mu.Unlock()
	if server == t.server {
		return t.dht
	}
	if err := t.dht.Close(); err != nil {
		t.cfg.Log.Debug("DHT closed", "err", err)
	}
	t.silence()
	if err := t.open(server); err != nil {
		t.cfg.Log.Warn("no part in the farm's DHT", "err", err)
		return t.dht // which finds nothing any more
	}
	t.cfg.Log.Info("part in the farm's DHT", "answers", t.server)
	return t.dht
}

// silence takes the handler away, which closing the DHT leaves.
func (t *Table) silence() {
	if t.server {
		t.cfg.Host.RemoveStreamHandler(Prefix(t.cfg.Farm) + "/kad/1.0.0")
	}
}

// begin fills an empty routing table.
func (t *Table) begin(ctx context.Context, d *dht.IpfsDHT) {
	if d.RoutingTable().Size() > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	var wg sync.WaitGroup
	for _, p := range t.beginnings() {
		if p.ID == t.cfg.Host.ID() {
			continue
		}
		wg.Go(func() {
			if err := t.cfg.Host.Connect(ctx, p); err != nil {
				t.cfg.Log.Debug("a node of the DHT is not reached", "peer", p.ID, "err", err)
			}
		})
	}
	wg.Wait()
	select {
	case <-d.RefreshRoutingTable():
	case <-ctx.Done():
	}
}

func (t *Table) say(ctx context.Context, d *dht.IpfsDHT) bool {
	ctx, cancel := context.WithTimeout(ctx, sayTime)
	defer cancel()
	err := d.Provide(ctx, t.key, true)
	if err != nil {
		t.cfg.Log.Debug("not said in the DHT that this node is here", "err", err)
	}
	return err == nil
}

func (t *Table) search(ctx context.Context, d *dht.IpfsDHT) {
	ctx, cancel := context.WithTimeout(ctx, searchTime)
	defer cancel()
	for p := range d.FindProvidersAsync(ctx, t.key, MaxFound) {
		if p.ID != t.cfg.Host.ID() {
			t.cfg.Found(p)
		}
	}
}
