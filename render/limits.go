package render

import (
	"fmt"
	"runtime"
	"time"
)

// Limits bound what one session may take of this machine. A session over one
// of them is ended at once. Zero numbers mean no such limit.
type Limits struct {
	// MemoryBytes of the whole tree of processes. A Command's own MemoryBytes
	// only recycles it afterwards.
	MemoryBytes int64
	// Threads of all its processes together.
	Threads int
	// DiskBytes that it may hold in its work folder, and of files without a
	// name. The folder may hold maxFiles files.
	DiskBytes int64
	// CPU is processor time of one request.
	CPU time.Duration

	alone bool // no further process, where the system can hold it to that
}

// DefaultLimits are generous to every honest scene, on a machine that gives a
// session this much memory.
func DefaultLimits(memory int64) Limits {
	return Limits{MemoryBytes: memory, Threads: 512 + 32*runtime.NumCPU(), DiskBytes: 32 << 30}
}

// bounded has another limit of memory; 0: its own.
func (l Limits) bounded(memory int64) Limits {
	if memory > 0 {
		l.MemoryBytes = memory
	}
	return l
}

const (
	// maxFiles bounds the names in a session's work folder.
	maxFiles = 1 << 17
	// minFreeBytes of the disk with the work folder are nobody's to take.
	minFreeBytes = 512 << 20
	// maxEvents bounds what a runner says about one request.
	maxEvents = 1 << 17
)

// held is what a session holds of this machine at one moment.
type held struct {
	memory  int64
	threads int
	cpu     time.Duration // of the request
	disk    usage
}

// usage of a disk.
type usage struct {
	bytes   int64
	files   int
	free    int64 // left for anybody; meaningless unless known
	known   bool  // free was found out
	tooDeep bool  // folders in folders beyond what is looked into
}

// over says which limit is passed, or nil.
func (l Limits) over(h held) error {
	switch {
	case l.Threads > 0 && h.threads > l.Threads:
		return fmt.Errorf("%w: %d run, %d are allowed (sandbox.threads)", ErrThreads, h.threads, l.Threads)
	case l.MemoryBytes > 0 && h.memory > l.MemoryBytes:
		return fmt.Errorf("%w: %d MiB used, %d MiB allowed", ErrMemory, h.memory>>20, l.MemoryBytes>>20)
	case l.CPU > 0 && h.cpu > l.CPU:
		return fmt.Errorf("%w: %v used, %v allowed (sandbox.cpu_s)", ErrCPU, h.cpu.Round(time.Second), l.CPU)
	case l.DiskBytes <= 0:
		return nil
	case h.disk.bytes > l.DiskBytes:
		return fmt.Errorf("%w: %d MiB written, %d MiB allowed (sandbox.disk_bytes)", ErrDisk, h.disk.bytes>>20, l.DiskBytes>>20)
	case h.disk.files > maxFiles:
		return fmt.Errorf("%w: more than %d files", ErrDisk, maxFiles)
	case h.disk.tooDeep:
		return fmt.Errorf("%w: folders more than %d deep", ErrDisk, maxWatchedDepth)
	case h.disk.known && h.disk.free < minFreeBytes:
		return fmt.Errorf("%w: only %d MiB are left on the disk of the work folder; make room there", ErrDisk, h.disk.free>>20)
	}
	return nil
}

// maxWatchedDepth bounds the folders in folders of a work folder.
const maxWatchedDepth = 64

// guard watches a session for its whole life: what happens while it starts and
// between requests counts as well.
func (s *session) guard() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var disk usage
	var again time.Time
	for {
		select {
		case <-tick.C:
		case <-s.killed:
			return
		case <-s.exited:
			return
		}
		tree := s.processes()
		h := held{memory: resident(tree)}
		for _, p := range tree {
			h.threads += p.threads
		}
		nameless, memory := unnamedFiles(tree)
		h.memory += memory
		s.mu.Lock()
		s.peak = max(s.peak, h.memory)
		h.cpu = s.cpu - s.cpuBase
		s.mu.Unlock()
		// A folder of many files is looked at less often.
		if now := time.Now(); s.limits.DiskBytes > 0 && !now.Before(again) {
			disk = diskUsage(s.launch.hostWork)
			again = now.Add(20 * time.Since(now))
		}
		h.disk = disk
		h.disk.bytes += nameless
		if err := s.limits.over(h); err != nil {
			s.kill(err)
			return
		}
	}
}
