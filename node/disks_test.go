package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/internal/scenes"
	"idlewild/job"
	"idlewild/render/echo"
)

// settled waits until a file's times are so old that a write would show in them.
func settled(t *testing.T, path string) {
	t.Helper()
	eventually(t, "the clock of files goes on", func() error {
		fi, err := os.Stat(path)
		if err == nil && !diffupload.StampOf(fi).Settled(time.Now()) {
			err = errors.New("the file is new")
		}
		return err
	})
}

// put writes a file with a time of its own.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
}

// looking is a worker with a disk, and a content of which the requester's disk
// has the files.
type looking struct {
	t      *testing.T
	theirs string // the requester's folder
	ours   string // the worker's
	disks  *disks
	far    *diffupload.Counting
	fetch  *fetching
	list   job.Ref
	stored int64 // bytes of the content's chunks
}

func newLooking(t *testing.T, sampleFrom []string, files map[string][]byte) *looking {
	t.Helper()
	_, requester, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	_, self, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	l := &looking{t: t, theirs: filepath.Join(t.TempDir(), "theirs"), ours: filepath.Join(t.TempDir(), "ours")}
	named := func(list []string, p peer.ID) bool { return strings.Contains(strings.Join(list, " "), p.String()) }
	asked := newDisks(requester, PathsConfig{Map: []DiskMap{{From: "//nas/p", To: l.theirs}}}, false, named, nil, slog.New(slog.DiscardHandler))
	var deps []job.Dep
	for name, data := range files {
		put(t, filepath.Join(l.theirs, name), data)
		put(t, filepath.Join(l.ours, name), data)
		deps = append(deps, job.Dep{Path: filepath.Join(l.theirs, name), Name: "_abs/" + name})
	}
	// What is not below the disk is not told of.
	elsewhere := filepath.Join(t.TempDir(), "private.exr")
	put(t, elsewhere, bytes.Repeat([]byte("x"), leastOnDisk))
	deps = append(deps, job.Dep{Path: elsewhere, Name: "private.exr"})
	var all diffupload.Memory
	c := &content{self: requester, store: &all, disks: asked}
	s, err := c.Snapshot(t.Context(), "job", deps, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := readFile(t.Context(), &all, s.Disks, job.MaxDiskListBytes)
	if err != nil || bytes.Contains(b, []byte("private")) || bytes.Contains(b, []byte(l.theirs)) {
		t.Fatalf("what is told: %q, %v", b, err)
	}
	l.far = &diffupload.Counting{Store: &all}
	l.list = job.RefOf(s.Disks)
	store := &diffupload.Tiered{Local: &diffupload.Memory{}, Remote: l.far, Owner: "in"}
	l.fetch = &fetching{requester: requester, root: s.Root, store: store, lease: job.Lease{Job: "job"}}
	for i, m := range sampleFrom {
		sampleFrom[i] = strings.ReplaceAll(m, "REQUESTER", requester.String())
	}
	cache, err := diffupload.OpenStatCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	l.disks = newDisks(self, PathsConfig{Map: []DiskMap{{From: `\\NAS\p`, To: l.ours, SampleFrom: sampleFrom}}}, true, named, cache, slog.New(slog.DiscardHandler))
	return l
}

// look returns what is used in place and what is copied.
func (l *looking) look() (place, copied []string, h onDisk) {
	l.t.Helper()
	h, err := l.disks.look(l.t.Context(), l.fetch, l.list, all, true)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(h.close)
	for n := range h.inPlace {
		place = append(place, n)
	}
	for n := range h.copied {
		copied = append(copied, n)
	}
	return place, copied, h
}

// needShown skips a test where no sandbox shows single files, unless one must.
func needShown(t *testing.T, n *testNode) {
	t.Helper()
	switch {
	case n.disks != nil && n.disks.shows:
	case strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "sandbox"):
		t.Fatal("no sandbox that shows files")
	default:
		t.Skip("NOT RUN: no sandbox that shows files")
	}
}

