package p2p

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/p2p/wire"
)

// Bounds of the documents of edits that are made and kept here.
const (
	documentBytes   = 32 << 20    // kept, the least recently asked for go first
	documentCost    = 256         // bytes that one is counted to take beside its own
	documentsAtOnce = 2           // made at the same time: each reads two manifests
	noDocumentKept  = time.Minute // how long it is remembered that none could be made
)

// documents makes each document of edits once, however many ask for it at the
// same time, and keeps the last ones: the workers of a farm ask for the same
// one within seconds. A document is wholly determined by its roots, so it does
// not grow old.
type documents struct {
	editor Editor
	run    func(func(context.Context)) bool // runs it, with the context of this host's life
	slots  chan struct{}

	mu     sync.Mutex
	making map[roots]*making
	kept   map[roots]*list.Element // of *document
	order  list.List               // the last asked for in front
	size   int
}

type roots struct{ have, want cid.Cid }

// making is a document that is being made.
type making struct {
	waiting int // guarded by documents.mu; at 0 it is given up
	cancel  context.CancelFunc
	done    chan struct{} // closed when doc and err are set
	doc     []byte
	err     error
}

// document is one that is kept, or with err the memory that there is none.
type document struct {
	of  roots
	doc []byte
	err error
	at  time.Time
}

func (d *document) cost() int { return len(d.doc) + documentCost }

func newDocuments(e Editor, run func(func(context.Context)) bool) *documents {
	return &documents{
		editor: e, run: run, slots: make(chan struct{}, documentsAtOnce),
		making: map[roots]*making{}, kept: map[roots]*list.Element{},
	}
}

// get returns the document; nobody may change it. When the last of those who
// wait for one is gone, its making ends.
func (d *documents) get(ctx context.Context, have, want cid.Cid) ([]byte, error) {
	of := roots{have, want}
	d.mu.Lock()
	if doc, err, ok := d.rememberedLocked(of); ok {
		d.mu.Unlock()
		return doc, err
	}
	m, ok := d.making[of]
	if !ok {
		m = &making{done: make(chan struct{})}
		var life context.Context
		life, m.cancel = context.WithCancel(context.Background())
		d.making[of] = m
		if !d.run(func(host context.Context) {
			stop := context.AfterFunc(host, m.cancel)
			defer stop()
			d.make(life, of, m)
		}) {
			delete(d.making, of)
			d.mu.Unlock()
			m.cancel()
			return nil, errors.New("edits: this host is closed")
		}
	}
	m.waiting++
	d.mu.Unlock()
	select {
	case <-m.done:
		return m.doc, m.err
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if m.waiting--; m.waiting == 0 {
		m.cancel()
		if d.making[of] == m {
			delete(d.making, of) // who comes now begins anew
		}
	}
	return nil, context.Cause(ctx)
}

// make makes a document once it is its turn.
func (d *documents) make(ctx context.Context, of roots, m *making) {
	defer m.cancel()
	select {
	case d.slots <- struct{}{}:
		m.doc, m.err = d.editor.Edits(ctx, of.have, of.want)
		<-d.slots
	case <-ctx.Done():
		m.err = ctx.Err()
	}
	if m.err == nil && len(m.doc) > wire.MaxEdits {
		m.doc, m.err = nil, fmt.Errorf("edits of %d bytes: %w", len(m.doc), wire.ErrTooLarge)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.making[of] == m {
		delete(d.making, of)
	}
	if ctx.Err() == nil {
		d.keepLocked(&document{of: of, doc: m.doc, err: m.err, at: time.Now()})
	}
	close(m.done)
}

func (d *documents) rememberedLocked(of roots) (doc []byte, err error, ok bool) {
	e := d.kept[of]
	if e == nil {
		return nil, nil, false
	}
	k := e.Value.(*document)
	if k.err != nil && time.Since(k.at) > noDocumentKept {
		d.dropLocked(e) // what it lacked may be here by now
		return nil, nil, false
	}
	d.order.MoveToFront(e)
	return k.doc, k.err, true
}

func (d *documents) keepLocked(k *document) {
	if old := d.kept[k.of]; old != nil {
		d.dropLocked(old)
	}
	d.kept[k.of] = d.order.PushFront(k)
	d.size += k.cost()
	for d.size > documentBytes {
		d.dropLocked(d.order.Back())
	}
}

func (d *documents) dropLocked(e *list.Element) {
	k := d.order.Remove(e).(*document)
	delete(d.kept, k.of)
	d.size -= k.cost()
}
