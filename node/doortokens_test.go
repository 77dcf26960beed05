package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload"
	"idlewild/job"
	"idlewild/media"
	"idlewild/node/localapi"
	"idlewild/render/ai"
	"idlewild/render/ai/llm/llmtest"
	"idlewild/verify"
)

// atDoor are requests that were asked of a model at the door, as a task.
type atDoor struct {
	machineOf
	looked ai.Looked
	root   job.Ref
	in     string
}

func newDoorTasks(m machineOf, model string) atDoor {
	t := m.t
	t.Helper()
	looked, err := m.kit.planners[ai.Name].(*ai.Kind).Look(t.Context(), model)
	if err != nil {
		t.Fatal(err)
	}
	var files []diffupload.File
	for _, d := range looked.Deps {
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
	return atDoor{m, looked, job.RefOf(snap.Root), tree}
}

// by is the same, asked of another machine.
func (d atDoor) by(m machineOf) atDoor {
	d.machineOf = m
	return d
}

func chatOf(content, more string) string {
	return fmt.Sprintf(`{"model":"words","messages":[{"role":"user","content":%q}],"max_tokens":40%s}`, content, more)
}

// ask is the task for some requests, and what it is given.
func (d atDoor) ask(bodies ...string) (job.Task, []byte) {
	d.t.Helper()
	var given bytes.Buffer
	for i, b := range bodies {
		line, err := json.Marshal(ai.Request{CustomID: fmt.Sprint(i + 1), Method: http.MethodPost, URL: ai.Chat, Body: json.RawMessage(b)})
		if err != nil {
			d.t.Fatal(err)
		}
		given.Write(append(line, '\n'))
	}
	task, err := d.looked.Asked(ai.Chat, d.root, given.Bytes(), len(bodies), true)
	if err != nil {
		d.t.Fatal(err)
	}
	return task, given.Bytes()
}

// answers runs a task and returns the records that it left.
func (d atDoor) answers(task job.Task, given []byte) []media.Record {
	d.t.Helper()
	prior := d.t.TempDir()
	if err := os.WriteFile(filepath.Join(prior, ai.RequestsFile), given, 0o600); err != nil {
		d.t.Fatal(err)
	}
	dir, _ := d.run(task, d.in, prior)
	file, err := os.ReadFile(filepath.Join(dir, "records.jsonl"))
	if err != nil {
		d.t.Fatal(err)
	}
	_, all, err := recordsAll(file)
	if err != nil {
		d.t.Fatal(err)
	}
	return all
}

// verdict is what a requester says of a claim by reading it.
func (d atDoor) verdict(task job.Task, given []byte, claims []media.Record) job.Verdict {
	d.t.Helper()
	again, beside, ok, err := ai.Reread(task, given, claims, rand.IntN)
	if err != nil || !ok {
		d.t.Fatal(ok, err)
	}
	var file bytes.Buffer
	for _, r := range claims {
		b, err := json.Marshal(r)
		if err != nil {
			d.t.Fatal(err)
		}
		file.Write(append(b, '\n'))
	}
	evidence := d.answers(again, beside)
	var want []int
	for _, e := range evidence {
		want = append(want, e.Item)
	}
	var check job.RerunCheck
	if err := job.Decode(task.Check.Params, job.MaxTaskBytes, &check); err != nil {
		d.t.Fatal(err)
	}
	return verify.CompareTokens(verify.Count(check, want, recordsIn(file.Bytes())), evidence)
}

// letters has a model write letters of several tokens.
const letters = `"logit_bias":[[243,40],[162,40],[155,40],[133,40]],"temperature":2,"seed":3`

// TestHonestAnswersAtTheDoorAreRead: whatever is asked at the door, an honest answer
// to it is accepted by reading it, streams and several choices too.
func TestHonestAnswersAtTheDoorAreRead(t *testing.T) {
	server := llmServer(t)
	d := newDoorTasks(newMachine(t, server, 1), makeWriter(t, "words", agreed))
	two := d.by(newMachine(t, server, 2))
	for more, places := range map[string]float64{
		`,"temperature":0`:               8,
		`,"temperature":0,"stream":true`: 8,
		`,"seed":2,"stream":true,"stream_options":{"include_usage":true}`: 8,
		`,"seed":4,"logit_bias":[[2,11]],"stream":true`:                   1, // it ends by itself
		`,"seed":4,"logit_bias":[[2,100]],"stream":true`:                  1,
		`,"seed":4,"logit_bias":[[2,100]],"stream":true,"stop":"b"`:       1,
		`,"stop":["cd"," e"],"seed":3,"stream":true`:                      1,
		`,"stop":"b","temperature":0,"stream":true`:                       1,
		`,` + letters:                               1,
		`,"stream":true,` + letters:                 1,
		`,"max_tokens":39,"stream":true,` + letters: 1,
		`,"max_tokens":38,"stream":true,"stream_options":{"include_usage":true},` + letters: 1,
		`,"n":3,"seed":5`: 17,
		`,"n":2,"temperature":0,"logprobs":true,"top_logprobs":2`:               16,
		`,"n":3,"seed":5,"stream":true,"stream_options":{"include_usage":true}`: 17,
		`,"n":2,"stream":true,` + letters:                                       2,
		`,"n":2,"seed":-1`:                                                      16,
		`,"stream":true,"seed":9,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],"additionalProperties":false}}}`: 1,
	} {
		task, given := d.ask(chatOf("naïve 世界 🙂", more))
		for name, m := range map[string]atDoor{"one thread": d, "two": two} {
			claims := m.answers(task, given)
			v := d.verdict(task, given, claims)
			t.Logf("%s: %s: %s %v", name, v.Ruling, v.Reason, v.Numbers)
			if v.Ruling != job.Accepted || v.Method != "replay" || v.Numbers["places"] < places {
				t.Errorf("%s, %s: %s: %s %v\n%v", more, name, v.Ruling, v.Reason, v.Numbers, claims[0].Outputs["body"].Text)
			}
		}
	}
	// Several at once, each by its own.
	var bodies []string
	for i := range 4 {
		bodies = append(bodies, chatOf(fmt.Sprintf("item %d", i), fmt.Sprintf(`,"temperature":1,"seed":%d,"stream":%v`, i, i%2 == 1)))
	}
	task, given := d.ask(bodies...)
	if v := d.verdict(task, given, d.answers(task, given)); v.Ruling != job.Accepted || v.Numbers["places"] != 32 {
		t.Errorf("%s: %s %v", v.Ruling, v.Reason, v.Numbers)
	}
}

// TestCheatsAtTheDoor: none of the ways to answer without the work is accepted, nor
// one choice of three.
func TestCheatsAtTheDoor(t *testing.T) {
	server := llmServer(t)
	d := newDoorTasks(newMachine(t, server, 1), makeWriter(t, "words", agreed))
	less, coarse := agreed, agreed
	less.Layers, coarse.Quant = 3, llmtest.Q4
	smaller := d.by(newMachine(t, otherModel(t, server, makeWriter(t, "smaller", less)), 1))
	coarser := d.by(newMachine(t, otherModel(t, server, makeWriter(t, "coarser", coarse)), 1))
	short := func(r []media.Record) []media.Record { // it is said to be over
		for i := range r {
			text := r[i].Outputs["body"].Text
			text[0] = strings.ReplaceAll(text[0], `"length"`, `"stop"`)
		}
		return r
	}
	for _, more := range []string{`,"temperature":0`, `,"temperature":0,"stream":true`, `,"temperature":1,"seed":4`, `,"temperature":1,"seed":4,"stream":true,"stream_options":{"include_usage":true}`,
		`,"n":3,"seed":5`, `,"n":3,"seed":5,"stream":true`} {
		ask := func(content, more string) (job.Task, []byte) { return d.ask(chatOf(content, more)) }
		task, given := ask("about the forest", more)
		other, otherGiven := ask("about the harbor", more)
		less, lessGiven := ask("about the forest", more+`,"max_tokens":20`)
		greedy := strings.Contains(more, `"temperature":0`)
		streams := strings.Contains(more, `"stream":true`)
		claims := map[string][]media.Record{
			"smaller":        smaller.answers(task, given),
			"coarser":        coarser.answers(task, given),
			"another prompt": d.answers(other, otherGiven),
			"shorter":        d.answers(less, lessGiven),
			"over":           short(d.answers(less, lessGiven)),
		}
		for name, claim := range claims {
			v := d.verdict(task, given, claim)
			t.Logf("%s, %s: %s: %s %v", more, name, v.Ruling, v.Reason, v.Numbers)
			want := job.Rejected
			if name == "over" && streams && !greedy {
				want = job.Unsure // of what a temperature draws, that it ends is no proof
			}
			if v.Ruling != want {
				t.Errorf("%s, %s: %s: %s", more, name, v.Ruling, v.Reason)
			}
		}
		if !strings.Contains(more, `"n":3`) {
			continue
		}
		// One choice of them is another model's, in all of its parts.
		honest, cheat := d.answers(task, given)[0], claims["smaller"][0]
		for choice := range 3 {
			mixed := media.Record{Item: honest.Item, ID: honest.ID, Outputs: map[string]media.Tensor{}}
			var body, theirs struct {
				Choices []json.RawMessage `json:"choices"`
				Usage   map[string]any    `json:"usage"`
			}
			if err := json.Unmarshal([]byte(honest.Outputs["body"].Text[0]), &body); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(cheat.Outputs["body"].Text[0]), &theirs); err != nil {
				t.Fatal(err)
			}
			body.Choices[choice] = theirs.Choices[choice]
			tokens := 0
			for i := range 3 {
				of := honest
				if i == choice {
					of = cheat
				}
				w, err := media.WritingOf(of, i)
				if err != nil {
					t.Fatal(err)
				}
				w.Put(mixed.Outputs, i)
				tokens += len(w.Tokens)
			}
			if body.Usage["completion_tokens"] != nil {
				body.Usage["completion_tokens"] = tokens
			}
			b, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			mixed.Outputs["body"] = media.Tensor{Text: []string{string(b)}}
			v := d.verdict(task, given, []media.Record{mixed})
			says := fmt.Sprintf("choice %d", choice)
			if v.Ruling != job.Rejected || choice > 0 && !strings.Contains(v.Reason, says) {
				t.Errorf("%s, %s: %s: %s", more, says, v.Ruling, v.Reason)
			}
		}
		// All choices are the first: their tokens are not their texts', or were not drawn.
		missing := honest
		missing.Outputs = map[string]media.Tensor{"body": honest.Outputs["body"]}
		v := d.verdict(task, given, []media.Record{missing})
		if want := map[bool]job.Ruling{true: job.Accepted, false: job.Rejected}[streams]; v.Ruling != want {
			t.Errorf("%s, without commitments: %s: %s", more, v.Ruling, v.Reason)
		}
	}
	// Each of two has the other's answer.
	task, given := d.ask(chatOf("about the forest", `,"temperature":0`), chatOf("about the harbor", `,"temperature":0`))
	claims := d.answers(task, given)
	claims[0].Outputs, claims[1].Outputs = claims[1].Outputs, claims[0].Outputs
	if v := d.verdict(task, given, claims); v.Ruling != job.Rejected {
		t.Errorf("answers of others: %s: %s", v.Ruling, v.Reason)
	}
	// A stream that says that it could not be committed to is written again, and is
	// never rejected for its words.
	task, given = d.ask(chatOf("about the forest", `,"temperature":1,"seed":4,"stream":true`))
	for name, m := range map[string]atDoor{"smaller": smaller, "honest": d} {
		claims := m.answers(task, given)
		claims[0] = claims[0].WithoutWriting()
		want := map[string]job.Ruling{"smaller": job.Unsure, "honest": job.Accepted}[name]
		if v := d.verdict(task, given, claims); v.Ruling != want || v.Numbers["places"] != 0 {
			t.Errorf("%s, without commitments: %s: %s %v", name, v.Ruling, v.Reason, v.Numbers)
		}
	}
}

