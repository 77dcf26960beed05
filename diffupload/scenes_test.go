package diffupload

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/diffupload/blendfile"
)

// scenes are real files of artists, beside the checkout; NOT RUN without them.
func scenes(t *testing.T) []string {
	files, err := filepath.Glob("../../shared/scenes/*.blend")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("NOT RUN: no scenes beside the checkout")
	}
	return files
}

// needsBlender returns Blender's path, or skips; it fails where the run
// requires Blender.
func needsBlender(t *testing.T) string {
	path, err := exec.LookPath("blender")
	if err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "blender") {
			t.Fatal("blender is required and not here")
		}
		t.Skip("NOT RUN: no blender on this machine")
	}
	return path
}

// canonical is the canonical form of a .blend.
func canonical(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	pieces, _, err := blendfile.Canonical(t.Context(), f, st.Size(), blendfile.Options{})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out []byte
	for p, err := range pieces {
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, p.Data...)
	}
	return out
}

func TestScenesMaterialiseInCanonicalForm(t *testing.T) {
	var list []File
	want, exact := map[string][]byte{}, map[string][]byte{}
	for _, path := range scenes(t) {
		name := "proj/" + filepath.Base(path)
		list = append(list, File{Path: path, Name: name})
		want[name] = canonical(t, path)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		exact[name] = b
	}
	for _, c := range []struct {
		exact bool
		want  map[string][]byte
	}{{false, want}, {true, exact}} {
		store := &Memory{}
		res, err := Snapshot(t.Context(), store, list, Options{Exact: c.exact})
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Warnings) > 0 {
			t.Errorf("warnings: %v", res.Warnings)
		}
		dir := filepath.Join(t.TempDir(), "in")
		if err := Materialize(t.Context(), store, res.Root, dir, nil); err != nil {
			t.Fatal(err)
		}
		wantTree(t, dir, c.want)
		// What a worker has is stored as what the artist has.
		var again []File
		for _, f := range list {
			again = append(again, File{Path: filepath.Join(dir, f.Name), Name: f.Name})
		}
		r, err := Snapshot(t.Context(), store, again, Options{Exact: c.exact})
		if err != nil || r.Root != res.Root {
			t.Errorf("exact %t: stored again it is %s, was %s: %v", c.exact, r.Root, res.Root, err)
		}
	}
}

func TestMaterialisedSceneOpensInBlender(t *testing.T) {
	blender := needsBlender(t)
	var list []File
	for _, path := range scenes(t) {
		if b := filepath.Base(path); strings.HasPrefix(b, "render_voxelao") || strings.HasPrefix(b, "tween__00") {
			list = append(list, File{Path: path, Name: b})
		}
	}
	if len(list) == 0 {
		t.Skip("NOT RUN: not these scenes")
	}
	store := &Memory{}
	res, err := Snapshot(t.Context(), store, list, Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "in")
	if err := Materialize(t.Context(), store, res.Root, dir, nil); err != nil {
		t.Fatal(err)
	}
	dump := func(path string) string {
		t.Helper()
		// Screens, workspaces and the window manager are Blender's own then.
		const script = `import bpy
print("IDs", sorted((type(i).__name__, i.name) for i in bpy.data.user_map() if type(i).__name__ not in ("Screen", "WorkSpace", "WindowManager")))`
		cmd := exec.CommandContext(t.Context(), blender, "-b", "--factory-startup", "--python-exit-code", "7", path, "--python-expr", script)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "IDs") {
				return line
			}
		}
		t.Fatalf("no list of datablocks in\n%s", out)
		return ""
	}
	for _, f := range list {
		was, is := dump(f.Path), dump(filepath.Join(dir, f.Name))
		if was != is || len(was) < 100 {
			t.Errorf("%s: datablocks were %s, are %s", f.Name, was, is)
		}
	}
}

// Successive saves of one file, compressed on the artist's disk, have something
// in common only in canonical form.
func TestTheNextSaveOfASceneStoresLess(t *testing.T) {
	var a, b string
	for _, path := range scenes(t) {
		switch {
		case strings.Contains(path, "animation_blend__05"):
			a = path
		case strings.Contains(path, "animation_blend__06"):
			b = path
		}
	}
	if a == "" || b == "" {
		t.Skip("NOT RUN: not these scenes")
	}
	share := func(o Options) float64 {
		store := &Memory{}
		if _, err := SnapshotFile(t.Context(), store, a, o); err != nil {
			t.Fatal(err)
		}
		res, err := SnapshotFile(t.Context(), store, b, o)
		if err != nil {
			t.Fatal(err)
		}
		return float64(res.NewBytes) / float64(res.Bytes)
	}
	canonical, exact := share(Options{}), share(Options{Exact: true})
	t.Logf("new in the next save: canonical %.0f %%, exact %.0f %%", 100*canonical, 100*exact)
	if canonical > exact/2 {
		t.Errorf("%.2f of the next save is new in canonical form, %.2f of the exact one", canonical, exact)
	}
}

// A .blend that cannot be read is sent as it is, with a word about it: Blender
// may know better.
func TestBrokenBlendsAreSentAsTheyAre(t *testing.T) {
	cut := append([]byte("BLENDER-v304"), noise(1, 5000)...)
	copy(cut[12:], "DATA\xff\xff\x0f\x00")
	bare := append([]byte("BLENDER-v304"), "ENDB"...)
	bare = append(bare, make([]byte, 20)...)
	broken := map[string][]byte{"cut.blend": cut, "bare.blend": bare}
	_, list := tree(t, broken)
	for _, exact := range []bool{false, true} {
		store := &Memory{}
		res, err := Snapshot(t.Context(), store, list, Options{Exact: exact})
		if err != nil {
			t.Fatal(err)
		}
		if !exact && (len(res.Warnings) != 2 || !strings.Contains(res.Warnings[0], "bare.blend") ||
			!strings.Contains(res.Warnings[1], "cut.blend") || !strings.Contains(res.Warnings[1], "truncated .blend")) {
			t.Errorf("warnings %q", res.Warnings)
		}
		dir := filepath.Join(t.TempDir(), "in")
		if err := Materialize(t.Context(), store, res.Root, dir, nil); err != nil {
			t.Fatal(err)
		}
		wantTree(t, dir, broken)
	}
	text := map[string][]byte{"pointer.blend": []byte("version https://git-lfs.github.com/spec/v1\n")}
	_, list = tree(t, text)
	store := &Memory{}
	res, err := Snapshot(t.Context(), store, list, Options{})
	if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "pointer.blend") {
		t.Fatalf("%v, %v", res.Warnings, err)
	}
	dir := filepath.Join(t.TempDir(), "in")
	if err := Materialize(t.Context(), store, res.Root, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, dir, text)
}
