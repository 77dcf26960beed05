package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"idlewild/internal/netlab"
	"idlewild/p2p"
)

// homeLink is a household's: 40 Mbit/s up, 100 down, 10 ms to the provider.
var homeLink = netlab.LinkOptions{UpBits: 40e6, DownBits: 100e6, Delay: 10 * time.Millisecond}

// netlabPunch connects two members behind home routers, and again after both
// were started anew. Direct is what counts: nothing passes the third member.
func netlabPunch(ctx context.Context, b *netlabBed) ([]Figure, error) {
	owner, err := b.up(ctx, "owner", b.internet, netlab.LinkOptions{Delay: 10 * time.Millisecond}, true)
	if err != nil {
		return nil, err
	}
	artist, err := b.up(ctx, "artist", b.lab.Site(netlab.PortRestricted), homeLink, true)
	if err != nil {
		return nil, err
	}
	worker, err := b.up(ctx, "worker", b.lab.Site(netlab.PortRestricted), homeLink, false)
	if err != nil {
		return nil, err
	}
	if err := b.found(ctx, owner, artist, worker); err != nil {
		return nil, err
	}
	var out []Figure
	look := func(when string) error {
		m, took, err := artist.reaches(ctx, 90*time.Second, "worker", "punched", "direct")
		if err != nil {
			return err
		}
		if m.PunchMillis == 0 { // the other side dialled first and counted
			if m, err = worker.peer(ctx, "artist"); err != nil {
				return err
			}
		}
		out = append(out,
			atMost("hole punch of two cones, "+when, m.PunchMillis/1000, "s", 1),
			plain("  from both up to direct", took.Seconds(), "s"),
			atLeast("  over QUIC", boolean(m.Transport == "quic"), "", 1))
		return nil
	}
	if err := look("first"); err != nil {
		return nil, err
	}
	if err := b.again(ctx, syscall.SIGTERM, artist, worker); err != nil {
		return nil, err
	}
	if err := look("both restarted"); err != nil {
		return nil, err
	}
	const count = 20
	id, err := b.echo(ctx, artist, "punch", count, 10, 64<<10)
	if err != nil {
		return nil, err
	}
	before := b.hosts[owner].Sent()
	lost, _, err := b.end(ctx, artist, id, count, worker)
	if err != nil {
		return nil, err
	}
	past := float64(b.hosts[owner].Sent()-before) / (count * 64 << 10)
	return append(out, atMost("  frames lost", float64(lost), "", 0), atMost("  results that passed the third member", past, "", .1)), nil
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// netlabRelay has two members whose routers let no hole be punched.
func netlabRelay(ctx context.Context, b *netlabBed) ([]Figure, error) {
	const mbit = 20
	relay, err := b.up(ctx, "relay", b.internet, netlab.LinkOptions{UpBits: mbit * 1e6, DownBits: mbit * 1e6, Delay: 10 * time.Millisecond}, true)
	if err != nil {
		return nil, err
	}
	artist, err := b.up(ctx, "artist", b.lab.Site(netlab.Symmetric), homeLink, true)
	if err != nil {
		return nil, err
	}
	worker, err := b.up(ctx, "worker", b.lab.Site(netlab.Symmetric), homeLink, false)
	if err != nil {
		return nil, err
	}
	if err := b.found(ctx, relay, artist, worker); err != nil {
		return nil, err
	}
	m, took, err := artist.reaches(ctx, 90*time.Second, "worker", "relayed")
	if err != nil {
		return nil, err
	}
	out := []Figure{plain("two symmetric NATs: relayed after", took.Seconds(), "s")}
	if m.Via == "" {
		return nil, fmt.Errorf("the path is relayed, and nobody says by whom")
	}
	const count, size = 3, 4 << 20
	id, err := b.echo(ctx, artist, "relay", count, 0, size)
	if err != nil {
		return nil, err
	}
	host := b.hosts[relay]
	// The relay's link is watched while it carries: from a mebibyte on, to one
	// before the end.
	before := host.Sent()
	var first, last time.Time
	var from, to int64
	done := make(chan error, 1)
	go func() {
		_, _, err := b.end(ctx, artist, id, count, worker)
		done <- err
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				return nil, err
			}
			running = false
		case now := <-tick.C:
			switch sent := host.Sent() - before; {
			case sent < 1<<20:
			case first.IsZero():
				first, from = now, sent
			case sent <= (count*size - 1<<20):
				last, to = now, sent
			}
		}
	}
	if last.IsZero() {
		return nil, fmt.Errorf("the results did not pass the relay: it sent %d bytes", host.Sent()-before)
	}
	rate := float64(to-from) * 8 / last.Sub(first).Seconds() / 1e6
	out = append(out, atLeast(fmt.Sprintf("  speed of results, of the relay's %d Mbit/s", mbit), rate/mbit, "x", .8))
	v, err := artist.client.Doctor(ctx, true)
	if err != nil {
		return nil, err
	}
	for _, p := range v.Peers {
		if p.Name == "worker" {
			if p.Path != "relayed" || p.Via != "relay" || p.UpBytes == 0 || p.DownBytes == 0 {
				return nil, fmt.Errorf("doctor says of the worker: %+v", p)
			}
			out = append(out, plain("  the same, as idlewild doctor measures it", p.DownBytes*8/1e6/mbit, "x"))
		}
	}
	return out, nil
}

