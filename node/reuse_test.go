package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render/blender"
)

// sameEdits are the scenes of testdata/edits.py that come out the same at frame
// 100, where the edited object is hidden. In all others it matters.
var sameEdits = []string{"mesh", "move", "material", "light", "always hidden", "frame and selection", "saved at another frame", "collection"}

// TestHiddenObjectsThatMatter edits an object that is hidden in the frame, in
// very many ways in which it matters all the same.
func TestHiddenObjectsThatMatter(t *testing.T) {
	t.Parallel()
	programs := []string{needBlender(t)}
	if p := os.Getenv("IDLEWILD_TEST_BPY"); p != "" {
		programs = append(programs, p)
	}
	for i, program := range programs {
		t.Run(filepath.Base(program), func(t *testing.T) {
			dir := t.TempDir()
			args := []string{"-b", "--factory-startup", "--python-exit-code", "9", "-P", "testdata/edits.py", "--", dir}
			if i > 0 {
				args = []string{"testdata/edits.py", dir}
			}
			if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			scratch := filepath.Join(dir, "scratch")
			if i == 0 {
				knowBlender(t, scratch)
			} else if err := os.Mkdir(scratch, 0o755); err != nil {
				t.Fatal(err)
			}
			k, err := blender.New(blender.Options{Blender: program, Scratch: scratch, Compare: compareBlends})
			if err != nil {
				t.Fatal(err)
			}
			look := func(pair string) *blender.Edit {
				t.Helper()
				was, now := filepath.Join(dir, pair+"-was.blend"), filepath.Join(dir, pair+"-now.blend")
				e, err := k.CompareFiles(t.Context(), job.Spec{Input: now}, was, now)
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
			main := look("main")
			if main.Doubt != "" {
				t.Fatal(main.Doubt)
			}
			cases, err := os.ReadFile(filepath.Join(dir, "cases.txt"))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for scene := range strings.Lines(string(cases)) {
				scene = strings.TrimSpace(scene)
				n++
				want := slices.Contains(sameEdits, scene)
				if have := main.Same(scene, 100); have != want {
					t.Errorf("%s: frame 100 is the same: %v, want %v", scene, have, want)
				}
				if scene != "always hidden" && (main.Same(scene, 1) || main.Same(scene, 30)) {
					t.Errorf("%s: frames that show the edit are the same", scene)
				}
				if want && !main.Same(scene, 31) {
					t.Errorf("%s: frame 31 is not the same", scene)
				}
			}
			if n < 50 {
				t.Errorf("%d cases were looked at", n)
			}
			if main.Same("no such scene", 100) {
				t.Error("a scene that is not there is the same")
			}
			for pair, doubt := range map[string]string{"named": "by its name", "freestyle": "Freestyle", "remapped": "remapped"} {
				if e := look(pair); !strings.Contains(e.Doubt, doubt) || e.Same("only", 100) {
					t.Errorf("%s: doubt %q, same: %v", pair, e.Doubt, e.Same("only", 100))
				}
			}
			e := look("blurred")
			if e.Doubt != "" || e.Same("only", 33) || !e.Same("only", 34) {
				t.Errorf("motion blur: doubt %q, frame 33 is the same: %v, frame 34: %v", e.Doubt, e.Same("only", 33), e.Same("only", 34))
			}
		})
	}
}
