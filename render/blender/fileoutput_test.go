package blender

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
)

// TestFileOutputNodes compares what the compositor's File Output nodes write
// through a farm with what they write in plain Blender, file by file.
func TestFileOutputNodes(t *testing.T) {
	needBlender(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "film.blend")
	build(t, "testdata/fileoutput.py", file)
	k := testKind(t, Options{Threads: 1})

	in := inspect(t, k, file, `{"scene":"clash"}`)
	hasProblem(t, in, job.SeverityError, "'One'", "'Two'", "delivered as", "another folder")

	var work *shop
	for _, scene := range []string{"both", "multi", "only"} {
		plain(t, file, "sc.render.threads_mode='FIXED'; sc.render.threads=1", "-S", scene, "-o", filepath.Join(dir, "main-"+scene+"-####"), "-f", "3", "-f", "14")
		// What plain Blender wrote, away from where the next scene writes.
		wrote := t.TempDir()
		for _, sub := range []string{"passes", "away", "deep", "off"} {
			if err := os.Rename(filepath.Join(dir, sub), filepath.Join(wrote, sub)); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		tasks, in := plan(t, k, file, SpecParams{Frames: "3,14", Scene: scene})
		if len(tasks) != 4 {
			t.Fatalf("%s: %d tasks", scene, len(tasks))
		}
		if work == nil {
			work = newShop(t, k, in.Deps)
		}
		before := len(below(t, dir))
		var want []string
		for i := 0; i < len(tasks); i += 2 {
			work.must(tasks[i])
			out := work.must(tasks[i+1])
			for _, o := range tasks[i+1].Outputs {
				want = append(want, o.Final)
				ref := filepath.Join(wrote, filepath.FromSlash(o.Final))
				if !strings.Contains(o.Final, "/") {
					ref = filepath.Join(dir, "main-"+scene+"-"+o.Final)
				}
				sameDecoded(t, scene+" "+o.Final, ref, filepath.Join(out, filepath.FromSlash(o.Name)))
			}
		}
		depth := "passes/sub/depth_0"
		if !slices.ContainsFunc(want, func(s string) bool { return strings.HasPrefix(s, depth) }) {
			depth = "passes/sub_depth_0" // since 5.0 a slash in an item's name is no folder
		}
		names := []string{"away/all_", "deep/er/inside00", "passes/Image00", "passes/inv.png00", depth}
		ends := []string{".exr", ".png", ".exr", ".png", ".exr"}
		var all []string
		for i := range names {
			for _, f := range []string{"03", "14"} {
				all = append(all, names[i]+f+ends[i])
			}
		}
		if scene != "multi" {
			all = append(all, "0003.png", "0014.png")
		}
		slices.Sort(all)
		slices.Sort(want)
		if !slices.Equal(all, want) {
			t.Errorf("%s delivers %q, want %q", scene, want, all)
		}
		// All that plain Blender wrote is delivered, and nothing lands where
		// the artist's nodes point to.
		if n := len(below(t, wrote)); n != 10 {
			t.Errorf("%s: plain Blender wrote %q", scene, below(t, wrote))
		}
		if n := len(below(t, dir)); n != before {
			t.Errorf("%s: the finish task wrote into the project: %q", scene, below(t, dir))
		}
	}
}

func below(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
		if err == nil && fi.Mode().IsRegular() {
			files = append(files, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
