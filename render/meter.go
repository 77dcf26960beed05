package render

import (
	"time"

	"idlewild/job"
)

// meter measures one request of a session.
type meter struct {
	s     *session
	start time.Time
	peak  int64 // bytes resident in the whole tree, as sampled
}

// sample looks at the tree and its resident bytes.
func (m *meter) sample() []proc {
	tree := m.s.processes()
	m.peak = max(m.peak, resident(tree))
	return tree
}

// resident adds up the resident bytes of a tree. Pages that its processes
// share count more than once: a bound must not be passed by sharing.
func resident(tree []proc) int64 {
	var rss int64
	for _, p := range tree {
		rss += p.rss
	}
	return rss
}

// exit ends the request.
func (m *meter) exit(done []byte, err error) Exit {
	s := m.s
	if err == nil {
		// Everything is measured while the tree is there.
		tree := m.sample()
		if hwm := highWater(tree); hwm > s.hwm {
			// It rose in this request, so it is this request's.
			m.peak, s.hwm = max(m.peak, hwm), hwm
		}
		s.logs.Sync()
	}
	s.mu.Lock()
	m.peak = max(m.peak, s.peak)
	if st := s.cmd.ProcessState; err != nil && st != nil {
		s.cpu = max(s.cpu, st.UserTime()+st.SystemTime())
	}
	cpu, base := s.cpu, s.cpuBase
	s.cpuBase, s.peak = cpu, 0
	s.mu.Unlock()
	e := Exit{Done: done, Err: err, Log: s.text.Take(), Meter: job.Meter{
		Wall: time.Since(m.start),
		Load: s.load,
		CPU:  max(cpu-base, 0),
		Peak: m.peak,
	}}
	s.load = 0
	if s.launch.memory > 0 && m.peak > s.launch.memory {
		s.over = true
	}
	return e
}

// proc is one process of a tree, as sampled.
type proc struct {
	pid, parent int
	start       uint64        // when it started, in the kernel's ticks: with pid, its identity
	cpu         time.Duration // its own and of children that it waited for
	rss         int64         // bytes
	threads     int
	dead        bool // a zombie: ended, not waited for
}

// processes samples the tree and remembers it.
func (s *session) processes() []proc {
	tree := processTree(s.cmd.Process.Pid)
	var cpu time.Duration
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = make(map[int]uint64)
	}
	for _, p := range tree {
		s.seen[p.pid] = p.start
		cpu += p.cpu
	}
	s.cpu = max(s.cpu, cpu)
	if len(s.seen) > 2*maxTree {
		for pid, start := range s.seen {
			if p, ok := readProc(pid); !ok || p.start != start {
				delete(s.seen, pid)
			}
		}
	}
	return tree
}

// maxTree bounds a tree: a runner must not make us list without end.
const maxTree = 1 << 12
