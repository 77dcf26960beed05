package blender

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render"
)

// TestColourConfiguration renders a scene that needs a studio's own colour
// configuration, on a machine where that lies elsewhere.
func TestColourConfiguration(t *testing.T) {
	needBlender(t)
	t.Setenv("OCIO", "")
	os.Unsetenv("OCIO")
	top := t.TempDir()
	folder, file := filepath.Join(top, "colours"), filepath.Join(top, "s", "scene.blend")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	build(t, "testdata/colours.py", "config", folder)
	config := filepath.Join(folder, "config.ocio")
	t.Setenv("OCIO", config)
	build(t, "testdata/colours.py", "scene", file)
	plain(t, file, "", "-o", filepath.Join(top, "ref-####"), "-f", "1")
	os.Unsetenv("OCIO")

	k := testKind(t, Options{Threads: 1})
	hasProblem(t, inspect(t, k, file, ""), job.SeverityError, "View transform 'Studio'", "colours would be wrong", "OCIO")
	gone, err := json.Marshal(SpecParams{OCIO: filepath.Join(top, "none.ocio")})
	if err != nil {
		t.Fatal(err)
	}
	hasProblem(t, inspect(t, k, file, string(gone)), job.SeverityError, "OCIO", "none.ocio is missing", "unset")

	tasks, in := plan(t, k, file, SpecParams{Frames: "1", OCIO: config})
	luts := 0
	for _, d := range in.Deps {
		if strings.HasPrefix(d.Name, "_abs/") && strings.Contains(d.Name, "/luts/") {
			luts++
		}
	}
	if luts == 0 {
		t.Errorf("no look-up tables among %v", in.Deps)
	}
	work := newShop(t, k, in.Deps)
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	work.must(tasks[0])
	out := work.must(tasks[1])
	sameDecoded(t, "studio colours", filepath.Join(top, "ref-0001.png"), filepath.Join(out, "frame.png"))
	// Without it the picture is another one, so that the test sees something.
	p, err := DecodeParams(tasks[1].Params)
	if err != nil {
		t.Fatal(err)
	}
	p.OCIO = ""
	other := tasks[1]
	other.Params = p.encode()
	if a, b := decode(t, filepath.Join(out, "frame.png")), decode(t, filepath.Join(work.must(other), "frame.png")); a.At(16, 16) == b.At(16, 16) {
		t.Error("the colour configuration changes nothing")
	}
}

func TestColourConfigurationNames(t *testing.T) {
	for _, c := range []struct {
		params string
		ok     bool
	}{
		{`{"ocio":"ocio://default"}`, true}, {`{"ocio":"ocio://../x"}`, false}, {`{"ocio":"colours/config.ocio"}`, false},
	} {
		if _, err := DecodeSpec(json.RawMessage(c.params)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.params, err)
		}
	}
	for _, c := range []struct {
		ocio string
		ok   bool
	}{{"_abs/x/config.ocio", true}, {"ocio://cg-config-v1.0.0", true}, {"/etc/passwd", false}, {"../x", false}} {
		if _, err := DecodeParams(Params{Op: opRender, Main: "a.blend", OCIO: c.ocio}.encode()); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.ocio, err)
		}
	}
}

func TestLoadLog(t *testing.T) {
	var l loadLog
	library := filepath.Join(t.TempDir(), "lib.blend")
	if err := os.WriteFile(library, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{
		"Color management: scene view \"Filmic\" not found, setting default \"Standard\".\n",
		"Error: Engine 'ACME_RENDER' not available for sc",
		"ene 'Main' (an add-on may need to be installed or enabled)\n",
		strings.Repeat("x", 1<<20), "\n",
		"Info: LIB: Object: 'Prop' missing from '" + library + "', parent '<direct>'\n",
		"Info: LIB: Object: 'Other' missing from '/no/such.blend', parent '<direct>'\n",
		"00:00.453  color_management | WARNING image colorspace \"ACEScg\" not found, will use default instead.\n",
		"Color management: scene view \"Studio\" not found, setting default \"Standard\".\n",
		"Color management: scene view \"Studio\" not found, setting default \"Standard\".\n",
	} {
		if n, err := l.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	in := job.Inspection{Problems: l.problems("Main", false, false)}
	hasProblem(t, in, job.SeverityError, "Scene 'Main'", "ACME_RENDER", "--engine")
	hasProblem(t, in, job.SeverityError, "Object 'Prop'", library, "relink")
	hasProblem(t, in, job.SeverityError, "Color space 'ACEScg'")
	hasProblem(t, in, job.SeverityError, "View transform 'Studio'")
	if len(in.Problems) != 4 {
		t.Errorf("%q", in.Problems)
	}
	if n := len(l.problems("Other", false, false)); n != 3 {
		t.Errorf("%d problems of a scene with an engine", n)
	}
	if n := len(l.problems("Main", true, false)); n != 3 {
		t.Errorf("%d problems where an engine was chosen", n)
	}
	if n := len(l.problems("Main", true, true)); n != 4 {
		t.Errorf("%d problems under Blender's own configuration", n)
	}
	if len(l.line) > render.MaxLine {
		t.Error("a line is kept without bounds")
	}
}
