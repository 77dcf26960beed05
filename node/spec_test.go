package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
)

func TestTilesThatAreNotCutAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.blend")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, parts := range []string{"", "auto", "no"} {
		if s, err := SpecFor(file, SpecOptions{Parts: parts}); err != nil || s.Policy.Parts != parts {
			t.Errorf("%q: %q, %v", parts, s.Policy.Parts, err)
		}
	}
	for _, parts := range []string{"2x2", "1x1", "AUTO"} {
		_, err := SpecFor(file, SpecOptions{Parts: parts})
		if !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "not cut into tiles yet") || !strings.Contains(err.Error(), "leave --parts out") {
			t.Errorf("%q: %v, want a refusal with its remedy", parts, err)
		}
	}
}
