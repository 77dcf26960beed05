package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/internal/tail"
)

// DiffOptions of Diff.
type DiffOptions struct {
	// Decoder is the command that calls DiffDecode with its working folder and
	// its standard input and output: usually this program.
	Decoder *exec.Cmd
	// Out is where what the decoder made is put: a file where new is one, else
	// a folder, which must not be there before unless empty. Empty: nowhere.
	Out string
	// Exact stores every file's own bytes, as in diffupload.Options.
	Exact bool
}

// DiffReport is what a re-submission moved.
type DiffReport struct {
	OldBytes      int64            `json:"old_bytes"` // of the files on disk
	NewBytes      int64            `json:"new_bytes"`
	WireBytes     int64            `json:"wire_bytes"`     // both directions, everything
	SentBytes     int64            `json:"sent_bytes"`     // to the decoder
	ReceivedBytes int64            `json:"received_bytes"` // from it
	Parts         map[string]int64 `json:"parts"`          // what the wire bytes were spent on; their sum
	Method        string           `json:"method"`         // "same", "edits", or "blocks" where edits were of no use
	Files         int              `json:"files"`          // of the new content
	Root          string           `json:"root"`           // its CID
	EncodeSeconds float64          `json:"encode_s"`       // reading the new files, comparing, compressing
	DecodeSeconds float64          `json:"decode_s"`       // from the answer to the files, without waiting for us
	Verified      bool             `json:"verified"`       // what the decoder wrote is stored as the new files are
	Out           string           `json:"out,omitempty"`
	Warnings      []string         `json:"warnings,omitempty"`
}

// Parts of DiffReport. Their order is that of the wire.
const (
	PartHello    = "hello"    // what the decoder has
	PartRoot     = "root"     // what is wanted
	PartEdits    = "edits"    // the document that leads from one to the other
	PartRequests = "requests" // for blocks
	PartBlocks   = "blocks"   // the answers to them
	PartReport   = "report"   // what the decoder wrote
)

// ErrDiffPaths is matched by errors about the paths that Diff was given.
var ErrDiffPaths = errors.New("unusable path")

type pathError struct{ error }

func (pathError) Is(target error) bool { return target == ErrDiffPaths }
func (e pathError) Unwrap() error      { return e.error }

// Diff moves the content of newPath to a decoder that has the content of
// oldPath, both files or both folders, and counts every byte. The decoder is
// another process, with an empty environment and a folder of its own in which
// lie oldPath's blocks: what it makes, it makes of them and of what came over
// the pipe. Diff stores what it made and compares that with newPath as stored.
func Diff(ctx context.Context, oldPath, newPath string, o DiffOptions) (DiffReport, error) {
	old, fresh, err := diffFiles(oldPath, newPath)
	if err != nil {
		return DiffReport{}, err
	}
	if err := checkDiffOut(o.Out, oldPath, newPath); err != nil {
		return DiffReport{}, err
	}
	d := &differ{DiffOptions: o, single: isFile(newPath)}
	if d.home, err = os.MkdirTemp("", "idlewild-diff-*"); err != nil {
		return DiffReport{}, err
	}
	defer os.RemoveAll(d.home)
	if d.away, err = os.MkdirTemp("", "idlewild-diff-*"); err != nil {
		return DiffReport{}, err
	}
	defer os.RemoveAll(d.away)
	home, err := store.Open(filepath.Join(d.home, diffStore), store.Options{})
	if err != nil {
		return DiffReport{}, err
	}
	defer home.Close()
	d.store = home
	err = d.run(ctx, old, fresh)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what failed failed of it
	}
	return d.report, err
}

// diffFiles lists both sides. Two files count as two versions of one: they
// have the same name in the manifest.
func diffFiles(oldPath, newPath string) (old, fresh []diffupload.File, err error) {
	for _, p := range []string{oldPath, newPath} {
		if _, err := os.Stat(p); err != nil {
			return nil, nil, pathError{fmt.Errorf("%s: %s", p, rootCause(err))}
		}
	}
	if isFile(oldPath) != isFile(newPath) {
		return nil, nil, pathError{fmt.Errorf("%s and %s are a file and a folder; name two files or two folders", oldPath, newPath)}
	}
	if old, _, err = filesBelow(oldPath); err != nil {
		return nil, nil, pathError{err}
	}
	if fresh, _, err = filesBelow(newPath); err != nil {
		return nil, nil, pathError{err}
	}
	if isFile(newPath) {
		old[0].Name = fresh[0].Name
	}
	return old, fresh, nil
}

func isFile(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && !fi.IsDir()
}

