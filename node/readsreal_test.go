package node

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render/blender"
)

// sequencesScene shows one image of a sequence and one file of a baked fluid a
// frame, and one volume of a sequence.
const sequencesScene = `
import bpy, os, random, struct, sys, zlib
out, count = sys.argv[-2], int(sys.argv[-1])
folder = os.path.dirname(out)
os.makedirs(folder + "/tex", exist_ok=True)
random.seed(7)
for i in range(1, count + 1):
    rows = b"".join(b"\0" + bytes(random.randrange(256) for _ in range(64 * 3)) for _ in range(64))
    chunk = lambda t, d: struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
    with open(folder + "/tex/wall_%04d.png" % i, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add(size=8, location=(0, 3, 0), rotation=(1.5708, 0, 0))
wall = bpy.data.materials.new("Wall")
wall.use_nodes = True
node = wall.node_tree.nodes.new("ShaderNodeTexImage")
node.image = bpy.data.images.load(folder + "/tex/wall_0001.png")
node.image.source = "SEQUENCE"
node.image_user.frame_duration, node.image_user.frame_start, node.image_user.use_auto_refresh = count, 1, True
wall.node_tree.links.new(node.outputs["Color"], wall.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
bpy.context.object.data.materials.append(wall)
bpy.ops.mesh.primitive_cube_add(size=4)
domain = bpy.context.object
settings = domain.modifiers.new("Fluid", "FLUID")
settings.fluid_type = "DOMAIN"
settings = settings.domain_settings
settings.domain_type, settings.resolution_max = "GAS", 16
settings.cache_type, settings.cache_frame_start, settings.cache_frame_end = "ALL", 1, count
settings.cache_directory = "//smoke"
bpy.ops.mesh.primitive_ico_sphere_add(radius=0.6, location=(0, 0, -1.2))
source = bpy.context.object
source.hide_render = True
flow = source.modifiers.new("Fluid", "FLUID")
flow.fluid_type = "FLOW"
flow.flow_settings.flow_type, flow.flow_settings.flow_behavior = "SMOKE", "INFLOW"
smoke = bpy.data.materials.new("Smoke")
smoke.use_nodes = True
smoke.node_tree.nodes.clear()
end = smoke.node_tree.nodes.new("ShaderNodeOutputMaterial")
volume = smoke.node_tree.nodes.new("ShaderNodeVolumePrincipled")
volume.inputs["Density"].default_value = 6
smoke.node_tree.links.new(volume.outputs[0], end.inputs["Volume"])
domain.data.materials.append(smoke)
bpy.ops.object.light_add(type="SUN", rotation=(0.5, 0.3, 0))
bpy.context.object.data.energy = 4
bpy.ops.object.camera_add(location=(0, -9, 0), rotation=(1.5708, 0, 0))
scene.camera = bpy.context.object
scene.render.engine = "CYCLES"
scene.cycles.samples, scene.cycles.use_denoising, scene.cycles.use_adaptive_sampling = 2, False, False
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 64, 100
scene.render.image_settings.file_format = "PNG"
scene.frame_start, scene.frame_end = 1, count
bpy.ops.wm.save_as_mainfile(filepath=out)
with bpy.context.temp_override(object=domain, active_object=domain, scene=scene):
    bpy.ops.fluid.bake_all()
# The bake once more, as volumes beside it.
os.makedirs(folder + "/vdb", exist_ok=True)
for i in range(1, count + 1):
    with open(folder + "/smoke/data/fluid_data_%04d.vdb" % i, "rb") as f, open(folder + "/vdb/cloud_%04d.vdb" % i, "wb") as g:
        g.write(f.read())
cloud = bpy.data.volumes.new("Cloud")
cloud.filepath, cloud.is_sequence, cloud.frame_duration = folder + "/vdb/cloud_0001.vdb", True, count
cloud.materials.append(smoke)
item = bpy.data.objects.new("Cloud", cloud)
item.location, item.scale = (2, 0, 0), (0.1, 0.1, 0.1)
scene.collection.objects.link(item)
bpy.ops.file.make_paths_relative()
bpy.ops.wm.save_as_mainfile(filepath=out)
`

// sequencesBlend makes the scene, and returns its path.
func sequencesBlend(t *testing.T, program string, count int) string {
	t.Helper()
	dir := t.TempDir()
	scene, script := filepath.Join(dir, "scene.blend"), filepath.Join(dir, "scene.py")
	if err := os.WriteFile(script, []byte(sequencesScene), 0o600); err != nil {
		t.Fatal(err)
	}
	blenderRun(t, program, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene, strconv.Itoa(count))
	for _, n := range []string{"smoke/data/fluid_data_", "vdb/cloud_"} {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%s%04d.vdb", n, count))); err != nil {
			t.Fatal(err)
		}
	}
	return scene
}

