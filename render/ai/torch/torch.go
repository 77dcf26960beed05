// Package torch runs PyTorch models by pipelines that ship with this program:
// text embedding, text generation, pictures of words, transcription and depth.
//
// ReadFolder looks at a model's folder and refuses what is more than data. Find
// finds a Python with the libraries, Start starts the program in runner/ with
// it, and Process.Do hands that one frame and returns its answer.
package torch

import (
	"bufio"
	"context"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"idlewild/internal/tail"
)

//go:embed runner/*.py
var runner embed.FS

// ErrNone is matched where there is no Python with the libraries.
var ErrNone = errors.New("no PyTorch is installed for pipelines; add it with: idlewild runtime add torch")

// Python is an interpreter that has the libraries.
type Python struct {
	Path string
	// Folders are those that it needs to run.
	Folders []string
}

// Executable is the interpreter of an environment.
func Executable(environment string) string {
	if runtime.GOOS == "windows" {
		return filepath.Join(environment, "Scripts", "python.exe")
	}
	return filepath.Join(environment, "bin", "python")
}

// Find returns the Python that is named, an interpreter or an environment's folder,
// else that of the newest of the environments.
func Find(ctx context.Context, named string, environments ...string) (Python, error) {
	path := named
	if named == "" {
		for i := len(environments) - 1; i >= 0 && path == ""; i-- {
			if file := Executable(environments[i]); isFile(file) {
				path = file
			}
		}
		if path == "" {
			return Python{}, ErrNone
		}
	} else {
		fi, err := os.Stat(named)
		if err != nil {
			return Python{}, fmt.Errorf("torch.python: %w", err)
		}
		if fi.IsDir() {
			path = Executable(named)
		}
		if !isFile(path) {
			return Python{}, fmt.Errorf("torch.python: there is no Python in %s", named)
		}
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return Python{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-I", "-c", "import sys, json; print(json.dumps([sys.prefix, sys.base_prefix, sys.version_info[:2]]))")
	cmd.Env = environment("", 0)
	out, err := cmd.Output()
	var said []json.RawMessage
	var prefix, base string
	var version [2]int
	if err == nil {
		if err = json.Unmarshal(out, &said); err == nil && len(said) == 3 {
			err = errors.Join(json.Unmarshal(said[0], &prefix), json.Unmarshal(said[1], &base), json.Unmarshal(said[2], &version))
		}
	}
	if err != nil {
		return Python{}, fmt.Errorf("%s does not run: %w", path, err)
	}
	if version[0] != 3 || version[1] < 10 {
		return Python{}, fmt.Errorf("%s is Python %d.%d, and 3.10 is the oldest that will do", path, version[0], version[1])
	}
	p := Python{Path: path}
	for _, dir := range []string{prefix, base} {
		if dir != "" && dir != "/usr" && (len(p.Folders) == 0 || p.Folders[0] != dir) {
			p.Folders = append(p.Folders, dir)
		}
	}
	return p, nil
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular()
}

// environment is all that the program is given of one: nothing is fetched, and
// nothing of this user's is read.
func environment(home string, threads int) []string {
	env := []string{
		"HF_HUB_OFFLINE=1", "TRANSFORMERS_OFFLINE=1", "HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_PROGRESS_BARS=1", "DO_NOT_TRACK=1",
		"USE_TF=0", "USE_FLAX=0", "TOKENIZERS_PARALLELISM=false", "PYTHONDONTWRITEBYTECODE=1", "CUBLAS_WORKSPACE_CONFIG=:4096:8",
		"HOME=" + home, "HF_HOME=" + home, "TMPDIR=" + os.TempDir(), "LC_ALL=C.UTF-8",
	}
	if threads > 0 {
		n := strconv.Itoa(threads)
		env = append(env, "OMP_NUM_THREADS="+n, "MKL_NUM_THREADS="+n)
	}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "SYSTEMROOT"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// Options of Start.
type Options struct {
	Python  string
	Dir     string // where the program is put
	Threads int    // 0: all
	Log     io.Writer
}

// Process is a running program: it answers one frame at a time.
type Process struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	tail *tail.Writer
}

// Start starts the program. It loads nothing yet.
func Start(o Options) (*Process, error) {
	files, err := runner.ReadDir("runner")
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := runner.ReadFile("runner/" + f.Name())
		if err == nil {
			err = os.WriteFile(filepath.Join(o.Dir, f.Name()), b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	p := &Process{tail: &tail.Writer{To: o.Log}}
	// Isolated, so that neither the environment nor the folder adds modules; the
	// program's own folder is added by hand.
	start := "import sys, runpy; sys.path.insert(0, sys.argv[1]); runpy.run_path(sys.argv[1] + '/main.py', run_name='__main__')"
	p.cmd = exec.Command(o.Python, "-I", "-B", "-X", "utf8", "-c", start, o.Dir)
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = o.Dir, environment(o.Dir, o.Threads), p.tail
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 1<<16)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, nil
}

// Close ends the process.
func (p *Process) Close() {
	_ = p.cmd.Process.Kill() // it may be gone already
	_ = p.cmd.Wait()         // what it said is in the tail
}

// Bounds of a frame.
const (
	maxFrame = 64 << 20
	maxBlobs = 1 << 30
)

// Said is an answer of the program.
type Said struct {
	Error    string   `json:"error"`
	Build    string   `json:"build"`   // of the libraries
	Devices  []string `json:"devices"` // on which they work: "cpu", "gpu"
	Device   string   `json:"device"`  // on which the model is
	Echo     string   `json:"echo"`
	Results  []Result `json:"results"`
	Progress *float64 `json:"progress"`
	Lengths  []int    `json:"blobs"`

	blobs [][]byte
}

// Result is what came of one item.
type Result struct {
	Error   string           `json:"error"`
	Outputs map[string]Value `json:"outputs"`
}

// Value is one output: numbers in Blob, or Text.
type Value struct {
	Shape []int           `json:"shape"`
	Blob  int             `json:"blob"`
	Text  json.RawMessage `json:"text"`
}

// Texts are an output of texts.
func (v Value) Texts() ([]string, error) {
	var many []string
	if err := json.Unmarshal(v.Text, &many); err == nil {
		return many, nil
	}
	var one string
	err := json.Unmarshal(v.Text, &one)
	return []string{one}, err
}

// Numbers are an output of numbers.
func (s *Said) Numbers(v Value) ([]float32, error) {
	n := 1
	for _, d := range v.Shape {
		if d < 0 || d > maxBlobs || n*d > maxBlobs {
			return nil, fmt.Errorf("an output of the shape %v", v.Shape)
		}
		n *= d
	}
	if v.Blob < 0 || v.Blob >= len(s.blobs) || len(s.blobs[v.Blob]) != 4*n {
		return nil, fmt.Errorf("an output of the shape %v without its numbers", v.Shape)
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(s.blobs[v.Blob][4*i:]))
		if f := float64(out[i]); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, errors.New("an output that holds what is no number")
		}
	}
	return out, nil
}

// AskedError is what the program says is wrong with what it was asked. The
// process goes on.
type AskedError struct{ Reason string }

func (e *AskedError) Error() string { return e.Reason }

// Do hands the program one frame and returns its answer; progress hears how far
// it is, from 0 to 1. After an error that is no AskedError the process is of no
// use any more.
func (p *Process) Do(head map[string]any, blobs [][]byte, progress func(float64)) (*Said, error) {
	lengths := make([]int, len(blobs))
	for i, b := range blobs {
		lengths[i] = len(b)
	}
	head["blobs"] = lengths
	text, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	if err := p.send(text, blobs); err != nil {
		return nil, p.died(err)
	}
	for {
		s, err := p.receive()
		switch {
		case err != nil:
			return nil, p.died(err)
		case s.Progress != nil:
			progress(min(max(*s.Progress, 0), 1))
		case s.Error != "":
			return nil, &AskedError{s.Error}
		default:
			return s, nil
		}
	}
}

func (p *Process) send(text []byte, blobs [][]byte) error {
	w := bufio.NewWriterSize(p.in, 1<<16)
	w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
	w.Write(text)
	for _, b := range blobs {
		w.Write(b)
	}
	return w.Flush()
}

func (p *Process) receive() (*Said, error) {
	var length [4]byte
	if _, err := io.ReadFull(p.out, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(p.out, text); err != nil {
		return nil, err
	}
	s := &Said{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	total := 0
	for _, k := range s.Lengths {
		if k < 0 || k > maxBlobs-total {
			return nil, errors.New("blobs of impossible lengths")
		}
		total += k
		b := make([]byte, k)
		if _, err := io.ReadFull(p.out, b); err != nil {
			return nil, err
		}
		s.blobs = append(s.blobs, b)
	}
	return s, nil
}

// died says what the process said last.
func (p *Process) died(err error) error {
	p.Close()
	if said := lastLine(p.tail.Bytes()); said != "" {
		return fmt.Errorf("PyTorch's process ended: %s", said)
	}
	return fmt.Errorf("PyTorch's process ended: %w", err)
}

// Look asks the Python which libraries it has and on what they work.
func Look(o Options) (build string, devices []string, err error) {
	p, err := Start(o)
	if err != nil {
		return "", nil, err
	}
	defer p.Close()
	s, err := p.Do(map[string]any{"op": "look"}, nil, func(float64) {})
	if err != nil {
		return "", nil, err
	}
	return s.Build, s.Devices, nil
}

// lastLine is the last line that is not empty.
func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
