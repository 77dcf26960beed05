package diffupload

import (
	"bytes"
	"errors"
	"io"
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

// opened is the content of a .blend, by other means than ours where there are.
func opened(t *testing.T, path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tool := ""
	switch {
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		tool = "gzip"
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		tool = "zstd"
	default:
		return b
	}
	if _, err := exec.LookPath(tool); err == nil {
		cmd := exec.Command(tool, "-dc")
		cmd.Stdin = bytes.NewReader(b)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		return out
	}
	r, _, err := blendfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestScenesMaterialiseOpened(t *testing.T) {
	var list []File
	want, exact := map[string][]byte{}, map[string][]byte{}
	for _, path := range scenes(t) {
		name := "//proj/" + filepath.Base(path)
		name = strings.TrimPrefix(name, "//")
		list = append(list, File{Path: path, Name: name})
		want[name] = opened(t, path)
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
		const script = `import bpy; print("IDs", sorted((type(i).__name__, i.name) for i in bpy.data.user_map()))`
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
// in common only because they are opened.
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
	opened, exact := share(Options{}), share(Options{Exact: true})
	t.Logf("new in the next save: opened %.0f %%, exact %.0f %%", 100*opened, 100*exact)
	if opened > exact {
		t.Errorf("opened %.2f of the next save is new, exact %.2f", opened, exact)
	}
}

func TestBrokenBlendsAreReported(t *testing.T) {
	blend := append([]byte("BLENDER-v304"), noise(1, 5000)...)
	copy(blend[12:], "DATA\xff\xff\x0f\x00")
	_, list := tree(t, map[string][]byte{"cut.blend": blend})
	for _, exact := range []bool{false, true} {
		_, err := Snapshot(t.Context(), &Memory{}, list, Options{Exact: exact})
		if !errors.Is(err, blendfile.ErrTruncated) || !strings.HasSuffix(err.Error(), "cut.blend: truncated .blend") {
			t.Errorf("exact %t: %v", exact, err)
		}
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
