package blendfile

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
)

// canonical joins the pieces of a file's canonical form.
func canonicalOf(t testing.TB, content []byte) (whole []byte, pieces [][]byte, err error) {
	t.Helper()
	seq, _, err := Canonical(context.Background(), bytes.NewReader(content), int64(len(content)), Options{TempDir: t.TempDir()})
	if err != nil {
		return nil, nil, err
	}
	for p, err := range seq {
		if err != nil {
			return nil, nil, err
		}
		if len(p.Data) == 0 || len(p.Data) > maxPiece {
			t.Fatalf("a piece of %d bytes", len(p.Data))
		}
		pieces = append(pieces, bytes.Clone(p.Data))
		whole = append(whole, p.Data...)
	}
	return whole, pieces, nil
}

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
		if len(pieces) != len(again) {
			t.Errorf("%s: %d and %d pieces", filepath.Base(f), len(pieces), len(again))
		}
		ids, err := IDs(context.Background(), bytes.NewReader(once), int64(len(once)))
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(f), err)
		}
		t.Logf("%s: %d of %d bytes, %d pieces, %d ids", filepath.Base(f), len(once), len(b), len(pieces), len(ids))
	}
}