// checkDiffOut refuses what could not be written in the end, or would be
// written over what is compared.
func checkDiffOut(out, oldPath, newPath string) error {
	if out == "" {
		return nil
	}
	if fi, err := os.Stat(filepath.Dir(out)); err != nil || !fi.IsDir() {
		return pathError{fmt.Errorf("%s: there is no folder %s", out, filepath.Dir(out))}
	}
	at, err := os.Stat(out)
	if err != nil {
		return nil // it is made
	}
	for _, p := range []string{oldPath, newPath} {
		if fi, err := os.Stat(p); err == nil && os.SameFile(at, fi) {
			return pathError{fmt.Errorf("%s is what is compared; name another place for what comes out", out)}
		}
	}
	switch entries, _ := os.ReadDir(out); {
	case at.IsDir() && isFile(newPath):
		return pathError{fmt.Errorf("%s is a folder; name a file", out)}
	case !at.IsDir() && !isFile(newPath):
		return pathError{fmt.Errorf("%s is a file; name a folder", out)}
	case len(entries) > 0:
		return pathError{fmt.Errorf("%s is not empty; name another folder", out)}
	}
	return nil
}

// differ is one run of Diff.
type differ struct {
	DiffOptions
	single     bool
	home, away string // folders of this process and of the decoder
	store      diffupload.Store

	have, want cid.Cid
	doc        []byte            // nil: none
	named      []diffupload.Want // that doc only names
	old        []cid.Cid         // blocks below have, in the order of diffupload.Blocks
	encoding   time.Duration
	report     DiffReport
}

func (d *differ) run(ctx context.Context, old, fresh []diffupload.File) error {
	if err := d.prepare(ctx, old); err != nil {
		return err
	}
	if err := d.encode(ctx, fresh); err != nil {
		return err
	}
	check, err := d.decode(ctx)
	if err != nil {
		return err
	}
	out := filepath.Join(d.away, diffOut)
	if err := d.verify(ctx, out, check); err != nil {
		return err
	}
	if d.Out == "" {
		return nil
	}
	if d.single {
		out = filepath.Join(out, fresh[0].Name)
	}
	if err := moveTo(out, d.Out); err != nil {
		return err
	}
	d.report.Out = d.Out
	return nil
}

// prepare stores the old files on both sides.
func (d *differ) prepare(ctx context.Context, files []diffupload.File) error {
	away, err := store.Open(filepath.Join(d.away, diffStore), store.Options{})
	if err != nil {
		return err
	}
	r, err := diffupload.Snapshot(ctx, both{d.store, away}, files, diffupload.Options{Exact: d.Exact})
	if err = errors.Join(err, away.Close()); err != nil {
		return err
	}
	d.have = r.Root
	d.report.OldBytes, err = sizeOf(files)
	if err != nil {
		return err
	}
	if d.old, err = diffupload.All(ctx, d.store, d.have); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.away, diffRoot), []byte(d.have.String()+"\n"), 0o600)
}

func sizeOf(files []diffupload.File) (int64, error) {
	var n int64
	for _, f := range files {
		fi, err := os.Stat(f.Path)
		if err != nil {
			return 0, err
		}
		n += fi.Size()
	}
	return n, nil
}

// encode stores the new files and finds the edits that lead to them.
func (d *differ) encode(ctx context.Context, files []diffupload.File) (err error) {
	defer d.working()()
	r, err := diffupload.Snapshot(ctx, d.store, files, diffupload.Options{Exact: d.Exact})
	if err != nil {
		return err
	}
	d.want = r.Root
	d.report.Files, d.report.Root, d.report.Warnings = r.Files, r.Root.String(), r.Warnings
	if d.report.NewBytes, err = sizeOf(files); err != nil {
		return err
	}
	if d.want == d.have {
		return nil
	}
	doc, err := diffupload.Edits(ctx, d.store, d.have, d.want)
	if errors.Is(err, diffupload.ErrNoEdits) {
		return nil // blocks will do
	} else if err != nil {
		return err
	}
	// The decoder's list of named leaves is made here as well, of what it has.
	made, err := diffupload.Rebuild(ctx, newOnly(d.store, d.old), d.have, d.want, doc, diffupload.Limits{})
	if err != nil {
		return err
	}
	d.doc, d.named = doc, made.Named
	return nil
}

// working counts the time until the returned function is called as encoding.
func (d *differ) working() func() {
	start := time.Now()
	return func() { d.encoding += time.Since(start) }
}

