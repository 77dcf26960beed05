package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// release makes one out of this: its protocols but admit and hello have the
// number now, and where before is not empty that one too.
func release(capability, least uint32, now, before string) *Release {
	r := ThisRelease()
	r.Capability, r.Least = capability, least
	for p := range r.IDs {
		if p == ProtocolAdmit || p == ProtocolHello {
			continue
		}
		r.IDs[p] = []string{"/idlewild/" + string(p) + "/" + now}
		if before != "" {
			r.IDs[p] = append(r.IDs[p], "/idlewild/"+string(p)+"/"+before)
		}
	}
	return &r
}

// Three releases in a row. The middle one is this program with other numbers.
var (
	twoBefore = release(2, 1, "0.9.0", "0.8.0")
	oneBefore = release(3, 2, "1.0.0", "0.9.0")
	newest    = release(4, 3, "2.0.0", "1.0.0")
)

func speaking(r *Release, version string) func(*Config) {
	return func(c *Config) { c.Release, c.Version = r, version }
}

// logged collects log records above debug.
type logged struct {
	mu   sync.Mutex
	text []string
}

func (l *logged) Enabled(_ context.Context, v slog.Level) bool { return v > slog.LevelInfo }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler           { return l }
func (l *logged) WithGroup(string) slog.Handler                { return l }
func (l *logged) Handle(_ context.Context, r slog.Record) error {
	s := r.Message
	r.Attrs(func(a slog.Attr) bool { s += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, s)
	return nil
}

func (l *logged) count(what string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.text {
		if strings.Contains(s, what) {
			n++
		}
	}
	return n
}

func apart(h *Host, p peer.ID) string {
	for _, v := range h.Peers() {
		if v.Peer == p {
			return v.Apart
		}
	}
	return "not listed"
}

// spoken are the IDs of the streams between two hosts.
func spoken(h *Host, p peer.ID) (out []string) {
	for _, c := range h.host.Network().ConnsToPeer(p) {
		for _, s := range c.GetStreams() {
			out = append(out, string(s.Protocol()))
		}
	}
	return out
}

// again starts a host in the place of one that was shut, with its farm.
func again(t *testing.T, old *Host, change ...func(*Config)) *Host {
	t.Helper()
	shut(t, old)
	return newHost(t, old.cfg.Name, append([]func(*Config){func(c *Config) {
		c.Key, c.DataDir, c.Release, c.Version, c.Log = old.cfg.Key, old.cfg.DataDir, old.cfg.Release, old.cfg.Version, old.cfg.Log
	}}, change...)...)
}

// A release and the one before it speak the older one's protocols with each
// other, whichever of them asks, and those of the same release their own.
func TestReleasesInARowSpeakWithEachOther(t *testing.T) {
	for _, c := range []struct {
		name             string
		requester, asker *Release
		id               string
	}{
		{"old requester", oneBefore, newest, "/idlewild/sync/1.0.0"},
		{"new requester", newest, oneBefore, "/idlewild/sync/1.0.0"},
		{"both new", newest, newest, "/idlewild/sync/2.0.0"},
		{"both old", oneBefore, oneBefore, "/idlewild/sync/1.0.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			owner := newHost(t, "owner", speaking(c.requester, "a"))
			if _, err := owner.members.CreateFarm("f"); err != nil {
				t.Fatal(err)
			}
			member := newHost(t, "member", speaking(c.asker, "b"))
			joinFarm(t, owner, member)
			coord := newCoordinator()
			owner.ServeSync(coord)
			link, err := member.Join(t.Context(), owner.ID())
			if err != nil {
				t.Fatal(err)
			}
			if err := link.Send(t.Context(), sampleReport()); err != nil {
				t.Fatal(err)
			}
			s := receive(t, coord.sessions, "session")
			receive(t, s.in, "report")
			if ids := spoken(owner, member.ID()); !slices.Contains(ids, c.id) {
				t.Errorf("spoken: %q", ids)
			}
			close(s.out)
			for range link.Orders() {
			}
			b := noise(1, 9000)
			owner.ServeBlocks(newMemory(b), allowAll, nil, nil)
			if got, err := fetchAll(t.Context(), member, owner.ID(), request(owner.ID(), b)); err != nil || !bytes.Equal(got[block(b)].Data, b) {
				t.Errorf("blocks: %v", err)
			}
			if _, err := member.Measure(t.Context(), owner.ID(), false); err != nil {
				t.Error(err)
			}
			if a, b := apart(owner, member.ID()), apart(member, owner.ID()); a+b != "" {
				t.Errorf("apart: %q, %q", a, b)
			}
		})
	}
}

