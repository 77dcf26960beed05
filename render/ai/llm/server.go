// Package llm runs language models in the GGUF format with llama.cpp's server,
// which is nowhere else.
//
// Find finds the server, Start starts it for one model on a unix socket that
// nobody else sees, and Server.Do hands it one request as OpenAI's API has them.
// Package internal/gguf reads the models.
package llm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"idlewild/internal/tail"
)

// Program is what the server is called.
const Program = "llama-server"

// ErrNoServer is matched where there is none on this machine.
var ErrNoServer = errors.New("no " + Program + " is installed; add it with: idlewild runtime add llm")

// Find returns the server's absolute path: the one that is named, else the newest
// of the folders, else that of PATH.
func Find(named string, folders ...string) (string, error) {
	name := Program
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	if named != "" {
		if fi, err := os.Stat(named); err != nil {
			return "", fmt.Errorf("llm.server: %w", err)
		} else if fi.IsDir() {
			named = filepath.Join(named, name)
		}
		if _, err := exec.LookPath(named); err != nil {
			return "", fmt.Errorf("llm.server: %w", err)
		}
		return filepath.Abs(named)
	}
	for i := len(folders) - 1; i >= 0; i-- {
		file := filepath.Join(folders[i], name)
		if _, err := exec.LookPath(file); err == nil {
			return filepath.Abs(file)
		}
	}
	if found, err := exec.LookPath(name); err == nil {
		return filepath.Abs(found)
	}
	return "", ErrNoServer
}

// Version asks a server which it is.
func Version(ctx context.Context, server string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, server, "--version")
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w: %s", server, err, lastLine(out))
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "version: "); ok {
			return v, nil
		}
	}
	return "", fmt.Errorf("%s does not say its version: %s", server, lastLine(out))
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// Options of Start.
type Options struct {
	Server  string
	Model   string
	Dir     string // of the socket; the process must be in it, because paths of sockets are short
	Threads int    // 0: all
	// Embeddings: it embeds; else it writes.
	Embeddings bool
	// Mean: a text's embedding is the mean of its tokens', because the model does
	// not say otherwise.
	Mean bool
	// Template is that of chats, in Jinja; "": the model's own.
	Template string
	Context  int // tokens of one request
	Parallel int // requests at once
	Log      io.Writer
}

// Server is a running one.
type Server struct {
	cmd    *exec.Cmd
	dir    string
	client *http.Client
	exited chan struct{}
	tail   *tail.Writer
}

// Files in Options.Dir.
const (
	socket   = "llm.sock"
	template = "chat.jinja"
)

// settled are settings that a server which does not know them passes over.
//
// Weights stay as they lie in the file. Laid out anew for a processor they are
// multiplied by its AMX unit, and a virtual machine may report one that it lets
// nobody use: the server then ends with an illegal instruction.
//
// Flash attention is off, because with it the number of threads says in which order
// is summed: an answer that is read again elsewhere would differ by more.
//
// The time zone is the same everywhere: a template that writes today's date makes
// the same prompt of a request here and where the answer is read again, but for
// one that is read on another day.
var settled = []string{"LLAMA_ARG_REPACK=0", "LLAMA_ARG_FLASH_ATTN=off", "TZ=UTC"}

// Start starts a server and returns once it has loaded the model. An error says
// what the server said.
func Start(ctx context.Context, o Options) (*Server, error) {
	args := []string{
		"--model", o.Model, "--host", socket, "--parallel", strconv.Itoa(o.Parallel),
		"--ctx-size", strconv.Itoa(o.Context * o.Parallel), "--no-webui", "--offline", "--no-slots",
		"--n-gpu-layers", "0", // nothing here could tell afterwards which device did the work
	}
	if o.Template != "" {
		if err := os.WriteFile(filepath.Join(o.Dir, template), []byte(o.Template), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--jinja", "--chat-template-file", template)
	}
	if o.Threads > 0 {
		args = append(args, "--threads", strconv.Itoa(o.Threads), "--threads-batch", strconv.Itoa(o.Threads))
	}
	if !o.Embeddings {
		args = append(args, "--slot-save-path", ".")
	}
	if o.Embeddings {
		// A text is embedded in one piece.
		n := strconv.Itoa(o.Context)
		args = append(args, "--embeddings", "--batch-size", n, "--ubatch-size", n)
		if o.Mean {
			args = append(args, "--pooling", "mean")
		}
	}
	if err := os.Remove(filepath.Join(o.Dir, socket)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	s := &Server{dir: o.Dir, exited: make(chan struct{}), tail: &tail.Writer{To: o.Log}}
	s.cmd = exec.Command(o.Server, args...)
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = o.Dir, s.tail, s.tail
	s.cmd.Env = append(os.Environ(), settled...)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // what it said is in the tail
		close(s.exited)
	}()
	s.client = &http.Client{Transport: &http.Transport{
		// A connection that is kept may be one that the server is about to close,
		// and a request is not sent twice.
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	if err := s.ready(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// ready waits until the model is loaded.
func (s *Server) ready(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := s.client.Get("http://llm/health"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-s.exited:
			return fmt.Errorf("llama.cpp does not load the model: %s", trouble(s.tail.Bytes()))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// Alive reports whether the process runs.
func (s *Server) Alive() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

// Close ends the process.
func (s *Server) Close() {
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.exited
}

// MaxAnswer bounds an answer.
const MaxAnswer = 64 << 20

// Do hands the server one request. Of a streamed answer each event's JSON goes to
// chunk, and no body is returned. A status other than 200 comes with the
// server's own words.
func (s *Server) Do(ctx context.Context, path string, body []byte, chunk func(json []byte)) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://llm"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	r, err := s.client.Do(req)
	if err != nil {
		return 0, nil, s.died(err)
	}
	defer r.Body.Close()
	in := io.LimitReader(r.Body, MaxAnswer+1)
	if !strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
		if answer, err = io.ReadAll(in); err != nil {
			return 0, nil, s.died(err)
		}
		if len(answer) > MaxAnswer {
			return 0, nil, fmt.Errorf("an answer of more than %d bytes", MaxAnswer)
		}
		return r.StatusCode, answer, nil
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	ended := false
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			if e, bad := bytes.CutPrefix(lines.Bytes(), []byte("error:")); bad {
				return http.StatusInternalServerError, bytes.Clone(e), nil
			}
			continue
		}
		if data = bytes.TrimSpace(data); string(data) == "[DONE]" {
			ended = true
			break
		}
		var e struct {
			Error json.RawMessage `json:"error"`
		}
		if json.Unmarshal(data, &e) == nil && len(e.Error) > 0 {
			return http.StatusInternalServerError, bytes.Clone(data), nil
		}
		chunk(bytes.Clone(data))
	}
	if err := lines.Err(); err != nil {
		return 0, nil, s.died(err)
	}
	if !ended {
		return 0, nil, s.died(errors.New("the answer ends in the middle"))
	}
	return r.StatusCode, nil, nil
}

func (s *Server) died(err error) error {
	select {
	case <-s.exited:
		return fmt.Errorf("llama.cpp ended: %s", trouble(s.tail.Bytes()))
	case <-time.After(2 * time.Second): // it may be about to be noticed
		return err
	}
}

// trouble is the last line that speaks of an error, or the last one.
func trouble(said []byte) string {
	lines := strings.Split(strings.TrimSpace(string(said)), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		l := strings.ToLower(lines[i])
		if strings.Contains(l, "error") && !strings.Contains(l, "exiting due to") {
			return strings.TrimSpace(lines[i])
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
