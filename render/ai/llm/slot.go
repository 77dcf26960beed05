package llm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

const (
	// stateMagic begins the file of what the server computed for a sequence.
	stateMagic = 0x67677371
	// aroundTokens is how many numbers there may be around the sequence's tokens.
	aroundTokens = 8
)

// Tokens are those of which a slot of the server holds what was computed: those of
// its last request and of the answer to it, but for the answer's last, which
// nothing was computed after. n is how many there are. No answer that comes in
// pieces tells of all of them.
//
// The server writes them into a file with all that it computed, of which only the
// beginning is read.
func (s *Server) Tokens(ctx context.Context, slot, n int) ([]int, error) {
	name := fmt.Sprintf("slot-%d.state", slot)
	file := filepath.Join(s.dir, name)
	defer os.Remove(file) // where the server wrote none, nothing is left
	status, answer, err := s.Do(ctx, fmt.Sprintf("/slots/%d?action=save", slot), fmt.Appendf(nil, `{"filename":%q}`, name), func([]byte) {})
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("llama.cpp does not write what it computed: %d %.400s", status, answer)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readTokens(f, n)
}

// readTokens reads the n tokens at the beginning of a state.
func readTokens(r io.Reader, n int) ([]int, error) {
	var head struct{ Magic, Version, Count uint32 }
	if err := binary.Read(r, binary.LittleEndian, &head); err != nil {
		return nil, err
	}
	if head.Magic != stateMagic {
		return nil, fmt.Errorf("a state that begins with %#x", head.Magic)
	}
	if n < 1 || int64(head.Count) < int64(n) || int64(head.Count) > int64(n)+aroundTokens {
		return nil, fmt.Errorf("%d numbers where %d tokens are expected", head.Count, n)
	}
	all := make([]int32, head.Count)
	if err := binary.Read(r, binary.LittleEndian, all); err != nil {
		return nil, err
	}
	from := 0
	if len(all) > n {
		// Newer servers mark the list, and write its version and its length.
		if from = 3; len(all) < from+n || all[0] != -1 || int(all[2]) != n {
			return nil, errors.New("a state of another form")
		}
	}
	tokens := make([]int, n)
	for i, t := range all[from : from+n] {
		if t < 0 {
			return nil, fmt.Errorf("token %d of a state is %d", i, t)
		}
		tokens[i] = int(t)
	}
	return tokens, nil
}
