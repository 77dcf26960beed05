package node

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/p2p"
	"idlewild/render/echo"
)

func takesStrangers(c *Config) { c.Swarm.Accept = acceptStrangers }

// comeIn opens owner's farm, and has others come in as strangers.
func comeIn(t *testing.T, owner *testNode, others ...*testNode) {
	t.Helper()
	if _, err := owner.client.CreateFarm(t.Context(), "open"); err != nil {
		t.Fatal(err)
	}
	line, err := owner.client.OpenFarm(t.Context(), time.Hour, p2p.MinDifficulty)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range others {
		v, err := o.client.Join(t.Context(), line)
		if err != nil || !v.Stranger || v.Open.IsZero() {
			t.Fatalf("%+v, %v", v, err)
		}
		eventually(t, "the stranger is let in", func() error {
			if !owner.host.Membership().Stranger(o.self) || !slices.Contains(o.near(), owner.self) {
				return errors.New("not yet")
			}
			return nil
		})
	}
}

// TestStrangersWorkForAMember: on a job that says so, checked as a new peer is
// although the job asks for nothing, and on no other.
func TestStrangersWorkForAMember(t *testing.T) {
	owner := startNode(t, "owner", func(c *Config) { c.Worker.Enabled = false; takesStrangers(c) })
	stranger := startNode(t, "somebody", nil)
	comeIn(t, owner, stranger)

	spec := echoSpec(t, t.TempDir(), echo.Params{Count: 12, Text: "hello", Bytes: 1000, Check: true})
	private, err := owner.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	none := 0.0
	spec.Output, spec.Policy.Strangers, spec.Policy.Recheck = t.TempDir(), true, &none
	public, err := owner.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := owner.finish(t, public)
	if s.State != job.StateFinished || s.Delivered != 12 || s.Rechecked < 10 {
		t.Errorf("%s, %d delivered, %d checked: %s", s.State, s.Delivered, s.Rechecked, s.Reason)
	}
	if s, err = owner.client.Job(t.Context(), private); err != nil || s.Delivered != 0 || s.State.Ended() {
		t.Errorf("the members' job: %s, %d delivered, %v", s.State, s.Delivered, err)
	}
	// It is shown as what it is, and counts nowhere as a member.
	v, err := owner.client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Members) != 1 || len(v.Strangers) != 1 || v.Strangers[0].Role != string(p2p.RoleStranger) || v.Strangers[0].Standing.Checked < 10 || v.Open.IsZero() || !v.Takes {
		t.Errorf("%+v", v)
	}
	if len(owner.near()) != 0 || len(owner.members()) != 0 {
		t.Error("a stranger counts as a member")
	}
	if _, err := (farmView{owner.Node}).named(v.Strangers[0].Name); err == nil {
		t.Error("a stranger can be named as a member")
	}
	spec.Policy.Stewards = []string{stranger.self.String()}
	if _, err := owner.client.Submit(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "no member") {
		t.Errorf("a stranger as a steward: %v", err)
	}
	found := false
	for _, f := range (doctor{owner.Node}).Doctor(t.Context(), false).Findings {
		found = found || strings.Contains(f.What, "open to strangers until") && strings.Contains(f.What, "1 stranger is here") && strings.Contains(f.What, "were accepted, 0 rejected")
	}
	if !found {
		t.Error("doctor says nothing of the open farm")
	}
	// Its page and idlewild peers say the same, and who was refused.
	if c := (farmView{owner.Node}).View().Crowd; c == nil || c.Here != 1 || c.LetIn == 0 || c.Accepted == 0 || c.Rejected > 0 || c.Refused > 0 {
		t.Errorf("what the farm's page says of strangers: %+v", c)
	}
	if c := (farmView{stranger.Node}).View().Crowd; c != nil {
		t.Errorf("a stranger says of strangers: %+v", c)
	}
	// The owner ends it.
	if v, err = owner.client.CloseFarm(t.Context()); err != nil || !v.Open.IsZero() {
		t.Errorf("%+v, %v", v, err)
	}
	eventually(t, "the stranger is gone", func() error {
		if owner.host.Membership().Admitted(stranger.self) {
			return errors.New("it is here")
		}
		return nil
	})
	if _, err := stranger.client.OpenFarm(t.Context(), time.Hour, 0); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "only the farm's owner") {
		t.Errorf("opened by a stranger: %v", err)
	}
}