func TestFilesOnADiskAreFound(t *testing.T) {
	big, middle := bytesOf(1, 8<<20), bytesOf(2, 500<<10)
	l := newLooking(t, nil, map[string][]byte{"big.png": big, "middle.exr": middle, "small.txt": bytesOf(3, 1000), "scene.blend": bytesOf(4, 1<<20)})
	settled(t, filepath.Join(l.ours, "big.png"))
	_, before := l.far.Fetched()
	place, copied, h := l.look()
	if fmt.Sprint(place, copied) != "[_abs/big.png] [_abs/middle.exr]" || h.bytes != 8<<20 {
		t.Errorf("in place %v, copied %v", place, copied)
	}
	if _, n := l.far.Fetched(); n-before > 100<<10 {
		t.Errorf("%d bytes were fetched to look", n-before)
	}
	if l.disks.cache.Len() != 1 {
		t.Errorf("%d files are remembered as compared wholly", l.disks.cache.Len())
	}
	to := filepath.Join(t.TempDir(), "in")
	if err := diffupload.MaterializeFrom(t.Context(), l.fetch.store, diffupload.Earlier{}, h.here(), l.fetch.root, to, diffupload.Limits{}, nil); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"big.png": nil, "middle.exr": middle} {
		if got, err := os.ReadFile(filepath.Join(to, "_abs", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	l.disks.keep(to, h.shown)
	if err := l.disks.sound(to); err != nil {
		t.Error(err)
	}
	if err := os.Chtimes(filepath.Join(l.ours, "big.png"), time.Time{}, time.Unix(1e9+1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := l.disks.sound(to); err == nil || !strings.Contains(err.Error(), "big.png changed") {
		t.Errorf("a file that was written to: %v", err)
	}
	// A machine that cannot show single files copies them.
	l.disks.shows = false
	if place, copied, _ := l.look(); len(place) != 0 || len(copied) != 2 {
		t.Errorf("without a sandbox: in place %v, copied %v", place, copied)
	}
	// And one whose disk is away fetches them.
	l.disks.maps[0].To = filepath.Join(l.ours, "unmounted")
	if place, copied, _ := l.look(); len(place)+len(copied) != 0 {
		t.Errorf("without the disk: %v, %v", place, copied)
	}
	if f := l.disks.findings(); len(f) == 0 || !strings.Contains(f[0].What, "is not at") {
		t.Errorf("findings %+v", f)
	}
}

// What a requester says of a file opens nothing of it: it has to know all of it,
// but for those whom the owner trusts with less.
func TestAFileThatItsRequesterDoesNotKnow(t *testing.T) {
	known := bytesOf(1, 4<<20)
	secret := bytes.Clone(known)
	copy(secret[3<<20:], "one page of it is not known")
	for name, c := range map[string]struct {
		from    []string
		refused bool
	}{
		"a member": {nil, true}, "another is trusted": {[]string{"12D3KooWsomebody"}, true}, "trusted": {[]string{"REQUESTER"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLooking(t, c.from, map[string][]byte{"salaries.vdb": known})
			put(t, filepath.Join(l.ours, "salaries.vdb"), secret)
			settled(t, filepath.Join(l.ours, "salaries.vdb"))
			taken := 0
			for range 20 {
				place, copied, _ := l.look()
				taken += len(place) + len(copied)
			}
			if c.refused && taken > 0 {
				t.Errorf("it was shown %d times of 20", taken)
			}
			if !c.refused && taken == 0 {
				t.Error("a sample always found the one chunk of some hundred: then it is none")
			}
			if f := l.disks.findings(); c.refused && (len(f) == 0 || !strings.Contains(f[0].What, "salaries.vdb")) {
				t.Errorf("findings: %+v", f)
			}
			// Other times than the requester's: nobody is trusted with a sample.
			if err := os.Chtimes(filepath.Join(l.ours, "salaries.vdb"), time.Time{}, time.Unix(1e9+60, 0)); err != nil {
				t.Fatal(err)
			}
			settled(t, filepath.Join(l.ours, "salaries.vdb"))
			for range 5 {
				if place, _, _ := l.look(); len(place) > 0 {
					t.Error("a file with other times was taken by a sample")
				}
			}
		})
	}
}

func TestNothingOutsideOfADiskIsOpened(t *testing.T) {
	data := bytesOf(1, 2<<20)
	l := newLooking(t, []string{"*"}, map[string][]byte{"link.vdb": data, "pipe.vdb": data, "dir/up.vdb": data, "fine.vdb": data})
	out := filepath.Join(t.TempDir(), "out")
	put(t, filepath.Join(out, "x.vdb"), data)
	put(t, filepath.Join(out, "up.vdb"), data)
	replace := func(name, target string) {
		path := filepath.Join(l.ours, name)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Skipf("NOT RUN: no symbolic links here: %v", err)
		}
	}
	replace("link.vdb", filepath.Join(out, "x.vdb"))
	replace("dir", out)
	replace("pipe.vdb", "/dev/zero")
	settled(t, filepath.Join(l.ours, "fine.vdb"))
	if place, copied, _ := l.look(); fmt.Sprint(place, copied) != "[_abs/fine.vdb] []" {
		t.Errorf("in place %v, copied %v", place, copied)
	}
	// Names that climb are not below the disk at all.
	for _, at := range []string{"//nas/p/../x.vdb", "//nas/p", "//nas/p2/fine.vdb", "/etc/passwd", ""} {
		b, err := job.EncodeDiskFiles([]job.DiskFile{{Name: "_abs/fine.vdb", At: at, Size: int64(len(data))}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := diffupload.SnapshotReader(t.Context(), l.far, bytes.NewReader(b), diffupload.Options{Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		h, err := l.disks.look(t.Context(), l.fetch, job.RefOf(r.Root), all, true)
		if err != nil || h.any() {
			t.Errorf("%s: %v, %v", at, h.inPlace, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.disks.look(ctx, l.fetch, l.list, all, true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Two daemons: the texture is where both can read it, at another place on each.
func TestATextureOnASharedDiskIsNotSent(t *testing.T) {
	theirs, ours := filepath.Join(t.TempDir(), "P"), filepath.Join(t.TempDir(), "mnt")
	texture, other := bytesOf(1, 56<<20), bytesOf(2, 2<<20)
	for name, data := range map[string][]byte{"shot/wood.exr": texture, "shot/other.vdb": other} {
		put(t, filepath.Join(theirs, name), data)
		put(t, filepath.Join(ours, name), data)
	}
	artist := startNode(t, "artist", func(c *Config) {
		c.Worker.Enabled = false
		c.Paths.Map = []DiskMap{{From: "//nas/projects", To: theirs}}
	})
	helper := startNode(t, "helper", func(c *Config) {
		c.Sandbox.Mode = "auto"
		c.Paths.Map = []DiskMap{{From: "//nas/projects", To: ours, SampleFrom: []string{"artist"}}}
	})
	needShown(t, helper)
	join(t, artist, helper)
	settled(t, filepath.Join(ours, "shot", "wood.exr"))
	run := func(name string, want []byte) int64 {
		t.Helper()
		spec := echoSpec(t, t.TempDir(), echo.Params{Count: 2})
		spec.Input = filepath.Join(theirs, filepath.FromSlash(name))
		id, err := artist.client.Submit(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		s := artist.finish(t, id)
		if s.State != job.StateFinished {
			t.Fatalf("%s: %s", s.State, s.Reason)
		}
		line := fmt.Sprintf("%x", sha256.Sum256(want))
		files, seen := 0, 0
		err = filepath.WalkDir(spec.Output, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(p)
			files++
			if strings.Contains(string(b), line) {
				seen++
			}
			return err
		})
		if err != nil || files != 2 || seen != files {
			t.Errorf("%s: %d of %d results are of the artist's file: %v", name, seen, files, err)
		}
		return s.UploadedBytes
	}
	start := time.Now()
	n := run("shot/wood.exr", texture)
	t.Logf("a texture of %d bytes in place: %d bytes sent, %v", len(texture), n, time.Since(start))
	if n > int64(len(texture))/100 {
		t.Errorf("%d bytes were sent of a texture that is there", n)
	}
	if err := filepath.WalkDir(filepath.Join(helper.cfg.DataDir, "worker", "trees"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "wood.exr" {
			if fi, err := d.Info(); err != nil || fi.Size() != 0 {
				t.Errorf("a copy of %d bytes: %v", fi.Size(), err)
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	// Somebody paints on the helper's side of it: what was unpacked is made anew.
	changed := bytes.Clone(texture)
	copy(changed, "painted over")
	put(t, filepath.Join(ours, "shot", "wood.exr"), changed)
	start = time.Now()
	n = run("shot/wood.exr", texture)
	t.Logf("one that differs: %d bytes sent, %v", n, time.Since(start))
	if n < int64(len(texture)) {
		t.Errorf("%d bytes were sent of a texture that is not there", n)
	}
	// A link that leaves the disk is not followed.
	out := filepath.Join(t.TempDir(), "other.vdb")
	put(t, out, other)
	if err := os.Remove(filepath.Join(ours, "shot", "other.vdb")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(out, filepath.Join(ours, "shot", "other.vdb")); err != nil {
		t.Fatal(err)
	}
	if n := run("shot/other.vdb", other); n < int64(len(other)) {
		t.Errorf("%d bytes were sent of a file behind a link", n)
	}
	v, err := helper.client.Doctor(t.Context(), false)
	if err != nil || !strings.Contains(fmt.Sprint(v.Findings), "not what jobs say") {
		t.Errorf("findings %v, %v", v.Findings, err)
	}
}

// texturedScene shows the picture that it is given.
const texturedScene = `
import bpy, sys
bpy.ops.wm.read_factory_settings(use_empty=True)
scene = bpy.context.scene
bpy.ops.mesh.primitive_plane_add(size=2)
m = bpy.data.materials.new("picture")
m.use_nodes = True
nodes, links = m.node_tree.nodes, m.node_tree.links
nodes.clear()
texture, emission, out = nodes.new("ShaderNodeTexImage"), nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
texture.image = bpy.data.images.load(sys.argv[-1])
links.new(texture.outputs["Color"], emission.inputs["Color"])
links.new(emission.outputs[0], out.inputs["Surface"])
bpy.context.object.data.materials.append(m)
bpy.ops.object.camera_add(location=(0, 0, 3))
scene.camera = bpy.context.object
scene.camera.data.type, scene.camera.data.ortho_scale = "ORTHO", 2
scene.render.engine = "CYCLES"
scene.cycles.samples = 4
scene.cycles.use_denoising = False
scene.cycles.use_adaptive_sampling = False
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 64, 64, 100
scene.render.image_settings.file_format = "PNG"
scene.frame_start, scene.frame_end = 1, 1
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-2])
`

// What Blender renders with a texture in place is what it renders at the artist's.
func TestBlenderReadsATextureInPlace(t *testing.T) {
	t.Parallel()
	p := realBlender(t)
	dir, theirs, ours := t.TempDir(), filepath.Join(t.TempDir(), "P"), filepath.Join(t.TempDir(), "mnt")
	img := image.NewNRGBA(image.Rect(0, 0, 1200, 1200))
	for i := range img.Pix {
		img.Pix[i] = byte(i * i >> 7)
		if i%4 == 3 {
			img.Pix[i] = 255
		}
	}
	var b bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.NoCompression}).Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	for _, disk := range []string{theirs, ours} {
		put(t, filepath.Join(disk, "tex", "wood.png"), b.Bytes())
	}
	// As the artist's machine names it, and as one with Windows does.
	scene, windows, script := filepath.Join(dir, "scene.blend"), filepath.Join(dir, "windows.blend"), filepath.Join(dir, "scene.py")
	put(t, script, []byte(texturedScene))
	blenderRun(t, p.Path, "-b", "--factory-startup", "--python-exit-code", "1", "-P", script, "--", scene, filepath.Join(theirs, "tex", "wood.png"))
	blenderRun(t, p.Path, "-b", "--factory-startup", "--python-exit-code", "1", scene, "--python-expr",
		fmt.Sprintf("import bpy\nbpy.data.images['wood.png'].filepath = r'p:\\TEX\\wood.png'\nbpy.ops.wm.save_as_mainfile(filepath=%q, relative_remap=False)", windows))
	plain := plainly(t, p, scenes.Render{File: scene, Frames: []int{1}})
	with := func(to string, work bool) func(c *Config) {
		return func(c *Config) {
			withBlender(t, c)
			c.Worker.Enabled, c.Paths.Map = work, []DiskMap{{From: `P:\`, To: to}}
		}
	}
	artist, helper := startNode(t, "artist", with(theirs, false)), startNode(t, "helper", with(ours, true))
	needShown(t, helper)
	join(t, artist, helper)
	settled(t, filepath.Join(ours, "tex", "wood.png"))
	for i, file := range []string{scene, windows} {
		out := t.TempDir()
		s := artist.renders(t, file, SpecOptions{Output: out}, 1)
		asPlain(t, out, plain)
		if s.UploadedBytes > int64(b.Len())/8 {
			t.Errorf("%s: %d bytes were sent", filepath.Base(file), s.UploadedBytes)
		}
		v, err := helper.client.Doctor(t.Context(), false)
		if err != nil || !strings.Contains(fmt.Sprint(v.Findings), fmt.Sprintf("%d files with", i+1)) {
			t.Errorf("%s: findings %v, %v", filepath.Base(file), v.Findings, err)
		}
	}
}

// The machine that submits works on its own job without a second copy of the file.
func TestOwnFilesAreUsedInPlace(t *testing.T) {
	disk, data := filepath.Join(t.TempDir(), "mnt"), bytesOf(1, 2<<20)
	put(t, filepath.Join(disk, "wood.vdb"), data)
	x := startNode(t, "alone", func(c *Config) {
		c.Sandbox.Mode = "auto"
		c.Paths.Map = []DiskMap{{From: disk}}
	})
	needShown(t, x)
	settled(t, filepath.Join(disk, "wood.vdb"))
	spec := echoSpec(t, t.TempDir(), echo.Params{})
	spec.Input = filepath.Join(disk, "wood.vdb")
	id, err := x.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if s := x.finish(t, id); s.State != job.StateFinished {
		t.Fatalf("%s: %s", s.State, s.Reason)
	}
	if found := x.disks.findings(); len(found) != 1 || !strings.Contains(found[0].What, "used where they lie") {
		t.Errorf("findings: %+v", found)
	}
	files, err := filepath.Glob(filepath.Join(spec.Output, "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	if b, err := os.ReadFile(files[0]); err != nil || !strings.Contains(string(b), fmt.Sprintf("%x", sha256.Sum256(data))) {
		t.Errorf("%s: %v", b, err)
	}
}

// all files are wanted.
func all(string) bool { return true }

// A stranger's lease uses no file of a shared disk, neither the first of a tree nor
// one that adds files to it.
func TestStrangersUseNoSharedDisk(t *testing.T) {
	_, member, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	a := &assets{stranger: func(p peer.ID) bool { return p == other }}
	l := job.Lease{Disks: job.RefOf(diffupload.ChunkID([]byte("list")))}
	if got := a.disksOf(other, l, job.Ref{}); got != (job.Ref{}) {
		t.Errorf("a stranger's list: %v", got)
	}
	if got := a.disksOf(member, l, job.Ref{}); got != l.Disks {
		t.Errorf("a member's list: %v", got)
	}
	// Whoever reads the lease's own word passes that by.
	source, err := os.ReadFile("assets.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), "l.Disks"); n != 1 {
		t.Errorf("assets.go reads l.Disks in %d places", n)
	}
}