func blenderRun(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

var numberOf = regexp.MustCompile(`_(\d{4})\.[^/]*$`)

// numbersIn are the numbers of a worker's unpacked files, by what is before them.
func numbersIn(t *testing.T, n *testNode) map[string]map[int]bool {
	t.Helper()
	out := map[string]map[int]bool{}
	for _, f := range filesIn(t, filepath.Join(n.cfg.DataDir, "worker", "trees")) {
		at := numberOf.FindStringSubmatchIndex(f)
		if at == nil {
			continue
		}
		what, number := f[strings.LastIndexByte(f[:at[0]], '/')+1:at[0]], f[at[2]:at[3]]
		if out[what] == nil {
			out[what] = map[int]bool{}
		}
		i, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		out[what][i] = true
	}
	return out
}

// A file that a frame reads and that is not there is an error, and never a frame
// without it; other frames of the same session come out.
func TestAFileThatIsNotThereIsAnError(t *testing.T) {
	program := needBlender(t)
	if testing.Short() {
		t.Skip("NOT RUN: -short")
	}
	scene := sequencesBlend(t, program, 4)
	dir, out := filepath.Dir(scene), t.TempDir()
	runners := t.TempDir()
	if _, err := blender.New(blender.Options{Scratch: runners}); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(runners, "runner-*", "main.py"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v: %v", found, err)
	}
	for _, gone := range []string{"tex/wall_0003.png", "vdb/cloud_0003.vdb"} {
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(gone))); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(id, frame int, reads ...job.Reads) string {
		b, err := json.Marshal(map[string]any{"id": id, "op": "render", "frame": frame, "out": out, "reads": reads})
		if err != nil {
			t.Fatal(err)
		}
		return string(b) + "\n"
	}
	wall := job.Reads{Head: "tex/wall_", Tail: ".png", Of: [][2]int{{2, 4}}, Own: [][2]int{{3, 3}}}
	cloud := job.Reads{Head: "vdb/cloud_", Tail: ".vdb", Of: [][2]int{{2, 4}}, Own: [][2]int{}}
	of4 := wall
	of4.Own = [][2]int{{4, 4}}
	wrong := wall
	wrong.Own = [][2]int{{2, 2}}
	cmd := exec.CommandContext(t.Context(), program, "-b", "-Y", "--factory-startup", "--python-exit-code", "97", scene, "-P", found[0])
	cmd.Env = append(os.Environ(), "IDLEWILD_IN="+dir, "IDLEWILD_EVENTS="+filepath.Join(out, "events"))
	cmd.Stdin = strings.NewReader(ask(1, 3, wall) + ask(2, 3, wrong) + ask(3, 3, cloud) + ask(4, 4, of4))
	if log, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	events, err := os.ReadFile(filepath.Join(out, "events"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"id":1,"outcome":"broken","reason":"the file tex/wall_3.png, which frame 3 reads, is not among the job's files here"`,
		`"id":2,"outcome":"broken","reason":"the file tex/wall_0003.png, which frame 3 reads,`,
		`"id":3,"outcome":"broken","reason":"the file vdb/cloud_0003.vdb, which frame 3 reads,`,
		`"id":4,"outcome":"succeeded"`,
	} {
		if !strings.Contains(string(events), want) {
			t.Errorf("no %s in\n%s", want, events)
		}
	}
}

// Two workers render a scene of sequences, each with the files of its own
// frames, and every frame is plain Blender's.
func TestWorkersHaveTheFilesOfTheirFrames(t *testing.T) {
	program := needBlender(t)
	if testing.Short() {
		t.Skip("NOT RUN: -short")
	}
	const count = 40
	scene := sequencesBlend(t, program, count)
	plain := t.TempDir()
	blenderRun(t, program, "-b", scene, "--factory-startup", "-t", "1", "-o", filepath.Join(plain, "####"), "-a")

	real := func(c *Config) {
		c.Blender.Path, c.Sandbox.Mode, c.Worker.Threads = "", "auto", 1
		knowBlender(t, filepath.Join(c.DataDir, "runners"))
	}
	requester := startNode(t, "requester", func(c *Config) { real(c); c.Worker.Enabled = false })
	workers := []*testNode{startNode(t, "one", real), startNode(t, "two", real)}
	join(t, requester, workers[0], workers[1])
	out := filepath.Join(t.TempDir(), "out")
	never := 0.0
	spec, err := SpecFor(scene, SpecOptions{Output: out, Recheck: &never})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished || s.Delivered != count {
		t.Fatalf("%s, %d delivered: %s %v", s.State, s.Delivered, s.Reason, s.Problems)
	}
	for i := 1; i <= count; i++ {
		name := fmt.Sprintf("%04d.png", i)
		if worst := difference(t, filepath.Join(out, name), filepath.Join(plain, name)); worst != 0 {
			t.Errorf("frame %d differs from plain Blender's by %d of 255", i, worst)
		}
	}
	all := map[string]map[int]bool{}
	for _, w := range workers {
		for what, numbers := range numbersIn(t, w) {
			t.Logf("%s has %d files of %s", w.cfg.Name, len(numbers), what)
			if len(numbers) >= count {
				t.Errorf("%s has all files of %s", w.cfg.Name, what)
			}
			if all[what] == nil {
				all[what] = map[int]bool{}
			}
			for n := range numbers {
				all[what][n] = true
			}
		}
	}
	for _, what := range []string{"wall", "fluid_data", "config", "cloud"} {
		if len(all[what]) != count {
			t.Errorf("together they have %d of %d files of %s", len(all[what]), count, what)
		}
	}
}
