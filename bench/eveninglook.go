package main

import (
	_ "embed"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"idlewild/render/ai/onnxtest"
)

//go:embed evening_openai.py
var eveningOpenAI []byte

// eveningEmbedder is the model of the batch: that of the benchmark of the door.
func eveningEmbedder() []byte { return onnxtest.Embedder(1, doorVocab, doorWidth) }

// pngSize is that of a picture which is there in whole.
func pngSize(file string) (w, h int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		return 0, 0, err
	}
	return m.Bounds().Dx(), m.Bounds().Dy(), nil
}

// peak is the most memory that a process had, and when.
type peak struct {
	bytes float64
	phase string
}

// weigh takes in the most memory that each daemon had in the phase that ends.
func (e *evening) weigh() error {
	var all []string
	for _, d := range e.nodes {
		now, err := highWater(d.cmd.Process.Pid)
		if err != nil {
			return err
		}
		if now > e.peaks[d].bytes {
			e.peaks[d] = peak{now, e.phase}
		}
		all = append(all, fmt.Sprintf("%s %.0f", d.name, now/1e6))
	}
	e.say("most memory of the daemons, MB: %s", strings.Join(all, ", "))
	return nil
}

// highWater is the most memory that a process had since it was asked last, in
// bytes.
func highWater(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	// 5 begins a new high-water mark (proc(5)).
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 64)
			return 1024 * kb, err
		}
	}
	return 0, fmt.Errorf("process %d says nothing of its memory", pid)
}

// troubleLine is what a daemon writes where somebody must act, or where it fell
// over.
var troubleLine = regexp.MustCompile(`level=ERROR|^panic:|^fatal error:|DATA RACE`)

// errorsInLogs are the lines of the daemons' logs that tell of errors.
func (e *evening) errorsInLogs() (out []string, err error) {
	for _, d := range e.nodes {
		b, err := os.ReadFile(filepath.Join(e.dir, d.name+".log"))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			if troubleLine.MatchString(line) {
				out = append(out, d.name+": "+strings.TrimSpace(line)[:min(300, len(strings.TrimSpace(line)))])
			}
		}
	}
	return out, nil
}
