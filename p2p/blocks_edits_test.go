package p2p

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// editorFunc is an Editor.
type editorFunc func(ctx context.Context, have, want cid.Cid) ([]byte, error)

func (f editorFunc) Edits(ctx context.Context, have, want cid.Cid) ([]byte, error) {
	return f(ctx, have, want)
}

// newEditors is a farm in which every host makes edits with e.
func newEditors(t *testing.T, n int, e Editor) []*Host {
	t.Helper()
	farm := newFarm(t, n)
	for _, h := range farm {
		h.cfg.Editor = e
	}
	return farm
}

var oldRoot, newRoot = block([]byte("old")), block([]byte("new"))

func editsRequest(requester peer.ID) EditsRequest {
	return EditsRequest{
		Requester: requester, Job: job.NewID(time.Now()), Grant: job.Signed{Body: []byte("now"), Sig: []byte("s")},
		Want: newRoot, Have: oldRoot, Past: job.Signed{Body: []byte("then"), Sig: []byte("s")},
	}
}

func TestEditsComeAsOneDocument(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string][]byte{"small": []byte("edits"), "empty": nil, "largest": noise(1, wire.MaxEdits)} {
		t.Run(name, func(t *testing.T) {
			var made atomic.Int32
			farm := newEditors(t, 2, editorFunc(func(_ context.Context, have, want cid.Cid) ([]byte, error) {
				made.Add(1)
				if have != oldRoot || want != newRoot {
					t.Errorf("edits from %s to %s were asked for", have, want)
				}
				return doc, nil
			}))
			req := editsRequest(farm[0].ID())
			var served atomic.Int64
			farm[0].ServeBlocks(newMemory(), grantsFunc(func(p, requester peer.ID, id job.ID, grant job.Signed, x cid.Cid) bool {
				now := id == req.Job && string(grant.Body) == "now" && x == newRoot
				then := id == "" && string(grant.Body) == "then" && x == oldRoot
				return p == farm[1].ID() && requester == farm[0].ID() && (now || then)
			}), nil, func(id job.ID, n int) {
				if id != req.Job {
					t.Errorf("served under job %q", id)
				}
				served.Add(int64(n))
			})
			for range 2 { // the second time it is not made again
				got, moved, err := farm[1].EditsFrom(t.Context(), farm[0].ID(), req)
				if err != nil || !bytes.Equal(got, doc) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				if over := moved - int64(len(doc)); over < 50 || over > 500 {
					t.Errorf("%d bytes moved for a document of %d", moved, len(doc))
				}
			}
			if made.Load() != 1 {
				t.Errorf("the document was made %d times", made.Load())
			}
			if n := served.Load(); len(doc) > 0 && (n < 2*int64(len(doc)) || n != farm[0].Stats().BlockBytesOut) {
				t.Errorf("%d bytes were counted for the job", n)
			}
			if in := farm[1].Stats().BlockBytesIn; in != farm[0].Stats().BlockBytesOut {
				t.Errorf("%d bytes came in", in)
			}
		})
	}
}

func TestEditsThatAreNotGiven(t *testing.T) {
	t.Parallel()
	some := editorFunc(func(context.Context, cid.Cid, cid.Cid) ([]byte, error) { return []byte("edits"), nil })
	onlyNew := grantsFunc(func(_, _ peer.ID, _ job.ID, _ job.Signed, x cid.Cid) bool { return x == newRoot })
	for name, c := range map[string]struct {
		editor Editor
		grants Grants
		first  bool // there is no earlier manifest
		want   error
	}{
		"all is well":             {some, allowAll, false, nil},
		"the first time":          {some, onlyNew, true, nil},
		"the new one is not his":  {some, grantsFunc(func(_, _ peer.ID, _ job.ID, _ job.Signed, x cid.Cid) bool { return x == oldRoot }), false, ErrBlockRefused},
		"the old one was not his": {some, onlyNew, false, ErrBlockRefused},
		"no editor":               {nil, allowAll, false, ErrNoEdits},
		"cannot be made":          {editorFunc(func(context.Context, cid.Cid, cid.Cid) ([]byte, error) { return nil, errors.New("gone") }), allowAll, false, ErrNoEdits},
		"too large":               {editorFunc(func(context.Context, cid.Cid, cid.Cid) ([]byte, error) { return make([]byte, wire.MaxEdits+1), nil }), allowAll, false, ErrNoEdits},
	} {
		t.Run(name, func(t *testing.T) {
			farm := newEditors(t, 2, c.editor)
			farm[0].ServeBlocks(newMemory(), c.grants, nil, nil)
			req := editsRequest(farm[0].ID())
			if c.first {
				req.Have, req.Past = cid.Undef, job.Signed{}
			}
			doc, moved, err := farm[1].EditsFrom(t.Context(), farm[0].ID(), req)
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err != nil && doc != nil || moved == 0 {
				t.Errorf("%q, %d bytes moved", doc, moved)
			}
		})
	}
}

func TestEditsOfStrangersAndNobody(t *testing.T) {
	farm, other := newFarm(t, 2), newFarm(t, 1)[0]
	other.ServeBlocks(newMemory(), allowAll, nil, nil)
	if _, _, err := farm[0].EditsFrom(t.Context(), other.ID(), editsRequest(other.ID())); !errors.Is(err, ErrNotMember) {
		t.Errorf("from a stranger: %v", err)
	}
	if _, _, err := farm[0].EditsFrom(t.Context(), farm[1].ID(), editsRequest(farm[1].ID())); err == nil {
		t.Error("from a member that serves nothing: no error")
	}
}

