package dispatch

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"idlewild/job"
)

// kept is a receipt as the journal and the board keep it: without what the
// journal knows anyway, and such that the exact bytes that were signed can be
// made of it again.
type kept struct {
	peer   int32
	uses   int32 // results that may still ask for it
	packed string
}

const (
	keptRaw byte = iota // body and signature as they came
	keptPacked
	keptVRAM // packed, with the memory that was taken of a GPU
)

// maxTexts bounds the names that a job's journal keeps once for all.
const maxTexts = 1 << 12

// outcomes are named by index in records, which therefore never changes.
var outcomes = []job.Outcome{job.Succeeded, job.Failed, job.Broken, job.Cancelled, job.OutOfMemory, job.OutOfVRAM}

// naming gives the numbers by which packed receipts say names, and writes those
// that are new.
type naming struct {
	b *Board
	j *jobState
}

func (n naming) text(s string) (int, bool) {
	if no, ok := n.j.textNo[s]; ok {
		return no, true
	}
	if len(n.j.texts) >= maxTexts || len(s) > job.MaxReasonBytes {
		return 0, false
	}
	n.b.write(n.j, &textRecord{Text: s})
	return n.j.textNo[s], true
}

func (n naming) lease(id job.LeaseID) int {
	if l := n.j.leases[id]; l != nil && l.no >= 0 {
		return int(l.no)
	}
	raw := string(packLease(id))
	for i := len(n.j.leaseIDs) - 1; i >= 0; i-- {
		if n.j.leaseIDs[i] == raw {
			return i
		}
	}
	n.b.write(n.j, &leaseRecord{Lease: []byte(raw)})
	return len(n.j.leaseIDs) - 1
}

// pack keeps a receipt. What cannot be made again bit for bit is kept as it is.
func (j *jobState) pack(n naming, o OpenedReceipt) string {
	if p, ok := j.packed(n, o); ok {
		if s, _, err := j.unpack(kept{peer: int32(j.peerNo[o.Peer]), packed: p}); err == nil && bytes.Equal(s.Body, o.Signed.Body) && bytes.Equal(s.Sig, o.Signed.Sig) {
			return p
		}
	}
	var p packer
	p.byte(keptRaw)
	p.bytes(o.Signed.Body)
	p.bytes(o.Signed.Sig)
	return string(p.b)
}

func (j *jobState) packed(n naming, o OpenedReceipt) (string, bool) {
	r := o.Receipt
	if r.Version != 1 || r.Job != j.id || r.Worker != o.Peer.String() {
		return "", false
	}
	p := packer{b: make([]byte, 0, 256)}
	text := func(s string) {
		if no, ok := n.text(s); ok {
			p.uint(uint64(no) + 1)
			return
		}
		p.uint(0)
		p.str(s)
	}
	form := keptPacked
	if slices.ContainsFunc(r.Leaves, func(l job.Leaf) bool { return l.Meter.VRAM != 0 }) {
		form = keptVRAM
	}
	p.byte(form)
	text(r.Requester)
	p.uint(uint64(n.lease(r.Lease)))
	p.uint(r.Epoch)
	p.uint(uint64(len(r.Leaves)))
	for _, l := range r.Leaves {
		t := j.taskOf(l)
		if t == nil || t.index < 0 {
			return "", false
		}
		p.uint(uint64(t.index))
		p.int(int64(l.Fence - r.Epoch<<32))
		no := -1
		for i, o := range outcomes {
			if o == l.Outcome {
				no = i
			}
		}
		if no < 0 {
			return "", false
		}
		p.byte(byte(no))
		p.str(l.Reason)
		p.uint(uint64(len(l.Outputs)))
		for i, o := range l.Outputs {
			if i < len(t.outputs) && t.outputs[i].Name == o.Name && t.outputs[i].Media == o.Media {
				p.byte(1)
			} else {
				p.byte(0)
				p.str(o.Name)
				p.str(string(o.Media))
			}
			p.ref(o.File)
			p.int(o.Bytes)
			p.bytes(o.Pixels)
		}
		p.ref(l.Log)
		p.str(l.LogTail)
		m := l.Meter
		p.int(int64(m.Wall))
		p.int(int64(m.Wall - m.Render))
		p.int(int64(m.Load))
		p.int(int64(m.CPU))
		p.int(m.Peak)
		if form == keptVRAM {
			p.int(m.VRAM)
		}
		text(l.Device)
		text(l.DeviceClass)
		text(l.Runner)
		text(l.Build)
	}
	p.bytes(o.Signed.Sig)
	return string(p.b), true
}

