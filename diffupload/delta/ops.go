package delta

import (
	"fmt"
	"math/bits"
)

// kind is what an operation does.
type kind int

const (
	opCopy   kind = iota // words of the base or of the result before, with islands of change
	opWords              // words that have no counterpart, under the model
	opStored             // bytes as they are
	opPacked             // a zstd frame
	opKinds
)

// op makes len bytes of the result. src, of a copy and of what is packed as
// differences, counts from the start of the base and on into the result; phase
// is the offset of the words, 0 to 3.
type op struct {
	kind  kind
	len   int
	src   int
	phase int

	frame   []byte // packed
	aligned bool   // packed: differences to src
	planes  bool   // packed: the bytes of words apart
}

const (
	// equalRun is how many equal words end an island.
	equalRun = 12
)

// position is what the next operation is told relative to.
type position struct {
	at    int  // in the result
	dist  int  // of the last copy
	back  int  // of the last one before with another distance
	src   int  // where a copy would go on
	phase int  // of the words
	prev  kind // of operation
}

// head codes an operation but for its contents, and returns it.
func (s *stream) head(p *position, o op) (op, error) {
	k := int(o.kind)
	node := 1
	for i := 1; i >= 0; i-- {
		node = node<<1 | s.flag(flagKind+choice(4*int(p.prev)+node), k>>i&1)
	}
	o.kind = kind(node & 3)
	left := len(s.res) - p.at
	if s.flag(flagLast, asBit(o.len == left)) == 1 {
		o.len = left
	} else {
		o.len = int(s.numIn(numLength, min(int(o.kind), 1), uint64(o.len)))
	}
	if o.len <= 0 || o.len > left {
		return o, fmt.Errorf("%w: an operation of %d bytes at %d of %d", ErrPatch, o.len, p.at, len(s.res))
	}
	if o.kind == opCopy || o.kind == opWords {
		turn := (o.phase - p.phase) & 3
		if s.flag(flagPhase, asBit(turn != 0)) == 1 {
			n := s.flag(flagPhase+1, turn>>1)
			turn = n<<1 | s.flag(flagPhase+2+choice(n), turn&1)
			o.phase = (p.phase + turn) & 3
		} else {
			o.phase = p.phase
		}
	} else {
		o.phase = p.phase
	}
	if o.kind == opPacked {
		if o.len > maxPacked {
			return o, fmt.Errorf("%w: a frame for %d bytes, at most %d are possible", ErrPatch, o.len, maxPacked)
		}
		o.aligned = s.flag(flagAligned, asBit(o.aligned)) == 1
		o.planes = o.aligned || s.flag(flagPlanes, asBit(o.planes)) == 1
	}
	if o.kind == opCopy || o.aligned {
		if s.flag(flagBack, asBit(o.src-p.at == p.back)) == 1 {
			o.src = p.at + p.back
		} else {
			o.src = p.src + unzigzag(s.num(numJump, zigzag(o.src-p.src)))
		}
		if o.src < 0 || o.src > len(s.base)+p.at-4 ||
			o.src < len(s.base) && o.len > len(s.base)-o.src ||
			o.aligned && o.src >= len(s.base) && o.src+o.len > len(s.base)+p.at {
			return o, fmt.Errorf("%w: a copy of %d bytes from %d at %d", ErrPatch, o.len, o.src, p.at)
		}
		if d := o.src - p.at; d != p.dist {
			p.back, p.dist = p.dist, d
		}
		p.src = o.src + o.len
	}
	p.at += o.len
	p.phase = o.phase
	p.prev = o.kind
	return o, nil
}

func asBit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// zigzag makes small numbers of either sign small.
func zigzag(v int) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(v uint64) int { return int(v>>1) ^ -int(v&1) }

// encodeOps codes operations that together make fresh. An error says that
// decoding would refuse one.
func encodeOps(base, fresh []byte, ops []op) ([]byte, error) {
	return newStream(newEncoder(), base, fresh).encode(ops)
}

func (s *stream) encode(ops []op) ([]byte, error) {
	fresh := s.res
	s.num(numSize, uint64(len(fresh)))
	s.order = tableOrder(s.base, fresh, ops)
	var p position
	var blobs [][]byte
	n := 0
	for _, o := range ops {
		at := p.at
		if _, err := s.head(&p, o); err != nil {
			return nil, err
		}
		switch o.kind {
		case opCopy:
			s.encodeCopy(at, o)
		case opWords:
			s.island(at, at+o.len, noSource, o.phase)
		case opStored:
			blobs = append(blobs, fresh[at:at+o.len])
			n += o.len
		case opPacked:
			s.num(numFrame, uint64(len(o.frame)))
			blobs = append(blobs, o.frame)
			n += len(o.frame)
		}
	}
	out := s.finish(n > 0)
	for i := len(blobs) - 1; i >= 0; i-- {
		out = append(out, blobs[i]...)
	}
	return out, nil
}

// tableOrder suits the number of words that will be coded.
func tableOrder(base, fresh []byte, ops []op) int {
	at, words := 0, 0
	for _, o := range ops {
		switch o.kind {
		case opCopy:
			for _, is := range islands(base, fresh, at, o) {
				words += wordsBetween(is.Off, is.Off+is.Len, o.phase)
			}
		case opWords:
			words += wordsBetween(at, at+o.len, o.phase)
		}
		at += o.len
	}
	return min(max(bits.Len(uint(words))+3, minOrder), maxOrder)
}

