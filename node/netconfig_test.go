package node

import (
	"net"
	"strings"
	"testing"
)

func TestStudioProfile(t *testing.T) {
	dir := map[string]string{"data_dir": t.TempDir(), "network.profile": "studio"}
	c, origins, err := LoadConfig("", dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Network; n.Traverse || n.PortMap || n.RelayBytes != 0 || n.Port != studioPort || !n.MDNS {
		t.Errorf("%+v", n)
	}
	for _, o := range origins {
		if o.Key == "network.port" && o.From != "network.profile studio" {
			t.Errorf("%+v", o)
		}
	}
	// What somebody sets counts more than the profile.
	dir["network.port"], dir["network.traverse"] = "9000", "true"
	if c, _, err = LoadConfig("", dir); err != nil || c.Network.Port != 9000 || !c.Network.Traverse || c.Network.PortMap {
		t.Errorf("%+v, %v", c.Network, err)
	}
	listen, err := c.Network.listen()
	if err != nil || len(listen) < 2 || listen[0] != "/ip4/0.0.0.0/tcp/9000" || listen[1] != "/ip4/0.0.0.0/udp/9000/quic-v1" {
		t.Errorf("%q, %v", listen, err)
	}
}

func TestHomeListensAnywhere(t *testing.T) {
	n := DefaultConfig().Network
	if listen, err := n.listen(); err != nil || len(listen) != 0 || !n.Traverse || !n.PortMap {
		t.Errorf("%q, %v; %+v", listen, err, n)
	}
}

func TestOneInterface(t *testing.T) {
	n := DefaultConfig().Network
	n.Interface = "nowhere0"
	if _, err := n.listen(); err == nil || !strings.Contains(err.Error(), "nowhere0") || !strings.Contains(err.Error(), "it has") {
		t.Errorf("%v", err)
	}
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			continue
		}
		n.Interface, n.Port = i.Name, 9000
		listen, err := n.listen()
		if err != nil || len(listen) == 0 || listen[0] != "/ip4/127.0.0.1/tcp/9000" {
			t.Errorf("%q, %v", listen, err)
		}
	}
	for key, want := range map[string]string{"network.profile": "home or studio", "network.port": "0 to 65535", "network.relay_bytes_per_day": "negative"} {
		value := "-1"
		if _, _, err := LoadConfig("", map[string]string{"data_dir": t.TempDir(), key: value}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
