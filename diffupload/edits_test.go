package diffupload

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/ipfs/go-cid"
	"pgregory.net/rapid"
)

type content map[string][]byte

// keepIn stores files in m and returns the manifest.
func keepIn(t testing.TB, m *Memory, files content, o Options) cid.Cid {
	t.Helper()
	_, list := tree(t, files)
	r, err := Snapshot(t.Context(), m, list, o)
	if err != nil {
		t.Fatal(err)
	}
	return r.Root
}

// leadThere applies the edits from old to fresh to a store that has old alone,
// fetches what they only name, and checks that it all is there.
func leadThere(t testing.TB, old, fresh content) (doc []byte, named []Want) {
	t.Helper()
	here := &Memory{}
	want := keepIn(t, here, fresh, small)
	have := cid.Undef
	there := &Memory{}
	if old != nil {
		have = keepIn(t, here, old, small)
		if keepIn(t, there, old, small) != have {
			t.Fatal("two snapshots differ")
		}
	}
	doc, err := Edits(t.Context(), here, have, want)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Edits(t.Context(), here, have, want)
	if err != nil || !bytes.Equal(doc, again) {
		t.Error("the same edits are another document the second time", err)
	}
	r, err := Rebuild(t.Context(), there, have, want, doc, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Named {
		for _, b := range w.Bases {
			if missing, err := there.Missing(t.Context(), []cid.Cid{b}); err != nil || len(missing) > 0 {
				t.Errorf("base %s of %s is not there", b, w.ID)
			}
		}
		data, err := Get(t.Context(), here, w.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := there.Put(t.Context(), w.ID, data); err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := Materialize(t.Context(), there, want, dir, nil); err != nil {
		t.Fatal(err)
	}
	wantTree(t, dir, fresh)
	return doc, r.Named
}

func edited(b []byte, at int, with string) []byte {
	b = bytes.Clone(b)
	copy(b[at:], with)
	return b
}

func TestEditsLeadToTheNewManifest(t *testing.T) {
	big, other := noise(1, 40_000), noise(2, 30_000)
	many := content{}
	for i := range 1400 {
		many[fmt.Sprintf("d%d/f%04d.txt", i%3, i)] = fmt.Appendf(nil, "file %d", i)
	}
	manyEdited := maps.Clone(many)
	manyEdited["d0/f0003.txt"] = []byte("file 3, changed")
	with := func(c content, name string, b []byte) content {
		c = maps.Clone(c)
		c[name] = b
		return c
	}
	without := func(c content, name string) content {
		c = maps.Clone(c)
		delete(c, name)
		return c
	}
	base := content{"a.bin": big, "b.bin": other, "c.txt": []byte("words"), "sub/d.txt": []byte("more words"), "empty": nil}
	for _, c := range []struct {
		name       string
		old, fresh content
		most       int // bytes of the document
		named      bool
	}{
		{"nothing", base, base, 4, false},
		{"a byte in the middle", base, with(base, "a.bin", edited(big, 20_000, "x")), 40, false},
		{"a byte at either end", base, with(base, "a.bin", edited(edited(big, 0, "x"), len(big)-1, "y")), 60, false},
		{"an insertion", base, with(base, "a.bin", slices.Concat(big[:5000], []byte("inserted"), big[5000:])), 60, false},
		{"a removal", base, with(base, "a.bin", slices.Concat(big[:5000], big[9000:])), 200, false},
		{"parts change places", base, with(base, "a.bin", slices.Concat(big[20_000:], big[:20_000])), 400, false},
		{"a small file", base, with(base, "c.txt", []byte("other words")), 40, false},
		{"a small file grows", base, with(base, "c.txt", noise(3, 2000)), 2100, false},
		{"a large file shrinks", base, with(base, "a.bin", big[:500]), 80, false},
		{"becomes empty", base, with(base, "a.bin", nil), 10, false},
		{"was empty", base, with(base, "empty", []byte("now it is not")), 40, false},
		{"a file is added", base, with(base, "new/e.bin", noise(4, 3000)), 3100, false},
		{"a file like another is added", base, with(base, "a2.bin", edited(big, 100, "x")), 80, false},
		{"a file goes", base, without(base, "b.bin"), 10, false},
		{"a file is renamed", base, with(without(base, "b.bin"), "sub/z.bin", other), 30, false},
		{"two change places", base, with(with(base, "a.bin", other), "b.bin", big), 20, false},
		{"a file of one byte", content{"n.txt": []byte("1")}, content{"n.txt": []byte("2")}, 20, false},
		{"a file of three bytes", content{"n.txt": []byte("100"), "o": nil}, content{"n.txt": []byte("101"), "o": []byte("0")}, 30, false},
		{"one of many", many, manyEdited, 40, false},
		{"all go", many, content{}, 10, false},
		{"out of nothing", nil, base, 80_000, false},
		{"from an empty folder", content{}, with(content{}, "a.txt", []byte("hello")), 40, false},
		{"too much for a document", content{"a.bin": big}, content{"a.bin": edited(big, 9, "x"), "m.bin": noise(9, 6<<20)}, 1 << 20, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, named := leadThere(t, c.old, c.fresh)
			if len(doc) > c.most || (len(named) > 0) != c.named {
				t.Errorf("document of %d bytes and %d named leaves, want at most %d bytes", len(doc), len(named), c.most)
			}
		})
	}
}

// What only another file of the old manifest has is not sent again.
func TestEditsFindContentInOtherFiles(t *testing.T) {
	big := noise(5, 3<<20)
	_, named := leadThere(t, content{"cache/a.bin": big}, content{"cache/a.bin": big, "packed.xyz": slices.Concat([]byte("head"), big)})
	if len(named) == 0 {
		t.Error("nothing is named")
	}
}

// lasting reports whether the run may take its time: make test-long.
func lasting() bool { return os.Getenv("IDLEWILD_SLOW") != "" }

// fewer has rapid check n times, where nobody asked for another number.
func fewer(t *testing.T, n int) {
	t.Helper()
	f := flag.Lookup("rapid.checks")
	was := f.Value.String()
	if was != f.DefValue || lasting() {
		return
	}
	if err := f.Value.Set(strconv.Itoa(n)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Value.Set(was) })
}

func TestEditsOfRandomTrees(t *testing.T) {
	fewer(t, 25) // they are others in every run
	names := []string{"a", "b/c", "b/d", "e.0001", "e.0002", "e.0003", "f/g/h"}
	rapid.Check(t, func(r *rapid.T) {
		bytesOf := rapid.Custom(func(r *rapid.T) []byte {
			b := noise(rapid.Uint64Range(0, 5).Draw(r, "seed"), rapid.SampledFrom([]int{0, 10, 1000, 1024, 1025, 3000, 20_000}).Draw(r, "size"))
			for range rapid.IntRange(0, 3).Draw(r, "edits") {
				if len(b) > 0 {
					at := rapid.IntRange(0, len(b)-1).Draw(r, "at")
					b = slices.Concat(b[:at], noise(7, rapid.IntRange(0, 40).Draw(r, "new")), b[min(len(b), at+rapid.IntRange(0, 600).Draw(r, "gone")):])
				}
			}
			return b
		})
		draw := func(what string) content {
			c := content{}
			for _, n := range rapid.SliceOfDistinct(rapid.SampledFrom(names), rapid.ID[string]).Draw(r, what) {
				c[n] = bytesOf.Draw(r, n)
			}
			return c
		}
		leadThere(t, draw("old"), draw("fresh"))
	})
}

// A document that was tampered with leads nowhere and leaves nothing behind.
func TestRebuildRefusesWhatDoesNotLeadThere(t *testing.T) {
	here, there := &Memory{}, &Memory{}
	big := noise(1, 30_000)
	old := content{"a.bin": big, "c.txt": []byte("words"), "x/y.txt": noise(3, 900)}
	fresh := content{"a.bin": edited(big, 9000, "changed"), "c.txt": []byte("words, too"), "x/z.bin": noise(6, 1500)}
	want := keepIn(t, here, fresh, small)
	have := keepIn(t, here, old, small)
	keepIn(t, there, old, small)
	before := there.Len()
	doc, err := Edits(t.Context(), here, have, want)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, doc []byte) {
		_, err := Rebuild(t.Context(), there, have, want, doc, Limits{})
		if err == nil {
			t.Errorf("%s: accepted", what)
		} else if !errors.Is(err, ErrEdits) {
			t.Errorf("%s: %v", what, err)
		}
		if there.Len() != before {
			t.Fatalf("%s: something was stored", what)
		}
	}
	step, flips := 10, 60
	if lasting() {
		step, flips = 40, 300
	}
	for i := 0; i < len(doc); i += 1 + i/step {
		try(fmt.Sprintf("cut after %d bytes", i), doc[:i])
	}
	if _, err := Rebuild(t.Context(), there, have, want, doc, Limits{Bytes: 20_000}); err == nil {
		t.Error("more bytes than are allowed were accepted")
	}
	if _, err := Rebuild(t.Context(), there, have, want, doc, Limits{Files: 2}); err == nil {
		t.Error("more files than are allowed were accepted")
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range flips {
		bad := bytes.Clone(doc)
		bad[rnd.IntN(min(len(bad), 200))] ^= 1 << rnd.IntN(8)
		if r, err := Rebuild(t.Context(), there, have, want, bad, Limits{}); err == nil {
			// Some bits do not matter; then it must be right all the same.
			if missing, _ := there.Missing(t.Context(), []cid.Cid{want}); len(missing) > 0 || len(r.Named) > 0 {
				t.Fatal("accepted, and the manifest is not there")
			}
			there = &Memory{}
			keepIn(t, there, old, small)
		} else if !errors.Is(err, ErrEdits) {
			t.Errorf("%v", err)
		} else if there.Len() != before {
			t.Fatal("something was stored")
		}
	}
}

func FuzzRebuild(f *testing.F) {
	here := &Memory{}
	big := noise(1, 30_000)
	old := content{"a.bin": big, "c.txt": []byte("words"), "x/y.txt": noise(3, 900)}
	have := keepIn(f, here, old, small)
	for _, fresh := range []content{
		{"a.bin": edited(big, 9000, "changed"), "c.txt": []byte("words, too"), "x/z.bin": noise(6, 1500)},
		{"a.bin": big[5000:], "b.bin": big},
		{},
	} {
		doc, err := Edits(f.Context(), here, have, keepIn(f, here, fresh, small))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	there := &Memory{}
	keepIn(f, there, old, small)
	n := there.Len()
	want := NodeID([]byte("nothing leads here"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, err := Rebuild(t.Context(), there, have, want, doc, Limits{Bytes: 1 << 24, Files: 100}); !errors.Is(err, ErrEdits) {
			t.Fatal(err)
		}
		if there.Len() != n {
			t.Fatal("something was stored")
		}
	})
}

// An edit of one file of a large project costs as much as of a small one, and
// the document is made without reading the other files.
func TestEditsDoNotReadWhatStayed(t *testing.T) {
	m := &Memory{}
	files := content{}
	for i := range 200 {
		files[fmt.Sprintf("tex/%03d.bin", i)] = noise(uint64(i), 3000)
	}
	have := keepIn(t, m, files, small)
	files["tex/100.bin"] = edited(files["tex/100.bin"], 50, "x")
	want := keepIn(t, m, files, small)
	c := &Counting{Store: m}
	doc, err := Edits(t.Context(), c, have, want)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := c.Fetched(); n > 60 || len(doc) > 40 {
		t.Errorf("%d blocks were read for a document of %d bytes", n, len(doc))
	}
}
