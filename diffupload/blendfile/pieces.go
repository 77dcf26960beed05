package blendfile

// Sizes that decide where a canonical file is cut, in bytes.
const (
	maxPiece       = 1 << 20
	largeHeadBytes = 32

	largeBlock = 64 << 10 // a block of more is cut by the chunker
	pieceLeast = 8 << 10  // a piece may end behind a datablock from here on
	pieceFull  = 64 << 10 // and does from here on
	innerLeast = 32 << 10 // a piece may end within a datablock from here on
	innerFull  = 128 << 10
)

// endsAtScope says whether the piece ends before the next scope begins: where
// the key of the datablock written before it says so, one time in four.
func (w *writer) endsAtScope() bool {
	n := len(w.piece)
	return n >= pieceFull || n >= pieceLeast && w.last != nil && w.last.key&3 == 0
}

// endsInScope says whether the piece ends before the next block of the same
// datablock: where its last 64 bytes say so, one time in four.
func (w *writer) endsInScope() bool {
	n := len(w.piece)
	if n < innerLeast || n >= innerFull {
		return n >= innerFull
	}
	h := uint64(14695981039346656037) // FNV-1a
	for _, b := range w.piece[n-64:] {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h>>62 == 0
}

// flush ends the piece.
func (w *writer) flush() error {
	if len(w.piece) == 0 {
		return nil
	}
	ok := w.yield(Piece{w.piece}, nil)
	w.piece = w.piece[:0]
	if !ok {
		return errStopped
	}
	return nil
}
