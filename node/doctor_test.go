package node

import (
	"strings"
	"testing"

	"idlewild/node/localapi"
	"idlewild/p2p"
)

func TestFindings(t *testing.T) {
	farm := p2p.Farm{Name: "studio"}
	up := localapi.DoctorPeer{Name: "desk", Connected: true, Path: "LAN", Capability: p2p.Capability}
	view := func(change func(*localapi.DoctorView)) localapi.DoctorView {
		v := localapi.DoctorView{
			Version: Version, Capability: p2p.Capability, Peers: []localapi.DoctorPeer{up},
			Network: localapi.NetworkView{NAT: "cone", Traverse: true},
		}
		change(&v)
		return v
	}
	for name, c := range map[string]struct {
		view localapi.DoctorView
		farm p2p.Farm
		out  bool // of any farm
		cfg  func(*Config)
		want []string // of the findings, in order: severity, words, words of the remedy
	}{
		"all is well": {view: view(func(*localapi.DoctorView) {}), farm: farm},
		"no farm":     {view: view(func(*localapi.DoctorView) {}), out: true, want: []string{"error|no farm|farm join"}},
		"revoked":     {view: view(func(*localapi.DoctorView) {}), farm: p2p.Farm{Name: "studio", Revoked: true}, want: []string{"error|put out|new ticket"}},
		"alone":       {view: view(func(v *localapi.DoctorView) { v.Peers = nil }), farm: farm, want: []string{"note|nobody else|invite"}},
		"cut off": {view: view(func(v *localapi.DoctorView) { v.Peers[0].Connected = false }), farm: farm,
			want: []string{"error|no member is connected|from outside"}},
		"cut off in a studio": {view: view(func(v *localapi.DoctorView) { v.Peers[0].Connected, v.Network.Traverse = false, false }), farm: farm,
			want: []string{"error|no member is connected|network.traverse is off"}},
		"one is gone": {view: view(func(v *localapi.DoctorView) {
			v.Peers = append(v.Peers, localapi.DoctorPeer{Name: "laptop", Trouble: "no route"})
		}), farm: farm, want: []string{"note|laptop is not connected: no route|running there"}},
		"relayed": {view: view(func(v *localapi.DoctorView) { v.Peers[0].Path, v.Network.NAT = "relayed", "symmetric" }), farm: farm,
			cfg: func(c *Config) { c.Network.PortMap = false }, want: []string{"warning|1 of 1 connected members is reached through a relay|UDP port 4711"}},
		"clocks": {view: view(func(v *localapi.DoctorView) { v.Peers[0].ClockMillis = -90_000 }), farm: farm,
			want: []string{"warning|desk is 1m30s behind|clocks by the network"}},
		"a newer one":  {view: view(func(v *localapi.DoctorView) { v.Peers[0].Capability++ }), farm: farm, want: []string{"note|but for: what only the newer can|update this machine"}},
		"an older one": {view: view(func(v *localapi.DoctorView) { v.Peers[0].Capability = 2 }), farm: farm, want: []string{"note|(capability 2)|update desk"}},
		"one too old": {view: view(func(v *localapi.DoctorView) { v.Peers[0].Capability, v.Peers[0].Apart = 1, "desk is too old" }), farm: farm,
			want: []string{"error|desk is too old|no work"}},
		"off and worse first": {view: view(func(v *localapi.DoctorView) { v.Peers[0].Connected = false }), farm: farm,
			cfg:  func(c *Config) { c.Worker.Enabled = false },
			want: []string{"error|no member|", "note|no work for others|worker.enabled"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			if c.cfg != nil {
				c.cfg(&cfg)
			}
			got := findings(c.view, c.farm, !c.out, cfg, "4711")
			if len(got) != len(c.want) {
				t.Fatalf("%+v, want %q", got, c.want)
			}
			for i, w := range c.want {
				part := strings.Split(w, "|")
				if f := got[i]; f.Severity != part[0] || !strings.Contains(f.What, part[1]) || !strings.Contains(f.Remedy, part[2]) {
					t.Errorf("%+v, want %q", f, w)
				}
			}
		})
	}
}
