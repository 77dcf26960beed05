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

// highWater is the most memory that a process had so far, in bytes.
func highWater(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
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
