package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
)

// diffPair is two versions of some content on disk: a.bin in the middle of
// which 100 bytes are new, and two files that stay.
func diffPair(t *testing.T) (old, fresh string) {
	rnd := rand.New(rand.NewPCG(1, 2))
	content := make([]byte, 600_000)
	for i := range content {
		content[i] = byte(rnd.Uint32())
	}
	write := func(dir string, files map[string][]byte) {
		for name, b := range files {
			p := filepath.Join(dir, filepath.FromSlash(name))
			if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	old, fresh = t.TempDir(), t.TempDir()
	write(old, map[string][]byte{"a.bin": content, "sub/b.txt": []byte("stays"), "gone": []byte("gone")})
	edited := bytes.Clone(content)
	copy(edited[300_000:], bytes.Repeat([]byte("new "), 25))
	write(fresh, map[string][]byte{"a.bin": edited, "sub/b.txt": []byte("stays"), "empty": nil})
	return old, fresh
}

// halves are an encoder that has stored both versions, and the folder of its
// decoder.
func halves(t *testing.T, old, fresh string) *differ {
	d := &differ{home: t.TempDir(), away: t.TempDir(), store: &diffupload.Memory{}}
	a, b, err := diffFiles(old, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.prepare(t.Context(), a), d.encode(t.Context(), b)); err != nil {
		t.Fatal(err)
	}
	return d
}

// talk lets the halves talk and returns what each says in the end.
func talk(t *testing.T, d *differ) (w *wire, check [diffCheck]byte, encoder, decoder error) {
	fromA, toB := io.Pipe()
	fromB, toA := io.Pipe()
	ended := make(chan error)
	go func() {
		err := DiffDecode(t.Context(), d.away, fromA, toA)
		toA.Close()
		ended <- err
	}()
	w = &wire{r: fromB, w: toB, parts: map[string]int64{}}
	check, encoder = d.answer(t.Context(), w)
	toB.Close()
	fromB.Close()
	return w, check, encoder, <-ended
}

func TestDiffHalvesAgree(t *testing.T) {
	old, fresh := diffPair(t)
	for _, c := range []struct {
		name     string
		old, new string
		blocks   bool // without edits
		method   string
		most     int64
	}{
		{"unedited", old, old, false, "same", 19},
		{"edited", old, fresh, false, "edits", 700},
		{"edited, block by block", old, fresh, true, "blocks", 3000},
		{"from a file", filepath.Join(old, "a.bin"), filepath.Join(fresh, "a.bin"), false, "edits", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := halves(t, c.old, c.new)
			if c.blocks {
				d.doc, d.named = nil, nil
			}
			w, check, err, derr := talk(t, d)
			if err != nil || derr != nil {
				t.Fatalf("encoder: %v; decoder: %v", err, derr)
			}
			if err := d.verify(t.Context(), filepath.Join(d.away, diffOut), check); err != nil {
				t.Error(err)
			}
			if !d.report.Verified || d.report.Method != c.method {
				t.Errorf("verified %v by %q, want true by %q", d.report.Verified, d.report.Method, c.method)
			}
			var sum int64
			for _, n := range w.parts {
				sum += n
			}
			if total := w.sent + w.received; sum != total || total > c.most {
				t.Errorf("%d bytes, %d in parts %v; want at most %d", total, sum, w.parts, c.most)
			}
		})
	}
}

func TestDiffDecoderFallsBackToBlocks(t *testing.T) {
	old, fresh := diffPair(t)
	d := halves(t, old, fresh)
	d.doc, d.named = []byte("these are no edits"), nil
	_, check, err, derr := talk(t, d)
	if err != nil || derr != nil {
		t.Fatalf("encoder: %v; decoder: %v", err, derr)
	}
	if err := d.verify(t.Context(), filepath.Join(d.away, diffOut), check); err != nil || d.report.Method != "blocks" {
		t.Errorf("%v by %q", err, d.report.Method)
	}
}

// The encoder listens to a program that may say anything.
func TestDiffEncoderRefuses(t *testing.T) {
	old, fresh := diffPair(t)
	d := halves(t, old, fresh)
	d.doc = nil
	hello := append([]byte{diffVersion}, digestOf(d.have)[:diffCheck]...)
	say := func(b ...byte) []byte { return append(bytes.Clone(hello), b...) }
	cids := binary.AppendUvarint([]byte{requestCIDs}, 1)
	for _, c := range []struct {
		name string
		says []byte
		want error
	}{
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"half a hello", hello[:4], io.ErrUnexpectedEOF},
		{"another version", append([]byte{9}, hello[1:]...), errDiffPipe},
		{"another root", append([]byte{diffVersion}, "elsewhere"[:8]...), errDiffPipe},
		{"no report", say(), io.ErrUnexpectedEOF},
		{"half a report", say(requestDone, 1, 2), io.ErrUnexpectedEOF},
		{"more after the report", say(append([]byte{requestDone}, "12345678x"...)...), errDiffPipe},
		{"unknown request", say(77), errDiffPipe},
		{"a place that is not there", say(requestPlace, 0, 1), errDiffPipe},
		{"a place beyond counting", say(append([]byte{requestPlace}, binary.AppendUvarint(binary.AppendUvarint(nil, 1<<63), 1<<63)...)...), errDiffPipe},
		{"a million blocks", say(append([]byte{requestCIDs}, binary.AppendUvarint(nil, 1_000_000)...)...), errDiffPipe},
		{"a codec that is none", say(append(append(cids, 0x55-1), bytes.Repeat([]byte{1}, 33)...)...), errDiffPipe},
		{"a block that is not there", say(append(append(cids, 0x55), bytes.Repeat([]byte{0}, 33)...)...), diffupload.ErrNotFound},
		{"a base that is not there", say(append(append(append(cids, 0x55), digestOf(d.want)...), 1, 200, 100)...), errDiffPipe},
		{"too many bases", say(append(append(append(cids, 0x55), digestOf(d.want)...), 200, 1)...), errDiffPipe},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &wire{r: bytes.NewReader(c.says), w: io.Discard, parts: map[string]int64{}}
			if _, err := d.answer(t.Context(), w); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// The decoder takes nothing that is too long, and nothing that is not what it
// asked for.
func TestDiffDecoderRefuses(t *testing.T) {
	old, fresh := diffPair(t)
	root := append([]byte{answerBlocks}, bytes.Repeat([]byte{7}, digestSize)...)
	say := func(b ...byte) []byte { return append(bytes.Clone(root), b...) }
	for _, c := range []struct {
		name string
		says []byte
		want error
	}{
		{"nothing", nil, io.ErrUnexpectedEOF},
		{"unknown answer", []byte{9}, errDiffPipe},
		{"half a root", root[:9], io.ErrUnexpectedEOF},
		{"edits without end", append(append([]byte{answerEdits}, root[1:]...), binary.AppendUvarint(nil, 1<<40)...), errDiffPipe},
		{"half of the edits", append(append([]byte{answerEdits}, root[1:]...), 20, 1, 2), io.ErrUnexpectedEOF},
		{"no block", say(), io.ErrUnexpectedEOF},
		{"a block that is not there", say(0), diffupload.ErrNotFound},
		{"a block without end", say(binary.AppendUvarint(nil, 1<<50)...), errDiffPipe},
		{"a number without end", say(bytes.Repeat([]byte{0xff}, 11)...), nil},
		{"another block", say(3, wayPlain, 'h', 'i'), diffupload.ErrCorrupt},
		{"a delta that is none", say(3, wayEmpty, 'h', 'i'), errDiffPipe},
		{"a base that was not named", say(3, wayBase, 'h', 'i'), errDiffPipe},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := halves(t, old, fresh)
			err := DiffDecode(t.Context(), d.away, bytes.NewReader(c.says), io.Discard)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if _, err := os.Stat(filepath.Join(d.away, diffOut)); err == nil {
				t.Error("something was written")
			}
		})
	}
}

