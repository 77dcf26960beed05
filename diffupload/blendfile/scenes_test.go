package blendfile

import (
	"path/filepath"
	"testing"
)

// scenes are real files of artists, beside the checkout; NOT RUN without them.
func scenes(t testing.TB) []string {
	files := sceneFiles()
	if len(files) == 0 {
		t.Skip("NOT RUN: no scenes beside the checkout")
	}
	return files
}

func sceneFiles() []string {
	files, err := filepath.Glob("../../../shared/scenes/*.blend")
	if err != nil {
		panic(err) // the pattern is constant
	}
	return files
}

func TestEverySceneHasItsEnd(t *testing.T) {
	for _, f := range scenes(t) {
		info, err := Check(f)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
		}
		if testing.Verbose() {
			t.Logf("%s: %+v", filepath.Base(f), info)
		}
	}
}