// encodeCopy codes runs of equal words and the islands between them.
func (s *stream) encodeCopy(at int, o op) {
	for at0, is := at, islands(s.base, s.res, at, o); ; is = is[1:] {
		if len(is) == 0 {
			s.flag(flagTail, 1)
			return
		}
		s.flag(flagTail, 0)
		s.num(numRun, uint64(wordsBetween(at, is[0].Off, o.phase)))
		end := is[0].Off + is[0].Len
		s.num(numIsland, uint64(wordsBetween(is[0].Off, end, o.phase)-1))
		s.island(is[0].Off, end, o.src-at0, o.phase)
		if at = end; at == at0+o.len {
			return
		}
	}
}

// islands are the spans of a copy at at that are coded word by word. Two are
// at least equalRun words apart.
func islands(base, res []byte, at int, o op) []Span {
	var is []Span
	end, dist := at+o.len, o.src-at
	for w := at; ; {
		from := equalUntil(base, res, w, end, dist, o.phase)
		if from == end {
			return is
		}
		to := min(nextWord(from, o.phase), end)
		for to < end {
			next := equalUntil(base, res, to, end, dist, o.phase)
			if wordsBetween(to, next, o.phase) >= equalRun || next == end {
				break
			}
			to = min(nextWord(next, o.phase), end)
		}
		is = append(is, Span{from, to - from})
		w = to
	}
}

// decodeOps is the other direction.
func decodeOps(base, patch []byte, n int) ([]byte, error) {
	s := newStream(newDecoder(patch), base, make([]byte, n))
	s.num(numSize, 0)
	var p position
	tail := len(patch)
	work := 0
	for p.at < n {
		at := p.at
		o, err := s.head(&p, op{})
		if err != nil {
			return nil, err
		}
		work++
		switch o.kind {
		case opCopy:
			err = s.decodeCopy(at, o, &work)
		case opWords:
			if work += wordsBetween(at, at+o.len, o.phase); work > maxWork {
				return nil, errWork
			}
			s.island(at, at+o.len, noSource, o.phase)
		case opStored:
			if tail -= o.len; tail < 0 {
				return nil, fmt.Errorf("%w: %d stored bytes are not there", ErrPatch, o.len)
			}
			copy(s.res[at:], patch[tail:tail+o.len])
		case opPacked:
			b := s.num(numFrame, 0)
			if b > uint64(tail) {
				return nil, fmt.Errorf("%w: a frame of %d bytes is not there", ErrPatch, b)
			}
			tail -= int(b)
			err = s.unpack(at, o, patch[tail:tail+int(b)])
		}
		if err != nil {
			return nil, err
		}
		if work > maxWork {
			return nil, errWork
		}
	}
	// Without blobs the zeros at its end were left out, however many.
	if tail < len(patch) && s.pos-topBits/8 > tail {
		return nil, fmt.Errorf("%w: it ends early", ErrPatch)
	}
	return s.res, nil
}

var errWork = fmt.Errorf("%w: more than %d coded words and operations", ErrPatch, maxWork)

func (s *stream) decodeCopy(at int, o op, work *int) error {
	end := at + o.len
	for w := at; w < end; {
		if s.flag(flagTail, 0) == 1 {
			s.copyFrom(w, end, o.src+w-at)
			return nil
		}
		run := wordsAfter(w, s.num(numRun, 0), o.phase, end)
		s.copyFrom(w, run, o.src+w-at)
		to := wordsAfter(run, s.num(numIsland, 0)+1, o.phase, end)
		if run == end {
			return fmt.Errorf("%w: an island behind the end of a copy", ErrPatch)
		}
		if *work += wordsBetween(run, to, o.phase) + 1; *work > maxWork {
			return errWork
		}
		s.island(run, to, o.src-at, o.phase)
		w = to
	}
	return nil
}

// copyFrom makes res[a:b] out of the bytes at src of base and result. Out of
// the result it may run into what it makes.
func (s *stream) copyFrom(a, b, src int) {
	if src < len(s.base) {
		copy(s.res[a:b], s.base[src:src+b-a])
		return
	}
	src -= len(s.base)
	for a < b {
		n := copy(s.res[a:b], s.res[src:a])
		a += n
	}
}

// bytesAt is n bytes at src of base and result.
func bytesAt(base, res []byte, src, n int) []byte {
	if src < len(base) {
		return base[src : src+n]
	}
	return res[src-len(base):][:n]
}

// equalUntil is how far from a the result equals its counterpart, in whole
// words, or end.
func equalUntil(base, res []byte, a, end int, dist, phase int) int {
	x := res[a:end]
	n := equalBytes(x, bytesAt(base, res, a+dist, len(x)))
	if n == len(x) {
		return end
	}
	if to := a + n - (a+n-phase)&3; to > a {
		return to
	}
	return a
}

// nextWord is where the word that holds byte a ends.
func nextWord(a, phase int) int { return a + 4 - (a-phase)&3 }

// wordsBetween counts words, the first and last perhaps cut.
func wordsBetween(a, b, phase int) int {
	if a == b {
		return 0
	}
	return (b-phase+3)>>2 - (a-phase)>>2
}

// wordsAfter is where n words from a end, at most end.
func wordsAfter(a int, n uint64, phase, end int) int {
	if n == 0 {
		return a
	}
	if n > uint64(end-a) {
		return end
	}
	return min(nextWord(a, phase)+4*int(n-1), end)
}
