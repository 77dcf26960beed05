package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/media"
	"idlewild/node"
	"idlewild/render"
	"idlewild/render/ai"
	"idlewild/render/ai/llm"
	"idlewild/render/ai/llm/llmtest"
	"idlewild/verify"
)

func init() {
	benchmarks["tokens"] = benchmark{"answers of language models that are read again: cheats caught, false alarms, what checking costs", benchTokens}
}

// benchTokens has machines answer one batch, honestly and not, and reads every
// answer again. Weights are random. A trial is an item: of an answer several places
// are looked at, which say much the same.
func benchTokens(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("tokens", flag.ContinueOnError)
	server := fs.String("server", os.Getenv("IDLEWILD_LLM_SERVER"), "llama-server")
	other := fs.String("other", "", "a llama-server that was built for other instructions")
	items := fs.Int("items", 40, "requests")
	tokens := fs.Int("tokens", 128, "tokens of an answer")
	width := fs.Int("width", 256, "of the model")
	alarms := fs.Bool("alarms", false, "only honest machines")
	layers := fs.Int("layers", 6, "of the model")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	path, err := llm.Find(*server)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "idlewild-tokens-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &tokensBench{ctx: ctx, dir: dir, items: *items, tokens: *tokens}
	agreed := llmtest.Options{Seed: 1, Width: *width, Layers: *layers, Context: 2048, Words: 2000, Quant: llmtest.Q8}
	if b.model, err = b.write("words", agreed); err != nil {
		return nil, err
	}
	less, coarse := agreed, agreed
	less.Layers, coarse.Quant = *layers-1, llmtest.Q4
	smaller, err := b.write("smaller", less)
	if err != nil {
		return nil, err
	}
	coarser, err := b.write("coarser", coarse)
	if err != nil {
		return nil, err
	}
	if b.task, b.in, err = b.plan("forest", *tokens); err != nil {
		return nil, err
	}
	checker, shut, err := b.machine(path, "", 1)
	if err != nil {
		return nil, err
	}
	defer shut()
	if _, _, err := b.run(checker, b.task, b.in); err != nil { // to be warm
		return nil, err
	}
	honest, wrote, err := b.run(checker, b.task, b.in)
	if err != nil {
		return nil, err
	}
	elsewhere := func(about string, most int) func() (string, error) {
		return func() (string, error) {
			_, in, err := b.plan(about, most)
			if err != nil {
				return "", err
			}
			dir, _, err := b.run(checker, b.task, in)
			return dir, err
		}
	}
	by := func(server, model string, threads int) func() (string, error) {
		return func() (string, error) {
			m, shut, err := b.machine(server, model, threads)
			if err != nil {
				return "", err
			}
			defer shut()
			dir, _, err := b.run(m, b.task, b.in)
			return dir, err
		}
	}
	claims := []struct {
		name   string
		honest bool
		claim  func() (string, error)
	}{
		{"honest: the checker's threads", true, func() (string, error) { return honest, nil }},
		{"honest: other threads", true, by(path, "", 2)},
		{"honest: other instructions", true, by(*other, "", 1)},
		{fmt.Sprintf("a model of %d layers for one of %d", less.Layers, *layers), false, by(path, smaller, 1)},
		{"4.5 bits for 8.5", false, by(path, coarser, 1)},
		{"another prompt", false, elsewhere("harbor", *tokens)},
		{"truncated", false, elsewhere("forest", *tokens/2)},
		{"random commitments", false, func() (string, error) { return b.altered(honest, randomCommitments) }},
		{"the answer of another item", false, func() (string, error) { return b.altered(honest, ofOthers) }},
	}
	var figures []Figure
	for _, c := range claims {
		if strings.HasSuffix(c.name, "instructions") && *other == "" {
			fmt.Fprintln(os.Stderr, "NOT RUN: -other names no llama-server")
			continue
		}
		if *alarms && !c.honest {
			continue
		}
		claim, err := c.claim()
		if err != nil {
			return figures, fmt.Errorf("%s: %w", c.name, err)
		}
		counts, apart, read, err := b.read(checker, claim)
		if err != nil {
			return figures, fmt.Errorf("%s: %w", c.name, err)
		}
		n := float64(b.items)
		fmt.Fprintf(os.Stderr, "%-40s %d items: %d accepted, %d unsure, %d rejected; apart %.4f to %.4f, median %.4f\n",
			c.name, b.items, counts[job.Accepted], counts[job.Unsure], counts[job.Rejected], apart[0], apart[len(apart)-1], apart[len(apart)/2])
		if c.honest {
			figures = append(figures, atMost(c.name+": not accepted, of all items", 1-float64(counts[job.Accepted])/n, "", 0))
		} else {
			// 20 checked items of which one is enough.
			figures = append(figures, atLeast(c.name+": rejected, of all items", float64(counts[job.Rejected])/n, "", 0.206))
		}
		if claim == honest {
			// A tenth of the items is checked.
			figures = append(figures,
				atMost("reading an answer, of the time that writing it took", read/wrote, "", 1),
				atMost("checking a tenth of the items, of the time that all took", read/wrote/10, "", 0.1))
		}
	}
	size, err := b.committed(honest)
	return append(figures, atMost("a commitment to 32 tokens", size, "bytes", 258)), err
}

