package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/render/ai"
)

// batches are files of requests and the jobs that answer them:
// localapi.Batches. Below dir lie files/ID.jsonl with files/ID.json beside it,
// and for each batch NAME.json with the folder NAME for its results.
type batches struct {
	dir  string
	cfg  Config
	jobs batchJobs

	mu     sync.Mutex
	counts map[string][2]int // of ended batches: answers and errors
}

// batchJobs is what batches need of the dispatcher.
type batchJobs interface {
	Submit(ctx context.Context, s job.Spec) (job.ID, error)
	Status(id job.ID) (job.Status, error)
	Steer(ctx context.Context, id job.ID, a job.Action) error
}

type keptFile struct {
	Name    string    `json:"name"`
	Bytes   int64     `json:"size_bytes"`
	Created time.Time `json:"created"`
}

type keptBatch struct {
	Job      job.ID            `json:"job"`
	Input    string            `json:"input"`
	Endpoint string            `json:"endpoint"`
	Metadata map[string]string `json:"metadata,omitempty"`
	Created  time.Time         `json:"created"`
}

const (
	filePrefix  = "file-"
	batchPrefix = "batch_"
	outputEnd   = "-output"
	errorsEnd   = "-errors"
)

var errFile = localapi.ErrNoFile

// kept is a name of ours with that prefix.
func kept(id, prefix string) (string, error) {
	name, ok := strings.CutPrefix(id, prefix)
	if _, err := job.ParseID(name); !ok || err != nil {
		return "", fmt.Errorf("%.100q: %w", id, errFile)
	}
	return id, nil
}

func (b *batches) files() string { return filepath.Join(b.dir, "files") }

func writeWhole(file string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}

func readKept(file string, v any) error {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", strings.TrimSuffix(filepath.Base(file), ".json"), errFile)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}

// AddFile implements localapi.Batches.
func (b *batches) AddFile(name string, r io.Reader) (localapi.FileView, error) {
	if err := os.MkdirAll(b.files(), 0o700); err != nil {
		return localapi.FileView{}, err
	}
	now := time.Now()
	id := filePrefix + string(job.NewID(now))
	at := filepath.Join(b.files(), id+".jsonl")
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return localapi.FileView{}, err
	}
	n, err := io.Copy(f, io.LimitReader(r, localapi.MaxFileBytes+1))
	if err == nil && n > localapi.MaxFileBytes {
		err = job.Refuse(name, fmt.Sprintf("it has more than %d MiB", localapi.MaxFileBytes>>20), "submit it with: idlewild submit --kind ai FILE")
	}
	if err == nil {
		err = f.Sync()
	}
	k := keptFile{Name: name, Bytes: n, Created: now.UTC()}
	if err = errors.Join(err, f.Close()); err == nil {
		err = writeWhole(filepath.Join(b.files(), id+".json"), k)
	}
	if err != nil {
		return localapi.FileView{}, errors.Join(err, os.Remove(at))
	}
	return k.view(id), nil
}

func (k keptFile) view(id string) localapi.FileView {
	return localapi.FileView{ID: id, Name: k.Name, Purpose: "batch", Bytes: k.Bytes, Created: k.Created}
}

// Files implements localapi.Batches.
func (b *batches) Files() ([]localapi.FileView, error) {
	found, err := filepath.Glob(filepath.Join(b.files(), filePrefix+"*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found) // their names sort by time
	slices.Reverse(found)
	var out []localapi.FileView
	for _, f := range found {
		if v, err := b.File(strings.TrimSuffix(filepath.Base(f), ".json")); err == nil {
			out = append(out, v)
		}
	}
	return out, nil
}

// result takes the name of a file of answers apart.
func result(id string) (batch string, errs, ok bool) {
	rest, ok := strings.CutPrefix(id, filePrefix)
	if !ok {
		return "", false, false
	}
	for _, end := range []string{outputEnd, errorsEnd} {
		if batch, ok := strings.CutSuffix(rest, end); ok {
			return batch, end == errorsEnd, true
		}
	}
	return "", false, false
}

// File implements localapi.Batches.
func (b *batches) File(id string) (localapi.FileView, error) {
	if batch, errs, ok := result(id); ok {
		v, err := b.Batch(batch)
		if err != nil || v.Status.State != job.StateFinished {
			return localapi.FileView{}, fmt.Errorf("%.100q: %w", id, errFile)
		}
		name := "output.jsonl"
		if errs {
			name = "errors.jsonl"
		}
		r, err := b.OpenFile(id)
		if err != nil {
			return localapi.FileView{}, err
		}
		defer r.Close()
		n, err := io.Copy(io.Discard, r)
		return localapi.FileView{ID: id, Name: name, Purpose: "batch_output", Bytes: n, Created: v.Created}, err
	}
	id, err := kept(id, filePrefix)
	if err != nil {
		return localapi.FileView{}, err
	}
	var k keptFile
	if err := readKept(filepath.Join(b.files(), id+".json"), &k); err != nil {
		return localapi.FileView{}, err
	}
	return k.view(id), nil
}

// OpenFile implements localapi.Batches.
func (b *batches) OpenFile(id string) (io.ReadCloser, error) {
	if batch, errs, ok := result(id); ok {
		if _, err := kept(batch, batchPrefix); err != nil {
			return nil, err
		}
		return b.answers(batch, errs)
	}
	id, err := kept(id, filePrefix)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(b.files(), id+".jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%.100q: %w", id, errFile)
	}
	return f, err
}

// RemoveFile implements localapi.Batches.
func (b *batches) RemoveFile(id string) error {
	if _, _, ok := result(id); ok {
		return job.Refuse(id, "answers stay with their batch", "remove its folder below "+b.dir)
	}
	id, err := kept(id, filePrefix)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(b.files(), id+".json")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%.100q: %w", id, errFile)
		}
		return err
	}
	return os.Remove(filepath.Join(b.files(), id+".jsonl"))
}

