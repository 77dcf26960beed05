package echo

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"idlewild/job"
	"idlewild/render/gorunner"
)

// request is one line on the runner's standard input.
type request struct {
	Params Params   `json:"params"`
	Device string   `json:"device"` // its type: a slot may have any name
	In     string   `json:"in"`
	Prior  []string `json:"prior,omitempty"`
	Out    string   `json:"out"`
}

// RunnerMain never returns where the environment says that this process is
// the echo runner; else it does nothing. Every program that gives its own
// path to New calls it first in main.
func RunnerMain() { gorunner.Main(string(Name), answer) }

// answer does what the request asks for.
func answer(asked gorunner.Request) gorunner.Answer {
	var r request
	if err := json.Unmarshal(asked.JSON, &r); err != nil {
		return gorunner.Answer{Outcome: job.Failed, Reason: err.Error()}
	}
	done := gorunner.Answer{Device: r.Device, Build: "echo " + version}
	fmt.Fprintf(asked.Log, "echo %d\n", r.Params.Index)
	switch r.Params.Fail {
	case "failed", "broken":
		done.Outcome, done.Reason = job.Outcome(r.Params.Fail), "the parameters asked for it"
		return done
	case "crash":
		fmt.Fprintln(asked.Log, "crashing, as the parameters ask for")
		os.Exit(7)
	case "nodone":
		os.Exit(0)
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	}
	r.spend(asked.Progress)
	if err := r.write(); err != nil {
		done.Outcome, done.Reason = job.Broken, err.Error()
	}
	return done
}

// spend uses up the time that the parameters ask for, and says how far it is.
func (r request) spend(progress func(phase string, fraction float64)) {
	total := time.Duration(r.Params.SleepMS+r.Params.CPUMS) * time.Millisecond
	start := time.Now()
	step := max(total/20, 20*time.Millisecond)
	report := func() {
		progress("rendering", min(time.Since(start).Seconds()/max(total.Seconds(), 1e-9), 1))
	}
	for left := time.Duration(r.Params.SleepMS) * time.Millisecond; left > 0; left -= step {
		time.Sleep(min(left, step))
		report()
	}
	sum := [32]byte{}
	for left := time.Duration(r.Params.CPUMS) * time.Millisecond; left > 0; left -= step {
		for from := time.Now(); time.Since(from) < min(left, step); {
			for range 1000 {
				sum = sha256.Sum256(sum[:])
			}
		}
		report()
	}
}

// write writes the output: the text, what was read, and noise up to the size
// asked for, all of it determined by the task.
func (r request) write() (err error) {
	f, err := os.Create(filepath.Join(r.Out, outName))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	w := &counter{w: bufio.NewWriterSize(f, 64<<10)}
	fmt.Fprintf(w, "%s %d\n", r.Params.Text, r.Params.Index)
	if err := list(w, "in", r.In); err != nil {
		return err
	}
	for i, dir := range r.Prior {
		if err := list(w, fmt.Sprintf("prior/%d", i), dir); err != nil {
			return err
		}
	}
	if left := r.Params.Bytes - w.n; left > 0 {
		seed := sha256.Sum256(fmt.Appendf(nil, "%d %s", r.Params.Index, r.Params.Text))
		if _, err := io.CopyN(w, rand.NewChaCha8(seed), left); err != nil {
			return err
		}
	}
	return w.w.Flush()
}

// list writes name and hash of each file below dir, in the order of names.
func list(w io.Writer, prefix, dir string) error {
	if dir == "" {
		return nil
	}
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s/%s %x\n", prefix, filepath.ToSlash(rel), h.Sum(nil))
		return err
	})
}

// counter counts what is written.
type counter struct {
	w *bufio.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
