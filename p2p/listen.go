package p2p

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/libp2p/go-libp2p/core/host"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"idlewild/internal/ondisk"
)

// listen opens each address by itself, because libp2p is content when one of
// several works.
func listen(lh host.Host, cfg Config) error {
	remembered := filepath.Join(cfg.DataDir, "ports")
	tcpPort, udpPort := readPorts(remembered)
	addrs, asked := cfg.Listen, true
	if len(addrs) == 0 {
		addrs, asked = []string{"/ip4/0.0.0.0/tcp/0", "/ip4/0.0.0.0/udp/0/quic-v1", "/ip6/::/tcp/0", "/ip6/::/udp/0/quic-v1"}, false
	}
	ok := false
	for _, s := range addrs {
		err := listenAgain(lh, s, tcpPort, udpPort)
		switch {
		case err == nil:
			ok = true
		case asked:
			return err
		default:
			cfg.Log.Debug("not listening", "err", err) // no IPv6, say
		}
	}
	if !ok {
		return errors.New("listen: no address could be opened")
	}
	writePorts(remembered, lh.Network().ListenAddresses())
	return nil
}

// listenAgain listens on s; where s leaves the port open, on that of the last
// start if it is still free: who knows our address finds us after a restart.
func listenAgain(lh host.Host, s string, tcpPort, udpPort int) error {
	for _, open := range []struct {
		proto string
		port  int
	}{{"tcp", tcpPort}, {"udp", udpPort}} {
		head, tail, ok := strings.Cut(s+"/", "/"+open.proto+"/0/")
		if !ok || open.port == 0 {
			continue
		}
		again := strings.TrimSuffix(fmt.Sprintf("%s/%s/%d/%s", head, open.proto, open.port, tail), "/")
		if listenOn(lh, again) == nil {
			return nil
		}
	}
	return listenOn(lh, s)
}

func listenOn(lh host.Host, s string) error {
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return fmt.Errorf("listen: %q is not a multiaddr like /ip4/0.0.0.0/tcp/4701: %w", s, err)
	}
	// libp2p shares TCP ports between sockets, so it would not notice that
	// another program, or another idlewild, has this one.
	if network, addr, err := manet.DialArgs(a); err == nil && (network == "tcp4" || network == "tcp6") {
		l, err := net.Listen(network, addr)
		if err != nil {
			return fmt.Errorf("listen on %s: %w: is another idlewild running? Choose another port", s, rootCause(err))
		}
		l.Close()
	}
	if err := lh.Network().Listen(a); err != nil {
		return fmt.Errorf("listen on %s: %w: is another idlewild running? Choose another port", s, rootCause(err))
	}
	return nil
}

// rootCause digs out what the system said.
func rootCause(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return cause(err)
}

// readPorts returns the ports of the last start, 0 where there are none.
func readPorts(path string) (tcpPort, udpPort int) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0
	}
	if n, _ := fmt.Sscanf(string(b), "tcp %d\nudp %d\n", &tcpPort, &udpPort); n != 2 || tcpPort < 0 || tcpPort > 65535 || udpPort < 0 || udpPort > 65535 {
		return 0, 0
	}
	return tcpPort, udpPort
}

// writePorts remembers the ports, so that those who know our address find us
// after a restart.
func writePorts(path string, addrs []ma.Multiaddr) {
	tcpPort, udpPort := "0", "0"
	for _, a := range addrs {
		if _, err := a.ValueForProtocol(ma.P_IP4); err != nil {
			continue
		}
		if v, err := a.ValueForProtocol(ma.P_TCP); err == nil {
			tcpPort = v
		}
		if v, err := a.ValueForProtocol(ma.P_UDP); err == nil {
			udpPort = v
		}
	}
	_ = ondisk.WriteFile(path, fmt.Appendf(nil, "tcp %s\nudp %s\n", tcpPort, udpPort), 0o600) // a convenience
}