// decode runs the other process and answers it. It returns the check of what
// that wrote.
func (d *differ) decode(ctx context.Context) ([diffCheck]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.Decoder.Path)
	cmd.Args, cmd.Dir = d.Decoder.Args, d.away
	cmd.Env = []string{} // and not this process's
	var trouble tail.Writer
	cmd.Stderr = &trouble
	in, err := cmd.StdinPipe()
	if err != nil {
		return [diffCheck]byte{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return [diffCheck]byte{}, err
	}
	if err := cmd.Start(); err != nil {
		return [diffCheck]byte{}, fmt.Errorf("start the decoder: %w", err)
	}
	w := &wire{r: out, w: in, parts: map[string]int64{}}
	check, err := d.answer(ctx, w)
	gone := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errPipeWrite)
	if err != nil && !gone {
		cancel() // it may wait for an answer for ever
	}
	in.Close()
	// Who has closed its side has little left to do.
	kill := time.AfterFunc(10*time.Second, cancel)
	ended := cmd.Wait()
	kill.Stop()
	if gone || err == nil && ended != nil {
		err = fmt.Errorf("the decoder: %s", lastWord(trouble.Bytes(), ended))
	}
	d.report.Parts = w.parts
	d.report.SentBytes, d.report.ReceivedBytes = w.sent, w.received
	d.report.WireBytes = w.sent + w.received
	d.report.EncodeSeconds = d.encoding.Seconds()
	return check, err
}

// answer is the encoder's half of the protocol.
func (d *differ) answer(ctx context.Context, w *wire) (check [diffCheck]byte, err error) {
	r := bufio.NewReader(w)
	var hello [diffHello]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil {
		return check, cutShort(err)
	}
	if hello[0] != diffVersion {
		return check, pipef("version %d, this program knows %d", hello[0], diffVersion)
	}
	if !slices.Equal(hello[1:], digestOf(d.have)[:diffCheck]) {
		return check, pipef("the decoder has another root than it was given")
	}
	w.took(PartHello)
	start, encoded := time.Now(), d.encoding
	if err := d.wanted(w); err != nil {
		return check, err
	}
	for {
		q, err := readRequest(r)
		if err != nil {
			return check, err
		}
		if q.kind == requestDone {
			d.report.DecodeSeconds = (time.Since(start) - (d.encoding - encoded)).Seconds()
			w.took(PartReport)
			if _, err := r.ReadByte(); err != io.EOF {
				return check, pipef("more after its report")
			}
			return q.check, nil
		}
		w.took(PartRequests)
		if err := d.blocks(ctx, w, q); err != nil {
			return check, err
		}
	}
}

// wanted says which root is wanted, with the edits where there are any.
func (d *differ) wanted(w *wire) error {
	d.report.Method = "blocks"
	switch {
	case d.have == d.want:
		d.report.Method = "same"
		return w.send(PartRoot, []byte{answerSame})
	case d.doc == nil:
		return w.send(PartRoot, append([]byte{answerBlocks}, digestOf(d.want)...))
	}
	d.report.Method = "edits"
	head := append([]byte{answerEdits}, digestOf(d.want)...)
	return errors.Join(w.send(PartRoot, head), w.send(PartEdits, appendBytes(nil, d.doc)))
}

// blocks answers a request.
func (d *differ) blocks(ctx context.Context, w *wire, q request) error {
	wants := q.wants
	at := func(p uint64) (cid.Cid, bool) {
		if p >= uint64(len(d.old)) {
			return cid.Undef, false
		}
		return d.old[p], true
	}
	if q.kind == requestPlace {
		if q.count > uint64(len(d.named)) || q.first > uint64(len(d.named))-q.count {
			return pipef("leaves %d to %d of %d", q.first, q.first+q.count, len(d.named))
		}
		for _, n := range d.named[q.first : q.first+q.count] {
			if err := d.block(ctx, w, n); err != nil {
				return err
			}
		}
		return nil
	}
	d.report.Method = "blocks"
	for _, p := range wants {
		want := diffupload.Want{ID: p.id}
		for _, b := range p.bases {
			id, ok := at(b)
			if !ok {
				return pipef("base %d of %d", b, len(d.old))
			}
			want.Bases = append(want.Bases, id)
		}
		if err := d.block(ctx, w, want); err != nil {
			return err
		}
	}
	return nil
}

func (d *differ) block(ctx context.Context, w *wire, want diffupload.Want) error {
	done := d.working()
	data, err := diffupload.Get(ctx, d.store, want.ID)
	if err != nil {
		done()
		return err
	}
	var bases [][]byte
	for _, id := range want.Bases[:min(maxBases, len(want.Bases))] {
		base, err := diffupload.Get(ctx, d.store, id)
		if err != nil {
			done()
			return err
		}
		bases = append(bases, base)
	}
	b := appendBlock(nil, data, bases)
	done()
	return w.send(PartBlocks, b)
}

// lastWord is the last line that a process printed, or err where there is none.
func lastWord(printed []byte, err error) string {
	lines := strings.Split(strings.TrimSpace(string(printed)), "\n")
	if last := strings.TrimPrefix(lines[len(lines)-1], "idlewild: "); last != "" {
		return last
	}
	if err == nil {
		return "it ended early"
	}
	return err.Error()
}