// TestMembersWorkForAStranger: in a sandbox that holds, and where the member
// wants it.
func TestMembersWorkForAStranger(t *testing.T) {
	owner := startNode(t, "owner", func(c *Config) { takesStrangers(c); c.Sandbox.Mode = "auto" })
	if !owner.kit.confinesStrangers() {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "sandbox") {
			t.Fatal("no sandbox here: " + owner.kit.sandbox)
		}
		t.Skip("NOT RUN: no sandbox here: " + owner.kit.sandbox)
	}
	stranger := startNode(t, "somebody", func(c *Config) { c.Worker.Enabled = false })
	comeIn(t, owner, stranger)
	id, err := stranger.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 3, Text: "hello", Check: true}))
	if err != nil {
		t.Fatal(err)
	}
	if s := stranger.finish(t, id); s.State != job.StateFinished || s.Delivered != 3 {
		t.Errorf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
}

// TestNoStrangersJobWithoutASandbox: that the sandbox is off, or that its owner
// trusts a peer, is about members.
func TestNoStrangersJobWithoutASandbox(t *testing.T) {
	_, id, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		accept, mode string
		want         string
	}{
		{acceptMembers, "auto", noStrangers},
		{acceptMembers, "off", noStrangers},
		{acceptStrangers, "off", noSandbox},
	} {
		n := startNode(t, "worker", func(cfg *Config) {
			cfg.Swarm.Accept, cfg.Sandbox.Mode, cfg.Sandbox.Trusted = c.accept, c.mode, []string{id.String()}
		})
		if err := n.accept(id); err == nil || err.Error() != c.want {
			t.Errorf("%s, sandbox %s: %v", c.accept, c.mode, err)
		}
		if n.precedence(id) >= n.precedence(n.self) {
			t.Errorf("a stranger gets as much as a member: %g", n.precedence(id))
		}
		if err := n.accept(n.self); err != nil {
			t.Errorf("its own job: %v", err)
		}
		says := slices.ContainsFunc((doctor{n.Node}).Doctor(t.Context(), false).Findings, func(f localapi.Finding) bool {
			return strings.Contains(f.What, "no stranger's job runs on this machine")
		})
		if says != (c.want == noSandbox) {
			t.Errorf("%s, sandbox %s: doctor says so: %v", c.accept, c.mode, says)
		}
	}
}

// TestSettingsOfAnOpenFarm: bounds, and what a studio forbids.
func TestSettingsOfAnOpenFarm(t *testing.T) {
	node := "/ip4/198.51.100.%d/tcp/4747/p2p/%s"
	var boots []string
	for i := range 2 {
		_, id, err := newPeer()
		if err != nil {
			t.Fatal(err)
		}
		boots = append(boots, fmt.Sprintf(node, i+1, id))
	}
	load := func(flags map[string]string) (Config, error) {
		flags["data_dir"] = t.TempDir()
		c, _, err := LoadConfig("", flags)
		return c, err
	}
	if c, err := load(map[string]string{}); err != nil || c.Network.DHT || c.Swarm.Accept != acceptMembers || len(c.Network.Bootstraps) != 0 {
		t.Errorf("where nothing is set: %+v %+v, %v", c.Network, c.Swarm, err)
	}
	if c, err := load(map[string]string{"network.dht": "true", "network.bootstraps": strings.Join(boots, ","), "swarm.accept": "strangers"}); err != nil || !c.Network.DHT || len(c.Network.Bootstraps) != 2 {
		t.Errorf("%+v, %v", c.Network, err)
	}
	for _, c := range []struct {
		flags map[string]string
		want  string
	}{
		{map[string]string{"swarm.accept": "everybody"}, "swarm.accept"},
		{map[string]string{"network.bootstraps": boots[0]}, "network.bootstraps names one"},
		{map[string]string{"network.bootstraps": boots[0] + ",198.51.100.7:4747"}, "network.bootstraps"},
		{map[string]string{"network.dht": "true", "network.profile": "studio"}, "network.dht"},
		{map[string]string{"swarm.accept": "strangers", "network.profile": "studio"}, "swarm.accept"},
	} {
		if _, err := load(c.flags); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.flags, err)
		}
	}
	studio := startNode(t, "studio", func(c *Config) { c.Network.Profile = "studio" })
	if _, err := studio.client.CreateFarm(t.Context(), "f"); err != nil {
		t.Fatal(err)
	}
	if _, err := studio.client.OpenFarm(t.Context(), time.Hour, 0); !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "network.profile") {
		t.Errorf("a studio's farm is opened: %v", err)
	}
	if _, err := studio.client.OpenFarm(t.Context(), time.Hour, p2p.MaxDifficulty+1); err == nil {
		t.Error("work without a bound")
	}
}
