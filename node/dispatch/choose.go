package dispatch

import (
	"math"
	"slices"
)

const (
	// stay is what a job weighs for a device that works on it already.
	stay = 0.75
	// move is what a job weighs for a device that has to fetch its content.
	move = 1.3
	// paysOff: a device fetches content only where what is left of the job
	// takes so many times as long.
	paysOff = 3
	// linkGuess is how fast content comes to a peer of which nothing is known,
	// in bytes a second.
	linkGuess = 6e6
)

// choose picks the job that a device works on next, and the tasks: the most
// urgent, and there the job with the least speed of members for what remains
// of it. ahead says that the device is busy and would only queue.
func (b *Board) choose(s *seat, ahead bool) (*jobState, []*task) {
	if j := s.on; ahead && j != nil && j.open > 0 && j.live() && !b.outranked(s, j) {
		// It will choose anew when it is free.
		if !b.asks(s, j) {
			return nil, nil
		}
		if tasks := b.chooseTasks(s, j, true); len(tasks) > 0 {
			return j, tasks
		}
		return nil, nil
	}
	var not []*jobState // have nothing for it after all
	for {
		var best *jobState
		least := math.Inf(1)
		for _, j := range b.live {
			if j.open == 0 || !j.live() || !b.asks(s, j) || slices.Contains(not, j) {
				continue
			}
			more := 1
			if best != nil {
				if more = b.urgency(j, best); more < 0 {
					continue
				}
			}
			load, ok := b.load(s, j)
			if !ok {
				continue
			}
			if more > 0 || load < least {
				best, least = j, load
			}
		}
		if best == nil {
			return nil, nil
		}
		if tasks := b.chooseTasks(s, best, ahead); len(tasks) > 0 {
			return best, tasks
		}
		not = append(not, best)
	}
}

// load is how well j is served: the speed of its members, s among them, for the
// work that remains. It is false where s can do nothing of it, or would have to
// fetch content for so long that it does not pay.
func (b *Board) load(s *seat, j *jobState) (float64, bool) {
	suits, work := false, 0.0
	b.effort += len(j.classes)
	for _, c := range j.classes {
		if c.open == 0 || !b.suits(s, c) {
			continue
		}
		suits = true
		w, _, ok := c.costs.rest()
		if !ok {
			w = float64(c.costs.left) * b.typical()
		}
		work += w
	}
	if !suits {
		return 0, false
	}
	own := s.pace()
	others := j.members
	if s.member == j {
		others -= s.counted
	}
	load := (others + own) / max(work, 1e-9)
	switch {
	case s.on == j:
		load *= stay
	case !b.has(s, j) && j.snapshot.Bytes > 0:
		// Where nobody is at it somebody has to begin. Sums of paces leave a trace when all are gone.
		if b.usual > 0 && others > own*1e-6 && b.fetching(s, j)*paysOff > work/(others+own) && len(b.live) > 1 {
			return 0, false
		}
		load *= move
	}
	return load, true
}

// has reports whether s's machine has the content of j: that of the requester has.
func (b *Board) has(s *seat, j *jobState) bool {
	return s.w.peer == b.self || slices.Contains(s.w.worked, j)
}

// fetching is how long s's machine will be at fetching the content of j.
func (b *Board) fetching(s *seat, j *jobState) float64 {
	rate := s.w.rate
	if rate == 0 {
		if rate = b.rate; rate == 0 {
			rate = linkGuess
		}
	}
	return float64(j.snapshot.Bytes) / rate
}

// typical is what a task costs where nothing is known of its job.
func (b *Board) typical() float64 {
	if b.usual > 0 {
		return b.usual
	}
	return 1
}

// chooseTasks picks tasks of the class of j whose first one goes before those of the others.
func (b *Board) chooseTasks(s *seat, j *jobState, ahead bool) []*task {
	var not []*class
	for {
		var best *class
		var first *task
		for _, c := range j.classes {
			if c.open == 0 || !b.suits(s, c) || slices.Contains(not, c) {
				continue
			}
			t := c.next()
			if t != nil && (first == nil || t.before(first)) {
				best, first = c, t
			}
		}
		if best == nil {
			return nil
		}
		if tasks := b.cut(s, j, best, ahead); len(tasks) > 0 {
			return tasks
		}
		not = append(not, best)
	}
}
