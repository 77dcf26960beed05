package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/internal/ondisk"
	"idlewild/job"
)

// earlierFile is where it is kept, in the data folder, which contents this
// machine fetched: what is rendered tomorrow is mostly what was rendered today.
const earlierFile = "earlier.json"

// Bounds of what is remembered.
const (
	earlierPerRequester = 16 // an artist works on several projects by turns
	earlierRequesters   = 64
	maxEarlierBytes     = earlierRequesters * earlierPerRequester * 8 << 10
)

// earlier remembers the roots of what was fetched of each requester, with the
// read grants for them. It is only to save bytes: what it lacks, or what its
// file lost, is fetched once more. It is safe for concurrent use; a nil one
// remembers nothing.
type earlier struct {
	path string

	mu sync.Mutex
	of []fromRequester // the last one first
}

// fromRequester is what came of one requester, the last one first.
type fromRequester struct {
	Peer     string           `json:"peer"`
	Contents []earlierContent `json:"contents"`
}

// earlierContent is a manifest that was here whole.
type earlierContent struct {
	Root job.Ref `json:"root"`
	// Grant is the read grant that named Root, as body and signature; empty
	// where there was none.
	Body []byte `json:"grant,omitempty"`
	Sig  []byte `json:"signature,omitempty"`
}

func (c earlierContent) grant() job.Signed { return job.Signed{Body: c.Body, Sig: c.Sig} }

// earlierState is the content of the file.
type earlierState struct {
	Version    int             `json:"version"` // 1
	Requesters []fromRequester `json:"requesters"`
}

// loadEarlier reads what was remembered. An error says why it begins anew,
// which is what it does then.
func loadEarlier(path string) (*earlier, error) {
	e := &earlier{path: path}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	} else if err != nil {
		return e, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEarlierBytes+1))
	if err != nil {
		return e, fmt.Errorf("%s: %w", path, err)
	}
	var s earlierState
	switch err := json.Unmarshal(b, &s); {
	case len(b) > maxEarlierBytes:
		return e, fmt.Errorf("%s has more than %d bytes", path, maxEarlierBytes)
	case err != nil:
		return e, fmt.Errorf("%s: %w", path, err)
	case s.Version != 1:
		return e, fmt.Errorf("%s: version %d, this program knows 1", path, s.Version)
	}
	for _, r := range s.Requesters[:min(len(s.Requesters), earlierRequesters)] {
		if _, err := peer.Decode(r.Peer); err != nil {
			continue
		}
		r.Contents = slices.DeleteFunc(r.Contents, func(c earlierContent) bool { return diffupload.CheckID(c.Root.Cid) != nil })
		r.Contents = r.Contents[:min(len(r.Contents), earlierPerRequester)]
		e.of = append(e.of, r)
	}
	return e, nil
}

// list returns what came of a requester, the last one first, but the manifest
// at root.
func (e *earlier) list(requester peer.ID, but cid.Cid) []earlierContent {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []earlierContent
	for _, r := range e.of {
		if r.Peer == requester.String() {
			for _, c := range r.Contents {
				if c.Root.Cid != but {
					out = append(out, c)
				}
			}
		}
	}
	return out
}

// add remembers a content that is here whole, and writes it down.
func (e *earlier) add(requester peer.ID, c earlierContent) error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	r := fromRequester{Peer: requester.String()}
	if i := slices.IndexFunc(e.of, func(x fromRequester) bool { return x.Peer == r.Peer }); i >= 0 {
		r = e.of[i]
		e.of = slices.Delete(e.of, i, i+1)
	}
	same := func(x earlierContent) bool { return x.Root.Cid == c.Root.Cid }
	r.Contents = slices.Insert(slices.DeleteFunc(r.Contents, same), 0, c)
	r.Contents = r.Contents[:min(len(r.Contents), earlierPerRequester)]
	e.of = slices.Insert(e.of, 0, r)
	e.of = e.of[:min(len(e.of), earlierRequesters)]
	if e.path == "" {
		return nil
	}
	b, err := json.Marshal(earlierState{Version: 1, Requesters: e.of})
	if err != nil {
		return err
	}
	return ondisk.WriteFile(e.path, b, 0o600)
}

// nearest picks the folder of which fresh is most likely a later state: the one
// that shares most names with it, twice where what they name is the same, then
// the one nearest in size, then the first. A folder that shares no name counts
// only where it is about as large, as a file that was saved under a new name
// is; -1: there is none. An entry of folders may be nil.
func nearest(fresh *diffupload.TreeNode, folders []*diffupload.TreeNode) int {
	names := make(map[string]diffupload.Entry, len(fresh.Entries))
	for _, e := range fresh.Entries {
		names[e.Name] = e
	}
	best, bestShared, bestAway := -1, 0, int64(0)
	for i, f := range folders {
		if f == nil {
			continue
		}
		shared := 0
		for _, e := range f.Entries {
			if now, ok := names[e.Name]; ok {
				shared++
				if now.Same(e) {
					shared++
				}
			}
		}
		away := max(fresh.Size-f.Size, f.Size-fresh.Size)
		if shared == 0 && away > fresh.Size/8 {
			continue
		}
		if best < 0 || shared > bestShared || shared == bestShared && away < bestAway {
			best, bestShared, bestAway = i, shared, away
		}
	}
	return best
}
