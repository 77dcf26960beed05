package ai

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"idlewild/job"
	"idlewild/media"
)

// Bounds of what a job may bring.
const (
	maxItems     = 1 << 26
	maxPictures  = 1 << 17
	maxItemBytes = 16 << 20
	// manyChunks is what a batch is cut into at most, so that its plan stays
	// small however many items there are; fewBytes bounds one.
	manyChunks = 1024
	fewBytes   = 256 << 20
)

// chunk is a run of items in a file: what one task is given.
type chunk struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
	First  int   `json:"first"`
	Count  int   `json:"count"`
}

// chunker gathers items into chunks that are doubled whenever there are too
// many, so that one pass with bounded memory does.
type chunker struct {
	chunks []chunk
	least  int // items of a chunk, at least
	n      int
}

func (c *chunker) add(from, to int64) {
	c.n++
	if k := len(c.chunks); k > 0 {
		last := &c.chunks[k-1]
		if last.Count < c.least && to-last.Offset <= fewBytes {
			last.Count++
			last.Length = to - last.Offset
			return
		}
		if k >= 2*manyChunks {
			c.halve()
		}
	}
	c.chunks = append(c.chunks, chunk{Offset: from, Length: to - from, First: c.n, Count: 1})
}

// halve joins every two neighbours where that is not too much for one task.
func (c *chunker) halve() {
	c.least *= 2
	var out []chunk
	for _, x := range c.chunks {
		if k := len(out); k > 0 && out[k-1].Count+x.Count <= c.least && x.Offset+x.Length-out[k-1].Offset <= fewBytes {
			out[k-1].Count += x.Count
			out[k-1].Length = x.Offset + x.Length - out[k-1].Offset
			continue
		}
		out = append(out, x)
	}
	c.chunks = out
}

// scanJSONL finds the items of a JSONL file, one a line. Every line is looked
// at: one that is no JSON is named by its number.
func scanJSONL(ctx context.Context, file string, batch int) ([]chunk, int, error) {
	return scanLines(ctx, file, batch, func(int, []byte) error { return nil })
}

// scanLines finds the items and has each looked at.
func scanLines(ctx context.Context, file string, batch int, look func(line int, text []byte) error) ([]chunk, int, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	c := chunker{least: batch}
	var at int64
	r := bufio.NewReaderSize(f, 1<<20)
	for line := 1; ; line++ {
		b, err := readLine(r)
		if err != nil && err != io.EOF {
			return nil, 0, job.Refuse(fmt.Sprintf("%s line %d", filepath.Base(file), line), err.Error(), "make it shorter")
		}
		if n := len(b); n > 0 {
			text := bytes.TrimSpace(b)
			if line == 1 {
				text = bytes.TrimPrefix(text, []byte("\ufeff"))
			}
			if len(text) > 0 {
				if !utf8.Valid(text) || !json.Valid(text) {
					return nil, 0, job.Refuse(fmt.Sprintf("%s line %d", filepath.Base(file), line), "is not JSON: "+jsonTrouble(text), "mend or remove it")
				}
				if err := look(line, text); err != nil {
					return nil, 0, err
				}
				if c.add(at, at+int64(n)); c.n > maxItems {
					return nil, 0, tooMany(file)
				}
			}
			at += int64(n)
		}
		if err == io.EOF {
			return c.chunks, c.n, nil
		}
		if line%4096 == 0 && ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
	}
}

func tooMany(file string) error {
	return job.Refuse(filepath.Base(file), fmt.Sprintf("it has more than %d items", maxItems), "submit it in several jobs")
}

func jsonTrouble(b []byte) string {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err.Error()
	}
	return "it is no UTF-8"
}

// readLine is one line with its end, of bounded length. What it returns is
// valid until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	b, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return b, err
	}
	long := append([]byte(nil), b...)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxItemBytes {
			return nil, fmt.Errorf("an item of more than %d MiB", maxItemBytes>>20)
		}
		b, err = r.ReadSlice('\n')
		long = append(long, b...)
	}
	return long, err
}