// netlabRestart starts every node of a working farm anew.
func netlabRestart(ctx context.Context, b *netlabBed) ([]Figure, error) {
	all, err := b.fourNodes(ctx)
	if err != nil {
		return nil, err
	}
	artist, workers := all[1], all[2:]
	if _, err := b.whole(ctx, 60*time.Second, all...); err != nil {
		return nil, err
	}
	const count = 600
	id, err := b.echo(ctx, artist, "restart", count, 200, 0)
	if err != nil {
		return nil, err
	}
	if _, err := artist.progresses(ctx, 60*time.Second, id, "", 4); err != nil {
		return nil, err
	}
	worst := time.Duration(0)
	for _, d := range all {
		if err := b.again(ctx, syscall.SIGTERM, d); err != nil {
			return nil, err
		}
		took, err := b.whole(ctx, 60*time.Second, all...)
		if err != nil {
			return nil, fmt.Errorf("after %s restarted: %w", d.name, err)
		}
		fmt.Fprintf(os.Stderr, "netlab: %s restarted, whole after %.1f s\n", d.name, took.Seconds())
		worst = max(worst, took)
	}
	if err := b.again(ctx, syscall.SIGKILL, all...); err != nil {
		return nil, err
	}
	together, err := b.whole(ctx, 60*time.Second, all...)
	if err != nil {
		return nil, fmt.Errorf("after all were killed: %w", err)
	}
	lost, twice, err := b.end(ctx, artist, id, count, workers...)
	if err != nil {
		return nil, err
	}
	return []Figure{
		atMost("each of four restarted in turn: whole again, worst", worst.Seconds(), "s", 10),
		atMost("all killed at once: whole again", together.Seconds(), "s", 10),
		atMost("  frames lost", float64(lost), "", 0),
		plain("  tasks done twice", float64(twice), ""),
	}, nil
}

