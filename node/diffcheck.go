package node

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
)

// verify stores what the decoder wrote, as the new files were stored, and
// compares.
func (d *differ) verify(ctx context.Context, dir string, check [diffCheck]byte) error {
	sum, err := hashFolder(dir)
	if err != nil {
		return err
	}
	if [diffCheck]byte(sum) != check {
		return errors.New("what the decoder wrote is not what it says it wrote")
	}
	var files []diffupload.File
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		if files, _, err = filesBelow(dir); err != nil {
			return err
		}
	}
	r, err := diffupload.Snapshot(ctx, d.store, files, diffupload.Options{Exact: d.Exact})
	if err != nil {
		return err
	}
	if d.report.Verified, err = sameContent(ctx, d.store, r.Root, d.want); err != nil {
		return err
	}
	if !d.report.Verified {
		return errors.New("what the decoder wrote is not the new content")
	}
	return nil
}

// sameContent reports whether two manifests hold the same files: the same
// names, stored bytes and modes. A .blend that was compressed is stored like
// the same one that was not, but says so.
func sameContent(ctx context.Context, s diffupload.Store, a, b cid.Cid) (bool, error) {
	if a == b {
		return true, nil
	}
	var lists [2][]diffupload.Entry
	for i, root := range []cid.Cid{a, b} {
		var err error
		if lists[i], err = diffupload.List(ctx, s, root, diffupload.Limits{}); err != nil {
			return false, err
		}
	}
	if len(lists[0]) != len(lists[1]) {
		return false, nil
	}
	for i, x := range lists[0] {
		y := lists[1][i]
		if x.Name != y.Name || x.Size != y.Size {
			return false, nil
		}
		if x.Same(y) {
			continue
		}
		for _, e := range []*diffupload.Entry{&x, &y} {
			var err error
			if *e, err = opened(ctx, s, *e); err != nil {
				return false, err
			}
		}
		if !x.Same(y) {
			return false, nil
		}
	}
	return true, nil
}

// opened is the entry that a file would have if it had not been compressed.
func opened(ctx context.Context, s diffupload.Store, e diffupload.Entry) (diffupload.Entry, error) {
	if e.Kind != diffupload.KindFile {
		return e, nil
	}
	data, err := diffupload.Get(ctx, s, e.CID.Cid)
	if err != nil {
		return e, err
	}
	n, err := diffupload.DecodeNode(data)
	if err != nil {
		return e, err
	}
	f, ok := n.(*diffupload.FileNode)
	if !ok || f.Encoding != diffupload.BlendOpen {
		return e, nil
	}
	if f.Depth == 0 && len(f.Links) == 1 {
		return diffupload.Entry{Name: e.Name, CID: f.Links[0].CID, Size: e.Size, Kind: diffupload.KindChunk, Mode: f.Mode}, nil
	}
	f.Encoding = diffupload.Plain
	b, err := diffupload.EncodeNode(f)
	e.CID.Cid = b.ID
	return e, err
}

// moveTo moves a file or folder to where it is wanted, also to another disk,
// so that it is there as a whole or not at all.
func moveTo(from, to string) error {
	if !isFile(from) {
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(from, to); err == nil {
		return nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), ".idlewild-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	at := filepath.Join(dir, filepath.Base(from))
	if err := copyAll(at, from); err != nil {
		return err
	}
	return os.Rename(at, to)
}

// copyAll copies a file or folder to where nothing is.
func copyAll(to, from string) error {
	if !isFile(from) {
		return os.CopyFS(to, os.DirFS(from))
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fi.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
