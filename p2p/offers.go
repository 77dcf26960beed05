package p2p

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"idlewild/internal/beat"
	"idlewild/job"
	"idlewild/p2p/wire"
)

const (
	// maxOfferLife is how far in the future an offer may expire.
	maxOfferLife = time.Hour
	// maxOffersPerPeer bounds the open offers that we keep of one requester.
	maxOffersPerPeer = wire.MaxHelloOffers
)

type offerKey struct {
	requester peer.ID
	id        job.ID
}

// offers keeps the open offers of the farm. They come by gossip, and with the
// hello of each requester, so that a late joiner does not wait for a mesh.
type offers struct {
	self peer.ID
	h    *Host

	mu    sync.Mutex
	topic *pubsub.Topic
	leave context.CancelFunc // of the topic
	open  map[offerKey]job.Offer
	count map[peer.ID]int
	subs  map[*offerSub]struct{}
}

// offerSub is one reader. Offers it has not read yet replace each other, so a
// slow reader costs one entry per job and reads the newest.
type offerSub struct {
	pending map[offerKey]job.Offer
	order   []offerKey
	wake    chan struct{}
}

func newOffers(h *Host) *offers {
	return &offers{self: h.ID(), h: h, open: map[offerKey]job.Offer{}, count: map[peer.ID]int{}, subs: map[*offerSub]struct{}{}}
}

func topicName(f FarmID) string { return "idlewild/" + string(f) + "/offers/1" }

// gossipBeat is how often meshes are mended and peers told what was said
// lately. What we say ourselves goes to every subscriber at once, and who
// connects has our open offers with the hello: the beat is waited for by what
// comes through others only, to a peer that has just connected to them.
const gossipBeat = 5 * time.Second

// gossipParams are the protocol's own, but for the beat. Its caches are
// counted in beats: a message is told of for 15 s and kept for 25 s, well
// within the two minutes for which it is known again.
func gossipParams() pubsub.GossipSubParams {
	p := pubsub.DefaultGossipSubParams()
	p.HeartbeatInterval, p.HeartbeatInitialDelay = gossipBeat, beat.Until(gossipBeat)
	return p
}

// start joins the farm's topic; a second call does nothing.
func (o *offers) start(ctx context.Context, ps *pubsub.PubSub, f FarmID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.topic != nil {
		return nil
	}
	name := topicName(f)
	if err := ps.RegisterTopicValidator(name, o.validate, pubsub.WithValidatorInline(true)); err != nil {
		return fmt.Errorf("offers: %w", err)
	}
	topic, err := ps.Join(name)
	if err != nil {
		return fmt.Errorf("offers: %w", err)
	}
	sub, err := topic.Subscribe(pubsub.WithBufferSize(256))
	if err != nil {
		return fmt.Errorf("offers: %w", err)
	}
	ctx, o.leave = context.WithCancel(ctx)
	o.topic = topic
	started := o.h.goRun(func(context.Context) {
		defer topic.Close()
		defer sub.Cancel()
		defer func() { _ = ps.UnregisterTopicValidator(name) }()
		for {
			m, err := sub.Next(ctx)
			if err != nil {
				return
			}
			if v, ok := m.ValidatorData.(job.Offer); ok {
				o.note(v, time.Now())
			}
		}
	})
	if !started {
		o.leave()
	}
	return nil
}

// stop leaves the topic and forgets what others offered.
func (o *offers) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.leave != nil {
		o.leave()
	}
	o.topic, o.leave = nil, nil
	for k := range o.open {
		if k.requester != o.self {
			delete(o.open, k)
			delete(o.count, k.requester)
		}
	}
}

