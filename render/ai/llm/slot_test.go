package llm

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

func state(numbers ...int32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, stateMagic)
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(numbers)))
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return append(b, "what was computed"...)
}

func TestTokensOfAState(t *testing.T) {
	want := []int{0, 7, 300}
	for name, b := range map[string][]byte{
		"alone":                    state(0, 7, 300),
		"behind their number":      state(-1, 1, 3, 0, 7, 300),
		"and what pictures it had": state(-1, 1, 3, 0, 7, 300, 0),
	} {
		if got, err := readTokens(bytes.NewReader(b), 3); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"another file":    []byte("GGUF, and more of it than twelve bytes"),
		"fewer":           state(0, 7),
		"many more":       state(make([]int32, 40)...),
		"one more":        state(0, 7, 300, 301),
		"cut off":         state(0, 7, 300)[:20],
		"another number":  state(-1, 1, 4, 0, 7, 300),
		"negative":        state(0, -7, 300),
		"a list too long": state(-1, 1, 3, 7, 8),
	} {
		if got, err := readTokens(bytes.NewReader(b), 3); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, err := readTokens(bytes.NewReader(state()), 0); err == nil {
		t.Error("no tokens are some")
	}
}