// fourNodes are a public owner, an artist and a worker behind cones, and a
// worker behind a symmetric router.
func (b *netlabBed) fourNodes(ctx context.Context) ([]*daemon, error) {
	owner, err := b.up(ctx, "owner", b.internet, netlab.LinkOptions{Delay: 10 * time.Millisecond}, true)
	if err != nil {
		return nil, err
	}
	all := []*daemon{owner}
	for _, n := range []struct {
		name string
		kind netlab.NATKind
	}{{"artist", netlab.PortRestricted}, {"worker1", netlab.PortRestricted}, {"worker2", netlab.Symmetric}} {
		d, err := b.up(ctx, n.name, b.lab.Site(n.kind), homeLink, n.name == "artist")
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, b.found(ctx, owner, all[1:]...)
}

// netlabCut pulls the cable of a worker in the middle of its work.
func netlabCut(ctx context.Context, b *netlabBed) ([]Figure, error) {
	all, err := b.fourNodes(ctx)
	if err != nil {
		return nil, err
	}
	artist, victim, workers := all[1], all[2], all[2:]
	if _, err := b.whole(ctx, 60*time.Second, all...); err != nil {
		return nil, err
	}
	// The other worker has enough to do during the cut, and both afterwards.
	count := int(b.cut.Milliseconds()/200) + 600
	id, err := b.echo(ctx, artist, "cut", count, 200, 0)
	if err != nil {
		return nil, err
	}
	me, err := artist.peer(ctx, victim.name)
	if err != nil {
		return nil, err
	}
	if _, err := artist.progresses(ctx, 60*time.Second, id, me.Peer, 4); err != nil {
		return nil, err
	}
	b.hosts[victim].Cut()
	pause := time.NewTimer(b.cut)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-pause.C:
	}
	b.hosts[victim].Heal()
	took, err := artist.progresses(ctx, 90*time.Second, id, me.Peer, 1)
	if err != nil {
		return nil, err
	}
	lost, twice, err := b.end(ctx, artist, id, count, workers...)
	if err != nil {
		return nil, err
	}
	return []Figure{
		atMost(fmt.Sprintf("link cut for %v: delivers again after", b.cut), took.Seconds(), "s", 10),
		atMost("  frames lost", float64(lost), "", 0),
		atMost("  tasks done twice", float64(twice), "", 1),
	}, nil
}

// netlabChange lets a worker sleep, and changes its address and its router's.
func netlabChange(ctx context.Context, b *netlabBed) ([]Figure, error) {
	all, err := b.fourNodes(ctx)
	if err != nil {
		return nil, err
	}
	artist, victim := all[1], all[2]
	if _, err := b.whole(ctx, 60*time.Second, all...); err != nil {
		return nil, err
	}
	const count = 2000
	id, err := b.echo(ctx, artist, "change", count, 200, 0)
	if err != nil {
		return nil, err
	}
	me, err := artist.peer(ctx, victim.name)
	if err != nil {
		return nil, err
	}
	home := b.hosts[victim]
	var out []Figure
	for _, c := range []struct {
		what string
		do   func() error
	}{
		{"suspended for 45 s and woken", func() error {
			victim.signal(syscall.SIGSTOP)
			pause := time.NewTimer(45 * time.Second)
			defer pause.Stop()
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			victim.signal(syscall.SIGCONT)
			return ctx.Err()
		}},
		{"another address from its router", home.Move},
		{"another public address", func() error { home.Site().Renumber(); return nil }},
	} {
		if _, err := artist.progresses(ctx, 60*time.Second, id, me.Peer, 4); err != nil {
			return nil, fmt.Errorf("before %s: %w", c.what, err)
		}
		if err := c.do(); err != nil {
			return nil, err
		}
		// Some more than what was on its way.
		took, err := artist.progresses(ctx, 90*time.Second, id, me.Peer, 3)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.what, err)
		}
		out = append(out, atMost(c.what+": delivers again after", took.Seconds(), "s", 30))
	}
	_, err = artist.client.Steer(ctx, id, "cancel")
	return out, err
}

