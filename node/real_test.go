package node

import (
	"context"
	"errors"
	"image/png"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"idlewild/job"
	"idlewild/render/blender"
)

// needBlender returns the program, or ends the test: what the environment
// requires and is missing fails, everything else is not run.
func needBlender(t *testing.T) string {
	t.Helper()
	p, err := exec.LookPath("blender")
	if err == nil {
		return p
	}
	if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
		t.Fatal(err)
	}
	t.Skip("NOT RUN: no Blender on PATH")
	return ""
}

// learnt is what a machine remembers of what its Blender can do, which takes
// Blender several seconds to find out.
var learnt = sync.OnceValues(func() (fs.FS, error) {
	dir, err := os.MkdirTemp("", "node-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	k, err := blender.New(blender.Options{Scratch: dir})
	if err != nil {
		return nil, err
	}
	if _, _, err := k.Probe(context.Background()); err != nil {
		return nil, err
	}
	found, err := filepath.Glob(filepath.Join(dir, "probe-*"))
	if err != nil {
		return nil, err
	}
	memory := fstest.MapFS{}
	for _, f := range found {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		memory[filepath.Base(f)] = &fstest.MapFile{Data: b, Mode: 0o644}
	}
	return memory, nil
})

// knowBlender makes a new folder of a machine that asked its Blender before.
func knowBlender(t *testing.T, runners string) {
	t.Helper()
	memory, err := learnt()
	if err == nil {
		err = os.CopyFS(runners, memory)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// smallScene is noisy enough for the statistic and renders in a blink.
const smallScene = `
import bpy, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add(size=20)
bpy.ops.mesh.primitive_monkey_add(location=(0, 0, 1))
monkey = bpy.context.object
monkey.rotation_euler[2] = 0
monkey.keyframe_insert("rotation_euler", frame=1)
monkey.rotation_euler[2] = 3
monkey.keyframe_insert("rotation_euler", frame=10)
bpy.ops.object.light_add(type="AREA", location=(3, -3, 5))
bpy.context.object.data.energy = 600
bpy.context.object.data.size = 4
bpy.ops.object.camera_add(location=(0, -7, 3), rotation=(1.2, 0, 0))
scene.camera = bpy.context.object
scene.render.engine = "CYCLES"
scene.cycles.samples = 16
scene.cycles.use_denoising = False
scene.cycles.use_adaptive_sampling = False
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 192, 108, 100
scene.render.image_settings.file_format = "PNG"
scene.frame_start, scene.frame_end = 1, 4
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1], compress=True)
`

// TestBlenderJobWithACheat walks the whole road with real Blender: frames are
// rendered on two machines, one of which takes half of the samples, and what
// is delivered is what plain Blender writes.
func TestBlenderJobWithACheat(t *testing.T) {
	t.Parallel()
	program := needBlender(t)
	if testing.Short() {
		t.Skip("NOT RUN: -short")
	}
	dir := t.TempDir()
	scene := filepath.Join(dir, "scene.blend")
	script := filepath.Join(dir, "scene.py")
	if err := os.WriteFile(script, []byte(smallScene), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	run("-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene)
	run("-b", scene, "--factory-startup", "-o", filepath.Join(dir, "plain-####"), "-f", "3")

	real := func(c *Config) {
		c.Blender.Path, c.Sandbox.Mode, c.Worker.Threads = "", "auto", 1
		knowBlender(t, filepath.Join(c.DataDir, "runners"))
	}
	kinds := []string{"", "2x1", "2s"}
	if os.Getenv("IDLEWILD_SLOW") == "" {
		kinds = kinds[:1]
	}
	for _, parts := range kinds {
		t.Run("parts "+parts, func(t *testing.T) { cheated(t, scene, parts, filepath.Join(dir, "plain-0003.png"), real) })
	}
}

// cheated runs one job on three nodes, each of which real makes one with Blender.
func cheated(t *testing.T, scene, parts, plain string, real func(*Config)) {
	requester := startNode(t, "requester", func(c *Config) { real(c); c.Worker.Enabled, c.Worker.HomeThreads = false, 2 })
	honest := startNode(t, "honest", func(c *Config) { real(c); c.Worker.Env = []string{"CYCLES_CPU_NO_AVX2=1"} })
	cheat := startNode(t, "cheat", func(c *Config) { real(c); c.Worker.Saboteur = "half-samples" })
	join(t, requester, honest, cheat)

	out := filepath.Join(t.TempDir(), "out")
	spec, err := SpecFor(scene, SpecOptions{Output: out, Parts: parts})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 4 {
		t.Fatalf("%s, %d delivered: %s %v", s.State, s.Delivered, s.Reason, s.Problems)
	}
	if s.Rechecked == 0 {
		t.Error("nothing was checked")
	}
	for _, f := range s.Frames {
		if f.Worker == cheat.self.String() {
			t.Errorf("frame %s of the cheat was delivered", f.Label)
		}
	}
	for _, w := range s.Workers {
		if w.Peer == honest.self.String() && w.Rejected > 0 {
			t.Errorf("%d honest results were rejected", w.Rejected)
		}
		if w.Peer == cheat.self.String() && w.Rejected == 0 {
			t.Errorf("nothing of the cheat's %d results was rejected", w.Tasks)
		}
	}
	// The worker has other CPU kernels than plain Blender here, so a code
	// value may differ where the sum was rounded.
	if worst := difference(t, filepath.Join(out, "0003.png"), plain); worst > 1 {
		t.Errorf("frame 3 differs from plain Blender's by %d of 255", worst)
	}
}

// A frame that is ended for its memory goes to the machine with more; until there
// is one the job says what it needs, and what was measured arrives.
func TestFrameOverItsMemoryGoesToTheMachineWithMore(t *testing.T) {
	t.Parallel()
	program := needBlender(t)
	if testing.Short() {
		t.Skip("NOT RUN: -short")
	}
	dir := t.TempDir()
	scene, script := filepath.Join(dir, "scene.blend"), filepath.Join(dir, "scene.py")
	large := strings.Replace(smallScene, "bpy.ops.mesh.primitive_monkey_add", "bpy.context.object.modifiers.new('s', 'SUBSURF').render_levels = 10\nbpy.ops.mesh.primitive_monkey_add", 1)
	large = strings.Replace(strings.Replace(large, "samples = 16", "samples = 1", 1), "frame_end = 1, 4", "frame_end = 1, 1", 1)
	if err := os.WriteFile(script, []byte(large), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const little = 400 << 20
	real := func(memory int64) func(*Config) {
		return func(c *Config) {
			c.Blender.Path, c.Worker.Threads, c.Worker.MemoryBytes = "", 1, memory
			knowBlender(t, filepath.Join(c.DataDir, "runners"))
		}
	}
	requester := startNode(t, "requester", func(c *Config) { real(4 << 30)(c); c.Worker.Enabled = false })
	small := startNode(t, "small", real(little))
	join(t, requester, small)
	spec, err := SpecFor(scene, SpecOptions{Output: filepath.Join(dir, "out")})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job says what it needs", func() error {
		s, err := requester.client.Job(t.Context(), id)
		if err == nil && !strings.Contains(s.Reason, "its tasks need more than 400 MB of memory, and the largest device here is ") {
			err = errors.New(s.Reason)
		}
		return err
	})
	roomy := startNode(t, "roomy", real(4<<30))
	ticket, err := requester.client.Invite(t.Context(), time.Hour)
	if err == nil {
		_, err = roomy.client.Join(t.Context(), ticket)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != 1 {
		t.Fatalf("%s, %d delivered: %s", s.State, s.Delivered, s.Reason)
	}
	if s.NeedMemoryBytes <= little || s.NeedMemoryBytes > 4<<30 {
		t.Errorf("measured are %d bytes", s.NeedMemoryBytes)
	}
	for _, w := range s.Workers {
		if w.Peer == small.self.String() && (w.Resting != "" || w.Rejected > 0) {
			t.Errorf("the small machine is blamed: %+v", w)
		}
	}
}

// difference is the largest between two PNG files, in 8-bit code values.
func difference(t *testing.T, a, b string) int {
	t.Helper()
	read := func(path string) (px []uint32, w, h int) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		img, err := png.Decode(f)
		if err != nil {
			t.Fatal(err)
		}
		r := img.Bounds()
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				r, g, b, a := img.At(x, y).RGBA()
				px = append(px, r>>8, g>>8, b>>8, a>>8)
			}
		}
		return px, r.Dx(), r.Dy()
	}
	x, xw, xh := read(a)
	y, yw, yh := read(b)
	if xw != yw || xh != yh {
		t.Fatalf("%dx%d against %dx%d", xw, xh, yw, yh)
	}
	worst := 0
	for i := range x {
		worst = max(worst, max(int(x[i])-int(y[i]), int(y[i])-int(x[i])))
	}
	return worst
}
