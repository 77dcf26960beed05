package car

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	carv2 "github.com/ipld/go-car/v2"

	"idlewild/diffupload"
)

func manifest(t testing.TB, hash diffupload.Hash) (*diffupload.Memory, diffupload.Result) {
	t.Helper()
	dir := t.TempDir()
	var files []diffupload.File
	for i, n := range []int{0, 100, 5000, 400_000, 1_000_000} {
		data := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, diffupload.File{Path: path, Name: fmt.Sprintf("d%d/%d", i%2, i)})
	}
	store := new(diffupload.Memory)
	r, err := diffupload.Snapshot(t.Context(), store, files, diffupload.Options{Hash: hash})
	if err != nil {
		t.Fatal(err)
	}
	return store, r
}

func TestThereAndBack(t *testing.T) {
	for _, hash := range []diffupload.Hash{diffupload.SHA256, diffupload.BLAKE3} {
		store, r := manifest(t, hash)
		var file bytes.Buffer
		n, err := Export(t.Context(), &file, store, r.Root)
		if err != nil || n != store.Len() {
			t.Fatalf("%d blocks of %d: %v", n, store.Len(), err)
		}
		var other diffupload.Memory
		got, err := Import(t.Context(), bytes.NewReader(file.Bytes()), &other)
		if err != nil || len(got.Roots) != 1 || got.Roots[0] != r.Root || got.Blocks != n || other.Len() != n {
			t.Fatalf("%+v: %v", got, err)
		}
		out := filepath.Join(t.TempDir(), "out")
		if err := diffupload.Materialize(t.Context(), &other, r.Root, out, nil); err != nil {
			t.Error(err)
		}
		// As CARv2.
		var v2 bytes.Buffer
		if err := carv2.WrapV1(bytes.NewReader(file.Bytes()), &v2); err != nil {
			t.Fatal(err)
		}
		var third diffupload.Memory
		if _, err := Import(t.Context(), bytes.NewReader(v2.Bytes()), &third); err != nil || third.Len() != n {
			t.Errorf("CARv2: %d blocks, %v", third.Len(), err)
		}
	}
}

// The format as its specification has it, read by nothing of IPFS's.
func TestTheFileIsWhatTheSpecificationSays(t *testing.T) {
	store, r := manifest(t, diffupload.SHA256)
	var file bytes.Buffer
	if _, err := Export(t.Context(), &file, store, r.Root); err != nil {
		t.Fatal(err)
	}
	rest := file.Bytes()
	next := func() []byte {
		n, w := binary.Uvarint(rest)
		if w <= 0 || uint64(len(rest)-w) < n {
			t.Fatal("a section is cut short")
		}
		b := rest[w : w+int(n)]
		rest = rest[w+int(n):]
		return b
	}
	var head struct {
		Version int        `cbor:"version"`
		Roots   []cbor.Tag `cbor:"roots"`
	}
	if err := cbor.Unmarshal(next(), &head); err != nil || head.Version != 1 || len(head.Roots) != 1 {
		t.Fatalf("%+v: %v", head, err)
	}
	if b, _ := head.Roots[0].Content.([]byte); head.Roots[0].Number != 42 || !bytes.Equal(b, append([]byte{0}, r.Root.Bytes()...)) {
		t.Errorf("root %x", b)
	}
	seen := map[string]bool{}
	for len(rest) > 0 {
		b := next()
		sum := sha256.Sum256(b[36:])
		if b[0] != 1 || b[2] != 0x12 || b[3] != 32 || !bytes.Equal(sum[:], b[4:36]) || seen[string(b[:36])] {
			t.Fatalf("section of %x", b[:36])
		}
		seen[string(b[:36])] = true
	}
	if len(seen) != store.Len() {
		t.Errorf("%d blocks, want %d", len(seen), store.Len())
	}
}

func TestBadArchives(t *testing.T) {
	store, r := manifest(t, diffupload.SHA256)
	var file bytes.Buffer
	if _, err := Export(t.Context(), &file, store, r.Root); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-1] ^= 1
	huge := append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff, 0x0f)
	identity, err := cid.Decode("bafkqabtimvwgy3yk") // the bytes are in the address
	if err != nil {
		t.Fatal(err)
	}
	section := append(identity.Bytes(), "hello\n"...)
	alien := append(binary.AppendUvarint(bytes.Clone(whole), uint64(len(section))), section...)
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("hello, this is no archive"), "cut": whole[:len(whole)-10],
		"flipped": flipped, "huge section": huge, "another hash": alien,
	} {
		if _, err := Import(t.Context(), bytes.NewReader(b), &diffupload.Memory{}); !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Export(t.Context(), &file, &diffupload.Memory{}, r.Root); !errors.Is(err, diffupload.ErrNotFound) {
		t.Errorf("export of what is not there: %v", err)
	}
}

func FuzzImport(f *testing.F) {
	store, r := manifest(f, diffupload.SHA256)
	var file bytes.Buffer
	if _, err := Export(f.Context(), &file, store, r.Root); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes()[:min(file.Len(), 9000)])
	f.Add(file.Bytes()[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		var store diffupload.Memory
		Import(t.Context(), bytes.NewReader(b), &store)
	})
}
