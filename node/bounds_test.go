package node

import (
	"context"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/node/dispatch"
)

// A manifest says how much it unpacks to; a small one can say very much.
func TestContentOverTheLimitIsNotUnpacked(t *testing.T) {
	_, requester, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	var store diffupload.Memory
	file := filepath.Join(t.TempDir(), "scene")
	if err := os.WriteFile(file, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := diffupload.Snapshot(t.Context(), &store, []diffupload.File{{Path: file, Name: "scene"}}, diffupload.Options{})
	if err != nil {
		t.Fatal(err)
	}
	unpack := func(limit int64) (string, error) {
		a := &assets{self: requester, store: &store, treeBytes: limit}
		dir := filepath.Join(t.TempDir(), "in")
		_, err := a.Materialize(t.Context(), requester, job.Lease{}, job.RefOf(r.Root), dir, nothingUnpacked, nil)
		return dir, err
	}
	for _, enough := range []int64{0, 5 << 20} {
		if _, err := unpack(enough); err != nil {
			t.Errorf("within a limit of %d: %v", enough, err)
		}
	}
	dir, err := unpack(5<<20 - 1)
	if err == nil || !strings.Contains(err.Error(), "worker.tree_bytes") || !strings.Contains(err.Error(), "5242880") || !strings.Contains(err.Error(), "5242879") {
		t.Errorf("%v, want the size, the limit and its setting", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dir)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	huge := bomb(t, &store, defaultTreeBytes+1)
	a := &assets{self: requester, store: &store}
	_, err = a.Materialize(t.Context(), requester, job.Lease{}, huge, filepath.Join(t.TempDir(), "in"), nothingUnpacked, nil)
	if err == nil || !strings.Contains(err.Error(), "worker.tree_bytes") {
		t.Errorf("without a setting: %v", err)
	}
}

// bomb is a manifest of one file that says it has so many bytes.
func bomb(t *testing.T, store diffupload.Store, size int64) job.Ref {
	t.Helper()
	b, err := diffupload.EncodeNode(&diffupload.TreeNode{V: 1, Type: "tree", Size: size, Entries: []diffupload.Entry{
		{Name: "scene", CID: diffupload.Ref{Cid: diffupload.NodeID(nil)}, Size: size, Kind: diffupload.KindFile},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(t.Context(), b.ID, b.Data); err != nil {
		t.Fatal(err)
	}
	return job.RefOf(b.ID)
}

func TestOutputOverTheLimitIsNotFetched(t *testing.T) {
	_, worker, err := newPeer()
	if err != nil {
		t.Fatal(err)
	}
	var asked asking
	c := &content{self: worker, store: &asked}
	big := job.Output{Name: "frame.exr", File: job.RefOf(diffupload.NodeID([]byte("huge"))), Bytes: maxOutputBytes + 1}
	_, err = c.Fetch(t.Context(), dispatch.Returned{Worker: worker, Leaf: job.Leaf{Outputs: []job.Output{big}}}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "frame.exr") || !strings.Contains(err.Error(), "8589934592") {
		t.Errorf("result: %v, want its name and the limit", err)
	}
	a := &assets{self: worker, store: &asked}
	err = a.Prior(t.Context(), worker, job.Lease{}, job.Prior{Outputs: []job.Output{big}}, t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "frame.exr") || !strings.Contains(err.Error(), "8589934592") {
		t.Errorf("result of an earlier task: %v, want its name and the limit", err)
	}
	if asked.times > 0 {
		t.Errorf("asked for %d times", asked.times)
	}
}

// asking counts what it is asked for.
type asking struct {
	diffupload.Memory
	times int
}

func (a *asking) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	a.times += len(wants)
	return a.Memory.Fetch(ctx, wants)
}
