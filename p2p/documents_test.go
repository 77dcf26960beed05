package p2p

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/p2p/wire"
)

// plain runs things as a host does that never ends.
func plain(f func(context.Context)) bool {
	go f(context.Background())
	return true
}

func root(i int) cid.Cid { return block(fmt.Appendf(nil, "root %d", i)) }

func TestDocumentsAreKeptWithinTheirBound(t *testing.T) {
	var made atomic.Int32
	d := newDocuments(editorFunc(func(context.Context, cid.Cid, cid.Cid) ([]byte, error) {
		made.Add(1)
		return make([]byte, wire.MaxEdits), nil
	}), plain)
	fit := documentBytes / (wire.MaxEdits + documentCost)
	get := func(i int) {
		t.Helper()
		if doc, err := d.get(t.Context(), root(0), root(i)); err != nil || len(doc) != wire.MaxEdits {
			t.Fatal(len(doc), err)
		}
	}
	for i := range fit {
		get(i)
	}
	get(0)
	if n := int(made.Load()); n != fit {
		t.Fatalf("%d were made, want %d: the first one is kept", n, fit)
	}
	get(fit) // takes the place of 1, not of 0, which was asked for since
	get(0)
	if n := int(made.Load()); n != fit+1 {
		t.Errorf("%d were made, want %d", n, fit+1)
	}
	get(1)
	if n := int(made.Load()); n != fit+2 {
		t.Errorf("%d were made, want %d", n, fit+2)
	}
	if d.size > documentBytes || d.order.Len() != fit || len(d.kept) != fit || len(d.making) != 0 {
		t.Errorf("%d bytes in %d (%d) documents", d.size, d.order.Len(), len(d.kept))
	}
}

func TestThatThereIsNoDocumentIsRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made := 0
		d := newDocuments(editorFunc(func(context.Context, cid.Cid, cid.Cid) ([]byte, error) {
			if made++; made == 1 {
				return nil, errors.New("gone")
			}
			return []byte("edits"), nil
		}), plain)
		for range 3 {
			if _, err := d.get(t.Context(), root(0), root(1)); err == nil {
				t.Fatal("no error")
			}
		}
		time.Sleep(noDocumentKept + time.Second)
		if doc, err := d.get(t.Context(), root(0), root(1)); err != nil || string(doc) != "edits" || made != 2 {
			t.Errorf("%q, %v, made %d times", doc, err, made)
		}
	})
}

func TestFewDocumentsAreMadeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		d := newDocuments(editorFunc(func(context.Context, cid.Cid, cid.Cid) ([]byte, error) {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(time.Second)
			now.Add(-1)
			return nil, nil
		}), plain)
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := d.get(t.Context(), root(0), root(i)); err != nil {
					t.Error(err)
				}
			})
		}
		// Who gives up while waiting for its turn takes nobody's.
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := d.get(ctx, root(0), root(99)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		synctest.Wait()
		if most.Load() != documentsAtOnce || len(d.making) != 0 || len(d.slots) != 0 {
			t.Errorf("%d at once, %d not ended, %d turns taken", most.Load(), len(d.making), len(d.slots))
		}
	})
}

func TestDocumentsEndWithTheirHost(t *testing.T) {
	life, end := context.WithCancel(t.Context())
	begun := make(chan struct{})
	d := newDocuments(editorFunc(func(ctx context.Context, _, _ cid.Cid) ([]byte, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	}), func(f func(context.Context)) bool {
		if life.Err() != nil {
			return false
		}
		go f(life)
		return true
	})
	go func() { <-begun; end() }()
	for range 2 { // while it lives, and after
		if _, err := d.get(t.Context(), root(0), root(1)); err == nil {
			t.Error("no error")
		}
	}
	if len(d.making) != 0 || len(d.kept) != 0 {
		t.Errorf("%d are being made, %d kept", len(d.making), len(d.kept))
	}
}
