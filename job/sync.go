package job

import (
	"fmt"
	"time"
)

// Report is what a worker says to a requester: state, progress, results. Each
// one is complete in itself; the newest replaces what the last one said of
// Machine, Bids and Progress, while receipts are repeated until settled.
type Report struct {
	Session string   // chosen at start: a new one means that the worker restarted
	Machine *Machine // in the first report of a stream and after a change
	Bids    []Bid    // how much more work each device wants now
	// Progress lists every lease that the worker holds. A lease that is
	// missing here although the requester granted it was lost on the way.
	Progress []Progress
	Receipts []Signed // work done; repeated after a reconnect until settled
	Inline   []Block  // small outputs of those receipts, so that nobody need fetch them
	Leaving  string   // not empty: takes no more work, and why

	Partial     [][]byte // opaque partial results (reserved: checkpoints, streamed answers)
	Commitments [][]byte // opaque commitments (reserved: token outputs)
}

// Bid is one device's wish for work.
type Bid struct {
	Device string
	Want   int     // leases it could start or queue now
	Price  float64 // per device-second; 0 in a private farm
	// Jobs holds the jobs of this requester whose content is here already.
	Jobs []ID
}

// Progress of one lease.
type Progress struct {
	Lease LeaseID
	// Task is the index in the lease of the task that runs now; -1: fetching
	// content or waiting for the device.
	Task     int
	Fraction float64 // of that task, 0 to 1
	Phase    string  // for people: "fetching", "loading", "rendering"
}

// Order is what a requester answers: new leases, stops, and what became of
// reported work. It is sent as soon as there is something to say.
type Order struct {
	Epoch   uint64 // of the requester's coordinator; only grows
	Leases  []Lease
	Stops   []Stop
	Settled []Settled
	// BeatEvery is how often the requester wants to hear from the worker.
	BeatEvery time.Duration
	// Resting is not empty where this worker gets no work, and says why.
	Resting string
}

// Lease is the time-limited right to run an ordered list of tasks on one
// device. Any report renews it.
type Lease struct {
	ID     LeaseID
	Job    ID
	Device string
	Epoch  uint64
	TTL    time.Duration // since the last report heard
	Tasks  []Granted
	// Read is a signed, expiring right to read the job's content, which the
	// worker may show to other workers.
	Read Signed
	// Memory: the requester reads in receipts how much memory of a GPU a task took
	// (Meter.VRAM), and that memory ran out (OutOfMemory, OutOfVRAM).
	Memory bool
	// Disks is the CID of a file that lists which of the content lies on disks
	// that several machines have (DiskFile); undefined: nothing does.
	Disks Ref
}

// Readable is an account of one of l's tasks as its requester reads it.
func (l Lease) Readable(x Leaf) Leaf {
	if l.Memory {
		return x
	}
	x.Meter.VRAM = 0
	if x.Outcome.Short() {
		x.Outcome = Broken
	}
	return x
}

// Granted is one task of a lease.
type Granted struct {
	Task  Task
	Fence uint64 // of this task's newest grant: an older result never replaces a newer
	// SecretHash is H(secret). The secret decides what is checked and is
	// shown after the receipt exists, so the worker cannot adapt to it.
	SecretHash []byte
	Prior      []Prior // outputs of Task.After, same order
}

// Prior is the result of a predecessor.
type Prior struct {
	Task    TaskKey  `cbor:"task"`
	Outputs []Output `cbor:"outputs"`
}

// Stop ends a lease: its tasks are cancelled on the worker.
type Stop struct {
	Lease  LeaseID
	Reason string
}

// Settled says what became of reported work; the worker may forget it.
type Settled struct {
	Job    ID
	Lease  LeaseID
	Task   TaskKey
	Ruling Ruling // empty: the requester has it safely, judgement follows
	Reason string
	Secret []byte // what SecretHash was the hash of
}

// Block is content with its address.
type Block struct {
	CID  Ref    `cbor:"cid"`
	Data []byte `cbor:"data"`
}

// Validate checks the bounds of a report from a peer.
func (r Report) Validate() error {
	if len(r.Session) > 128 || len(r.Bids) > MaxDevices || len(r.Progress) > 4*MaxDevices ||
		len(r.Receipts) > 256 || len(r.Leaving) > MaxReasonBytes {
		return fmt.Errorf("report: over its bounds")
	}
	n := 0
	for _, b := range r.Inline {
		n += len(b.Data)
	}
	if n > MaxInlineBytes || len(r.Inline) > 4*MaxOutputs {
		return fmt.Errorf("report: %d inline bytes in %d blocks", n, len(r.Inline))
	}
	for _, b := range r.Bids {
		if b.Want < 0 || b.Want > MaxTasksPerLease || len(b.Device) > MaxNameBytes || len(b.Jobs) > 1024 || b.Price < 0 || b.Price != b.Price {
			return fmt.Errorf("report: bid over its bounds")
		}
	}
	for _, p := range r.Progress {
		if len(p.Lease) > 64 || len(p.Phase) > MaxNameBytes || !(p.Fraction >= 0 && p.Fraction <= 1) || p.Task < -1 || p.Task >= MaxTasksPerLease {
			return fmt.Errorf("report: progress over its bounds")
		}
	}
	if r.Machine != nil {
		return r.Machine.Validate()
	}
	return nil
}

// Validate checks the bounds of an order from a peer.
func (o Order) Validate() error {
	if len(o.Leases) > 64 || len(o.Stops) > 1024 || len(o.Settled) > 4096 || len(o.Resting) > MaxReasonBytes {
		return fmt.Errorf("order: over its bounds")
	}
	if o.BeatEvery < 0 || o.BeatEvery > time.Hour {
		return fmt.Errorf("order: beat every %v", o.BeatEvery)
	}
	for _, l := range o.Leases {
		if _, err := ParseLeaseID(string(l.ID)); err != nil {
			return err
		}
		if _, err := ParseID(string(l.Job)); err != nil {
			return err
		}
		if len(l.Tasks) == 0 || len(l.Tasks) > MaxTasksPerLease || len(l.Device) > MaxNameBytes {
			return fmt.Errorf("order: lease of %d tasks", len(l.Tasks))
		}
		for _, g := range l.Tasks {
			if err := g.Task.Validate(); err != nil {
				return err
			}
			if len(g.Prior) != len(g.Task.After) {
				return fmt.Errorf("order: task %s has %d predecessors and %d results of them", g.Task.Label, len(g.Task.After), len(g.Prior))
			}
			for _, p := range g.Prior {
				for _, out := range p.Outputs {
					if err := out.Validate(); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