func TestDiffSaysWhyItsDecoderEnded(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("NOT RUN: needs a shell")
	}
	old, fresh := diffPair(t)
	for _, c := range []struct{ name, script, want string }{
		{"it complains", "echo 'idlewild: no space left on device' >&2; exit 1", "the decoder: no space left on device"},
		{"it is killed", "kill -9 $$", "the decoder: signal: killed"},
		{"it says nothing", "exit 0", "the decoder: it ended early"},
		{"garbage", "echo garbage, and a lot of it", "does not keep to the protocol"},
		{"it sees where it is from", "env >&2; exit 1", "the decoder: PWD="},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("IDLEWILD_SECRET", "not for the decoder")
			_, err := Diff(t.Context(), old, fresh, DiffOptions{Decoder: exec.Command("/bin/sh", "-c", c.script)})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	t.Run("no such program", func(t *testing.T) {
		_, err := Diff(t.Context(), old, fresh, DiffOptions{Decoder: &exec.Cmd{Path: "/no/such/program", Args: []string{"x"}}})
		if err == nil || !strings.Contains(err.Error(), "start the decoder") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		// It writes until it is ended, which happens when the first byte came.
		_, err := Diff(ctx, old, fresh, DiffOptions{Decoder: exec.Command("/bin/sh", "-c", "exec cat /dev/zero")})
		if !errors.Is(err, errDiffPipe) {
			t.Errorf("got %v", err)
		}
		cancel()
		if _, err := Diff(ctx, old, fresh, DiffOptions{Decoder: exec.Command("/bin/cat")}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDiffSeesWhatWasNotMade(t *testing.T) {
	old, fresh := diffPair(t)
	d := halves(t, old, fresh)
	_, check, err, derr := talk(t, d)
	if err != nil || derr != nil {
		t.Fatalf("encoder: %v; decoder: %v", err, derr)
	}
	out := filepath.Join(d.away, diffOut)
	if err := os.WriteFile(filepath.Join(out, "empty"), []byte("no longer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.verify(t.Context(), out, check); err == nil {
		t.Error("a file that changed since it was reported is not noticed")
	}
	sum, err := hashFolder(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.verify(t.Context(), out, [diffCheck]byte(sum)); err == nil || d.report.Verified {
		t.Errorf("other content is taken for the new one: %v", err)
	}
}

// A .blend that was compressed comes back without its container.
func TestSameContentLooksThroughContainers(t *testing.T) {
	ctx, s := t.Context(), &diffupload.Memory{}
	chunk := diffupload.ChunkID([]byte("x"))
	if err := s.Put(ctx, chunk, []byte("x")); err != nil {
		t.Fatal(err)
	}
	tree := func(e diffupload.Encoding, mode int) (root diffupload.Block) {
		entry := diffupload.Entry{Name: "a", CID: diffupload.Ref{Cid: chunk}, Size: 1, Kind: diffupload.KindChunk, Mode: mode}
		f, err := diffupload.EncodeNode(&diffupload.FileNode{V: 1, Type: "file", Size: 1, Mode: mode, Encoding: e,
			Links: []diffupload.Link{{CID: diffupload.Ref{Cid: chunk}, Size: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if e != diffupload.Plain {
			entry.CID, entry.Kind, entry.Mode = diffupload.Ref{Cid: f.ID}, diffupload.KindFile, 0
		}
		root, err = diffupload.EncodeNode(&diffupload.TreeNode{V: 1, Type: "tree", Size: 1, Entries: []diffupload.Entry{entry}})
		if err != nil {
			t.Fatal(err)
		}
		if err := diffupload.PutMany(ctx, s, []diffupload.Block{f, root}); err != nil {
			t.Fatal(err)
		}
		return root
	}
	for _, c := range []struct {
		a, b diffupload.Block
		want bool
	}{
		{tree(diffupload.Plain, 0), tree(diffupload.Plain, 0), true},
		{tree(diffupload.Plain, 0), tree(diffupload.BlendOpen, 0), true},
		{tree(diffupload.Plain, 1), tree(diffupload.BlendOpen, 0), false},
		{tree(diffupload.Plain, 0), tree(diffupload.PNGOpen, 0), false},
	} {
		if got, err := sameContent(ctx, s, c.a.ID, c.b.ID); err != nil || got != c.want {
			t.Errorf("%s and %s: %v, %v", c.a.ID, c.b.ID, got, err)
		}
	}
}

func FuzzDiffRequest(f *testing.F) {
	id := diffupload.ChunkID([]byte("x"))
	f.Add(request{kind: requestDone, check: [8]byte{1, 2}}.append(nil))
	f.Add(request{kind: requestPlace, first: 3, count: 300}.append(nil))
	f.Add(request{kind: requestCIDs, wants: []placedWant{{id: id, bases: []uint64{1, 1 << 40}}, {id: id}}}.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := readRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := readRequest(bufio.NewReader(bytes.NewReader(q.append(nil))))
		if err != nil || again.kind != q.kind || again.first != q.first || again.count != q.count || len(again.wants) != len(q.wants) {
			t.Errorf("%+v became %+v: %v", q, again, err)
		}
	})
}

func FuzzDiffBlock(f *testing.F) {
	base := bytes.Repeat([]byte("a base of a block "), 40)
	block := append(bytes.Clone(base), "and more"...)
	f.Add(appendBlock(nil, block, [][]byte{base}))
	f.Add(appendBlock(nil, block, nil))
	f.Add(appendBlock(nil, []byte{1}, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := readBlock(bufio.NewReader(bytes.NewReader(b)), func(int) ([]byte, error) { return base, nil })
		if err == nil && len(data) > diffupload.MaxBlockBytes {
			t.Errorf("%d bytes", len(data))
		}
	})
}

func TestDiffBlocksTakeTheSmallestWay(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	noise := make([]byte, 5000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	edited := bytes.Clone(noise)
	edited[100] ^= 1
	for _, c := range []struct {
		name  string
		data  []byte
		bases [][]byte
		way   byte
	}{
		{"noise", noise, nil, wayPlain},
		{"a bad base", noise, [][]byte{[]byte("nothing like it")}, wayPlain},
		{"text", bytes.Repeat([]byte("text "), 200), nil, wayEmpty},
		{"the second base", edited, [][]byte{edited[:10], noise}, wayBase + 1},
	} {
		b := appendBlock(nil, c.data, c.bases)
		_, n := binary.Uvarint(b)
		if b[n] != c.way {
			t.Errorf("%s: way %d, want %d", c.name, b[n], c.way)
		}
		got, err := readBlock(bufio.NewReader(bytes.NewReader(b)), func(i int) ([]byte, error) { return c.bases[i], nil })
		if err != nil || !bytes.Equal(got, c.data) {
			t.Errorf("%s: %d bytes back, %v", c.name, len(got), err)
		}
	}
}

func TestMoveToAnotherPlace(t *testing.T) {
	old, _ := diffPair(t)
	want, err := hashFolder(old)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := copyAll(filepath.Join(dir, "copy"), old); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := moveTo(filepath.Join(dir, "copy"), filepath.Join(dir, "empty")); err != nil {
		t.Fatal(err)
	}
	if got, err := hashFolder(filepath.Join(dir, "empty")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v", err)
	}
	if err := moveTo(filepath.Join(old, "a.bin"), filepath.Join(dir, "no", "folder")); err == nil {
		t.Error("moved to nowhere")
	}
	if _, err := os.Stat(filepath.Join(old, "a.bin")); err != nil {
		t.Error("gone without having arrived")
	}
	s, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := (both{s, asked{}}).Missing(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := (both{s, asked{}}).Put(t.Context(), diffupload.ChunkID([]byte("x")), []byte("x")); err == nil {
		t.Error("a put that half failed succeeded")
	}
}
