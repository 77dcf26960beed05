package diffupload

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"idlewild/chunker"
	"idlewild/diffupload/blendfile"
	"idlewild/diffupload/imagefile"
)

// open stores the content of a file in the form in which its next version has
// most in common with it. What cannot have that form is stored byte for byte.
func (s *snapshot) open(path string, in *progressReader, f *os.File, st os.FileInfo, mode int, exact bool) (Entry, error) {
	switch {
	case IsBlendName(path):
		if !exact {
			return s.blend(path, in, f, st, mode)
		}
	case isImageName(path):
		if !exact {
			return s.image(in, f, st, mode)
		}
	default:
		spans, err := s.tensorsOf(path, in, f, st.Size())
		if err != nil {
			return Entry{}, err
		}
		if len(spans) > 0 {
			return s.tensors(in, spans, st, mode)
		}
	}
	return s.whole(in, st, mode)
}

// blend stores a .blend in its canonical form. The artist is told where that
// cannot be: what changes in the file then costs more, and what is wrong with
// it may show in the frames.
func (s *snapshot) blend(path string, in *progressReader, f *os.File, st os.FileInfo, mode int) (Entry, error) {
	pieces, _, err := blendfile.Canonical(s.ctx, f, st.Size(), blendfile.Options{Chunk: s.Chunk})
	if err == nil {
		var e Entry
		if e, err = s.chunks(in.counting(pieces), BlendCanonical, mode); err == nil {
			return e, nil
		}
	}
	store := s.whole
	why := ""
	switch {
	case errors.Is(err, blendfile.ErrNotBlend):
		why = "is not a .blend file and is sent as it is"
	case errors.Is(err, blendfile.ErrNotVouched):
		store = s.opened
		why = fmt.Sprintf("is sent as it is, so that small edits cost more: %v", err)
	case errors.Is(err, blendfile.ErrTruncated), errors.Is(err, blendfile.ErrDamaged), errors.Is(err, blendfile.ErrTooLarge):
		why = fmt.Sprintf("is sent as it is, and Blender may refuse it: %v", err)
	default:
		return Entry{}, err
	}
	if err := in.again(); err != nil {
		return Entry{}, err
	}
	e, err := store(in, st, mode)
	if err == nil {
		s.warn(path + " " + why)
	}
	return e, err
}

// opened stores a .blend without its container.
func (s *snapshot) opened(in io.Reader, st os.FileInfo, mode int) (Entry, error) {
	r, info, err := blendfile.NewReader(in, st.Size())
	if err != nil {
		return Entry{}, err
	}
	defer r.Close()
	if info.Container == blendfile.Raw {
		return s.content(r, Plain, mode) // the file's own bytes
	}
	return s.content(r, BlendOpen, mode)
}

// image stores an image without its compression, where package imagefile can
// make the image of that again.
func (s *snapshot) image(in *progressReader, f *os.File, st os.FileInfo, mode int) (Entry, error) {
	r, format, err := imagefile.Open(f, st.Size())
	if err == nil {
		e, err := s.content(in.reading(r), Encoding(format), mode)
		if err = errors.Join(err, r.Close()); err == nil || !errors.Is(err, imagefile.ErrNotOpened) {
			return e, err
		}
	} else if !errors.Is(err, imagefile.ErrNotOpened) {
		return Entry{}, err
	}
	if err := in.again(); err != nil {
		return Entry{}, err
	}
	return s.whole(in, st, mode)
}

func (s *snapshot) whole(in io.Reader, st os.FileInfo, mode int) (Entry, error) {
	e, err := s.content(in, Plain, mode)
	if err == nil && e.Size != st.Size() {
		err = ErrChanged
	}
	return e, err
}

// IsBlendName reports whether a file is stored as a .blend: .blend and its
// numbered backups.
func IsBlendName(path string) bool {
	return strings.HasSuffix(strings.TrimRight(strings.ToLower(path), "0123456789"), ".blend")
}

func isImageName(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".png", ".exr":
		return true
	}
	return false
}

// progressReader counts what is read of a file's own bytes.
type progressReader struct {
	r     io.Reader
	s     *snapshot
	n     int64
	f     *os.File // that r reads
	size  int64
	holes bool // there may be some that are worth looking for
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.count(n)
	return n, err
}

func (p *progressReader) count(n int) {
	p.n += int64(n)
	p.s.progress(int64(n))
}

// again begins anew with the file itself.
func (p *progressReader) again() error {
	_, err := p.f.Seek(0, io.SeekStart)
	p.r = p.f
	p.s.progress(-p.n)
	p.n = 0
	return err
}

// reading has p read r instead.
func (p *progressReader) reading(r io.Reader) io.Reader {
	p.r = r
	return struct{ io.Reader }{p} // whose holes are not the file's
}

// counting makes chunks of pieces and counts them.
func (p *progressReader) counting(pieces iter.Seq2[blendfile.Piece, error]) iter.Seq2[chunker.Chunk, error] {
	return func(yield func(chunker.Chunk, error) bool) {
		for piece, err := range pieces {
			p.count(len(piece.Data))
			if !yield(chunker.Chunk{Data: piece.Data}, err) {
				return
			}
		}
	}
}