// taskOf returns the task that a leaf speaks of.
func (j *jobState) taskOf(l job.Leaf) *task {
	if g := j.grants[l.Fence]; g != nil && g.t.is(l.Task) {
		return g.t
	}
	if x := j.rets[l.Fence]; x != nil && x.t.is(l.Task) {
		return x.t
	}
	return j.find(l.Task)
}

// unpack makes a receipt again.
func (j *jobState) unpack(k kept) (job.Signed, job.Receipt, error) {
	r, s, err := j.read(k, true)
	if err == nil && s.Body == nil {
		s.Body, err = job.Encode(r)
	}
	if err != nil {
		return s, r, fmt.Errorf("receipt: %w", err)
	}
	return s, r, nil
}

// read reads a receipt; where it is packed the body is still to be made. Not
// whole leaves out what a start need not know: keys and outputs.
func (j *jobState) read(k kept, whole bool) (r job.Receipt, s job.Signed, err error) {
	u := unpacker{s: k.packed}
	form := u.byte()
	switch form {
	case keptRaw:
		s = job.Signed{Body: u.bytes(), Sig: u.bytes()}
		if err := u.done(); err != nil {
			return r, s, err
		}
		return r, s, job.Decode(s.Body, job.MaxReceiptBytes, &r)
	case keptPacked, keptVRAM:
	default:
		return r, s, fmt.Errorf("unknown form")
	}
	r = job.Receipt{Version: 1, Requester: j.text(&u), Job: j.id}
	if whole {
		p, err := j.peerAt(int(k.peer))
		if err != nil {
			return r, s, err
		}
		r.Worker = p.String()
	}
	if no := u.index(); no < len(j.leaseIDs) {
		r.Lease = unpackLease([]byte(j.leaseIDs[no]))
	} else {
		u.fail(fmt.Errorf("lease %d of %d", no, len(j.leaseIDs)))
	}
	r.Epoch = u.uint()
	n := u.count()
	if n > job.MaxTasksPerLease {
		u.fail(fmt.Errorf("%d leaves", n))
	}
	r.Leaves = make([]job.Leaf, 0, n)
	for range n {
		if u.err != nil {
			break
		}
		r.Leaves = append(r.Leaves, j.readLeaf(&u, form, r.Epoch, whole))
	}
	s.Sig = u.bytes()
	return r, s, u.done()
}

// skim reads one leaf of a receipt, without key and outputs: a start reads very
// many of them.
func (j *jobState) skim(k kept, no int) (job.Leaf, error) {
	if k.packed == "" || k.packed[0] == keptRaw {
		r, _, err := j.read(k, false)
		if err == nil && (no < 0 || no >= len(r.Leaves)) {
			err = errShort
		}
		if err != nil {
			return job.Leaf{}, err
		}
		return r.Leaves[no], nil
	}
	u := unpacker{s: k.packed[1:]}
	j.text(&u)
	lease, epoch, n := u.index(), u.uint(), u.count()
	if u.err == nil && (lease >= len(j.leaseIDs) || no < 0 || no >= n) {
		u.fail(errShort)
	}
	var leaf job.Leaf
	for i := 0; i <= no && u.err == nil; i++ {
		leaf = j.readLeaf(&u, k.packed[0], epoch, false)
	}
	return leaf, u.err
}

// leaseNo is the index of a receipt's lease among those of the journal; where it is
// not among them -1, and its name.
func (j *jobState) leaseNo(k kept) (int32, job.LeaseID) {
	if k.packed != "" && k.packed[0] != keptRaw {
		u := unpacker{s: k.packed[1:]}
		j.text(&u)
		if no := u.index(); u.err == nil && no < len(j.leaseIDs) {
			return int32(no), ""
		}
	}
	r, _, err := j.read(k, false)
	if err != nil {
		return -1, ""
	}
	if l := j.leases[r.Lease]; l != nil && l.no >= 0 {
		return l.no, ""
	}
	return -1, r.Lease
}

// leaseOf is the name of the lease that x came of.
func (j *jobState) leaseOf(x *ret) job.LeaseID {
	if x.lease < 0 {
		return x.lost
	}
	return unpackLease([]byte(j.leaseIDs[x.lease]))
}

// text reads a name that is kept once for all, or one that is not.
func (j *jobState) text(u *unpacker) string {
	no := u.uint()
	switch {
	case no == 0:
		return u.str()
	case no > uint64(len(j.texts)):
		u.fail(fmt.Errorf("text %d of %d", no, len(j.texts)))
		return ""
	}
	return j.texts[no-1]
}

