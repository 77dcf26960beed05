package blender

import (
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
)

// TestAddOnsThatWorkersLack: Blender opens such a file without a word on the
// screen, and would render it with another engine and without the nodes.
func TestAddOnsThatWorkersLack(t *testing.T) {
	needBlender(t)
	file := filepath.Join(t.TempDir(), "acme.blend")
	build(t, "testdata/addons.py", file)
	k := testKind(t, Options{})
	in := inspect(t, k, file, "")
	hasProblem(t, in, job.SeverityError, "Scene 'Scene'", "ACME_RENDER", "add-on", "--engine")
	hasProblem(t, in, job.SeverityError, "Node 'Rust'", "material 'Material'", "add-on")
	hasProblem(t, in, job.SeverityError, "Node tree 'Swarm'", "add-on")
	hasProblem(t, in, job.SeverityError, "Object 'Barrel'", "props.blend", "nothing of this name")
	if n := len(in.Refused()); n != 4 {
		t.Errorf("%d reasons to refuse: %q", n, in.Refused())
	}
	for _, p := range inspect(t, k, file, `{"engine":"cycles"}`).Problems {
		if strings.Contains(p.Message, "ACME") {
			t.Errorf("another engine was chosen: %s", p)
		}
	}
}
