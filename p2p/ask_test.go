package p2p

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
)

type answerFunc func(ctx context.Context, from peer.ID, question []byte, say func([]byte) error)

func (f answerFunc) Answer(ctx context.Context, from peer.ID, question []byte, say func([]byte) error) {
	f(ctx, from, question, say)
}

// Question after question: no stream is left behind, and each hears its own
// answer.
func TestAsks(t *testing.T) {
	hosts := newFarm(t, 2)
	a, b := hosts[0], hosts[1]
	gone := make(chan struct{}, 1)
	b.ServeAsks(answerFunc(func(ctx context.Context, from peer.ID, q []byte, say func([]byte) error) {
		if from != a.ID() {
			t.Errorf("asked by %s", from)
		}
		if string(q) == "wait" {
			say([]byte("waiting"))
			<-ctx.Done()
			gone <- struct{}{}
			return
		}
		for i := range 3 {
			if err := say(fmt.Appendf(nil, "%s %d", q, i)); err != nil {
				t.Error(err)
			}
		}
	}), 1<<20)
	for i := range 3000 { // more than a host may have open
		var heard bytes.Buffer
		err := a.Ask(t.Context(), b.ID(), fmt.Appendf(nil, "q%d", i), 100, func(p []byte) error {
			heard.Write(append(p, ';'))
			return nil
		})
		if want := fmt.Sprintf("q%d 0;q%d 1;q%d 2;", i, i, i); err != nil || heard.String() != want {
			t.Fatalf("%d: %q %v", i, heard.String(), err)
		}
	}
	// Who leaves is noticed.
	ctx, cancel := context.WithCancel(t.Context())
	err := a.Ask(ctx, b.ID(), []byte("wait"), 100, func([]byte) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-gone
	// What is over its bound is not read.
	if err := a.Ask(t.Context(), b.ID(), []byte("a long question"), 5, func([]byte) error { return nil }); err == nil {
		t.Error("an answer over its bound was heard")
	}
	if err := a.Ask(t.Context(), b.ID(), make([]byte, 2<<20), 100, func([]byte) error { return nil }); err == nil {
		t.Error("a question over its bound was answered")
	}
}