// Submit implements localapi.Batches.
func (b *batches) Submit(ctx context.Context, file, endpoint string, metadata map[string]string) (localapi.BatchView, error) {
	input, err := b.File(file)
	if err != nil {
		return localapi.BatchView{}, err
	}
	now := time.Now().UTC()
	id := batchPrefix + string(job.NewID(now))
	out := filepath.Join(b.dir, id)
	at := filepath.Join(b.files(), input.ID+".jsonl")
	if e, ok := ai.BatchEndpoint(at); ok && e != endpoint {
		return localapi.BatchView{}, job.Refuse(input.Name, fmt.Sprintf("its requests are for %s, not %s", e, endpoint), "name the endpoint that they are for")
	} else if !ok {
		return localapi.BatchView{}, job.Refuse(input.Name, "its first line is no request", "each line has custom_id, method, url and body")
	}
	spec, err := SpecFor(at, SpecOptions{Kind: string(ai.Name), Output: out, Config: b.cfg})
	if err != nil {
		return localapi.BatchView{}, err
	}
	spec.Title = input.Name
	if err := os.MkdirAll(out, 0o700); err != nil {
		return localapi.BatchView{}, err
	}
	k := keptBatch{Input: input.ID, Endpoint: endpoint, Metadata: metadata, Created: now}
	if k.Job, err = b.jobs.Submit(ctx, spec); err == nil {
		err = writeWhole(filepath.Join(b.dir, id+".json"), k)
	}
	if err != nil {
		return localapi.BatchView{}, errors.Join(err, os.Remove(out))
	}
	return b.Batch(id)
}

// Batches implements localapi.Batches.
func (b *batches) Batches() ([]localapi.BatchView, error) {
	found, err := filepath.Glob(filepath.Join(b.dir, batchPrefix+"*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	slices.Reverse(found)
	var out []localapi.BatchView
	for _, f := range found {
		if v, err := b.Batch(strings.TrimSuffix(filepath.Base(f), ".json")); err == nil {
			out = append(out, v)
		}
	}
	return out, nil
}

// Batch implements localapi.Batches.
func (b *batches) Batch(id string) (localapi.BatchView, error) {
	id, err := kept(id, batchPrefix)
	if err != nil {
		return localapi.BatchView{}, err
	}
	var k keptBatch
	if err := readKept(filepath.Join(b.dir, id+".json"), &k); err != nil {
		return localapi.BatchView{}, err
	}
	v := localapi.BatchView{
		ID: id, Job: k.Job, Input: k.Input, Endpoint: k.Endpoint, Metadata: k.Metadata, Created: k.Created,
		Output: filePrefix + id + outputEnd, Errors: filePrefix + id + errorsEnd,
	}
	if v.Status, err = b.jobs.Status(k.Job); err != nil {
		// The job is forgotten; its results are not.
		v.Status = job.Status{Job: k.Job, State: job.StateFailed, Reason: err.Error()}
		if _, serr := os.Stat(filepath.Join(b.dir, id, ai.AnswersFile)); serr == nil {
			v.Status.State = job.StateFinished
		}
	}
	if v.Status.State == job.StateFinished {
		v.OutputCount, v.ErrorsLen, err = b.count(id)
	}
	return v, err
}

// CancelBatch implements localapi.Batches.
func (b *batches) CancelBatch(ctx context.Context, id string) (localapi.BatchView, error) {
	v, err := b.Batch(id)
	if err != nil || v.Status.State.Ended() {
		return v, err
	}
	if err := b.jobs.Steer(ctx, v.Job, job.Cancel); err != nil {
		return v, err
	}
	return b.Batch(id)
}

// count counts a finished batch's answers and errors, once.
func (b *batches) count(id string) (answers, errs int, err error) {
	b.mu.Lock()
	c, ok := b.counts[id]
	b.mu.Unlock()
	if ok {
		return c[0], c[1], nil
	}
	err = b.each(id, func(_ []byte, bad bool) error {
		if bad {
			c[1]++
		} else {
			c[0]++
		}
		return nil
	})
	if err == nil {
		b.mu.Lock()
		b.counts[id] = c
		b.mu.Unlock()
	}
	return c[0], c[1], err
}

// each calls f with each line of a batch's answers.
func (b *batches) each(id string, f func(line []byte, bad bool) error) error {
	file, err := os.Open(filepath.Join(b.dir, id, ai.AnswersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the answers of %s: %w", id, errFile)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		var a struct {
			Response struct {
				Status int `json:"status_code"`
			} `json:"response"`
		}
		if jerr := json.Unmarshal(line, &a); jerr != nil {
			return jerr
		}
		if ferr := f(line, a.Response.Status != 200); ferr != nil {
			return ferr
		}
	}
}

// answers are the lines of one sort.
func (b *batches) answers(id string, errs bool) (io.ReadCloser, error) {
	if _, err := os.Stat(filepath.Join(b.dir, id, ai.AnswersFile)); err != nil {
		return nil, fmt.Errorf("the answers of %s: %w", id, errFile)
	}
	r, w := io.Pipe()
	go func() {
		w.CloseWithError(b.each(id, func(line []byte, bad bool) error {
			if bad != errs {
				return nil
			}
			_, err := w.Write(line)
			return err
		}))
	}()
	return r, nil
}
