// Package netlab is a network in one machine: hosts in namespaces of their own,
// routers that translate addresses in several ways, links with a rate, a delay
// and losses, and cuts. Real programs run in it.
//
// A host is a network namespace with one TUN device. This process reads what
// each host sends and decides what becomes of it, so neither netem nor iptables
// is needed: the kernel gives namespaces and TUN, and root may make both.
//
// A Site is a network of hosts. That of NAT None is the public network; any
// other has a router with one public address, and its hosts have private ones.
// Hosts of one site hear each other's multicast; those of the public network
// hear nobody's. IPv4 only.
package netlab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// LinkOptions of one host's cable. The zero value is a perfect one.
type LinkOptions struct {
	UpBits, DownBits float64       // per second, in either direction; 0: no limit
	Delay            time.Duration // one way, of what the host sends and of what it receives
	Loss             float64       // share of the packets that are dropped, in either direction
}

// Lab is a running network. Its methods may be called concurrently.
type Lab struct {
	prefix string

	mu      sync.Mutex
	hosts   map[netip.Addr]*Host // of the public network
	routers map[netip.Addr]*Site // by public address
	all     []*Host
	next    int
	closed  bool
	wg      sync.WaitGroup
}

// Site is a network behind one router, or the public one.
type Site struct {
	lab    *Lab
	kind   NATKind
	number int
	n      int

	// under lab.mu
	public netip.Addr
	nat    *NAT
	hosts  map[netip.Addr]*Host
}

// Host is one machine of the lab.
type Host struct {
	Name string // and of its namespace, after the lab's prefix
	site *Site
	tun  *os.File
	up   *link // from the host
	down *link // to it

	// under lab.mu
	addr netip.Addr
}

// Allowed says why this process cannot make a lab; nil: it can.
func Allowed() error {
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root")
	}
	for _, program := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%s is missing: apt-get install iproute2 util-linux", program)
		}
	}
	l := New()
	defer l.Close()
	_, err := l.Site(None).Host("try", LinkOptions{})
	return err
}

// New makes an empty lab. Close removes everything it made.
func New() *Lab {
	return &Lab{prefix: prefixOf(os.Getpid(), labs.Add(1)), hosts: map[netip.Addr]*Host{}, routers: map[netip.Addr]*Site{}}
}

var labs atomic.Int64 // of this process so far

// Site adds a network. None adds hosts to the public one.
func (l *Lab) Site(kind NATKind) *Site {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	s := &Site{lab: l, kind: kind, number: l.next, hosts: map[netip.Addr]*Host{}}
	if kind != None {
		s.moveLocked(publicAddr(l.next, 1))
	}
	return s
}

// publicAddr is in a range that libp2p takes for public, of which no program
// of the lab knows that it is not.
func publicAddr(site, host int) netip.Addr {
	return netip.AddrFrom4([4]byte{11, 0, byte(site), byte(host)})
}

// Public is the router's address; invalid for the public network.
func (s *Site) Public() netip.Addr {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	return s.public
}

// Renumber gives the router another public address and forgets its mappings,
// as a provider does at night.
func (s *Site) Renumber() {
	s.lab.mu.Lock()
	defer s.lab.mu.Unlock()
	delete(s.lab.routers, s.public)
	s.lab.next++
	s.moveLocked(publicAddr(s.lab.next, 1))
}

func (s *Site) moveLocked(public netip.Addr) {
	s.public, s.nat = public, newNAT(s.kind, public)
	s.lab.routers[public] = s
}

// Host adds a machine with a cable.
func (s *Site) Host(name string, o LinkOptions) (*Host, error) {
	s.lab.mu.Lock()
	s.n++
	addr := publicAddr(s.number, 10+s.n)
	if s.kind != None {
		addr = netip.AddrFrom4([4]byte{192, 168, byte(s.number), byte(10 + s.n)})
	}
	h := &Host{Name: name, site: s, addr: addr}
	s.lab.all = append(s.lab.all, h)
	s.lab.mu.Unlock()

	if err := run("ip", "netns", "add", h.namespace()); err != nil {
		return nil, err
	}
	tun, err := openTUN(h.namespace(), tunName)
	if err != nil {
		return nil, err
	}
	h.tun = tun
	h.up = newLink(o.UpBits, o.Delay, o.Loss, func(p []byte) { s.lab.route(h, p) })
	h.down = newLink(o.DownBits, o.Delay, o.Loss, func(p []byte) { _, _ = tun.Write(p) })
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "set", tunName, "up", "mtu", "1500", "txqueuelen", "2000"},
		{"addr", "add", addr.String() + "/32", "dev", tunName},
		{"route", "add", "default", "dev", tunName},
	} {
		if err := h.ip(args...); err != nil {
			return nil, err
		}
	}
	s.lab.mu.Lock()
	s.attachLocked(h)
	s.lab.mu.Unlock()
	s.lab.wg.Go(h.read)
	return h, nil
}