type tokensBench struct {
	ctx           context.Context
	dir, model    string
	items, tokens int
	task          job.Task
	in            string
	made          int
}

func (b *tokensBench) folder() string {
	b.made++
	dir := filepath.Join(b.dir, fmt.Sprint(b.made))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		panic(err) // below a folder that was just made
	}
	return dir
}

func (b *tokensBench) write(name string, o llmtest.Options) (string, error) {
	file := filepath.Join(b.folder(), name+".gguf")
	return file, os.WriteFile(file, llmtest.Make(o), 0o644)
}

// plan is a batch as one task, and its content.
func (b *tokensBench) plan(about string, most int) (job.Task, string, error) {
	kinds := []string{"birds", "ships", "roads", "winds", "lakes", "stone", "house", "cloud"}
	var lines strings.Builder
	for i := range b.items {
		sampling := `"temperature":0`
		if i%2 == 1 {
			sampling = fmt.Sprintf(`"temperature":1,"seed":%d`, i)
		}
		k := kinds[i%len(kinds)]
		fmt.Fprintf(&lines, `{"custom_id":"i%d","method":"POST","url":"/v1/chat/completions","body":{"model":"words","messages":[{"role":"user","content":"item %03d: %s %s %s about the %s %s %s"}],"max_tokens":%3d,%s}}`+"\n",
			i, i, k, k, k, about, about, about, most, sampling)
	}
	batch, in := filepath.Join(b.folder(), "batch.jsonl"), b.folder()
	if err := os.WriteFile(batch, []byte(lines.String()), 0o600); err != nil {
		return job.Task{}, "", err
	}
	spec, err := node.SpecFor(batch, node.SpecOptions{Kind: string(aiKind), Model: b.model, Output: b.folder(), Config: node.DefaultConfig()})
	if err != nil {
		return job.Task{}, "", err
	}
	k := ai.New(ai.Options{})
	found, err := k.Inspect(b.ctx, spec)
	if err != nil {
		return job.Task{}, "", err
	}
	if len(found.Refused()) > 0 {
		return job.Task{}, "", &job.RefusedError{Problems: found.Refused()}
	}
	var files []diffupload.File
	for _, d := range found.Deps {
		files = append(files, diffupload.File{Path: d.Path, Name: d.Name})
	}
	mem := &diffupload.Memory{}
	snap, err := diffupload.Snapshot(b.ctx, mem, files, diffupload.Options{})
	if err == nil {
		err = diffupload.Materialize(b.ctx, mem, snap.Root, in, nil)
	}
	if err != nil {
		return job.Task{}, "", err
	}
	tasks, err := k.Plan(spec, found, snap.Root)
	if err != nil {
		return job.Task{}, "", err
	}
	// One task has all items here.
	var whole map[string]any
	if err := json.Unmarshal(tasks[0].Params, &whole); err != nil {
		return job.Task{}, "", err
	}
	whole["length"], whole["count"] = lines.Len(), b.items
	tasks[0].Params, err = json.Marshal(whole)
	return tasks[0], in, err
}

