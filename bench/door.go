package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"idlewild/node/localapi"
	"idlewild/render/ai/llm"
	"idlewild/render/ai/llm/llmtest"
	"idlewild/render/ai/onnx"
	"idlewild/render/ai/onnxtest"
)

func init() {
	benchmarks["door"] = benchmark{"the inference door: what it adds to the runtime's own answer, many clients at once", benchDoor}
}

// doorBench asks a daemon's door, and the runtime itself.
type doorBench struct {
	farm     *farm
	library  string
	requests int
	clients  int
	server   string // llama.cpp's
}

// Sizes of the model, which is as small as embedders are: 7.7 million numbers.
const (
	doorVocab  = 30000
	doorWidth  = 256
	doorTokens = 64
)

func benchDoor(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("door", flag.ContinueOnError)
	requests := fs.Int("requests", 500, "requests one after the other")
	clients := fs.Int("clients", 200, "clients at once")
	library := fs.String("library", os.Getenv("IDLEWILD_ONNX_LIBRARY"), "onnxruntime, or its folder")
	server := fs.String("server", os.Getenv("IDLEWILD_LLM_SERVER"), "llama.cpp's llama-server")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	l, err := onnx.Find(*library)
	if err != nil {
		return nil, err
	}
	b := &doorBench{library: l.Path, requests: *requests, clients: *clients}
	if b.server, err = llm.Find(*server); err != nil {
		return nil, err
	}
	os.Setenv("IDLEWILD_ONNX_LIBRARY", b.library) // of the daemons
	os.Setenv("IDLEWILD_LLM_SERVER", b.server)
	if b.farm, err = newFarm(ctx); err != nil {
		return nil, err
	}
	defer b.farm.close()
	return b.run(ctx)
}

func (b *doorBench) run(ctx context.Context) ([]Figure, error) {
	embedder, writer := filepath.Join(b.farm.dir, "embedder.onnx"), filepath.Join(b.farm.dir, "writer.gguf")
	if err := errors.Join(os.WriteFile(embedder, onnxtest.Embedder(1, doorVocab, doorWidth), 0o600), os.WriteFile(writer, llmtest.Transformer(1), 0o600)); err != nil {
		return nil, err
	}
	direct, err := b.direct(embedder)
	if err != nil {
		return nil, err
	}
	written, err := b.written(ctx, writer)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	for _, place := range []string{"this machine", "a member"} {
		desk, err := b.farm.start(ctx, map[string]string{"this machine": "alone", "a member": "desk"}[place], nodeOptions{noWork: place == "a member"})
		if err != nil {
			return nil, err
		}
		for _, m := range []string{embedder, writer} {
			add := exec.CommandContext(ctx, b.farm.bin, "model", "add", m, "--data-dir", desk.dir)
			if out, err := add.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("model add: %w: %s", err, out)
			}
		}
		if place == "a member" {
			member, err := b.farm.start(ctx, "member", nodeOptions{})
			if err != nil {
				return nil, err
			}
			if err := b.farm.found(ctx, desk, member); err != nil {
				return nil, err
			}
		}
		door, err := newDoorClient(desk.dir)
		if err != nil {
			return nil, err
		}
		embed, err := json.Marshal(map[string]any{"model": "embedder", "input": doorInput()})
		if err != nil {
			return nil, err
		}
		chat := []byte(`{"model":"writer","messages":[{"role":"user","content":"hello"}],"max_tokens":16,"temperature":0,"ignore_eos":true}`)
		one, err := door.one(ctx, "/v1/embeddings", embed, b.requests)
		if err != nil {
			return nil, fmt.Errorf("answered by %s: %w", place, err)
		}
		whole, err := door.one(ctx, "/v1/chat/completions", chat, max(1, b.requests/5))
		if err != nil {
			return nil, fmt.Errorf("answered by %s: %w", place, err)
		}
		many, failed, err := door.many(ctx, "/v1/embeddings", embed, b.clients)
		if err != nil {
			return nil, err
		}
		p50, p99 := quantile(one, 0.5), quantile(one, 0.99)
		figures = append(figures,
			atMost(place+": embedding, p50 above the runtime's own", 1e3*(p50-direct), "ms", 10, Peer{"runtime alone", 1e3 * direct}),
			plain(place+": embedding, p99", 1e3*p99, "ms"),
			besides(plain(place+": 16 tokens of a chat, p50", 1e3*quantile(whole, 0.5), "ms"), Peer{"llama-server alone", 1e3 * written}),
			atMost(fmt.Sprintf("%s: %d clients at once, errors", place, b.clients), float64(failed), "", 0),
			besides(plain(fmt.Sprintf("%s: %d clients at once", place, b.clients), many, "1/s"), Peer{"runtime alone, one by one", 1 / direct}),
		)
	}
	return figures, nil
}

