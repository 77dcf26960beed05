package node

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ipfs/go-cid"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
)

// What lies in the decoder's folder.
const (
	diffStore = "store" // blocks of what it has
	diffRoot  = "root"  // the root of that, as text
	diffOut   = "out"   // what it makes, a folder
)

// DiffDecode is the receiving half of Diff. It knows the folder dir, with the
// blocks of the old content, and what comes over the pipe. It writes the new
// content into a folder of dir.
func DiffDecode(ctx context.Context, dir string, in io.Reader, out io.Writer) error {
	text, err := os.ReadFile(filepath.Join(dir, diffRoot))
	if err != nil {
		return err
	}
	have, err := cid.Decode(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, diffRoot), err)
	}
	s, err := store.Open(filepath.Join(dir, diffStore), store.Options{})
	if err != nil {
		return err
	}
	d := &decoder{store: s, have: have, r: bufio.NewReader(in), w: out}
	err = d.run(ctx, filepath.Join(dir, diffOut))
	return errors.Join(err, s.Close())
}

// decoder is one run of DiffDecode.
type decoder struct {
	store diffupload.Store
	have  cid.Cid
	r     *bufio.Reader
	w     io.Writer

	pipe   sync.Mutex // one question at a time
	placed sync.Once
	places map[cid.Cid]uint64 // of the blocks below have
}

func (d *decoder) run(ctx context.Context, out string) error {
	want, err := d.greet(ctx)
	if err != nil {
		return err
	}
	s := &diffupload.Tiered{Local: d.store, Remote: asked{d}}
	if err := diffupload.MaterializeFrom(ctx, s, diffupload.Earlier{Store: d.store, Root: d.have}, diffupload.Here{}, want, out, diffupload.Limits{}, nil); err != nil {
		return err
	}
	sum, err := hashFolder(out)
	if err != nil {
		return err
	}
	done := request{kind: requestDone, check: [diffCheck]byte(sum)}
	_, err = d.w.Write(done.append(nil))
	return err
}

// greet says what is here and learns what is wanted. Edits that come with the
// answer are applied and the leaves that they only name are fetched; edits
// that cannot be applied leave everything to be fetched by address.
func (d *decoder) greet(ctx context.Context) (cid.Cid, error) {
	if _, err := d.w.Write(append([]byte{diffVersion}, digestOf(d.have)[:diffCheck]...)); err != nil {
		return cid.Undef, err
	}
	kind, err := d.r.ReadByte()
	if err != nil {
		return cid.Undef, cutShort(err)
	}
	if kind == answerSame {
		return d.have, nil
	}
	if kind != answerEdits && kind != answerBlocks {
		return cid.Undef, pipef("answer of kind %d", kind)
	}
	want, err := readDigest(d.r, cid.DagCBOR)
	if err != nil || kind == answerBlocks {
		return want, err
	}
	doc, err := readBytes(d.r, diffupload.MaxEdits)
	if err != nil {
		return cid.Undef, err
	}
	made, err := diffupload.Rebuild(ctx, d.store, d.have, want, doc, diffupload.Limits{})
	if errors.Is(err, diffupload.ErrEdits) {
		return want, nil // blocks will do
	} else if err != nil {
		return want, err
	}
	return want, d.fetchNamed(ctx, made.Named)
}