// Two releases that are too far apart say so on both sides in one sentence,
// once, and do nothing else with each other until the older one was updated.
func TestReleasesTooFarApartSaySo(t *testing.T) {
	for _, dials := range []string{"the old one dials", "the new one dials"} {
		t.Run(dials, func(t *testing.T) {
			t.Parallel()
			logs := []*logged{{}, {}}
			quiet := func(i int) func(*Config) {
				return func(c *Config) { c.Log, c.MaxPeers = slog.New(logs[i]), -1 }
			}
			owner := newHost(t, "desk", speaking(oneBefore, "0.2.0"), quiet(0))
			if _, err := owner.members.CreateFarm("f"); err != nil {
				t.Fatal(err)
			}
			old := newHost(t, "attic", speaking(twoBefore, "0.1.0"), quiet(1))
			joinFarm(t, owner, old)
			shut(t, old)
			owner = again(t, owner, speaking(newest, "0.3.0"), quiet(0))
			oldest := again(t, old, quiet(1))
			coord := newCoordinator()
			owner.ServeSync(coord)
			oldest.ServeSync(coord)
			b := noise(1, 100)
			owner.ServeBlocks(newMemory(b), allowAll, nil, nil)

			meet := func() {
				t.Helper()
				from, to := oldest, owner
				if dials == "the new one dials" {
					from, to = owner, oldest
				}
				if err := from.host.Connect(t.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.host.Addrs()}); err != nil {
					t.Fatal(err)
				}
			}
			meet()
			eventually(t, within, "both know", func() bool { return apart(owner, oldest.ID()) != "" && apart(oldest, owner.ID()) != "" })
			want := "attic runs idlewild 0.1.0 (capability 2), too old for idlewild 0.3.0 on desk, which works with capability 3 and newer: update idlewild on attic"
			if a, b := apart(owner, oldest.ID()), apart(oldest, owner.ID()); a != want || b != want {
				t.Errorf("said %q and %q", a, b)
			}
			for _, pair := range [][2]*Host{{owner, oldest}, {oldest, owner}} {
				if _, err := pair[0].Join(t.Context(), pair[1].ID()); !errors.Is(err, ErrTooOld) || !strings.Contains(err.Error(), want) {
					t.Errorf("join: %v", err)
				}
				if _, err := pair[0].Measure(t.Context(), pair[1].ID(), false); !errors.Is(err, ErrTooOld) {
					t.Errorf("measure: %v", err)
				}
			}
			if _, err := fetchAll(t.Context(), oldest, owner.ID(), request(owner.ID(), b)); !errors.Is(err, ErrTooOld) {
				t.Errorf("blocks: %v", err)
			}
			// What it knows of the newer's protocols does not help it.
			s, err := oldest.host.NewStream(t.Context(), owner.ID(), "/idlewild/blocks/1.0.0")
			if err == nil {
				_, err = s.Write([]byte{0})
				if _, e := s.Read(make([]byte, 1)); e == nil {
					t.Error("blocks are served")
				}
			}

			// Once in the log, however often it is tried.
			for range 3 {
				if err := oldest.hello(t.Context(), owner.ID()); !errors.Is(err, ErrTooOld) {
					t.Errorf("hello: %v", err)
				}
				if err := owner.hello(t.Context(), oldest.ID()); !errors.Is(err, ErrTooOld) {
					t.Errorf("hello: %v", err)
				}
			}
			for i, l := range logs {
				if n := l.count(want); n != 1 {
					t.Errorf("log %d has it %d times: %q", i, n, l.text)
				}
			}
			if len(coord.sessions) > 0 {
				t.Error("a session was opened")
			}

			// The older one is updated.
			oldest = again(t, oldest, speaking(oneBefore, "0.2.0"))
			oldest.ServeSync(coord)
			meet()
			eventually(t, within, "it is over", func() bool { return apart(owner, oldest.ID()) == "" && apart(oldest, owner.ID()) == "" })
			link, err := oldest.Join(t.Context(), owner.ID())
			if err != nil {
				t.Fatal(err)
			}
			close(receive(t, coord.sessions, "session").out)
			link.Close()
		})
	}
}