// validate looks at a message before it is passed on.
func (o *offers) validate(_ context.Context, _ peer.ID, m *pubsub.Message) pubsub.ValidationResult {
	author := m.GetFrom()
	if len(m.GetData()) > wire.MaxGossip || !o.h.members.Known(author) {
		o.h.stats.refused.Add(1)
		return pubsub.ValidationReject
	}
	var g wire.Gossip
	if err := proto.Unmarshal(m.GetData(), &g); err != nil {
		o.h.stats.malformed.Add(1)
		return pubsub.ValidationReject
	}
	switch b := g.GetBody().(type) {
	case *wire.Gossip_Offer:
		v, err := b.Offer.Value()
		if err != nil || v.Requester != author {
			o.h.stats.malformed.Add(1)
			return pubsub.ValidationReject
		}
		now := time.Now()
		if !v.Expires.After(now) || v.Expires.After(now.Add(2*maxOfferLife)) {
			return pubsub.ValidationIgnore // clocks differ: nobody's fault
		}
		m.ValidatorData = v
		return pubsub.ValidationAccept
	case *wire.Gossip_Member:
		return o.noteMember(b.Member)
	case *wire.Gossip_Succession:
		s, err := b.Succession.Value(wire.MaxSignedBytes)
		if err != nil {
			return pubsub.ValidationReject
		}
		switch news, err := o.h.members.learnSuccessions([]job.Signed{s}); {
		case err != nil:
			return pubsub.ValidationIgnore // one that is lacked before it comes with a hello
		case news:
			o.h.turned(nil)
		}
		return pubsub.ValidationAccept
	case *wire.Gossip_Opening:
		s, err := b.Opening.Value(wire.MaxSignedBytes)
		if err != nil {
			return pubsub.ValidationReject
		}
		if _, err := o.h.members.applyOpening(s); err != nil {
			return pubsub.ValidationIgnore // by a root that is not known here yet, say
		}
		return pubsub.ValidationAccept
	case *wire.Gossip_Revocation:
		s, err := b.Revocation.Value(wire.MaxSignedBytes)
		if err != nil {
			return pubsub.ValidationReject
		}
		if _, err := o.h.members.applyRevocation(s); err != nil {
			return pubsub.ValidationReject
		}
		return pubsub.ValidationAccept
	}
	o.h.stats.unknown.Add(1)
	return pubsub.ValidationIgnore // of a later version
}

// noteMember takes in a member that was admitted elsewhere.
func (o *offers) noteMember(r *wire.MemberRecord) pubsub.ValidationResult {
	s, err := r.GetCertificate().Value(wire.MaxSignedBytes)
	if err != nil {
		return pubsub.ValidationReject
	}
	p, err := o.h.members.learn(s, addrsFrom(r.GetAddrs()))
	if err != nil {
		return pubsub.ValidationReject
	}
	if p != o.self {
		o.h.keeper.later(p)
	}
	return pubsub.ValidationAccept
}

// publish says something on the topic, if there is one.
func (o *offers) publish(g *wire.Gossip) error {
	b, err := proto.Marshal(g)
	if err != nil {
		return err
	}
	if len(b) > wire.MaxGossip {
		return fmt.Errorf("%d bytes, at most %d: %w", len(b), wire.MaxGossip, wire.ErrTooLarge)
	}
	o.mu.Lock()
	topic := o.topic
	o.mu.Unlock()
	if topic == nil {
		return ErrNoFarm
	}
	return topic.Publish(o.h.ctx, b)
}

// note takes in an offer that was checked.
func (o *offers) note(v job.Offer, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expireLocked(now)
	k := offerKey{v.Requester, v.Job}
	old, had := o.open[k]
	switch {
	case !v.Expires.After(now) || (had && v.Expires.Before(old.Expires)):
		return // old news
	case v.Expires.After(now.Add(maxOfferLife)):
		v.Expires = now.Add(maxOfferLife)
	}
	if !had {
		most := maxOffersPerPeer
		if v.Requester != o.self && !o.h.members.Known(v.Requester) {
			most = maxStrangerOffers
		}
		if o.count[v.Requester] >= most {
			o.h.stats.dropped.Add(1)
			return
		}
		o.count[v.Requester]++
	}
	o.open[k] = v // one with nothing open stays too, until it expires: it outdates older news
	for s := range o.subs {
		s.add(k, v)
	}
}

func (o *offers) expireLocked(now time.Time) {
	for k, v := range o.open {
		if !v.Expires.After(now) {
			delete(o.open, k)
			if o.count[k.requester]--; o.count[k.requester] == 0 {
				delete(o.count, k.requester)
			}
		}
	}
}

