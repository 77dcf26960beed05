package blendfile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestScenesAreTheirOwnCanonicalForm(t *testing.T) {
	for _, f := range scenes(t) {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		once, pieces, err := canonicalOf(t, b)
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(f), err)
			continue
		}
		twice, again, err := canonicalOf(t, once)
		if err != nil {
			t.Errorf("%s again: %v", filepath.Base(f), err)
			continue
		}
		if !bytes.Equal(once, twice) {
			t.Errorf("%s: %d bytes become %d bytes", filepath.Base(f), len(once), len(twice))
		}
		if !slices.EqualFunc(pieces, again, bytes.Equal) {
			t.Errorf("%s: %d pieces become %d others", filepath.Base(f), len(pieces), len(again))
		}
		ids, err := IDs(context.Background(), bytes.NewReader(once), int64(len(once)))
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(f), err)
		}
		t.Logf("%s: %d of %d bytes, %d pieces, %d ids", filepath.Base(f), len(once), len(b), len(pieces), len(ids))
	}
}
