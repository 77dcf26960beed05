package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/job"
)

func TestPartsThatMeanNothingAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.blend")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, parts := range []string{"", "auto", "no", "1x1", "4x2", "8s"} {
		if s, err := SpecFor(file, SpecOptions{Parts: parts}); err != nil || s.Policy.Parts != parts {
			t.Errorf("%q: %q, %v", parts, s.Policy.Parts, err)
		}
	}
	for _, parts := range []string{"AUTO", "4", "x", "4x", "0x1", "300x1", "17x17", "s", "0s", "1x2s"} {
		_, err := SpecFor(file, SpecOptions{Parts: parts})
		if !errors.Is(err, job.ErrRefused) || !strings.Contains(err.Error(), "say auto, no, tiles as 4x2 or ranges of samples as 8s") {
			t.Errorf("%q: %v, want a refusal with its remedy", parts, err)
		}
	}
}
