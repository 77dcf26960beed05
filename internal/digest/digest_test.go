package digest

import (
	"encoding/hex"
	"testing"
)

// The empty string's digests are in the papers of both functions.
func TestSum(t *testing.T) {
	for code, want := range map[uint64]string{
		SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		BLAKE3: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
	} {
		if got, ok := Sum(code, nil); !ok || hex.EncodeToString(got[:]) != want {
			t.Errorf("%#x: %x", code, got)
		}
	}
	if _, ok := Sum(0, nil); ok {
		t.Error("the identity is accepted")
	}
}