// A machine that is too old is told so with its ticket, which stays good.
func TestTooOldToBeAdmitted(t *testing.T) {
	owner := newHost(t, "desk", speaking(newest, "0.3.0"))
	if _, err := owner.members.CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	ticket, err := owner.members.Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	old := newHost(t, "attic", speaking(twoBefore, "0.1.0\x1b[2J"))
	_, err = old.members.Join(t.Context(), ticket)
	if !errors.Is(err, ErrTooOld) || !strings.Contains(err.Error(), "attic runs idlewild 0.1.0[2J (capability 2), too old for idlewild 0.3.0 on desk") {
		t.Errorf("%v", err)
	}
	if owner.members.Known(old.ID()) {
		t.Error("admitted")
	}
	updated := newHost(t, "attic", speaking(oneBefore, "0.2.0"))
	if _, err := updated.members.Join(t.Context(), ticket); err != nil {
		t.Errorf("after the update: %v", err)
	}
}

// A member that opens its sync stream without a word before is greeted for what
// it can, and told as others are.
func TestTooOldThatDoesNotGreet(t *testing.T) {
	owner := newHost(t, "desk", speaking(oneBefore, "0.2.0"))
	if _, err := owner.members.CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	old := newHost(t, "attic", speaking(twoBefore, "0.1.0"))
	joinFarm(t, owner, old)
	mute := func(c *Config) { c.MaxPeers = -1 }
	shut(t, old)
	owner = again(t, owner, speaking(newest, "0.3.0"), mute)
	old = again(t, old, mute)
	old.host.Network().StopNotify(old.keeper) // which would greet
	coord := newCoordinator()
	owner.ServeSync(coord)
	if err := old.host.Connect(t.Context(), peer.AddrInfo{ID: owner.ID(), Addrs: owner.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	s, err := old.host.NewStream(t.Context(), owner.ID(), "/idlewild/sync/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if _, err := wire.Write(s, &wire.Sync{Seq: 1}, wire.MaxSync); err != nil {
		t.Fatal(err)
	}
	var m wire.Sync
	if _, err := wire.Read(bufio.NewReader(s), &m, wire.MaxSync); err != nil {
		t.Fatal(err)
	}
	want := "update idlewild on attic"
	if r := m.GetBye().GetRefusal(); r.GetCode() != wire.Refusal_TOO_OLD || !strings.Contains(r.GetText(), want) || m.GetBye().GetReason() != r.GetText() {
		t.Errorf("told %v", &m)
	}
	eventually(t, within, "both show it", func() bool {
		return strings.Contains(apart(owner, old.ID()), want) && strings.Contains(apart(old, owner.ID()), want)
	})
	if len(coord.sessions) > 0 {
		t.Error("a session was opened")
	}
}

// A requester may say on the sync stream that it is over.
func TestByeWithARefusalIsShown(t *testing.T) {
	farm := newFarm(t, 2)
	text := "member is too old"
	farm[0].host.SetStreamHandler(idOf(ProtocolSync), func(s network.Stream) {
		_, _ = wire.Write(s, &wire.Sync{Seq: 1, Body: &wire.Sync_Bye{Bye: &wire.Bye{Refusal: &wire.Refusal{Code: wire.Refusal_TOO_OLD, Text: text}}}}, wire.MaxSync)
		s.Close()
	})
	link, err := farm[1].Join(t.Context(), farm[0].ID())
	if err != nil {
		t.Fatal(err)
	}
	for range link.Orders() {
	}
	if err := link.Err(); !errors.Is(err, ErrTooOld) || !errors.Is(err, ErrLinkCut) {
		t.Errorf("%v", err)
	}
	eventually(t, within, "it is shown", func() bool { return apart(farm[1], farm[0].ID()) == text })
}

// A member without any hello that we know is named by what it says it is.
func TestMemberThatSpeaksNoHello(t *testing.T) {
	farm := newFarm(t, 2)
	for _, id := range farm[1].ids(ProtocolHello) {
		farm[1].host.RemoveStreamHandler(id)
	}
	var err error
	eventually(t, within, "it is known that it does not", func() bool {
		err = farm[0].hello(t.Context(), farm[1].ID())
		return errors.Is(err, ErrTooOld)
	})
	if !strings.Contains(err.Error(), "member runs idlewild/, which does not speak with idlewild of an unknown version on owner at all: update idlewild on member") {
		t.Errorf("%v", err)
	}
	if apart(farm[0], farm[1].ID()) == "" {
		t.Error("it is not shown")
	}
}

// What a newer peer says beyond what this program knows is left out and counted,
// and what it says besides is heard.
func TestUnknownIsCounted(t *testing.T) {
	farm := newFarm(t, 2)
	o := offer(farm[1])
	w := wire.FromOffer(o)
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7)
	w.ProtoReflect().SetUnknown(unknown)
	var g wire.Gossip
	g.ProtoReflect().SetUnknown(unknown)
	for _, m := range []*wire.Gossip{{Body: &wire.Gossip_Offer{Offer: w}}, &g} {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		farm[1].offers.mu.Lock()
		topic := farm[1].offers.topic
		farm[1].offers.mu.Unlock()
		eventually(t, within, "gossip reaches it", func() bool { return len(topic.ListPeers()) > 0 })
		_ = topic.Publish(t.Context(), b) // our own validator ignores the second
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for got := range farm[0].Offers(ctx) {
		if got.Job == o.Job {
			cancel()
		}
	}
	if ctx.Err() != context.Canceled {
		t.Error("the offer was not heard")
	}
	if farm[1].Stats().Unknown == 0 || farm[0].Stats().Malformed > 0 {
		t.Errorf("%+v", farm[0].Stats())
	}
	if _, err := wire.FromOffer(o).Value(); err != nil {
		t.Error(err)
	}
}

// What one side cannot is not asked of it, and what this side cannot is not
// asked for either.
func TestCapabilitiesOfBothSidesCount(t *testing.T) {
	farm := newFarm(t, 2)
	if !farm[0].can(t.Context(), farm[1].ID(), Capability) || farm[0].can(t.Context(), farm[1].ID(), Capability+1) {
		t.Error("the other side's capability does not decide")
	}
	farm[0].release.Capability = 1
	if farm[0].can(t.Context(), farm[1].ID(), wire.CapabilityEdits) {
		t.Error("our own capability does not decide")
	}
}

// A ticket has only the fields that every program knows which can use it.
func TestTicketIsReadByTheReleaseBefore(t *testing.T) {
	owner := newFarm(t, 1)[0]
	text, err := owner.members.Invite(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ticketBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	var s job.Signed
	if err := job.Decode(b, wire.MaxTicketBytes, &s); err != nil {
		t.Fatal(err)
	}
	var before struct { // of capability 2
		Version int       `cbor:"v"`
		Farm    FarmID    `cbor:"farm"`
		Name    string    `cbor:"name"`
		Root    []byte    `cbor:"root"`
		Secret  []byte    `cbor:"once"`
		Inviter string    `cbor:"peer"`
		Addrs   [][]byte  `cbor:"addrs"`
		Role    Role      `cbor:"role"`
		Expires time.Time `cbor:"expires"`
	}
	if err := job.Decode(s.Body, wire.MaxTicketBytes, &before); err != nil {
		t.Error(err)
	}
	type later struct {
		Ticket
		More int `cbor:"more"`
	}
	body := later{More: 1}
	if body.Ticket, err = ParseTicket(text); err != nil {
		t.Fatal(err)
	}
	if s, err = job.Sign(owner.members.rootKey, job.ContextTicket, body); err != nil {
		t.Fatal(err)
	}
	if b, err = job.Encode(s); err != nil {
		t.Fatal(err)
	}
	qr := qrPrefix + idEncoding.EncodeToString(b)
	if _, err := ParseTicket(qr); !errors.Is(err, ErrTicketMalformed) || !strings.Contains(err.Error(), "update idlewild here") {
		t.Errorf("a ticket of a newer program: %v", err)
	}
}

// The history of capabilities is whole, and the documents have the same.
func TestHistoryOfCapabilities(t *testing.T) {
	b, err := os.ReadFile("../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for i, a := range wire.History {
		if a.Capability != uint32(i+1) {
			t.Errorf("capability %d stands in place %d", a.Capability, i+1)
		}
		if _, err := time.Parse(time.DateOnly, a.Date); err != nil || i > 0 && a.Date < wire.History[i-1].Date {
			t.Errorf("capability %d is of %q", a.Capability, a.Date)
		}
		line := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(strings.Join([]string{string(rune('0' + a.Capability)), a.Date, a.What}, " | ")) + ` \|`)
		if !line.MatchString(doc) {
			t.Errorf("docs/formats.md has no line of capability %d as in wire.History", a.Capability)
		}
	}
	if n := uint32(len(wire.History)); n != wire.Capability || wire.CapabilityLeast > wire.Capability {
		t.Errorf("%d capabilities are told of, there are %d, at least %d is worked with", n, wire.Capability, wire.CapabilityLeast)
	}
	for p, ids := range thisRelease.IDs {
		if len(ids) == 0 || len(ids) > 2 {
			t.Errorf("%s has %d IDs", p, len(ids))
		}
		for _, id := range ids {
			if !strings.HasPrefix(id, "/idlewild/"+string(p)+"/") || !strings.Contains(doc, "| `"+id+"` |") {
				t.Errorf("%s is called %s, which is not its name, or not in docs/formats.md", p, id)
			}
		}
	}
}
