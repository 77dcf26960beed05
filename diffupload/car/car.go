// Package car writes the blocks of a manifest to a content archive and reads
// them back. The file is a CARv1 with the manifest as its root, as every IPFS
// tool takes it; read is CARv2 as well.
package car

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"
	"github.com/ipld/go-car/v2/storage"

	"idlewild/diffupload"
)

// Bounds of what is read from an archive.
const (
	maxRoots       = 1024
	maxHeaderBytes = 128 << 10
	// A section is a block with its address.
	maxSectionBytes = diffupload.MaxBlockBytes + 128

	groupBlocks = 256
	groupBytes  = 4 << 20
)

// ErrBad is returned for what is no archive of blocks that can be here.
var ErrBad = errors.New("not a content archive of idlewild's blocks")

// Export writes every block of the manifest at root to w, each once and each
// node before what it links to, and returns how many.
func Export(ctx context.Context, w io.Writer, store diffupload.Store, root cid.Cid) (blocks int, err error) {
	out, err := storage.NewWritable(w, []cid.Cid{root}, carv2.WriteAsCarV1(true), carv2.UseWholeCIDs(true))
	if err != nil {
		return 0, fmt.Errorf("write archive: %w", err)
	}
	var group []diffupload.Want
	write := func() error {
		got := make(map[cid.Cid][]byte, len(group))
		for b, err := range store.Fetch(ctx, group) {
			if err == nil {
				err = diffupload.VerifyBlock(b.ID, b.Data)
			}
			if err != nil {
				return fmt.Errorf("write archive: block %s: %w", b.ID, err)
			}
			got[b.ID] = b.Data
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, want := range group {
			data, ok := got[want.ID]
			if !ok {
				return fmt.Errorf("write archive: block %s: %w", want.ID, diffupload.ErrNotFound)
			}
			if err := out.Put(ctx, want.ID.KeyString(), data); err != nil {
				return fmt.Errorf("write archive: %w", err)
			}
			blocks++
		}
		group = group[:0]
		return nil
	}
	for id, err := range diffupload.Blocks(ctx, store, root) {
		if err != nil {
			return blocks, fmt.Errorf("write archive: %w", err)
		}
		if group = append(group, diffupload.Want{ID: id}); len(group) == 16 {
			if err := write(); err != nil {
				return blocks, err
			}
		}
	}
	if err := write(); err != nil {
		return blocks, err
	}
	if err := out.Finalize(); err != nil {
		return blocks, fmt.Errorf("write archive: %w", err)
	}
	return blocks, nil
}

// Imported is what an archive held.
type Imported struct {
	Roots  []cid.Cid
	Blocks int
	Bytes  int64
}

// Import stores every block that r holds, each checked against its address.
// What it stored before an error stays.
func Import(ctx context.Context, r io.Reader, store diffupload.Store) (Imported, error) {
	var done Imported
	in, err := carv2.NewBlockReader(r, carv2.MaxAllowedHeaderSize(maxHeaderBytes), carv2.MaxAllowedSectionSize(maxSectionBytes))
	if err != nil {
		return done, fmt.Errorf("%w: %w", ErrBad, err)
	}
	if done.Roots = in.Roots; len(done.Roots) > maxRoots {
		return done, fmt.Errorf("%w: %d roots", ErrBad, len(done.Roots))
	}
	var group []diffupload.Block
	size := 0
	flush := func() error {
		if err := diffupload.PutMany(ctx, store, group); err != nil {
			return fmt.Errorf("store the archive's blocks: %w", err)
		}
		done.Blocks += len(group)
		done.Bytes += int64(size)
		group, size = nil, 0
		return nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		b, err := in.Next()
		if err == io.EOF {
			return done, flush()
		} else if err != nil {
			return done, fmt.Errorf("%w: after %d blocks: %w", ErrBad, done.Blocks+len(group), err)
		}
		if err := diffupload.VerifyBlock(b.Cid(), b.RawData()); err != nil {
			return done, fmt.Errorf("%w: %w", ErrBad, err)
		}
		group, size = append(group, diffupload.Block{ID: b.Cid(), Data: b.RawData()}), size+len(b.RawData())
		if len(group) >= groupBlocks || size >= groupBytes {
			if err := flush(); err != nil {
				return done, err
			}
		}
	}
}