// fetchNamed asks for those of the named leaves that are not here, by place.
func (d *decoder) fetchNamed(ctx context.Context, named []diffupload.Want) error {
	ids := make([]cid.Cid, len(named))
	for i, w := range named {
		ids[i] = w.ID
	}
	missing, err := d.store.Missing(ctx, ids)
	if err != nil {
		return err
	}
	lacks := make(map[cid.Cid]bool, len(missing))
	for _, id := range missing {
		lacks[id] = true
	}
	const group = 64 // in memory at once
	for i := 0; i < len(named); {
		if !lacks[named[i].ID] {
			i++
			continue
		}
		n := 0
		for n < group && i+n < len(named) && lacks[named[i+n].ID] {
			n++
		}
		blocks, err := d.ask(ctx, request{kind: requestPlace, first: uint64(i), count: uint64(n)}, named[i:i+n])
		if err != nil {
			return err
		}
		if err := diffupload.PutMany(ctx, d.store, blocks); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// ask sends a request for wants and reads all of the answer. A block that is
// not there has no Data.
func (d *decoder) ask(ctx context.Context, q request, wants []diffupload.Want) ([]diffupload.Block, error) {
	d.pipe.Lock()
	defer d.pipe.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, err // before there is an answer that nobody reads
	}
	if _, err := d.w.Write(q.append(nil)); err != nil {
		return nil, err
	}
	blocks := make([]diffupload.Block, len(wants))
	for i, w := range wants {
		blocks[i].ID = w.ID
		data, err := readBlock(d.r, func(k int) ([]byte, error) {
			if k >= len(w.Bases) {
				return nil, pipef("delta of base %d of %d", k, len(w.Bases))
			}
			return diffupload.Get(ctx, d.store, w.Bases[k])
		})
		if errors.Is(err, diffupload.ErrNotFound) && data == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := diffupload.VerifyBlock(w.ID, data); err != nil {
			return nil, err
		}
		blocks[i].Data = data
	}
	return blocks, nil
}

// place of a block in what is here, for naming it as a base.
func (d *decoder) place(ctx context.Context, id cid.Cid) (uint64, bool) {
	d.placed.Do(func() {
		d.places = map[cid.Cid]uint64{}
		ids, err := diffupload.All(ctx, d.store, d.have)
		if err != nil {
			return // there are no bases then
		}
		for i, id := range ids {
			d.places[id] = uint64(i)
		}
	})
	p, ok := d.places[id]
	return p, ok
}

// asked is a store at the other end of the pipe.
type asked struct{ d *decoder }

var _ diffupload.Store = asked{}

// Missing implements diffupload.Store.
func (asked) Missing(_ context.Context, ids []cid.Cid) ([]cid.Cid, error) { return ids, nil }

// Put implements diffupload.Store.
func (asked) Put(context.Context, cid.Cid, []byte) error {
	return errors.New("the other end of the pipe takes no blocks")
}

// Fetch implements diffupload.Store.
func (a asked) Fetch(ctx context.Context, wants []diffupload.Want) iter.Seq2[diffupload.Block, error] {
	return func(yield func(diffupload.Block, error) bool) {
		const group = 64
		for len(wants) > 0 {
			part := wants[:min(group, len(wants))]
			wants = wants[len(part):]
			blocks, err := a.fetch(ctx, part)
			if err != nil {
				yield(diffupload.Block{}, err)
				return
			}
			for _, b := range blocks {
				var err error
				if b.Data == nil {
					err = diffupload.ErrNotFound
				}
				if !yield(b, err) {
					return
				}
			}
		}
	}
}

func (a asked) fetch(ctx context.Context, wants []diffupload.Want) ([]diffupload.Block, error) {
	q := request{kind: requestCIDs}
	known := make([]diffupload.Want, len(wants)) // with the bases that have a place
	for i, w := range wants {
		p := placedWant{id: w.ID}
		known[i].ID = w.ID
		for _, b := range w.Bases[:min(maxBases, len(w.Bases))] {
			if at, ok := a.d.place(ctx, b); ok {
				p.bases = append(p.bases, at)
				known[i].Bases = append(known[i].Bases, b)
			}
		}
		q.wants = append(q.wants, p)
	}
	return a.d.ask(ctx, q, known)
}

// hashFolder is SHA-256 over the files below dir in the order of their names:
// length of the name and of the content as u64be, name with slashes, content.
func hashFolder(dir string) ([]byte, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return hashFile(h, dir, path)
	})
	return h.Sum(nil), err
}

func hashFile(h hash.Hash, dir, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	head := binary.BigEndian.AppendUint64(nil, uint64(len(name)))
	h.Write(append(binary.BigEndian.AppendUint64(head, uint64(fi.Size())), name...))
	_, err = io.Copy(h, f)
	return err
}