// machine answers with a server; other, where it is not empty, is the model that it
// runs whatever it is given.
func (b *tokensBench) machine(server, other string, threads int) (*render.Runner, func(), error) {
	if other != "" {
		script := filepath.Join(b.folder(), llm.Program)
		text := fmt.Sprintf(`#!/bin/sh
n=$# i=0 before=
while [ $i -lt $n ]; do
	a=$1; shift; i=$((i+1))
	if [ "$before" = --model ]; then set -- "$@" '%s'; else set -- "$@" "$a"; fi
	before=$a
done
exec '%s' "$@"
`, other, server)
		if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
			return nil, nil, err
		}
		server = script
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	k := ai.New(ai.Options{Exe: exe, Server: server, Threads: threads})
	r := render.NewExecutor(map[job.Kind]render.Kind{ai.Name: k}, render.NewLocalProcess(nil), render.Options{Scratch: b.folder()})
	return r, func() { r.Close() }, nil
}

// run gives what a task left, and the seconds that it took beside loading.
func (b *tokensBench) run(m *render.Runner, t job.Task, in string, prior ...string) (string, float64, error) {
	out := b.folder()
	r := m.Execute(b.ctx, render.Task{Task: t, Requester: "self", Content: in, Device: job.Device{Name: "cpu", Type: "cpu"}},
		render.Dirs{In: in, Out: out, Prior: prior}, func(render.Progress) {})
	if r.Outcome != job.Succeeded {
		return "", 0, fmt.Errorf("%s: %s", r.Outcome, r.Reason)
	}
	return out, (r.Meter.Wall - r.Meter.Load).Seconds(), nil
}

func recordsIn(dir string, each func(media.Record) error) error {
	f, err := os.Open(filepath.Join(dir, "records.jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	return media.ReadRecords(f, each)
}

// read judges every item of a claim by itself.
func (b *tokensBench) read(checker *render.Runner, claim string) (counts map[job.Ruling]int, apart []float64, seconds float64, err error) {
	all := func(n, k int) []int {
		if n != b.items {
			return verify.Items(n, k, []byte("bench"), [32]byte{})
		}
		v := make([]int, n)
		for i := range v {
			v[i] = i
		}
		return v
	}
	checks, err := ai.New(ai.Options{}).Sample(b.task, all, nil)
	if err != nil {
		return nil, nil, 0, err
	}
	dir, seconds, err := b.run(checker, checks[0], b.in, claim)
	if err != nil {
		return nil, nil, 0, err
	}
	_, want, err := ai.ReadEvidence(checks[0])
	if err != nil {
		return nil, nil, 0, err
	}
	claimed := verify.Count(job.RerunCheck{Items: b.items, First: 1}, want, func(each func(media.Record) error) error { return recordsIn(claim, each) })
	counts = map[job.Ruling]int{}
	err = recordsIn(dir, func(r media.Record) error {
		v := verify.CompareTokens(claimed, []media.Record{r})
		counts[v.Ruling]++
		apart = append(apart, v.Numbers["apart"])
		return nil
	})
	slices.Sort(apart)
	if err == nil && len(apart) != b.items {
		err = errors.New("not every item was read")
	}
	return counts, apart, seconds, err
}

// altered is a claim of which the records say something else.
func (b *tokensBench) altered(claim string, change func(all []media.Record)) (string, error) {
	var all []media.Record
	if err := recordsIn(claim, func(r media.Record) error { all = append(all, r); return nil }); err != nil {
		return "", err
	}
	change(all)
	var out strings.Builder
	for _, r := range all {
		raw, err := json.Marshal(r)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s\n", raw)
	}
	dir := b.folder()
	return dir, os.WriteFile(filepath.Join(dir, "records.jsonl"), []byte(out.String()), 0o600)
}

func randomCommitments(all []media.Record) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, r := range all {
		for i, c := range r.Outputs["committed"].Text {
			raw, _ := base64.StdEncoding.DecodeString(c) // it was just written
			for k := 2; k < len(raw); k++ {
				raw[k] = byte(rng.IntN(240))
			}
			r.Outputs["committed"].Text[i] = base64.StdEncoding.EncodeToString(raw)
		}
	}
}

func ofOthers(all []media.Record) {
	first := all[0].Outputs
	for i := range len(all) - 1 {
		all[i].Outputs = all[i+1].Outputs
	}
	all[len(all)-1].Outputs = first
}

// committed is the size of the longest commitment.
func (b *tokensBench) committed(claim string) (size float64, err error) {
	err = recordsIn(claim, func(r media.Record) error {
		w, err := media.WritingOf(r, 0)
		for _, c := range w.Commitments {
			size = max(size, float64(len(c)))
		}
		return err
	})
	return size, err
}
