package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"idlewild/internal/scenes"
	"idlewild/job"
	"idlewild/render/blender"
)

// sequencesBlend makes a scene that shows one image of a sequence and one file of a
// baked fluid a frame, and one volume of a sequence; it returns its path.
func sequencesBlend(t *testing.T, p scenes.Program, count int) string {
	t.Helper()
	dir := t.TempDir()
	scene := filepath.Join(dir, "scene.blend")
	if err := p.Make(t.Context(), "reads", scene, strconv.Itoa(count), "64", "16"); errors.Is(err, scenes.ErrFluids) {
		t.Skip("NOT RUN: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
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
	t.Parallel()
	p := realBlender(t)
	scene := sequencesBlend(t, p, 4)
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
	cmd := exec.CommandContext(t.Context(), p.Path, "-b", "-Y", "--factory-startup", "--python-exit-code", "97", scene, "-P", found[0])
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
	t.Parallel()
	p := realBlender(t)
	count := 24
	if os.Getenv("IDLEWILD_SLOW") != "" {
		count = 40
	}
	scene := sequencesBlend(t, p, count)
	plain := plainly(t, p, scenes.Render{File: scene, Frames: sequence(1, count), Threads: 1})
	requester, workers := blenderFarm(t, nil, "one", "two")
	out, never := filepath.Join(t.TempDir(), "out"), 0.0
	requester.renders(t, scene, SpecOptions{Output: out, Recheck: &never}, count)
	asPlain(t, out, plain)
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
