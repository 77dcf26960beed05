package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"idlewild/internal/netlab"
	"idlewild/job"
	"idlewild/render/ai/onnxtest"
)

// What the evening is made of. Frames are small: two cores are all machines.
const (
	eveningFrames   = 24 // of the first submission, and of those that are made larger; twice as many of the edited scene
	eveningTiles    = 12 // 4x3
	eveningBig      = 2  // of the large project
	eveningRequests = 200
	slowCores       = .4
)

// prepare makes what artists have before the evening begins. The large project
// stays for the next time.
func (e *evening) prepare(ctx context.Context, wanted []eveningPhase) error {
	e.phase = "prepare"
	old, err := filepath.Glob(filepath.Join(e.out, "*"))
	if err != nil {
		return err
	}
	for _, f := range old {
		if filepath.Base(f) == eveningProject {
			continue
		}
		if err := os.RemoveAll(f); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(wanted, func(p eveningPhase) bool { return p.name == "project" }) {
		start := time.Now()
		p := &projectMaker{seed: 1, scale: e.scale, dir: e.bigProject()}
		if err := os.MkdirAll(p.dir, 0o777); err != nil {
			return err
		}
		if err := p.make(ctx); err != nil {
			return err
		}
		files, bytes, err := countFiles(p.dir)
		if err != nil {
			return err
		}
		e.say("the large project: %d files, %.2f GB, made in %.0f s", files, float64(bytes)/1e9, time.Since(start).Seconds())
	}
	// The two artists have the same still life, and the second moved a bottle.
	e.scene, e.other = filepath.Join(e.out, "artist", "scene.blend"), filepath.Join(e.out, "second", "scene.blend")
	script := filepath.Join("render", "blender", "demo", "scene.py")
	for _, args := range [][]string{{filepath.Dir(e.scene)}, {filepath.Dir(e.other)}, {filepath.Dir(e.other), "--edit"}} {
		if err := blenderRun(ctx, append([]string{"-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", "--out"}, args...)...); err != nil {
			return err
		}
	}
	if e.model == "" {
		e.model = filepath.Join(e.out, "upscale2.onnx")
		return os.WriteFile(e.model, onnxtest.Upscaler(1), 0o644)
	}
	return nil
}

const eveningProject = "project"

func (e *evening) bigProject() string {
	if e.scale != 1 {
		return filepath.Join(e.out, eveningProject, fmt.Sprintf("scale-%g", e.scale))
	}
	return filepath.Join(e.out, eveningProject, "whole")
}

// house sets the machines up behind their routers and founds the farm.
func (e *evening) house(ctx context.Context) error {
	var err error
	if e.owner, err = newDesk(ctx); err != nil {
		return err
	}
	if e.screen, err = newDesk(ctx); err != nil {
		return err
	}
	if err := e.installGame(); err != nil {
		return err
	}
	quiet, err := e.play(ctx, 8*time.Second)
	if err != nil {
		return err
	}
	game, err := quiet.end(ctx)
	if err != nil {
		return err
	}
	e.quietGame = game
	e.say("the game alone: %d frames, %d late, 99 in 100 within %.1f ms", game.Frames, game.Late, game.P99)
	fiber := netlab.LinkOptions{UpBits: 200e6, DownBits: 200e6, Delay: 8 * time.Millisecond}
	poor := netlab.LinkOptions{UpBits: 4e6, DownBits: 16e6, Delay: 40 * time.Millisecond, Loss: .002}
	slowly := nodeOptions{env: workerEnv()}
	if e.groups, err = newGroups(); err != nil {
		e.say("the slow machine has a slow line only: %v", err)
	} else {
		group, err := e.groups.add("slow")
		if err != nil {
			return err
		}
		slowly.before = []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(group, "cgroup.procs")}
	}
	start := time.Now()
	for _, m := range []struct {
		at   **daemon
		name string
		site *netlab.Site
		link netlab.LinkOptions
		o    nodeOptions
	}{
		// A disk in the cellar that never sleeps: it goes on with the artist's jobs.
		{&e.nas, "nas", e.lab.Site(netlab.Cone), fiber, nodeOptions{cores: "1", env: workerEnv()}},
		// A friend's machine with a public address: it carries what others cannot send each other.
		{&e.relay, "relay", e.internet, fiber, nodeOptions{noWork: true, env: []string{"IDLEWILD_BLENDER_PATH=/nowhere/blender"}}},
		{&e.slow, "slow", e.lab.Site(netlab.Symmetric), poor, slowly},
		// Somebody's desktop: it is switched off and on, and its owner plays.
		{&e.desk, "desk", e.lab.Site(netlab.PortRestricted), homeLink, nodeOptions{cores: "0", apart: true, env: slices.Concat(workerEnv(), deskEnv(e.owner.display, 1), []string{
			"IDLEWILD_IDLE_GAME_FOLDERS=" + e.gameFolder(),
			"IDLEWILD_LIMITS_PRIORITY=normal", // the other machines are on its core as well, and would leave it nothing
		})}},
		{&e.cheat, "cheat", e.lab.Site(netlab.PortRestricted), homeLink, nodeOptions{cores: "1", env: append(workerEnv(), "IDLEWILD_WORKER_SABOTEUR=half-samples")}},
		{&e.artist, "artist", e.lab.Site(netlab.PortRestricted), fiber, nodeOptions{noWork: true, apart: true, env: []string{"IDLEWILD_WORKER_HOME_THREADS=1", "IDLEWILD_FARM_STEWARDS=nas"}}},
		{&e.second, "second", e.lab.Site(netlab.Symmetric), homeLink, nodeOptions{noWork: true, env: []string{"IDLEWILD_WORKER_HOME_THREADS=1"}}},
	} {
		if e.nas != nil {
			if err := e.knowsBlender(m.name); err != nil {
				return err
			}
		}
		m.o.env = append(m.o.env, "IDLEWILD_LOG_LEVEL=debug")
		if *m.at, err = e.put(ctx, m.name, m.site, m.link, m.o); err != nil {
			return err
		}
	}
	if e.groups != nil {
		if err := e.groups.limit("slow", slowCores); err != nil {
			return err
		}
	}
	e.say("seven daemons are up after %.1f s", time.Since(start).Seconds())
	all := e.nodes
	if err := e.found(ctx, e.relay, slices.DeleteFunc(slices.Clone(all), func(d *daemon) bool { return d == e.relay })...); err != nil {
		return err
	}
	for _, d := range all {
		s, err := d.client.Status(ctx)
		if err != nil {
			return err
		}
		e.peers[s.Machine.Peer] = d
	}
	took, err := e.whole(ctx, 90*time.Second, all...)
	if err != nil {
		return err
	}
	e.add(atMost("every machine reaches every other after the last has joined", took.Seconds(), "s", 10), alone{4.5, "bench netlab (4 nodes restarted), NOTES.md", true}, "seven daemons look at their Blenders on two cores meanwhile")
	m, _, err := e.artist.reaches(ctx, 90*time.Second, "desk", "punched", "direct")
	if err != nil {
		return err
	}
	if m.PunchMillis == 0 { // the other side dialled first and counted
		if m, err = e.desk.peer(ctx, "artist"); err != nil {
			return err
		}
	}
	e.add(atMost("hole punch of two cones, artist and desk", m.PunchMillis/1000, "s", 1), e.noted("netlab", "hole punch of two cones, first", .5, true), "")
	if m, _, err = e.second.reaches(ctx, 90*time.Second, "slow", "relayed"); err != nil {
		return err
	}
	if m.Via == "" {
		return fmt.Errorf("second reaches slow by a relay, and nobody says by which")
	}
	// Of those that can be dialled from outside it may be any: the relay, and nas behind its cone.
	via := m.Via
	if d := e.peers[via]; d != nil {
		via = d.name
	}
	e.say("second reaches slow through %s", via)
	return e.openBlender(ctx)
}

