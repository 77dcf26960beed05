//go:build linux

package ai

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"idlewild/render/ai/llm"
	"idlewild/render/ai/llm/llmtest"
)

// child is the process of this one that has the given name.
func child(name string) (int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range stats {
		b, _ := os.ReadFile(file) // it may have ended
		_, rest, ok := strings.Cut(string(b), "("+name+") ")
		if f := strings.Fields(rest); ok && len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			return strconv.Atoi(filepath.Base(filepath.Dir(file)))
		}
	}
	return 0, fmt.Errorf("no %s runs", name)
}

// TestTheServerIsKilledAmidABatch: llama.cpp's own server, killed while it
// writes several answers. Each comes whole, and who listens hears it once.
func TestTheServerIsKilledAmidABatch(t *testing.T) {
	program := os.Getenv("IDLEWILD_LLM_SERVER")
	if program == "" {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "llm") {
			t.Fatal("IDLEWILD_LLM_SERVER names no server")
		}
		t.Skip("NOT RUN: IDLEWILD_LLM_SERVER names no server of llama.cpp")
	}
	dir := t.TempDir()
	t.Chdir(dir)
	model := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(model, llmtest.Transformer(1), 0o600); err != nil {
		t.Fatal(err)
	}
	started := 0
	w := &writer{endpoint: Chat}
	w.fresh = func() (s *llm.Server, err error) {
		if w.server != nil {
			w.server.Close()
		}
		started++
		w.server, err = llm.Start(t.Context(), llm.Options{Server: program, Model: model, Dir: dir, Context: 512, Parallel: 4, Threads: 1})
		return w.server, err
	}
	if _, err := w.fresh(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.server.Close() })
	qs := chats(true, "one", "two", "three", "four", "five", "six")
	for i := range qs {
		qs[i].body["max_tokens"], qs[i].body["temperature"], qs[i].body["seed"] = json.RawMessage("200"), json.RawMessage("0"), json.RawMessage("1")
	}
	var mu sync.Mutex
	heard := make([]gathered, len(qs))
	chunks := 0
	records, err := w.answer(qs, func(n int, chunk []byte) {
		mu.Lock()
		defer mu.Unlock()
		heard[n].add(chunk)
		if chunks++; chunks != 10 {
			return
		}
		pid, err := child(llm.Program)
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Error(err)
		}
	})
	if err != nil || started != 2 {
		t.Fatalf("%d servers: %v", started, err)
	}
	for i, rec := range records {
		var body struct {
			Choices []struct{ Message struct{ Content string } }
		}
		if rec.Error != "" || json.Unmarshal([]byte(rec.Outputs[outBody].Text[0]), &body) != nil || len(heard[i].choices) != 1 {
			t.Errorf("%d: %+v", i, rec)
			continue
		}
		if got := heard[i].choices[0].Message.Content; got == "" || got != body.Choices[0].Message.Content {
			t.Errorf("%d: heard %q of %q", i, got, body.Choices[0].Message.Content)
		}
	}
}