func (j *jobState) readLeaf(u *unpacker, form byte, epoch uint64, whole bool) job.Leaf {
	var l job.Leaf
	t, err := j.taskAt(u.index())
	if err != nil {
		u.fail(err)
		return l
	}
	if whole {
		l.Task = t.key()
	}
	l.Fence = epoch<<32 + uint64(u.int())
	if no := int(u.byte()); no < len(outcomes) {
		l.Outcome = outcomes[no]
	} else {
		u.fail(fmt.Errorf("outcome %d", no))
	}
	l.Reason = u.str()
	n := u.count()
	if n > job.MaxOutputs {
		u.fail(fmt.Errorf("%d outputs", n))
		return l
	}
	if whole && n > 0 {
		l.Outputs = make([]job.Output, n)
	}
	for i := range n {
		var o job.Output
		if !u.bool() {
			o.Name, o.Media = u.str(), job.Media(u.str())
		} else if i < len(t.outputs) {
			o.Name, o.Media = t.outputs[i].Name, t.outputs[i].Media
		} else {
			u.fail(fmt.Errorf("output %d of %d", i, len(t.outputs)))
		}
		if !whole {
			u.skipRef()
			u.int()
			u.str()
			continue
		}
		o.File, o.Bytes, o.Pixels = u.ref(), u.int(), u.bytes()
		l.Outputs[i] = o
	}
	l.Log, l.LogTail = u.ref(), u.str()
	m := &l.Meter
	m.Wall = time.Duration(u.int())
	m.Render, m.Load, m.CPU, m.Peak = m.Wall-time.Duration(u.int()), time.Duration(u.int()), time.Duration(u.int()), u.int()
	if form == keptVRAM {
		m.VRAM = u.int()
	}
	l.Device, l.DeviceClass, l.Runner, l.Build = j.text(u), j.text(u), j.text(u), j.text(u)
	return l
}

// leaf is what x's worker said of it.
func (j *jobState) leaf(x *ret) job.Leaf {
	if x.live != nil {
		return x.live.leaf
	}
	if x.receipt >= 0 && int(x.receipt) < len(j.receipts) {
		if _, r, err := j.unpack(j.receipts[x.receipt]); err == nil && int(x.leafNo) < len(r.Leaves) {
			return r.Leaves[x.leafNo]
		}
	}
	return job.Leaf{Task: x.t.key(), Fence: x.fence, Device: x.device, DeviceClass: x.deviceClass, Meter: job.Meter{Wall: x.wall, Render: x.render, Load: x.load}, Log: j.logs[x.fence]}
}

// logOf is the log of x.
func (j *jobState) logOf(x *ret) job.Ref {
	if x.live != nil {
		return x.live.leaf.Log
	}
	if x.receipt >= 0 && int(x.receipt) < len(j.receipts) {
		if l, err := j.skim(j.receipts[x.receipt], int(x.leafNo)); err == nil {
			return l.Log
		}
	}
	return j.logs[x.fence]
}

// signed is the receipt with x's leaf.
func (j *jobState) signed(x *ret) job.Signed {
	if x.live != nil {
		return x.live.receipt.Signed
	}
	if x.receipt >= 0 && int(x.receipt) < len(j.receipts) {
		if s, _, err := j.unpack(j.receipts[x.receipt]); err == nil {
			return s
		}
	}
	return job.Signed{}
}

// drop lets go of a receipt that nobody asks for any more.
func (j *jobState) drop(x *ret) {
	if x.receipt < 0 {
		return
	}
	if l := j.logOf(x); l.Defined() {
		j.logs[x.fence] = l
	}
	if k := &j.receipts[x.receipt]; k.uses > 0 {
		if k.uses--; k.uses == 0 {
			k.packed = ""
		}
	}
	x.receipt = -1
}

// receiptOf is a kept receipt for those who check its signature.
func (j *jobState) receiptOf(k kept) (OpenedReceipt, error) {
	s, r, err := j.unpack(k)
	if err != nil {
		return OpenedReceipt{}, err
	}
	p, err := j.peerAt(int(k.peer))
	return OpenedReceipt{Signed: s, Receipt: r, Peer: p}, err
}

// note keeps of a leaf what is asked for after its judgement.
func (j *jobState) note(x *ret, l job.Leaf) {
	x.wall, x.render, x.load = l.Meter.Wall, l.Meter.Render, l.Meter.Load
	x.maker = j.maker(l.Device, l.DeviceClass)
}
