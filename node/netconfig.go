package node

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"idlewild/p2p"
)

const (
	// studioPort is one that firewalls of a studio can be told of.
	studioPort = 4747
	// defaultRelayBytes of a day are four scenes of some gigabytes.
	defaultRelayBytes = 20 << 30
)

// inStudio sets what the profile decides and nobody else did.
func (c *NetworkConfig) inStudio(from map[string]string) {
	if c.Profile != "studio" {
		return
	}
	for key, off := range map[string]func(){
		"network.traverse":            func() { c.Traverse = false },
		"network.port_map":            func() { c.PortMap = false },
		"network.relay_bytes_per_day": func() { c.RelayBytes = 0 },
		"network.port":                func() { c.Port = studioPort },
	} {
		if _, set := from[key]; !set {
			off()
			from[key] = "network.profile studio"
		}
	}
}

func (c NetworkConfig) validate() error {
	switch {
	case c.Profile != "home" && c.Profile != "studio":
		return fmt.Errorf("network.profile is %q; it may be home or studio", c.Profile)
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("network.port is %d; it may be 0 to 65535", c.Port)
	case c.RelayBytes < 0:
		return errors.New("network.relay_bytes_per_day is negative; 0 means that nothing is relayed")
	case c.DHT && c.Profile == "studio":
		return errors.New("network.dht is true, and network.profile is studio, in which this machine asks nobody outside: set one of them otherwise")
	case len(c.Bootstraps) == 1:
		return errors.New("network.bootstraps names one node; name two or more, so that one may be away, or none")
	case len(c.Bootstraps) > 0 && p2p.CheckBootstraps(c.Bootstraps) != nil:
		return fmt.Errorf("network.bootstraps: %w", p2p.CheckBootstraps(c.Bootstraps))
	case len(c.Listen) > 0 && c.Interface != "":
		return errors.New("network.listen and network.interface both say where to listen; leave one out")
	}
	return nil
}

// listen are the multiaddresses to listen on; none: any.
func (c NetworkConfig) listen() ([]string, error) {
	if len(c.Listen) > 0 || c.Port == 0 && c.Interface == "" {
		return c.Listen, nil
	}
	hosts := []string{"/ip4/0.0.0.0", "/ip6/::"}
	if c.Interface != "" {
		var err error
		if hosts, err = interfaceHosts(c.Interface); err != nil {
			return nil, err
		}
	} else if !hasIPv6() {
		hosts = hosts[:1] // what is asked for must be there
	}
	var out []string
	for _, h := range hosts {
		out = append(out, fmt.Sprintf("%s/tcp/%d", h, c.Port), fmt.Sprintf("%s/udp/%d/quic-v1", h, c.Port))
	}
	return out, nil
}

// interfaceHosts are the addresses of one interface, as multiaddresses.
func interfaceHosts(name string) ([]string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		var names []string
		all, _ := net.Interfaces() // a help for the message
		for _, x := range all {
			names = append(names, x.Name)
		}
		return nil, fmt.Errorf("network.interface is %q, which this machine has not; it has %s", name, strings.Join(names, ", "))
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("network.interface %s: %w", name, err)
	}
	var out []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLinkLocalUnicast() {
			continue
		}
		if v4 := n.IP.To4(); v4 != nil {
			out = append(out, "/ip4/"+v4.String())
		} else {
			out = append(out, "/ip6/"+n.IP.String())
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("network.interface %s has no address: is it connected?", name)
	}
	return out, nil
}

// hasIPv6 reports whether this machine can listen on IPv6.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::]:0")
	if err != nil {
		return false
	}
	l.Close()
	return true
}
