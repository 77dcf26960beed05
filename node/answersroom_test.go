package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/ai"
)

// nobody is there to answer.
type nobody struct{}

func (nobody) list() []peer.ID { return nil }

func (nobody) ask(context.Context, peer.ID, job.Ask, func([]byte)) (job.Signed, []byte, error) {
	return job.Signed{}, nil, errors.New("nobody is there")
}

// TestRequestsThatWaitHaveABoundInBytes: many long requests are refused as
// OpenAI's clients know it, and those that are answered or given up make room.
func TestRequestsThatWaitHaveABoundInBytes(t *testing.T) {
	cfg := DefaultConfig()
	cfg.DataDir = t.TempDir()
	addEmbedder(t, cfg)
	found, err := findModel(cfg, "embedder")
	if err != nil {
		t.Fatal(err)
	}
	m := &askedModel{lines: map[string]*line{}, ready: make(chan struct{}), looked: ai.Looked{Endpoints: []string{ai.Embeddings}}}
	close(m.ready)
	const room = 10 << 20
	a := &asker{
		cfg: cfg, places: nobody{}, life: t.Context(), patience: time.Hour, room: room, log: slog.New(slog.DiscardHandler),
		models: map[string]*askedModel{found.SHA256: m}, verdicts: map[string]localapi.AnswerVerdict{},
	}
	long := []byte(fmt.Sprintf(`{"model":"embedder","input":%q}`, strings.Repeat("a", 3<<20)))
	ctx, giveUp := context.WithCancel(t.Context())
	var asked sync.WaitGroup
	ask := func() {
		asked.Go(func() {
			if _, err := a.Ask(ctx, ai.Embeddings, long, nil); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	takes := func(least, most int) func() error {
		return func() error {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.bytes < least || a.bytes > most {
				return fmt.Errorf("%d bytes", a.bytes)
			}
			return nil
		}
	}
	for range 3 {
		ask()
	}
	all := 3 * len(long)
	eventually(t, "three requests to wait", takes(all, all))
	var refused *localapi.AskError
	_, err = a.Ask(ctx, ai.Embeddings, long, nil)
	if !errors.As(err, &refused) || refused.Status != http.StatusTooManyRequests || refused.Code != "rate_limit_exceeded" || !strings.Contains(refused.Message, "ask again later") {
		t.Errorf("%+v", err)
	}
	// A short one still has room.
	short, stop := context.WithCancel(ctx)
	asked.Go(func() {
		if _, err := a.Ask(short, ai.Embeddings, []byte(`{"model":"embedder","input":"a"}`), nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	eventually(t, "a short one to wait", takes(all+1, all+100))
	stop()
	giveUp()
	asked.Wait()
	if err := takes(0, 0)(); err != nil {
		t.Error("taken by nobody:", err)
	}
}
