package blendfile

// Difference says what two versions of a .blend do not have in common, and on
// which datablocks that has a bearing. It is for one goroutine at a time.
type Difference struct {
	was, now side
	apart    bool // nothing can be said: another Blender wrote one of them
}

// side is one version.
type side struct {
	*Graph
	changed []bool // the other version has no such datablock, or it says something else
	reached []reach
	todo    []int32
}

// reach is how a datablock is come to from a scene.
type reach uint8

const (
	unreached reach = iota
	inTree          // as a collection or scene whose hidden objects are not drawn
	used            // otherwise: all of it counts
)

// Compare compares two versions.
func Compare(was, now *Graph) *Difference {
	d := &Difference{was: side{Graph: was}, now: side{Graph: now}, apart: was.base != now.base}
	d.was.mark(now)
	d.now.mark(was)
	return d
}

func (s *side) mark(other *Graph) {
	s.changed = make([]bool, len(s.blocks))
	s.reached = make([]reach, len(s.blocks))
	for i, b := range s.blocks {
		o, ok := other.index[b.key]
		s.changed[i] = !ok || other.blocks[o].sum != b.sum
	}
}

// Except takes datablocks off those that were changed, given by key: it is known
// in another way that they are the same.
func (d *Difference) Except(same func(key string) bool) {
	for _, s := range []side{d.was, d.now} {
		for i, c := range s.changed {
			if c && same(s.blocks[i].key) {
				s.changed[i] = false
			}
		}
	}
}

// Changed are the keys of datablocks that are not the same in both versions, as
// of ID.Key.
func (d *Difference) Changed() []string {
	var out []string
	for i, c := range d.was.changed {
		if c {
			out = append(out, d.was.blocks[i].key)
		}
	}
	for i, c := range d.now.changed {
		if _, ok := d.was.index[d.now.blocks[i].key]; c && !ok {
			out = append(out, d.now.blocks[i].key)
		}
	}
	return out
}

// Same reports whether a scene with the keys given is known to come out the same
// in both versions where the objects of these keys are hidden: nothing that was
// changed is led to from the scene, other than through the membership of hidden
// objects in collections of the scene.
func (d *Difference) Same(scene string, hiddenWas, hiddenNow map[string]bool) bool {
	return !d.apart && d.was.clean(scene, hiddenWas) && d.now.clean(scene, hiddenNow)
}

// clean walks from the scene and looks for something that was changed.
func (s *side) clean(scene string, hidden map[string]bool) bool {
	from, ok := s.index[scene]
	if !ok {
		return false
	}
	clear(s.reached)
	s.todo = s.todo[:0]
	if !s.come(from, inTree) {
		return false
	}
	for len(s.todo) > 0 {
		i := s.todo[len(s.todo)-1]
		s.todo = s.todo[:len(s.todo)-1]
		tree := s.reached[i] == inTree
		for _, l := range s.blocks[i].links {
			how := used
			switch {
			case tree && l.how == linkMember && hidden[s.blocks[l.to].key]:
				continue
			case tree && l.how == linkChild:
				how = inTree
			}
			if !s.come(l.to, how) {
				return false
			}
		}
	}
	return true
}

// come notes that i is reached; false where i was changed.
func (s *side) come(i int32, how reach) bool {
	if s.changed[i] {
		return false
	}
	if s.reached[i] < how {
		s.reached[i] = how
		s.todo = append(s.todo, i)
	}
	return true
}

// Matter returns those of the keys given whose being hidden could make a
// difference to Same: of objects that lead to something that was changed.
func (d *Difference) Matter(objects []string) []string {
	was, now := d.was.leading(), d.now.leading()
	var out []string
	for _, k := range objects {
		i, ok := d.was.index[k]
		if !ok || !was[i] {
			if i, ok = d.now.index[k]; !ok || !now[i] {
				continue
			}
		}
		out = append(out, k)
	}
	return out
}

// leading are the datablocks that lead to something that was changed, or are it.
func (s *side) leading() []bool {
	back := make([][]int32, len(s.blocks))
	for i, b := range s.blocks {
		for _, l := range b.links {
			back[l.to] = append(back[l.to], int32(i))
		}
	}
	out := make([]bool, len(s.blocks))
	var todo []int32
	add := func(i int32) {
		if !out[i] {
			out[i] = true
			todo = append(todo, i)
		}
	}
	for i, c := range s.changed {
		if c {
			add(int32(i))
		}
	}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, b := range back[i] {
			add(b)
		}
	}
	return out
}