func (s *Site) attachLocked(h *Host) {
	if s.kind == None {
		s.lab.hosts[h.addr] = h
	} else {
		s.hosts[h.addr] = h
	}
}

func (s *Site) detachLocked(h *Host) {
	delete(s.lab.hosts, h.addr)
	delete(s.hosts, h.addr)
}

// Addr is the host's own address: private behind a router.
func (h *Host) Addr() netip.Addr {
	h.site.lab.mu.Lock()
	defer h.site.lab.mu.Unlock()
	return h.addr
}

// Move gives the host another address in its network, as after another lease
// of the router or another access point.
func (h *Host) Move() error {
	s := h.site
	s.lab.mu.Lock()
	s.n++
	old := h.addr
	b := old.As4()
	b[3] = byte(10 + s.n)
	s.detachLocked(h)
	h.addr = netip.AddrFrom4(b)
	s.attachLocked(h)
	now := h.addr
	s.lab.mu.Unlock()
	if err := h.ip("addr", "add", now.String()+"/32", "dev", tunName); err != nil {
		return err
	}
	if err := h.ip("addr", "del", old.String()+"/32", "dev", tunName); err != nil {
		return err
	}
	return h.ip("route", "replace", "default", "dev", tunName)
}

// Site is the network that the host is in.
func (h *Host) Site() *Site { return h.site }

// Cut pulls the host's cable, Heal puts it back. Neither is seen by the host:
// packets are lost, the device stays up.
func (h *Host) Cut() { h.up.cut.Store(true); h.down.cut.Store(true) }

// Heal ends a cut.
func (h *Host) Heal() { h.up.cut.Store(false); h.down.cut.Store(false) }

// Sent and Received are the bytes of the packets that crossed the host's cable.
func (h *Host) Sent() int64     { return h.up.bytes.Load() }
func (h *Host) Received() int64 { return h.down.bytes.Load() }

// Enter is put before a command that shall run on the host. Only its network
// is another: files and processes are this machine's.
func (h *Host) Enter() []string { return []string{"nsenter", "--net=" + namespacePath(h.namespace())} }

// Command is a command on the host.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	line := append(h.Enter(), append([]string{name}, args...)...)
	return exec.CommandContext(ctx, line[0], line[1:]...)
}

func (h *Host) namespace() string { return h.site.lab.prefix + h.Name }

func (h *Host) ip(args ...string) error {
	return run("ip", append([]string{"-n", h.namespace()}, args...)...)
}

func namespacePath(name string) string { return filepath.Join("/run/netns", name) }

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
	}
	return nil
}

// Close removes the namespaces. Programs that still run in them are left with
// a network that leads nowhere.
func (l *Lab) Close() {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return
	}
	l.closed = true
	all := l.all
	l.mu.Unlock()
	for _, h := range all {
		if h.tun != nil {
			h.tun.Close()
			h.up.close()
			h.down.close()
		}
		_ = run("ip", "netns", "del", h.namespace()) // of one that was never made, that is the error
	}
	l.wg.Wait()
}

// read takes what the host sends until its device is closed.
func (h *Host) read() {
	buf := make([]byte, maxPacket)
	for {
		n, err := h.tun.Read(buf)
		if err != nil {
			return
		}
		if _, ok := parse(buf[:n]); ok {
			h.up.send(append([]byte(nil), buf[:n]...))
		}
	}
}

// route takes a packet to its host, through the routers on the way. It may
// change the packet.
func (l *Lab) route(from *Host, b []byte) {
	p, ok := parse(b)
	if !ok {
		return
	}
	now := time.Now()
	l.mu.Lock()
	if p.src().Addr() != from.addr {
		l.mu.Unlock()
		return // an address that it no longer has
	}
	if p.dst().Addr().IsMulticast() { // it stays in its network
		var all []*Host
		for _, h := range from.site.hosts {
			if h != from {
				all = append(all, h)
			}
		}
		l.mu.Unlock()
		for _, h := range all {
			h.down.send(append([]byte(nil), b...))
		}
		return
	}
	to := from.site.hosts[p.dst().Addr()] // its neighbour
	if to == nil {
		if n := from.site.nat; n != nil && !n.Out(p, now) {
			l.mu.Unlock()
			return
		}
		if s := l.routers[p.dst().Addr()]; s != nil && s != from.site {
			if s.nat.In(p, now) {
				to = s.hosts[p.dst().Addr()]
			}
		} else {
			to = l.hosts[p.dst().Addr()]
		}
	}
	l.mu.Unlock()
	if to != nil && to.down != nil {
		to.down.send(b)
	}
}
