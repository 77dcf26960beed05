package node

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/render"
	"idlewild/render/ai"
	"idlewild/render/ai/llm/llmtest"
	"idlewild/verify"
)

// agreed is the model that the tests' batches ask for.
var agreed = llmtest.Options{Seed: 1, Width: 128, Layers: 4, Context: 512, Words: 600, Quant: llmtest.Q8}

// wordsBatch are requests with as many bytes, whatever about says.
func wordsBatch(t *testing.T, n int, about, most string) string {
	t.Helper()
	var lines strings.Builder
	kinds := []string{"birds", "ships", "roads", "winds", "lakes", "stone", "house", "cloud"}
	for i := range n {
		sampling := `"temperature":0`
		if i/4%2 == 1 {
			sampling = fmt.Sprintf(`"temperature":1,"seed":%d,"logprobs":true,"top_logprobs":2`, i)
		}
		fmt.Fprintf(&lines, `{"custom_id":"i%d","method":"POST","url":"/v1/chat/completions","body":{"model":"words","messages":[{"role":"user","content":"item %02d: %[6]s %[6]s %[6]s %[6]s about the %[3]s %[3]s %[3]s %[3]s"}],"max_tokens":%[4]s,%[5]s}}`+"\n", i, i, about, most, sampling, kinds[i%len(kinds)])
	}
	file := filepath.Join(t.TempDir(), "batch.jsonl")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func makeWriter(t *testing.T, name string, o llmtest.Options) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name+".gguf")
	if err := os.WriteFile(file, llmtest.Make(o), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// otherModel is a llama-server that runs another model than it is given.
func otherModel(t *testing.T, server, model string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: the cheat is a shell script")
	}
	file := filepath.Join(t.TempDir(), "llama-server")
	script := fmt.Sprintf(`#!/bin/sh
n=$# i=0 before=
while [ $i -lt $n ]; do
	a=$1; shift; i=$((i+1))
	if [ "$before" = --model ]; then set -- "$@" '%s'; else set -- "$@" "$a"; fi
	before=$a
done
exec '%s' "$@"
`, model, server)
	if err := os.WriteFile(file, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// machineOf runs tasks as one machine does.
type machineOf struct {
	t   *testing.T
	kit *kit
}

func newMachine(t *testing.T, server string, threads int) machineOf {
	t.Helper()
	cfg := testConfig(t, "machine", func(c *Config) { c.LLM.Server, c.Worker.Threads = server, threads })
	k, err := newKit(t.Context(), cfg, t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, r := range k.work {
			r.Close()
		}
	})
	return machineOf{t, k}
}

func (m machineOf) run(task job.Task, in string, prior ...string) (dir string, leaf job.Leaf) {
	m.t.Helper()
	dir = m.t.TempDir()
	r := m.kit.exec.Execute(m.t.Context(), render.Task{Task: task, Requester: "self", Content: in, Device: job.Device{Name: "cpu", Type: "cpu"}},
		render.Dirs{In: in, Out: dir, Prior: prior}, func(render.Progress) {})
	if r.Outcome != job.Succeeded {
		m.t.Fatalf("%s: %s: %s\n%s", task.Label, r.Outcome, r.Reason, r.Log)
	}
	return dir, job.Leaf{Outcome: r.Outcome, Task: task.Key(), Outputs: []job.Output{{Name: "records.jsonl", Media: job.MediaFile}}}
}

// planned is a batch's first task, and its content in a folder.
func (m machineOf) planned(batch, model string) (job.Task, string) {
	tasks, tree := m.plannedAll(batch, model)
	return tasks[0], tree
}

func (m machineOf) plannedAll(batch, model string) ([]job.Task, string) {
	t := m.t
	t.Helper()
	spec, err := SpecFor(batch, SpecOptions{Kind: string(ai.Name), Model: model, Output: t.TempDir(), Config: DefaultConfig()})
	if err != nil {
		t.Fatal(err)
	}
	planner := m.kit.planners[spec.Kind]
	in, err := planner.Inspect(t.Context(), spec)
	if err != nil || len(in.Refused()) > 0 {
		t.Fatal(err, in.Problems)
	}
	var files []diffupload.File
	for _, d := range in.Deps {
		files = append(files, diffupload.File{Path: d.Path, Name: d.Name})
	}
	mem, tree := &diffupload.Memory{}, t.TempDir()
	snap, err := diffupload.Snapshot(t.Context(), mem, files, diffupload.Options{})
	if err == nil {
		err = diffupload.Materialize(t.Context(), mem, snap.Root, tree, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := planner.Plan(spec, in, snap.Root)
	if err != nil {
		t.Fatal(err)
	}
	if tasks[0].Check.Method != job.CheckRerun || !slices.Contains([]string{"3", "4", "5"}, tasks[0].Needs.Require["ai"]) {
		t.Fatalf("%+v", tasks[0])
	}
	return slices.DeleteFunc(tasks, func(t job.Task) bool { return t.Check.Method != job.CheckRerun }), tree
}

// verdict is that of a requester on a claim, by the check that reads it.
func (m machineOf) verdict(task job.Task, in, claim string, leaf job.Leaf, secret string) job.Verdict {
	t := m.t
	t.Helper()
	j := &judge{samplers: m.kit.samplers, limits: verify.DefaultThresholds()}
	checks, err := j.Challenge(task, leaf, []byte(secret), 1)
	if err != nil || len(checks) != 2 || !ai.Replays(checks[0]) || ai.Replays(checks[1]) {
		t.Fatal(err, checks)
	}
	dir, again := m.run(checks[0], in, claim)
	return j.Judge(t.Context(), task, leaf, claim, []dispatch.Evidence{{Task: checks[0], Dir: dir, Leaf: again}})
}

// altered is a claim of which some records say something else.
func altered(t *testing.T, claim string, change func(all []media.Record)) string {
	t.Helper()
	var all []media.Record
	if err := recordsOf(filepath.Join(claim, "records.jsonl"))(func(r media.Record) error { all = append(all, r); return nil }); err != nil {
		t.Fatal(err)
	}
	change(all)
	var out strings.Builder
	for _, r := range all {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n", b)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "records.jsonl"), []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAnswersAreReadAgain: with a real server, what a machine answers is accepted
// whatever its threads, and none of the ways to answer without the work is.
func TestAnswersAreReadAgain(t *testing.T) {
	server := llmServer(t)
	model := makeWriter(t, "words", agreed)
	less, coarse := agreed, agreed
	less.Layers, coarse.Quant = 3, llmtest.Q4
	requester := newMachine(t, server, 1)
	task, in := requester.planned(wordsBatch(t, 8, "forest", "48"), model)
	honest, leaf := requester.run(task, in)
	check := func(name string, claim string, want job.Ruling, says string) {
		t.Helper()
		// Any item may be drawn, so all of them are wrong where one is.
		for _, secret := range []string{"a", "c", "e"} {
			v := requester.verdict(task, in, claim, leaf, secret)
			t.Logf("%s: %s: %s %v", name, v.Ruling, v.Reason, v.Numbers)
			if v.Ruling != want || !strings.Contains(v.Reason, says) {
				t.Errorf("%s: %s: %s", name, v.Ruling, v.Reason)
			}
		}
	}
	check("honest", honest, job.Accepted, "read again")
	more, _ := newMachine(t, server, 2).run(task, in)
	check("two threads", more, job.Accepted, "read again")

	for name, o := range map[string]llmtest.Options{"smaller": less, "coarser": coarse} {
		claim, _ := newMachine(t, otherModel(t, server, makeWriter(t, name, o)), 1).run(task, in)
		check(name, claim, job.Rejected, "another model")
	}
	elsewhere := func(batch string) string {
		_, tree := requester.planned(batch, model)
		claim, _ := requester.run(task, tree)
		return claim
	}
	check("another prompt", elsewhere(wordsBatch(t, 8, "harbor", "48")), job.Rejected, "")
	check("shorter", elsewhere(wordsBatch(t, 8, "forest", "24")), job.Rejected, "room for 24 more")
	check("shorter, and said to be over", altered(t, elsewhere(wordsBatch(t, 8, "forest", "24")), func(all []media.Record) {
		for _, r := range all {
			body := r.Outputs["body"]
			body.Text[0] = strings.ReplaceAll(body.Text[0], `"length"`, `"stop"`)
		}
	}), job.Rejected, "ends nothing")
	check("random", altered(t, honest, func(all []media.Record) {
		rng := rand.New(rand.NewPCG(1, 1))
		for _, r := range all {
			for i, c := range r.Outputs["committed"].Text {
				b, err := base64.StdEncoding.DecodeString(c)
				if err != nil {
					t.Fatal(err)
				}
				for k := 2; k < len(b); k++ {
					b[k] = byte(rng.IntN(240))
				}
				r.Outputs["committed"].Text[i] = base64.StdEncoding.EncodeToString(b)
			}
		}
	}), job.Rejected, "another model")
	check("answers of other items", altered(t, honest, func(all []media.Record) {
		first := all[0].Outputs
		for i := range len(all) - 1 {
			all[i].Outputs = all[i+1].Outputs
		}
		all[len(all)-1].Outputs = first
	}), job.Rejected, "")
	check("another text", altered(t, honest, func(all []media.Record) {
		for _, r := range all {
			r.Outputs["body"].Text[0] = strings.Replace(r.Outputs["body"].Text[0], `"content":"`, `"content":"sure `, 1)
		}
	}), job.Rejected, "another text")
	check("nothing committed to", altered(t, honest, func(all []media.Record) {
		for _, r := range all {
			delete(r.Outputs, "committed")
		}
	}), job.Rejected, "commitments")
	check("tokens that there are not", altered(t, honest, func(all []media.Record) {
		for _, r := range all {
			r.Outputs["written"].Data[0] = 1 << 23
		}
	}), job.Rejected, "the model has")

	// What was asked for is in the answers, and nothing else.
	for number, asks := range map[int]bool{1: false, 5: true} {
		var rec media.Record
		_ = recordsOf(filepath.Join(honest, "records.jsonl"))(func(m media.Record) error {
			if m.Item == number {
				rec = m
			}
			return nil
		})
		body := rec.Outputs["body"].Text[0]
		if strings.Contains(body, "__verbose") || strings.Contains(body, "logprobs") != asks || strings.Count(body, `"id"`) > 3*48 {
			t.Errorf("item %d: %.600s", number, body)
		}
	}
}

// TestPromptsThatSayTheDay: a model's template may say today's date; an answer that
// is read again on another day has the prompt that it was written for.
func TestPromptsThatSayTheDay(t *testing.T) {
	server := llmServer(t)
	o := agreed
	o.Template = `{% if strftime_now is defined %}{% set day = strftime_now("%A %d %B %Y") %}{% endif %}` +
		`{{ day }} {{ day }} {{ day }} {{ strftime_now('%F') }} {% for m in messages %}{{ m.content }} {% endfor %}`
	m := newMachine(t, server, 1)
	task, in := m.planned(wordsBatch(t, 8, "forest", "32"), makeWriter(t, "dated", o))
	params := string(task.Params)
	i := strings.Index(params, `"day":"`)
	if i < 0 || task.Needs.Require["ai"] != "4" {
		t.Fatalf("%s, %v", params, task.Needs)
	}
	on := func(day string) job.Task {
		other := task
		other.Params = []byte(params[:i] + `"day":"` + day + params[i+len(`"day":"2006-01-02`):])
		return other
	}
	past, leaf := m.run(on("2001-02-03"), in)
	if v := m.verdict(on("2001-02-03"), in, past, leaf, "a"); v.Ruling != job.Accepted {
		t.Errorf("read on another day: %s: %s", v.Ruling, v.Reason)
	}
	// The day is in the prompt: an answer that was written for another one is that
	// to another prompt.
	if v := m.verdict(task, in, past, leaf, "a"); v.Ruling == job.Accepted {
		t.Errorf("written for another day: %s", v.Reason)
	}
}

// TestHonestAnswersOfAllSorts: whatever a request asks for, an honest answer to it is
// accepted.
func TestHonestAnswersOfAllSorts(t *testing.T) {
	server := llmServer(t)
	m := newMachine(t, server, 1)
	asked := []string{
		`"temperature":0`,
		`"stop":"b","temperature":0`,
		`"stop":["cd"," e"],"seed":3`,
		`"logit_bias":[[2,11]],"seed":4`, // it ends by itself
		`"logit_bias":[[2,100]],"seed":4`,
		`"n":2,"seed":5`,
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],"additionalProperties":false}}}`,
		`"tools":[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{"at":{"type":"string"}}}}}],"seed":6`,
		`"min_p":0.1,"seed":7,"samplers":["min_p","temperature"]`,
		`"min_p":0.1,"seed":8`,
		`"top_k":1`,
		`"logprobs":true,"temperature":0`,
		`"logprobs":true,"top_logprobs":0,"seed":9`,
		`"top_logprobs":3`,         // an error
		`"temperature":"warm"`,     // an error
		`"max_tokens":0,"seed":10`, // the later one counts
		`"max_tokens":1,"seed":11`,
		`"max_tokens":100000,"seed":12`, // as long as there is room
		`"repeat_penalty":1.5,"seed":13`,
		`"logit_bias":[[33,100]]`, // blanks and nothing else
		`"logit_bias":[[243,40],[162,40],[155,40],[133,40]],"temperature":2`, // letters of several tokens
		`"t_max_predict_ms":1000,"seed":14`,
	}
	var lines strings.Builder
	for i, a := range asked {
		fmt.Fprintf(&lines, `{"custom_id":"i%d","method":"POST","url":"/v1/chat/completions","body":{"model":"words","messages":[{"role":"system","content":""},{"role":"user","content":"na\u00efve 世界 🙂 %d"}],"max_tokens":40,%s}}`+"\n", i, i, a)
	}
	batch := filepath.Join(t.TempDir(), "batch.jsonl")
	if err := os.WriteFile(batch, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tasks, in := m.plannedAll(batch, makeWriter(t, "words", agreed))
	count := map[string]int{}
	for _, task := range tasks {
		claim, leaf := m.run(task, in)
		for secret := range 20 {
			v := m.verdict(task, in, claim, leaf, fmt.Sprint(secret))
			// Where a server's first token is the stop word there is nothing to read.
			nothing := v.Ruling == job.Unsure && strings.HasSuffix(v.Reason, "item 2: nothing of it could be read again") && wordless(t, claim, "i1")
			if count[string(v.Ruling)]++; v.Ruling != job.Accepted && !nothing {
				t.Errorf("%s: %s: %s", task.Label, v.Ruling, v.Reason)
			}
		}
		if err := recordsOf(filepath.Join(claim, "records.jsonl"))(func(r media.Record) error {
			body := r.Outputs["body"].Text
			switch {
			case r.Error != "":
				count["error"]++
			case strings.Contains(body[0], `"stop"`) && r.Outputs["written"].Data[len(r.Outputs["written"].Data)-1] == 2:
				count["ended"]++
			case strings.Contains(body[0], `"stop"`):
				count["stopped"]++
			case strings.Contains(body[0], `"length"`):
				count["cut off"]++
			}
			if len(r.Outputs["uncommitted"].Data) > 0 {
				count["letters"]++
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, sort := range []string{"error", "ended", "stopped", "cut off", "letters"} {
		if count[sort] == 0 {
			t.Errorf("none of the answers is of the sort %q: %v", sort, count)
		}
	}
	t.Log(count)
}

// wordless reports whether the answer of that custom_id has no text.
func wordless(t *testing.T, claim, id string) (empty bool) {
	t.Helper()
	if err := recordsOf(filepath.Join(claim, "records.jsonl"))(func(r media.Record) error {
		if r.ID == id {
			empty = strings.Contains(r.Outputs["body"].Text[0], `"content":""`)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return empty
}

// TestAFarmReadsAnswersAgain: a member that runs a smaller model than was agreed is
// found out, and what it did is done by another.
func TestAFarmReadsAnswersAgain(t *testing.T) {
	server := llmServer(t)
	model := makeWriter(t, "words", agreed)
	less := agreed
	less.Layers = 3
	use := func(s string) func(*Config) {
		return func(c *Config) { c.LLM.Server, c.Worker.Threads, c.Worker.HomeThreads = s, 1, 1 }
	}
	requester := startNode(t, "requester", use(server))
	honest := startNode(t, "honest", use(server))
	cheat := startNode(t, "cheat", use(otherModel(t, server, makeWriter(t, "smaller", less))))
	join(t, requester, honest, cheat)
	eventually(t, "both are connected", func() error {
		if n := len(requester.near()); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	out, all := t.TempDir(), 1.0
	const items = 96
	spec, err := SpecFor(wordsBatch(t, items, "forest", "16"), SpecOptions{Kind: string(ai.Name), Model: model, Output: out, Recheck: &all, Config: requester.cfg})
	if err != nil {
		t.Fatal(err)
	}
	id, err := requester.client.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := requester.finish(t, id)
	if s.State != job.StateFinished {
		t.Fatalf("%s: %s", s.State, s.Reason)
	}
	worked := errors.New("the cheat got no work")
	for _, w := range s.Workers {
		switch {
		case w.Peer == cheat.self.String() && w.Rejected > 0 && w.Tasks == 0:
			worked = nil
		case w.Peer == cheat.self.String():
			worked = fmt.Errorf("the cheat has %d accepted results and %d rejected ones", w.Tasks, w.Rejected)
		case w.Rejected > 0:
			t.Errorf("%d results of %s were rejected", w.Rejected, w.Peer)
		}
	}
	if worked != nil {
		t.Error(worked)
	}
	if n := len(readAnswers(t, filepath.Join(out, ai.AnswersFile))); n != items {
		t.Errorf("%d answers", n)
	}
}