func TestHostileEdits(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	head := func(a ...*wire.Answer) []byte {
		b, err := wire.Append(nil, &wire.Answers{Answers: a}, wire.MaxAnswers)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"too large":     append(head(&wire.Answer{Encoding: wire.Answer_EDITS, Size: wire.MaxEdits + 1}), make([]byte, wire.MaxEdits+1)...),
		"huge":          head(&wire.Answer{Encoding: wire.Answer_EDITS, Size: 1<<32 - 1}),
		"a block":       append(head(&wire.Answer{Size: 3}), "abc"...),
		"new encoding":  head(&wire.Answer{Encoding: 77}),
		"another index": append(head(&wire.Answer{Index: 1, Encoding: wire.Answer_EDITS, Size: 3}), "abc"...),
		"two answers":   append(head(&wire.Answer{Encoding: wire.Answer_EDITS, Size: 3}, &wire.Answer{}), "abc"...),
		"no answer":     head(),
		"ends early":    append(head(&wire.Answer{Encoding: wire.Answer_EDITS, Size: 4}), "abc"...),
		"ends at once":  nil,
		"not protobuf":  {3, 0xff, 0xff, 0xff},
		"not now":       head(&wire.Answer{Encoding: wire.Answer_LATER}),
	} {
		t.Run(name, func(t *testing.T) {
			hostileServer(t, farm[0], func(w *bufio.Writer, _ *wire.Ask) { w.Write(b) })
			if doc, _, err := farm[1].EditsFrom(t.Context(), farm[0].ID(), editsRequest(farm[0].ID())); err == nil || doc != nil {
				t.Errorf("%d bytes, %v", len(doc), err)
			}
		})
	}
}

// A peer of the first version would leave the ask without an answer.
func TestOldPeersAreNotAskedForEdits(t *testing.T) {
	farm := newFarm(t, 2)
	var asked atomic.Int32
	hostileServer(t, farm[0], func(*bufio.Writer, *wire.Ask) { asked.Add(1) })
	farm[1].able(farm[0].ID(), 1)
	if _, _, err := farm[1].EditsFrom(t.Context(), farm[0].ID(), editsRequest(farm[0].ID())); !errors.Is(err, ErrNoEdits) {
		t.Error(err)
	}
	if asked.Load() != 0 {
		t.Error("it was asked")
	}
	// What is not known is asked for.
	farm[1].mu.Lock()
	delete(farm[1].abilities, farm[0].ID())
	farm[1].mu.Unlock()
	if !farm[1].can(t.Context(), farm[0].ID(), wire.CapabilityEdits) || !farm[0].can(t.Context(), farm[1].ID(), wire.CapabilityEdits) {
		t.Error("what the members can is not known")
	}
	if farm[1].can(t.Context(), farm[0].ID(), wire.Capability+1) {
		t.Error("more is believed than was said")
	}
}

// slowEditor makes a document when told to, and tells who ended it.
type slowEditor struct {
	begun, finish chan struct{}
	made          atomic.Int32
	ended         chan error
}

func newSlowEditor() *slowEditor {
	return &slowEditor{begun: make(chan struct{}, 64), finish: make(chan struct{}), ended: make(chan error, 64)}
}

func (e *slowEditor) Edits(ctx context.Context, _, _ cid.Cid) ([]byte, error) {
	e.made.Add(1)
	e.begun <- struct{}{}
	select {
	case <-e.finish:
		return []byte("edits"), nil
	case <-ctx.Done():
		e.ended <- ctx.Err()
		return nil, ctx.Err()
	}
}

func TestEditsAreMadeOnceForAll(t *testing.T) {
	editor := newSlowEditor()
	farm := newEditors(t, 3, editor)
	farm[0].ServeBlocks(newMemory(), allowAll, nil, nil)
	req := editsRequest(farm[0].ID())
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			if doc, _, err := farm[1+i%2].EditsFrom(t.Context(), farm[0].ID(), req); err != nil || string(doc) != "edits" {
				t.Errorf("%q, %v", doc, err)
			}
		})
	}
	waiting := func() (n int) {
		d := farm[0].blocks.documents
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, m := range d.making {
			n += m.waiting
		}
		return n
	}
	eventually(t, within, "all wait", func() bool { return waiting() == 8 })
	// One who goes does not take it from the others.
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { _, _, err := farm[1].EditsFrom(ctx, farm[0].ID(), req); gone <- err }()
	eventually(t, within, "one more waits", func() bool { return waiting() == 9 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, within, "it is known to be gone", func() bool { return waiting() == 8 })
	close(editor.finish)
	wg.Wait()
	if editor.made.Load() != 1 {
		t.Errorf("the document was made %d times", editor.made.Load())
	}
}

func TestEditsNobodyWaitsForAreGivenUp(t *testing.T) {
	editor := newSlowEditor()
	farm := newEditors(t, 2, editor)
	farm[0].ServeBlocks(newMemory(), allowAll, nil, nil)
	req := editsRequest(farm[0].ID())
	why := errors.New("not needed any more")
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := make(chan error, 1)
	go func() { _, _, err := farm[1].EditsFrom(ctx, farm[0].ID(), req); gone <- err }()
	<-editor.begun
	cancel(why)
	if err := <-gone; !errors.Is(err, why) {
		t.Errorf("the cause is lost: %v", err)
	}
	if err := <-editor.ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// It is made anew for the next one.
	close(editor.finish)
	if doc, _, err := farm[1].EditsFrom(t.Context(), farm[0].ID(), req); err != nil || string(doc) != "edits" {
		t.Errorf("%q, %v", doc, err)
	}
	eventually(t, within, "streams are given back", func() bool {
		b := farm[0].blocks
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.open) == 0
	})
}