// netlabBootstrap takes away one way of finding members at a time.
func netlabBootstrap(ctx context.Context, b *netlabBed) ([]Figure, error) {
	owner, err := b.up(ctx, "owner", b.internet, netlab.LinkOptions{}, true)
	if err != nil {
		return nil, err
	}
	home := b.lab.Site(netlab.PortRestricted)
	mdns := "IDLEWILD_NETWORK_MDNS=true"
	one, err := b.up(ctx, "one", home, homeLink, true, mdns)
	if err != nil {
		return nil, err
	}
	two, err := b.up(ctx, "two", home, homeLink, true, mdns)
	if err != nil {
		return nil, err
	}
	public, err := b.up(ctx, "public", b.internet, netlab.LinkOptions{}, true)
	if err != nil {
		return nil, err
	}
	all := []*daemon{owner, one, two, public}
	if err := b.found(ctx, owner, all[1:]...); err != nil {
		return nil, err
	}
	if _, err := b.whole(ctx, 60*time.Second, all...); err != nil {
		return nil, err
	}
	var out []Figure
	note := func(what string, took time.Duration, err error) error {
		if err == nil {
			out = append(out, atMost(what, took.Seconds(), "s", 10))
		}
		return err
	}
	// What is remembered of the members goes; the certificate and the ticket's
	// address of the owner stay with it.
	remembered := func(d *daemon) (string, error) {
		found, err := filepath.Glob(filepath.Join(d.dir, "farm", "*", "members"))
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("%d memories of members", len(found))
		}
		return found[0], err
	}

	// Without the owner: from the remembered addresses.
	owner.signal(syscall.SIGTERM)
	<-owner.exited
	if err := b.again(ctx, syscall.SIGTERM, one); err != nil {
		return nil, err
	}
	took, err := b.whole(ctx, 30*time.Second, one, two, public)
	if err := note("the owner is dead: a member restarts, whole after", took, err); err != nil {
		return nil, err
	}
	// Without a memory and without the owner: from the local network, and from
	// there all others.
	one.signal(syscall.SIGTERM)
	<-one.exited
	memory, err := remembered(one)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(memory); err != nil {
		return nil, err
	}
	if err := b.farm.restart(ctx, one); err != nil {
		return nil, err
	}
	took, err = b.whole(ctx, 60*time.Second, one, two, public)
	if err := note("the owner is dead and the memory gone: by mDNS, whole after", took, err); err != nil {
		return nil, err
	}
	// Without mDNS, and the neighbour dead: from what members tell.
	if err := b.farm.restart(ctx, owner); err != nil {
		return nil, err
	}
	two.signal(syscall.SIGTERM)
	<-two.exited
	one.env = append(one.env, "IDLEWILD_NETWORK_MDNS=false")
	if err := b.again(ctx, syscall.SIGTERM, one); err != nil {
		return nil, err
	}
	took, err = b.whole(ctx, 60*time.Second, one, owner, public)
	if err := note("no mDNS and the neighbour dead: whole after", took, err); err != nil {
		return nil, err
	}
	return out, nil
}

// netlabReach has machines find out whether they can be dialled from outside, and
// answer in the DHT of an open farm only where they can.
func netlabReach(ctx context.Context, b *netlabBed) ([]Figure, error) {
	const dht = "IDLEWILD_NETWORK_DHT=true"
	owner, err := b.up(ctx, "owner", b.internet, netlab.LinkOptions{}, true, dht)
	if err != nil {
		return nil, err
	}
	open, err := b.up(ctx, "open", b.lab.Site(netlab.Cone), homeLink, true, dht)
	if err != nil {
		return nil, err
	}
	shut, err := b.up(ctx, "shut", b.lab.Site(netlab.PortRestricted), homeLink, true, dht)
	if err != nil {
		return nil, err
	}
	if err := b.found(ctx, owner, open, shut); err != nil {
		return nil, err
	}
	if _, err := owner.client.OpenFarm(ctx, time.Hour, p2p.MinDifficulty); err != nil {
		return nil, err
	}
	right, parts := 0, 0
	for _, c := range []struct {
		d    *daemon
		open bool
	}{{owner, true}, {open, true}, {shut, false}} {
		err := poll(ctx, 5*time.Minute, c.d.name+" knows whether it can be reached", func() error {
			v, err := c.d.client.Doctor(ctx, false)
			if err != nil {
				return err
			}
			if n := v.Network; len(n.Open)+len(n.Shut) == 0 {
				return fmt.Errorf("seen at %v, nobody has dialled yet", n.Seen)
			} else if (len(n.Open) > 0) == c.open && (len(n.Shut) > 0) != c.open {
				right++
			} else {
				fmt.Fprintf(os.Stderr, "netlab: %s: open %v, shut %v\n", c.d.name, n.Open, n.Shut)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		said := map[bool]string{true: "answers", false: "only asks"}[c.open]
		err = poll(ctx, 2*time.Minute, c.d.name+"'s part in the farm's DHT", func() error {
			v, err := c.d.client.Doctor(ctx, false)
			if err == nil && !strings.HasPrefix(v.Network.DHT, said) {
				err = fmt.Errorf("%q, not %q", v.Network.DHT, said)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		parts++
	}
	return []Figure{atLeast("machines that answer in an open farm's DHT where they were reached, and only ask where not, of 3", float64(parts), "", 3), atLeast("machines that know whether they can be dialled from outside, of 3", float64(right), "", 3)}, nil
}