// scanCSV finds the rows of a CSV file after its head, and the column.
func scanCSV(ctx context.Context, file, column string, batch int) (chunks []chunk, items, at int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, 0, 0, err
	}
	defer f.Close()
	name := filepath.Base(file)
	r := newCSV(f)
	head, err := r.Read()
	if err == io.EOF {
		return nil, 0, 0, job.Refuse(name, "it is empty", "its first row has to name the columns")
	}
	if err != nil {
		return nil, 0, 0, job.Refuse(name, err.Error(), "mend it")
	}
	head[0] = strings.TrimPrefix(head[0], "\ufeff")
	switch at = slices.Index(head, column); {
	case column == "" && len(head) == 1:
		at = 0
	case at < 0:
		return nil, 0, 0, job.Refuse(name, fmt.Sprintf("it has no column %q", column), "say column = one of: "+strings.Join(head[:min(len(head), 20)], ", "))
	}
	c := chunker{least: batch}
	from := r.InputOffset()
	for {
		row, err := r.Read()
		if err == io.EOF {
			return c.chunks, c.n, at, nil
		}
		if err != nil {
			return nil, 0, 0, job.Refuse(name, err.Error(), "mend it")
		}
		line, _ := r.FieldPos(0)
		to := r.InputOffset()
		switch {
		case at >= len(row):
			return nil, 0, 0, job.Refuse(fmt.Sprintf("%s line %d", name, line), fmt.Sprintf("it has %d columns and no %q", len(row), column), "mend it")
		case to-from > maxItemBytes:
			return nil, 0, 0, job.Refuse(fmt.Sprintf("%s line %d", name, line), fmt.Sprintf("an item of more than %d MiB", maxItemBytes>>20), "make it shorter")
		case !utf8.ValidString(row[at]):
			return nil, 0, 0, job.Refuse(fmt.Sprintf("%s line %d", name, line), "it is no UTF-8", "save the table as UTF-8")
		}
		if c.add(from, to); c.n > maxItems {
			return nil, 0, 0, tooMany(file)
		}
		if from = to; c.n%4096 == 0 && ctx.Err() != nil {
			return nil, 0, 0, ctx.Err()
		}
	}
}

func newCSV(r io.Reader) *csv.Reader {
	c := csv.NewReader(r)
	c.FieldsPerRecord, c.ReuseRecord = -1, true
	return c
}

// picture is one that was found.
type picture struct {
	Name   string `json:"name"` // below the folder, slash-separated
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Deep   bool   `json:"deep,omitempty"`
}

var pictureNames = []string{".png", ".jpg", ".jpeg"}

// scanPictures finds the pictures below a folder, in the order of their names.
// What has a picture's name and is none is left out, and said.
func scanPictures(ctx context.Context, dir string) (found []picture, problems []job.Problem, err error) {
	bad := 0
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() || !slices.Contains(pictureNames, strings.ToLower(filepath.Ext(p))) || strings.HasPrefix(d.Name(), ".") {
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if err = job.SafeName("input/" + rel); err == nil {
			var s media.Size
			if s, err = media.SizeOf(p, media.Limits{}); err == nil {
				found = append(found, picture{Name: rel, Width: s.Width, Height: s.Height, Deep: s.Deep})
				if len(found) > maxPictures {
					return job.Refuse(filepath.Base(dir), fmt.Sprintf("there are more than %d pictures in it", maxPictures), "submit it in several jobs")
				}
				return nil
			}
		}
		if bad++; bad <= 20 {
			problems = append(problems, job.Problem{Severity: job.SeverityWarning, Where: rel, Message: "left out: " + err.Error(), Remedy: "mend or remove it"})
		}
		return nil
	})
	if bad > 20 {
		problems = append(problems, job.Problem{Severity: job.SeverityWarning, Where: filepath.Base(dir), Message: fmt.Sprintf("%d more are left out", bad-20), Remedy: "mend or remove them"})
	}
	return found, problems, err
}
