package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/echo"
)

// further is the door of a further farm of x.
func further(t *testing.T, x *testNode, name string) *localapi.Client {
	t.Helper()
	dir := filepath.Join(x.cfg.DataDir, farmsFolder, name)
	var c *localapi.Client
	eventually(t, "the door of "+name, func() (err error) {
		if c, err = localapi.Dial(dir); err == nil {
			_, err = c.Status(t.Context())
		}
		return err
	})
	return c
}

// Two artists who do not know each other have a machine in both of their farms
// work for them, at the same time and across a restart of it. Neither learns of
// the other, and the machine has another identity in each.
func TestADaemonInTwoFarms(t *testing.T) {
	ann := startNode(t, "ann", func(c *Config) { c.Worker.Enabled = false })
	bob := startNode(t, "bob", func(c *Config) { c.Worker.Enabled = false })
	cfg := testConfig(t, "pc", nil)
	pc := runNode(t, cfg)
	join(t, ann, pc)
	join(t, bob)
	ticket, err := bob.client.Invite(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.client.Join(t.Context(), ticket); err == nil {
		t.Fatal("the first farm was replaced")
	}
	for _, bad := range []string{"", "..", "a/b", "Bob", "a b"} {
		if _, err := pc.client.AddFarm(t.Context(), bad); err == nil {
			t.Errorf("a farm called %q", bad)
		}
	}
	added, err := pc.client.AddFarm(t.Context(), "bobs")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.client.AddFarm(t.Context(), "bobs"); !errors.As(err, new(*job.RefusedError)) {
		t.Errorf("the same name again: %v", err)
	}
	if _, err := further(t, pc, "bobs").Join(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
	if added.Peer == pc.self.String() || added.Peer == "" {
		t.Errorf("the identity in the second farm is %q, in the first %s", added.Peer, pc.self)
	}
	both := func(what string) {
		t.Helper()
		ids := map[*testNode]job.ID{}
		for _, x := range []*testNode{ann, bob} {
			spec := echoSpec(t, t.TempDir(), echo.Params{Count: 12, Text: what, SleepMS: 20, Check: true})
			id, err := x.client.Submit(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			ids[x] = id
		}
		for x, id := range ids {
			if s := x.finish(t, id); s.State != job.StateFinished || s.Delivered != 12 || s.Rejected > 0 {
				t.Errorf("%s, %s: %s, %d delivered: %s", what, x.cfg.Name, s.State, s.Delivered, s.Reason)
			}
		}
	}
	both("at once")
	for _, x := range []*testNode{ann, bob} {
		v, err := x.client.Peers(t.Context())
		if err != nil || len(v.Members) != 2 {
			t.Errorf("%s knows %d members: %v", x.cfg.Name, len(v.Members), err)
		}
	}
	list, err := pc.client.Farms(t.Context())
	if err != nil || len(list) != 2 || list[0].Name != "" || list[1].Name != "bobs" || list[1].Members != 2 || list[0].ID == list[1].ID {
		t.Errorf("%+v, %v", list, err)
	}

	pc.end(t)
	pc = runNode(t, cfg)
	further(t, pc, "bobs")
	both("after a restart")

	// A pause of the machine is one of all farms.
	if _, err := pc.client.SetPaused(t.Context(), true, "a game"); err != nil {
		t.Fatal(err)
	}
	if s, err := further(t, pc, "bobs").Status(t.Context()); err != nil || s.Machine.Paused == "" {
		t.Errorf("paused: %+v, %v", s.Machine, err)
	}
	if _, err := pc.client.SetPaused(t.Context(), false, ""); err != nil {
		t.Fatal(err)
	}

	if _, err := pc.client.DropFarm(t.Context(), "anns", false); !errors.As(err, new(*job.RefusedError)) {
		t.Errorf("a farm that is not there was dropped: %v", err)
	}
	if list, err = pc.client.DropFarm(t.Context(), "bobs", false); err != nil || len(list) != 1 {
		t.Errorf("dropped: %+v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, farmsFolder, "bobs")); !os.IsNotExist(err) {
		t.Errorf("its folder is there: %v", err)
	}
	id, err := ann.client.Submit(t.Context(), echoSpec(t, t.TempDir(), echo.Params{Count: 3, Text: "the first goes on"}))
	if err != nil {
		t.Fatal(err)
	}
	if s := ann.finish(t, id); s.State != job.StateFinished {
		t.Errorf("%s: %s", s.State, s.Reason)
	}
}

// What owns a farm or has open jobs is not dropped without force, and one that
// cannot be opened does not keep the others from running.
func TestFurtherFarmsThatAreNotDroppedOrOpened(t *testing.T) {
	cfg := testConfig(t, "pc", func(c *Config) { c.Worker.Enabled = false })
	pc := runNode(t, cfg)
	for _, name := range []string{"own", "damaged"} {
		if _, err := pc.client.AddFarm(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	own := further(t, pc, "own")
	if _, err := own.CreateFarm(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := pc.client.DropFarm(t.Context(), "own", false); !errors.As(err, new(*job.RefusedError)) {
		t.Errorf("the owner's farm: %v", err)
	}
	if _, err := further(t, pc, "damaged").CreateFarm(t.Context(), "mine too"); err != nil {
		t.Fatal(err)
	}
	pc.end(t)
	if err := os.WriteFile(filepath.Join(cfg.DataDir, farmsFolder, "damaged", "identity.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	pc = runNode(t, cfg)
	further(t, pc, "own")
	eventually(t, "the damaged one is named", func() error {
		list, err := pc.client.Farms(t.Context())
		if err == nil && (len(list) != 3 || list[1].Trouble == "" || list[2].Farm != "mine") {
			err = fmt.Errorf("%+v", list)
		}
		return err
	})
	if _, err := pc.client.DropFarm(t.Context(), "damaged", false); !errors.As(err, new(*job.RefusedError)) {
		t.Errorf("one that may be this machine's own, and cannot be opened: %v", err)
	}
	if keys, _ := filepath.Glob(filepath.Join(cfg.DataDir, farmsFolder, "damaged", "farm", "*", "root.key")); len(keys) != 1 {
		t.Errorf("its root keys: %q", keys)
	}
	list, err := pc.client.DropFarm(t.Context(), "own", true)
	if err != nil || len(list) != 2 {
		t.Errorf("with force: %+v, %v", list, err)
	}
}

func TestSettingsOfAFurtherFarm(t *testing.T) {
	c := DefaultConfig()
	c.DataDir = "/data"
	c.Network.Listen = []string{"/ip4/127.0.0.1/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1"}
	c.Network.Port = 4001
	c.API.Address = "127.0.0.1:7000"
	f, err := c.ForFarm("club")
	if err != nil {
		t.Fatal(err)
	}
	if f.DataDir != filepath.Join("/data", "farms", "club") || f.path() != filepath.Join("/data", configFile) || f.Network.Port != 0 ||
		f.Network.Listen[0] != "/ip4/127.0.0.1/tcp/0" || f.Network.Listen[1] != "/ip4/0.0.0.0/udp/0/quic-v1" || f.API.Address != DefaultConfig().API.Address {
		t.Errorf("%+v", f)
	}
	if c.Network.Listen[0] != "/ip4/127.0.0.1/tcp/4001" {
		t.Error("the first farm's settings changed")
	}
}
