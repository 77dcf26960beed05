package ai

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"idlewild/job"
	"idlewild/render/ai/llm"
)

// Where llama.cpp's server crashes cannot be asked of a real one, so this
// program plays it: started under that name it answers each request by what
// the message says.
func init() {
	if filepath.Base(os.Args[0]) != llm.Program {
		return
	}
	at := os.Args[slices.Index(os.Args, "--host")+1]
	l, err := net.Listen("unix", at)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	told := func(what string) bool { // has this happened in a server before?
		err := os.Mkdir(what, 0o700)
		return err != nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST "+Chat, func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Messages []struct{ Content string }
			Stream   bool
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		what := q.Messages[0].Content
		if what == "poison" || what == "a" && told("ill") && os.Getenv("PLAY") == "ill" {
			fmt.Println("error: it is poison")
			os.Exit(1)
		}
		if !q.Stream {
			_, _ = fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":%q}}]}`, "of "+what)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i, word := range strings.Fields(what) {
			if (word == "once" || i == 2 && word == "differs") && !told(word) {
				_ = http.NewResponseController(w).Flush()
				os.Exit(1)
			}
			if _, err := os.Stat(word); err == nil && word == "differs" {
				word = "otherwise"
			}
			_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", word+" ")
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	_ = http.Serve(l, mux)
	os.Exit(0)
}

func playedWriter(t *testing.T) (w *writer, started *int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Chdir(dir)
	program := filepath.Join(dir, llm.Program)
	if err := os.Symlink(exe, program); err != nil {
		t.Skip("NOT RUN: no links here: ", err)
	}
	started = new(int)
	w = &writer{endpoint: Chat}
	w.fresh = func() (s *llm.Server, err error) {
		if w.server != nil {
			w.server.Close()
		}
		*started++
		w.server, err = llm.Start(t.Context(), llm.Options{Server: program, Dir: dir, Parallel: 4})
		return w.server, err
	}
	if _, err := w.fresh(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.server.Close() })
	return w, started
}

func chats(stream bool, of ...string) (out []query) {
	for i, text := range of {
		message, _ := json.Marshal([]map[string]string{{"role": "user", "content": text}})
		q := query{number: i, stream: stream, body: map[string]json.RawMessage{"messages": message}}
		if stream {
			q.body["stream"] = json.RawMessage("true")
		}
		out = append(out, q)
	}
	return out
}

func silent(int, []byte) {}

func TestAServerThatCrashesCostsOneAnswer(t *testing.T) {
	w, started := playedWriter(t)
	records, err := w.answer(chats(false, "one", "poison", "two", "poison", "three"), silent)
	if err != nil {
		t.Fatal(err)
	}
	for i, bad := range []bool{false, true, false, true, false} {
		if (records[i].Error != "") != bad || bad && !strings.Contains(records[i].Error, "poison") || bad == (records[i].Outputs != nil) {
			t.Errorf("%d: %+v", i, records[i])
		}
	}
	// The first, one after its end, and one after each end of a request's own
	// that something came after.
	if *started > 4 {
		t.Errorf("%d servers for two requests that end one", *started)
	}
	if records, err = w.answer(chats(false, "four"), silent); *started > 5 {
		t.Errorf("%d servers, %v %v", *started, records, err)
	}
}

// TestNothingButPoison: a machine on which a harmless request is answered is
// not to blame.
func TestNothingButPoison(t *testing.T) {
	w, _ := playedWriter(t)
	records, err := w.answer(chats(false, "poison"), silent)
	if err != nil || records[0].Error == "" {
		t.Errorf("%+v %v", records, err)
	}
}

func TestAMachineThatIsIllIsBroken(t *testing.T) {
	t.Setenv("PLAY", "ill")
	w, _ := playedWriter(t)
	if err := os.Mkdir("ill", 0o700); err != nil {
		t.Fatal(err)
	}
	records, err := w.answer(chats(false, "poison", "a"), silent)
	if x, ok := err.(trouble); !ok || x.outcome != job.Broken {
		t.Errorf("%+v %v", records, err)
	}
}

// TestAStreamGoesOnAfterACrash: who listens hears each word once.
func TestAStreamGoesOnAfterACrash(t *testing.T) {
	w, started := playedWriter(t)
	var heard gathered
	records, err := w.answer(chats(true, "it was told once and again"), func(_ int, chunk []byte) { heard.add(chunk) })
	if err != nil || records[0].Error != "" || len(heard.choices) != 1 {
		t.Fatalf("%+v %v", records, err)
	}
	if said := heard.choices[0].Message.Content; said != "it was told once and again " || *started != 2 {
		t.Errorf("%q, %d servers", said, *started)
	}
	w, _ = playedWriter(t)
	if _, err := w.answer(chats(true, "differs is differs"), silent); err == nil {
		t.Error("an answer that begins otherwise the second time was taken for the same")
	} else if x, ok := err.(trouble); !ok || x.outcome != job.Broken {
		t.Error(err)
	}
}

func TestAServerThatCannotBeStartedAgain(t *testing.T) {
	w, _ := playedWriter(t)
	first := w.server
	t.Cleanup(func() { w.server = first })
	w.fresh = func() (*llm.Server, error) { return nil, trouble{job.Broken, context.DeadlineExceeded} }
	if _, err := w.answer(chats(false, "one", "poison"), silent); err == nil {
		t.Error("no error")
	}
}