// drop forgets what a peer offered that is gone, and is no member.
func (o *offers) drop(p peer.ID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.count[p] == 0 || p == o.self {
		return
	}
	for k := range o.open {
		if k.requester == p {
			delete(o.open, k)
		}
	}
	delete(o.count, p)
}

// ownOpen returns what this node offers now.
func (o *offers) ownOpen() []job.Offer {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.expireLocked(time.Now())
	var out []job.Offer
	for k, v := range o.open {
		if k.requester == o.self {
			out = append(out, v)
		}
	}
	return out
}

func (s *offerSub) add(k offerKey, v job.Offer) {
	if _, ok := s.pending[k]; !ok {
		s.order = append(s.order, k)
	}
	s.pending[k] = v
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Announce tells the farm of open work, until o expires (in an hour at most)
// or is announced again with none open. Members that come later hear of it
// when they connect; it should be repeated before it expires.
func (h *Host) Announce(ctx context.Context, o job.Offer) error {
	if o.Requester == "" {
		o.Requester = h.ID()
	}
	if o.Requester != h.ID() {
		return fmt.Errorf("announce: the offer is of another peer, %s", o.Requester)
	}
	if _, err := wire.FromOffer(o).Value(); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	now := time.Now()
	if !o.Expires.After(now) {
		return fmt.Errorf("announce: the offer has expired")
	}
	if o.Expires.After(now.Add(maxOfferLife)) {
		o.Expires = now.Add(maxOfferLife)
	}
	h.offers.note(o, now)
	if _, ok := h.members.Farm(); !ok {
		return nil // alone: this node's own workers heard it
	}
	err := h.offers.publish(&wire.Gossip{Body: &wire.Gossip_Offer{Offer: wire.FromOffer(o)}})
	if err != nil && !(errors.Is(err, ErrNoFarm) && h.members.isStranger()) {
		return fmt.Errorf("announce: %w", err)
	}
	h.tellUnsubscribed(o.Strangers)
	return nil
}

// tellUnsubscribed greets those that are connected and that gossip does not reach:
// members that have just come, and strangers.
func (h *Host) tellUnsubscribed(strangers bool) {
	h.offers.mu.Lock()
	topic := h.offers.topic
	h.offers.mu.Unlock()
	reached := map[peer.ID]bool{}
	if topic != nil {
		for _, p := range topic.ListPeers() {
			reached[p] = true
		}
	}
	for _, p := range h.host.Network().Peers() {
		if !reached[p] && (h.members.Known(p) || strangers && h.members.Stranger(p)) {
			h.goRun(func(ctx context.Context) {
				if err := h.hello(ctx, p); err != nil {
					h.log.Debug("offer not passed on", "peer", p, "err", err)
				}
			})
		}
	}
}

// Offers yields open work, this node's own included: first what is open now,
// then what is announced, until ctx ends.
func (h *Host) Offers(ctx context.Context) iter.Seq[job.Offer] {
	return func(yield func(job.Offer) bool) {
		o := h.offers
		s := &offerSub{pending: map[offerKey]job.Offer{}, wake: make(chan struct{}, 1)}
		o.mu.Lock()
		o.expireLocked(time.Now())
		for k, v := range o.open {
			s.add(k, v)
		}
		o.subs[s] = struct{}{}
		o.mu.Unlock()
		defer func() {
			o.mu.Lock()
			delete(o.subs, s)
			o.mu.Unlock()
		}()
		for {
			o.mu.Lock()
			var batch []job.Offer
			for _, k := range s.order {
				batch = append(batch, s.pending[k])
			}
			s.order, s.pending = nil, map[offerKey]job.Offer{}
			o.mu.Unlock()
			now := time.Now()
			for _, v := range batch {
				ours := v.Requester == h.ID() || h.members.Admitted(v.Requester)
				if ours && v.Open > 0 && v.Expires.After(now) && !yield(v) {
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			case <-h.ctx.Done():
				return
			}
		}
	}
}
