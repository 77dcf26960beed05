package recordlog

import "fmt"

// Found is what Check found.
type Found struct {
	Segments int
	Bytes    int64  // of what is valid
	Bad      string // what is wrong behind that and where; empty: nothing
}

// Check reads the log in dir as Open does, and changes nothing: not even a torn
// tail is cut. It may run beside an open Log, whose newest records it may miss.
func Check(dir string, o Options, replay func(rec []byte) error) (Found, error) {
	o, err := o.withDefaults()
	if err != nil {
		return Found{}, err
	}
	l := &Log{dir: dir, o: o}
	_, segs, err := l.segments()
	if err != nil {
		return Found{}, err
	}
	var f Found
	for i, seq := range segs {
		good, _, _, why, err := l.read(seq, replay)
		if err != nil {
			return f, fmt.Errorf("%s: %w", l.path(seq), err)
		}
		f.Segments++
		f.Bytes += good
		if why == "" && i+1 < len(segs) && segs[i+1] != seq+1 {
			why = fmt.Sprintf("segment %d is missing", seq+1)
		}
		if why != "" {
			f.Bad = fmt.Sprintf("%s at byte %d of segment %d of %d", why, good, seq, segs[len(segs)-1])
			break
		}
	}
	return f, nil
}