// besides puts what was measured of another next to a figure.
func besides(f Figure, p Peer) Figure {
	f.Peers = append(f.Peers, p)
	return f
}

func doorInput() []int {
	v := make([]int, doorTokens)
	for i := range v {
		v[i] = (i*7919 + 13) % doorVocab
	}
	return v
}

// direct is the median time of the runtime itself, in this process.
func (b *doorBench) direct(model string) (float64, error) {
	s, err := onnx.Open(b.library, model, onnx.Options{Threads: runtime.NumCPU()})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	t := onnx.Tensor{Shape: []int64{1, doorTokens}}
	for _, v := range doorInput() {
		t.Data = append(t.Data, float64(v))
	}
	var took []float64
	for range b.requests {
		start := time.Now()
		if _, err := s.Run(map[string]onnx.Tensor{"input_ids": t}, nil); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	return median(took), nil
}

// written is the median time of llama.cpp's server itself.
func (b *doorBench) written(ctx context.Context, model string) (float64, error) {
	dir, err := os.MkdirTemp("", "door-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	was, err := os.Getwd()
	if err == nil {
		err = os.Chdir(dir) // of the socket
	}
	if err != nil {
		return 0, err
	}
	defer os.Chdir(was)
	s, err := llm.Start(ctx, llm.Options{Server: b.server, Model: model, Dir: dir, Context: 512, Parallel: 4})
	if err != nil {
		return 0, err
	}
	defer s.Close()
	body := []byte(`{"messages":[{"role":"user","content":"hello"}],"max_tokens":16,"temperature":0,"ignore_eos":true,"cache_prompt":false}`)
	var took []float64
	for range max(1, b.requests/5) {
		start := time.Now()
		status, answer, err := s.Do(ctx, "/v1/chat/completions", body, nil)
		if err != nil {
			return 0, err
		}
		if status != http.StatusOK {
			return 0, fmt.Errorf("llama-server: %d %s", status, answer)
		}
		took = append(took, time.Since(start).Seconds())
	}
	return median(took), nil
}

// doorClient asks as any client of OpenAI's API does.
type doorClient struct {
	base, token string
	http        *http.Client
}

func newDoorClient(dir string) (*doorClient, error) {
	ep, err := localapi.ReadEndpoint(dir)
	if err != nil {
		return nil, err
	}
	return &doorClient{"http://" + ep.Address, ep.Token, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1000}}}, nil
}

func (d *doorClient) ask(ctx context.Context, path string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+d.token)
	r.Header.Set("Content-Type", "application/json")
	resp, err := d.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, b)
	}
	return err
}

// one asks n times, one after the other, and returns the sorted times. The first
// ones load the model.
func (d *doorClient) one(ctx context.Context, path string, body []byte, n int) ([]float64, error) {
	for range 5 {
		if err := d.ask(ctx, path, body); err != nil {
			return nil, err
		}
	}
	var took []float64
	for range n {
		start := time.Now()
		if err := d.ask(ctx, path, body); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start).Seconds())
	}
	slices.Sort(took)
	return took, nil
}

// many has clients ask ten times each, all at once, and returns how many answers
// came in a second.
func (d *doorClient) many(ctx context.Context, path string, body []byte, clients int) (perSecond float64, failed int, err error) {
	const each = 10
	var all sync.WaitGroup
	var bad atomic.Int64
	start := time.Now()
	for range clients {
		all.Go(func() {
			for range each {
				if err := d.ask(ctx, path, body); err != nil {
					if bad.Add(1) == 1 {
						fmt.Fprintln(os.Stderr, "door:", err)
					}
				}
			}
		})
	}
	all.Wait()
	return float64(clients*each) / time.Since(start).Seconds(), int(bad.Load()), ctx.Err()
}
