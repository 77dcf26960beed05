package render

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"
	mh "github.com/multiformats/go-multihash"

	"idlewild/job"
)

const (
	maxRunnerFiles = 1024
	maxRunnerBytes = 64 << 20
)

// runnerID is the identity of a runner's files: the CID (dag-cbor, sha2-256)
// of the list of their names and hashes, in the order of names. It is empty
// where a program needs no runner. Compiled Python files are left out: they
// appear by running.
func runnerID(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	list := []any{"idlewild/runner/1"}
	var total int64
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if d.Name() == "__pycache__" {
				return filepath.SkipDir
			}
			return nil
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is no file", d.Name())
		case len(list) > maxRunnerFiles:
			return fmt.Errorf("more than %d files", maxRunnerFiles)
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		n, err := io.Copy(h, io.LimitReader(f, maxRunnerBytes-total+1))
		if err != nil {
			return err
		}
		if total += n; total > maxRunnerBytes {
			return fmt.Errorf("more than %d bytes", maxRunnerBytes)
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		list = append(list, []any{filepath.ToSlash(rel), h.Sum(nil)})
		return nil
	})
	if err != nil {
		return "", err
	}
	b, err := job.Encode(list)
	if err != nil {
		return "", err
	}
	sum, err := mh.Sum(b, mh.SHA2_256, -1)
	if err != nil {
		return "", err
	}
	return cid.NewCidV1(cid.DagCBOR, sum).String(), nil
}