// knowsBlender gives a daemon that is to start what the first one found out of
// this machine's Blenders: they are all on it, and looking takes a while.
func (e *evening) knowsBlender(name string) error {
	from, to := filepath.Join(e.nas.dir, "runners"), filepath.Join(e.dir, name, "runners")
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}

// workerEnv are the settings of machines that work: one thread each, since all
// of them are on two cores.
func workerEnv() []string {
	return []string{"IDLEWILD_WORKER_THREADS=1", "IDLEWILD_WORKER_ENV=CYCLES_CPU_NO_AVX2=1"}
}

// lookBack says what became of all jobs together.
func (e *evening) lookBack(ctx context.Context) error {
	honest, cheated := 0, 0
	for _, j := range e.jobs {
		for _, p := range j.status.Workers {
			if e.peers[p.Peer] == e.cheat {
				cheated += p.Rejected
			} else {
				honest += p.Rejected
			}
		}
	}
	e.add(plain("jobs delivered in whole", float64(len(e.jobs)), ""), alone{}, "")
	e.add(atMost("honest results rejected", float64(honest), "", 0), e.noted("game --kept", "honest nodes barred from a job", 0, true), "")
	e.add(plain("results of the cheat rejected", float64(cheated), ""), alone{}, "")
	m, err := e.artist.peer(ctx, "cheat")
	if err != nil {
		return err
	}
	e.add(atLeast("the cheat is banned by the artist", boolean(m.Standing.Banned != ""), "", 1), alone{}, "")
	for _, d := range e.nodes {
		if d == e.cheat {
			continue
		}
		other, err := d.client.Peers(ctx)
		if err != nil {
			return err
		}
		for _, p := range other.Members {
			if p.Standing.Banned != "" && p.Name != "cheat" {
				return fmt.Errorf("%s has banned the honest %s: %s", d.name, p.Name, p.Standing.Banned)
			}
			if p.Name == "cheat" && (p.Standing.Banned != "" || p.Standing.Warned > 0) {
				e.say("%s of the cheat: banned %q, warned by %d", d.name, p.Standing.Banned, p.Standing.Warned)
			}
		}
	}
	if m.Standing.Banned == "" {
		return fmt.Errorf("the cheat was not banned: %+v", m.Standing)
	}
	for _, d := range []*daemon{e.artist, e.desk, e.nas, e.relay} {
		single := alone{}
		if d == e.relay {
			single = alone{59, "bench idle (it works for nobody), NOTES.md", true}
		}
		e.add(plain(fmt.Sprintf("most memory of %s's daemon, in phase %s", d.name, e.peaks[d].phase), e.peaks[d].bytes/1e6, "MB"), single, "it carries what others send each other")
	}
	used, err := cpuSeconds(e.artist.cmd.Process.Pid)
	if err != nil {
		return err
	}
	tasks := 0
	for _, j := range e.jobs {
		if j.of == e.artist {
			tasks += j.status.Delivered
		}
	}
	e.add(plain("processor time of the artist's daemon, all evening, per delivered file", used/float64(max(tasks, 1)), "s"), alone{}, "")
	bad, err := e.errorsInLogs()
	if err != nil {
		return err
	}
	for _, l := range bad[:min(len(bad), 20)] {
		e.say("%s", l)
	}
	e.add(atMost("lines of errors in the daemons' logs", float64(len(bad)), "", 0), alone{}, "")
	for _, j := range e.jobs {
		for _, f := range j.status.Frames {
			if f.State == string(job.StateFailed) {
				return fmt.Errorf("%s: %s failed: %s", j.name, f.Label, f.Reason)
			}
		}
	}
	return nil
}
