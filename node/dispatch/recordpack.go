package dispatch

import (
	"fmt"
	"time"

	"idlewild/job"
)

// The hand-written encodings of records. Fields are only ever added at the end
// of a new format.

func (r *peerRecord) put(p *packer)   { p.str(r.ID) }
func (r *peerRecord) get(u *unpacker) { r.ID = u.str() }

func (r *textRecord) put(p *packer)   { p.str(r.Text) }
func (r *textRecord) get(u *unpacker) { r.Text = u.str() }

func (r *leaseRecord) put(p *packer)   { p.bytes(r.Lease) }
func (r *leaseRecord) get(u *unpacker) { r.Lease = u.bytes() }

func (r *gapRecord) put(p *packer)   { p.uint(uint64(r.N)) }
func (r *gapRecord) get(u *unpacker) { r.N = u.index() }

func (r *awayRecord) put(p *packer)   { p.list(r.Tasks) }
func (r *awayRecord) get(u *unpacker) { r.Tasks = u.list() }

func (r *blockRecord) put(p *packer) {
	p.uint(uint64(r.From))
	p.bytes(r.Zip)
}

func (r *blockRecord) get(u *unpacker) { r.From, r.Zip = u.index(), u.bytes() }

// fence packs a fence: epoch and number are both small.
func (p *packer) fence(f uint64) {
	p.uint(f >> 32)
	p.uint(f & (1<<32 - 1))
}

func (u *unpacker) fence() uint64 {
	epoch, n := u.uint(), u.uint()
	if n >= 1<<32 || epoch >= 1<<32 {
		u.fail(fmt.Errorf("fence %d of epoch %d", n, epoch))
		return 0
	}
	return epoch<<32 | n
}

// list packs indexes by their differences.
func (p *packer) list(is []int) {
	p.uint(uint64(len(is)))
	last := 0
	for _, i := range is {
		p.int(int64(i - last))
		last = i
	}
}

func (u *unpacker) list() []int {
	n := u.count()
	if n == 0 {
		return nil
	}
	out, last := make([]int, n), int64(0)
	for i := range out {
		last += u.int()
		if last < 0 || last > 1<<31 {
			u.fail(fmt.Errorf("index %d", last))
			return nil
		}
		out[i] = int(last)
	}
	return out
}

func (r *grantRecord) put(p *packer) {
	p.bytes(r.Lease)
	p.uint(uint64(r.Peer))
	p.str(r.Device)
	p.fence(r.Fence)
	p.list(r.Tasks)
}

func (r *grantRecord) get(u *unpacker) {
	r.Lease, r.Peer, r.Device, r.Fence, r.Tasks = u.bytes(), u.index(), u.str(), u.fence(), u.list()
}

func (r *receiptRecord) put(p *packer) {
	p.uint(uint64(r.Peer))
	p.str(r.Packed)
}

func (r *receiptRecord) get(u *unpacker) { r.Peer, r.Packed = u.index(), u.str() }

func (r *returnRecord) put(p *packer) {
	p.uint(uint64(r.Task))
	p.uint(uint64(r.Receipt))
	p.uint(uint64(r.Leaf))
	p.int(r.Moved)
}

func (r *returnRecord) get(u *unpacker) {
	r.Task, r.Receipt, r.Leaf, r.Moved = u.index(), u.index(), u.index(), u.int()
}

// verdict packs a standard verdict, or -1 and what it says.
func (p *packer) verdict(standard int, v *job.Verdict) {
	p.int(int64(standard))
	if standard < 0 {
		b, err := job.Encode(v)
		if err != nil {
			panic(fmt.Sprintf("verdict: %v", err)) // its fields always encode
		}
		p.bytes(b)
	}
}

func (u *unpacker) verdict() (standard int, v *job.Verdict) {
	standard = int(u.int())
	if standard >= 0 || u.err != nil {
		return standard, nil
	}
	v = new(job.Verdict)
	if err := job.Decode([]byte(u.str()), maxRecordBytes, v); err != nil {
		u.fail(err)
	}
	return -1, v
}

func (r *judgeRecord) put(p *packer) {
	p.uint(uint64(r.Task))
	p.fence(r.Fence)
	p.bool(r.Take)
	p.verdict(r.Standard, r.Verdict)
}

func (r *judgeRecord) get(u *unpacker) {
	r.Task, r.Fence, r.Take = u.index(), u.fence(), u.bool()
	r.Standard, r.Verdict = u.verdict()
}

// files packs names; none at all is another thing than no names.
func (p *packer) files(fs []string) {
	if fs == nil {
		p.uint(0)
		return
	}
	p.uint(uint64(len(fs)) + 1)
	for _, f := range fs {
		p.str(f)
	}
}

func (u *unpacker) files() []string {
	n := u.uint()
	if n == 0 || n > uint64(len(u.s))+1 {
		if n > 0 {
			u.fail(errShort)
		}
		return nil
	}
	out := make([]string, n-1)
	for i := range out {
		out[i] = u.str()
	}
	return out
}

func (r *deliverRecord) put(p *packer) {
	p.uint(uint64(r.Task))
	p.files(r.Files)
}

func (r *deliverRecord) get(u *unpacker) { r.Task, r.Files = u.index(), u.files() }

func (r *accountRecord) put(p *packer) {
	p.uint(uint64(r.Peer))
	p.str(r.Device)
	p.int(r.Millis)
}

func (r *accountRecord) get(u *unpacker) { r.Peer, r.Device, r.Millis = u.index(), u.str(), u.int() }

func (r *pieceRecord) put(p *packer) {
	p.uint(uint64(r.Task))
	p.uint(uint64(r.Peer))
	p.uint(uint64(r.Lease))
	p.fence(r.Fence)
	p.bool(r.Take)
	p.verdict(r.Standard, r.Verdict)
	p.int(r.Moved)
	p.int(int64(r.Wall))
	p.int(int64(r.Wall - r.Render))
	p.int(int64(r.Load))
	p.str(r.Device)
	p.ref(r.Log)
}

func (r *pieceRecord) get(u *unpacker) {
	r.Task, r.Peer, r.Lease, r.Fence, r.Take = u.index(), u.index(), u.index(), u.fence(), u.bool()
	r.Standard, r.Verdict = u.verdict()
	r.Moved, r.Wall = u.int(), time.Duration(u.int())
	r.Render, r.Load = r.Wall-time.Duration(u.int()), time.Duration(u.int())
	r.Device, r.Log = u.str(), u.ref()
}

func (r *taskRecord) put(p *packer) {
	p.uint(uint64(r.Task))
	p.uint(uint64(r.Granted))
	p.fence(r.Floor)
	p.bool(r.Placed)
	p.files(r.Files)
}

func (r *taskRecord) get(u *unpacker) {
	r.Task, r.Granted, r.Floor, r.Placed, r.Files = u.index(), u.index(), u.fence(), u.bool(), u.files()
}

func (r *totalRecord) put(p *packer) {
	p.int(r.Results)
	p.fence(r.MaxFence)
	p.uint(uint64(r.Messages))
}

func (r *totalRecord) get(u *unpacker) {
	r.Results, r.MaxFence, r.Messages = u.int(), u.fence(), u.index()
}