// shapes are the fields that there are in some JSON, and the values of those named.
func shapes(t *testing.T, raw string, keep ...string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	var walk func(name string, v any) any
	walk = func(name string, v any) any {
		switch x := v.(type) {
		case map[string]any:
			for k := range x {
				x[k] = walk(k, x[k])
			}
		case []any:
			for i := range x {
				x[i] = walk(name, x[i])
			}
		case string, float64:
			if !slices.Contains(keep, name) {
				return fmt.Sprintf("%T", v)
			}
		}
		return v
	}
	b, err := json.Marshal(walk("", v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTheDoorShowsNoCommitments: an answer of a member, which is committed to, looks
// as one of this machine, which is not, in every field.
func TestTheDoorShowsNoCommitments(t *testing.T) {
	server := llmServer(t)
	use := func(c *Config) { c.LLM.Server, c.Worker.Threads, c.Worker.HomeThreads = server, 1, 1 }
	desk, other := startNode(t, "desk", use), startNode(t, "other", use)
	addWriter(t, desk.cfg)
	join(t, desk, other)
	eventually(t, "it is connected", func() error {
		if len(desk.near()) < 1 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	d := doorOf(t, desk)
	own := desk.asker.places
	asked := func(p places, body string) []string {
		desk.asker.mu.Lock()
		desk.asker.places = p
		desk.asker.mu.Unlock()
		status, text := d.post("/v1/chat/completions", body)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		var out []string
		for line := range strings.Lines(text) {
			data := strings.TrimPrefix(strings.TrimSpace(line), "data: ")
			if strings.Contains(data, "__verbose") || strings.Contains(data, "written") || strings.Contains(data, "committed") {
				t.Errorf("%s: %s", body, data)
			}
			if strings.HasPrefix(data, "{") {
				data = shapes(t, data, "content", "finish_reason", "index", "prompt_tokens", "completion_tokens", "total_tokens", "token", "role")
			}
			out = append(out, data)
		}
		return out
	}
	for _, more := range []string{
		`,"temperature":0`, `,"temperature":0,"logprobs":true,"top_logprobs":2`, `,"temperature":0,"logprobs":true,"top_logprobs":6`,
		`,"temperature":0,"stream":true`, `,"temperature":0,"stream":true,"logprobs":true,"top_logprobs":2`,
		`,"temperature":1,"seed":3,"stream":true,"stream_options":{"include_usage":true}`,
	} {
		here, there := asked(own, chatRequest(more)), asked(otherFirst{own}, chatRequest(more))
		if !slices.Equal(here, there) {
			t.Errorf("%s:\n%s\nand by a member\n%s", more, strings.Join(here, "\n"), strings.Join(there, "\n"))
		}
	}
	// Of several choices each is there, and usage counts all of them.
	status, text := d.post("/v1/chat/completions", chatRequest(`,"n":3,"seed":7,"ignore_eos":true`))
	var a struct {
		Choices []struct {
			Index   int
			Message struct{ Content string }
		}
		Usage struct {
			Prompt    int `json:"prompt_tokens"`
			Completed int `json:"completion_tokens"`
			Total     int `json:"total_tokens"`
		}
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil || status != http.StatusOK || len(a.Choices) != 3 || a.Choices[2].Index != 2 ||
		a.Choices[0].Message == a.Choices[1].Message || a.Usage.Completed != 3*24 || a.Usage.Total != a.Usage.Prompt+3*24 {
		t.Errorf("%d %s %v", status, text, err)
	}
	// By its own seed it begins as it does there; a hair of difference may end that.
	one := d.chat(`,"seed":8,"ignore_eos":true`).Choices[0].Message.Content
	if second := a.Choices[1].Message.Content; one[:8] != second[:min(8, len(second))] {
		t.Errorf("the second choice is %q, and %q by its own seed", second, one)
	}
}

// TestAFarmReadsAnswersAtTheDoor: what members answered at the door is read, and one
// that runs a smaller model is found out.
func TestAFarmReadsAnswersAtTheDoor(t *testing.T) {
	server := llmServer(t)
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: the cheat is a shell script")
	}
	model := makeWriter(t, "words", agreed)
	less := agreed
	less.Layers = 3
	use := func(s string) func(*Config) {
		return func(c *Config) { c.LLM.Server, c.Worker.Threads, c.Worker.HomeThreads = s, 1, 1 }
	}
	desk := startNode(t, "desk", use(server))
	honest := startNode(t, "honest", use(server))
	cheat := startNode(t, "cheat", use(otherModel(t, server, makeWriter(t, "smaller", less))))
	if _, err := AddModel(desk.cfg, model, ""); err != nil {
		t.Fatal(err)
	}
	join(t, desk, honest, cheat)
	eventually(t, "both are connected", func() error {
		if n := len(desk.near()); n != 2 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	d := doorOf(t, desk)
	own := desk.asker.places
	for _, c := range []struct {
		by   peer.ID
		more string
		want job.Ruling
	}{
		{honest.self, `,"temperature":0`, job.Accepted},
		{honest.self, `,"temperature":1,"seed":3,"stream":true`, job.Accepted},
		{honest.self, `,"temperature":1,"seed":4,"n":3`, job.Accepted},
		{cheat.self, `,"temperature":1,"seed":5,"stream":true`, job.Rejected},
	} {
		desk.asker.mu.Lock()
		desk.asker.places = onlyOne{own, c.by}
		desk.asker.mu.Unlock()
		status, text := d.post("/v1/chat/completions", chatOf("about the forest", c.more))
		_, after, ok := strings.Cut(text, `"answer":"`)
		name, _, _ := strings.Cut(after, `"`)
		if status != http.StatusOK || !ok {
			t.Fatalf("%d %s", status, text)
		}
		var v localapi.AnswerVerdict
		eventually(t, "the answer is judged", func() error {
			if v, _ = desk.asker.Verdict(name); v.Verdict == "unverified" || v.Verdict == "" {
				return fmt.Errorf("%+v", v)
			}
			return nil
		})
		t.Logf("%s: %+v", c.more, v)
		if v.Verdict != string(c.want) || v.Worker != c.by.String() || c.want == job.Accepted && !strings.Contains(v.Reason, "read again") {
			t.Errorf("%s: %+v", c.more, v)
		}
	}
	if s := desk.book.Score(honest.self); s.Accepted == 0 || s.Rejected != 0 {
		t.Errorf("%+v", s)
	}
	if s := desk.book.Score(cheat.self); s.Rejected != 1 {
		t.Errorf("%+v", s)
	}
}

// onlyOne has one machine answer.
type onlyOne struct {
	places
	one peer.ID
}

func (o onlyOne) list() []peer.ID { return []peer.ID{o.one} }
