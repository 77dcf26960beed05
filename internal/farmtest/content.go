package farmtest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	mh "github.com/multiformats/go-multihash"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/worker"
)

// refOf is the address of bytes.
func refOf(b []byte) job.Ref {
	h := sha256.Sum256(b)
	m, err := mh.Encode(h[:], mh.SHA2_256)
	if err != nil {
		panic(err) // sha2-256 is always there
	}
	return job.RefOf(cid.NewCidV1(cid.Raw, m))
}

func (h *host) put(b []byte) job.Ref {
	r := refOf(b)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.blocks[r] = b
	return r
}

func (h *host) get(r job.Ref) ([]byte, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.blocks[r]
	return b, ok
}

// fetch gets a block from another machine's store, over the network.
func (h *host) fetch(ctx context.Context, from peer.ID, r job.Ref) ([]byte, error) {
	if b, ok := h.get(r); ok {
		return b, nil
	}
	if err := wait(ctx, 2*h.farm.Latency); err != nil {
		return nil, err
	}
	o, err := h.farm.reach(h.id, from)
	if err != nil {
		return nil, err
	}
	b, ok := o.get(r)
	if !ok {
		return nil, fmt.Errorf("%s does not have %s", o.name, r)
	}
	if refOf(b) != r {
		return nil, fmt.Errorf("%s sent something else than %s", o.name, r)
	}
	return b, nil
}

// tree is the manifest of this package: files by name.
type tree map[string]job.Ref

// content implements dispatch.Content.
type content struct{ h *host }

func (c content) Snapshot(ctx context.Context, id job.ID, deps []job.Dep, exact bool) (dispatch.Snapshot, error) {
	t := tree{}
	var s dispatch.Snapshot
	for _, d := range deps {
		b, err := os.ReadFile(d.Path)
		if err != nil {
			return s, err
		}
		t[d.Name] = c.h.put(b)
		s.Files++
		s.Bytes += int64(len(b))
		s.NewBytes += int64(len(b))
		s.NewBlocks++
	}
	b, err := job.Encode(t)
	if err != nil {
		return s, err
	}
	s.Root = c.h.put(b).Cid
	return s, ctx.Err()
}

func (content) Served(job.ID) int64                         { return 0 }
func (content) Release(ctx context.Context, _ job.ID) error { return ctx.Err() }

// results implements dispatch.Results.
type results struct{ h *host }

func (r results) Fetch(ctx context.Context, x dispatch.Returned, dir string) (moved int64, err error) {
	from, leaf, inline := x.Worker, x.Leaf, x.Inline
	for _, o := range leaf.Outputs {
		var b []byte
		for _, x := range inline {
			if x.CID == o.File && refOf(x.Data) == o.File {
				b = x.Data
			}
		}
		if b == nil {
			if b, err = r.h.fetch(ctx, from, o.File); err != nil {
				return moved, err
			}
			moved += int64(len(b))
		}
		r.h.put(b) // later tasks may read it
		if int64(len(b)) != o.Bytes {
			return moved, fmt.Errorf("output %s has %d bytes, %d were promised", o.Name, len(b), o.Bytes)
		}
		to := filepath.Join(dir, filepath.FromSlash(o.Name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return moved, err
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

// Log implements dispatch.LogFetcher.
func (r results) Log(ctx context.Context, from peer.ID, _ job.ID, leaf job.Leaf) ([]byte, error) {
	return r.h.fetch(ctx, from, leaf.Log)
}

// assets implements worker.Assets.
type assets struct{ h *host }

func (a assets) Materialize(ctx context.Context, requester peer.ID, l job.Lease, input job.Ref, dir string, _ worker.Unpacked, progress func(float64)) (c worker.Content, err error) {
	b, err := a.h.fetch(ctx, requester, input)
	if err != nil {
		return c, err
	}
	var t tree
	if err := job.Decode(b, 1<<20, &t); err != nil {
		return c, err
	}
	n := 0
	for name, r := range t {
		if err := job.SafeName(name); err != nil {
			return c, err
		}
		b, err := a.h.fetch(ctx, requester, r)
		if err != nil {
			return c, err
		}
		c.Moved += int64(len(b))
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return c, err
		}
		if err := os.WriteFile(to, b, 0o600); err != nil {
			return c, err
		}
		n++
		progress(float64(n) / float64(len(t)))
	}
	return c, nil
}

// Extend implements worker.Assets: Materialize made all of it.
func (assets) Extend(context.Context, peer.ID, job.Lease, job.Ref, string, int64, func(float64)) (worker.Content, error) {
	return worker.Content{}, nil
}

func (assets) Sound(string) error { return nil }

func (a assets) Prior(ctx context.Context, requester peer.ID, _ job.Lease, p job.Prior, dir string) error {
	for _, o := range p.Outputs {
		b, err := a.h.fetch(ctx, requester, o.File)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(o.Name)), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (a assets) Collect(ctx context.Context, _ peer.ID, _ job.ID, dir string, rules []job.OutputRule) (out []job.Output, inline []job.Block, err error) {
	for _, r := range rules {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(r.Name)))
		if err != nil {
			return nil, nil, err
		}
		ref := a.h.put(b)
		out = append(out, job.Output{Name: r.Name, Media: r.Media, File: ref, Bytes: int64(len(b))})
		if len(b) <= 4<<10 {
			inline = append(inline, job.Block{CID: ref, Data: b})
		}
	}
	return out, inline, ctx.Err()
}

func (a assets) Log(_ context.Context, _ peer.ID, _ job.ID, text []byte) (job.Ref, error) {
	return a.h.put(text), nil
}

func (assets) Release(context.Context, job.ID) error { return nil }

// folder implements dispatch.Sink. A machine without power delivers nothing.
type folder struct{ h *host }

var errOff = errors.New("no power")

func (s folder) Deliver(_ context.Context, spec job.Spec, t job.Task, dir string) (files []string, err error) {
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(o.Name)))
		if err != nil {
			return nil, err
		}
		if s.h.isOff() {
			return nil, errOff
		}
		to := filepath.Join(spec.Output, filepath.FromSlash(o.Final))
		if err := os.WriteFile(to+".tmp", b, 0o600); err != nil {
			return nil, err
		}
		if err := os.Rename(to+".tmp", to); err != nil {
			return nil, err
		}
		files = append(files, to)
	}
	return files, nil
}

func (s folder) Delivered(spec job.Spec, t job.Task) bool {
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(spec.Output, filepath.FromSlash(o.Final))); err != nil {
			return false
		}
	}
	return true
}

func (s folder) Kept(spec job.Spec, t job.Task, _ time.Time) bool { return s.Delivered(spec, t) }

func (s folder) Differs(context.Context, job.Spec, job.Task, string) (string, error) { return "", nil }

func (s folder) Check(spec job.Spec) error { return os.MkdirAll(spec.Output, 0o700) }
