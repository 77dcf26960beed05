package wire

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
)

// maxCID bounds a CID on the wire.
const maxCID = 128

// text makes s fit a protobuf string: valid UTF-8 of at most max bytes. Only
// sentences for people pass through it.
func text(s string, max int) string {
	if len(s) > max {
		s = s[:max]
	}
	return strings.ToValidUTF8(s, "")
}

// FromSigned converts a signed value; the empty one becomes nil.
func FromSigned(s job.Signed) *Signed {
	if len(s.Body) == 0 && len(s.Sig) == 0 {
		return nil
	}
	return &Signed{Body: s.Body, Sig: s.Sig}
}

// Value converts back. Whoever uses the value checks the signature.
func (s *Signed) Value(max int) (job.Signed, error) {
	if s == nil {
		return job.Signed{}, nil
	}
	if len(s.Body) > max || len(s.Sig) > 256 {
		return job.Signed{}, fmt.Errorf("signed value of %d bytes", len(s.Body))
	}
	return job.Signed{Body: s.Body, Sig: s.Sig}, nil
}

// CIDBytes is a CID on the wire; the undefined one is empty.
func CIDBytes(c cid.Cid) []byte {
	if !c.Defined() {
		return nil
	}
	return c.Bytes()
}

// CID reads a CID from the wire; empty is refused.
func CID(b []byte) (cid.Cid, error) {
	if len(b) == 0 || len(b) > maxCID {
		return cid.Undef, fmt.Errorf("cid of %d bytes", len(b))
	}
	c, err := cid.Cast(b)
	if err != nil {
		return cid.Undef, fmt.Errorf("cid: %w", err)
	}
	return c, nil
}

func peerFrom(b []byte) (peer.ID, error) {
	if len(b) == 0 || len(b) > 128 {
		return "", fmt.Errorf("peer id of %d bytes", len(b))
	}
	return peer.IDFromBytes(b)
}

// FromOffer converts an offer.
func FromOffer(o job.Offer) *Offer {
	return &Offer{
		Job:        string(o.Job),
		Requester:  []byte(o.Requester),
		Kind:       string(o.Kind),
		Needs:      fromNeeds(o.Needs),
		InputBytes: o.InputBytes,
		Open:       int64(o.Open),
		MaxPrice:   o.MaxPrice,
		ExpiresMs:  o.Expires.UnixMilli(),
	}
}

// Value converts and checks an offer.
func (o *Offer) Value() (job.Offer, error) {
	id, err := job.ParseID(o.GetJob())
	if err != nil {
		return job.Offer{}, fmt.Errorf("offer: %w", err)
	}
	who, err := peerFrom(o.GetRequester())
	if err != nil {
		return job.Offer{}, fmt.Errorf("offer: %w", err)
	}
	needs, err := o.GetNeeds().job()
	if err != nil {
		return job.Offer{}, fmt.Errorf("offer: %w", err)
	}
	switch {
	case o.Kind == "" || len(o.Kind) > 32:
		return job.Offer{}, fmt.Errorf("offer: kind of %d bytes", len(o.Kind))
	case o.InputBytes < 0 || o.Open < 0 || o.Open > job.MaxTasksPerJob:
		return job.Offer{}, fmt.Errorf("offer: numbers out of range")
	case !(o.MaxPrice >= 0) || math.IsInf(o.MaxPrice, 0):
		return job.Offer{}, fmt.Errorf("offer: price %v", o.MaxPrice)
	}
	return job.Offer{
		Job: id, Requester: who, Kind: job.Kind(o.Kind), Needs: needs,
		InputBytes: o.InputBytes, Open: int(o.Open), MaxPrice: o.MaxPrice,
		Expires: time.UnixMilli(o.ExpiresMs),
	}, nil
}

func fromNeeds(n job.Needs) *Needs {
	return &Needs{Require: n.Require, Device: n.Device, MemoryBytes: n.MemoryBytes, VramBytes: n.VRAMBytes, Latency: string(n.Latency)}
}

func (n *Needs) job() (job.Needs, error) {
	if n == nil {
		return job.Needs{}, nil
	}
	if len(n.Require) > job.MaxFacts || len(n.Device) > 32 || len(n.Latency) > 32 || n.MemoryBytes < 0 || n.VramBytes < 0 {
		return job.Needs{}, fmt.Errorf("needs over their bounds")
	}
	for k, v := range n.Require {
		if len(k) > job.MaxNameBytes || len(v) > job.MaxNameBytes {
			return job.Needs{}, fmt.Errorf("needs over their bounds")
		}
	}
	out := job.Needs{Device: n.Device, MemoryBytes: n.MemoryBytes, VRAMBytes: n.VramBytes, Latency: job.Latency(n.Latency)}
	if len(n.Require) > 0 {
		out.Require = n.Require
	}
	return out, nil
}

// FromReport converts a report.
func FromReport(r job.Report) *Report {
	w := &Report{
		Session:     r.Session,
		Leaving:     text(r.Leaving, job.MaxReasonBytes),
		Partial:     r.Partial,
		Commitments: r.Commitments,
	}
	if r.Machine != nil {
		w.Machine = fromMachine(*r.Machine)
	}
	for _, b := range r.Bids {
		bid := &Bid{Device: b.Device, Want: uint32(max(b.Want, 0)), Price: b.Price}
		for _, id := range b.Jobs {
			bid.Jobs = append(bid.Jobs, string(id))
		}
		w.Bids = append(w.Bids, bid)
	}
	for _, p := range r.Progress {
		w.Progress = append(w.Progress, &Progress{Lease: string(p.Lease), Task: int32(p.Task), Fraction: p.Fraction, Phase: text(p.Phase, job.MaxNameBytes)})
	}
	for _, s := range r.Receipts {
		w.Receipts = append(w.Receipts, &Signed{Body: s.Body, Sig: s.Sig})
	}
	for _, b := range r.Inline {
		w.Inline = append(w.Inline, &Block{Cid: CIDBytes(b.CID.Cid), Data: b.Data})
	}
	return w
}

// Value converts and checks a report. The signatures of its receipts, and its
// inline blocks against their CIDs, are checked by whoever uses them.
func (r *Report) Value() (job.Report, error) {
	out := job.Report{Session: r.GetSession(), Leaving: r.GetLeaving(), Partial: r.GetPartial(), Commitments: r.GetCommitments()}
	if len(r.GetPartial()) > 256 || len(r.GetCommitments()) > 4096 {
		return job.Report{}, fmt.Errorf("report: over its bounds")
	}
	if r.GetMachine() != nil {
		m, err := r.GetMachine().job()
		if err != nil {
			return job.Report{}, fmt.Errorf("report: %w", err)
		}
		out.Machine = &m
	}
	for _, b := range r.GetBids() {
		bid := job.Bid{Device: b.GetDevice(), Want: int(b.GetWant()), Price: b.GetPrice()}
		for _, s := range b.GetJobs() {
			id, err := job.ParseID(s)
			if err != nil {
				return job.Report{}, fmt.Errorf("report: bid: %w", err)
			}
			bid.Jobs = append(bid.Jobs, id)
		}
		out.Bids = append(out.Bids, bid)
	}
	for _, p := range r.GetProgress() {
		id, err := job.ParseLeaseID(p.GetLease())
		if err != nil {
			return job.Report{}, fmt.Errorf("report: progress: %w", err)
		}
		out.Progress = append(out.Progress, job.Progress{Lease: id, Task: int(p.GetTask()), Fraction: p.GetFraction(), Phase: p.GetPhase()})
	}
	for _, s := range r.GetReceipts() {
		v, err := s.Value(job.MaxReceiptBytes)
		if err != nil {
			return job.Report{}, fmt.Errorf("report: receipt: %w", err)
		}
		out.Receipts = append(out.Receipts, v)
	}
	for _, b := range r.GetInline() {
		c, err := CID(b.GetCid())
		if err != nil {
			return job.Report{}, fmt.Errorf("report: inline: %w", err)
		}
		out.Inline = append(out.Inline, job.Block{CID: job.RefOf(c), Data: b.GetData()})
	}
	if err := out.Validate(); err != nil {
		return job.Report{}, err
	}
	return out, nil
}

func fromMachine(m job.Machine) *Machine {
	w := &Machine{}
	for name, values := range m.Facts {
		w.Facts = append(w.Facts, &Fact{Name: name, Values: values})
	}
	for _, d := range m.Devices {
		w.Devices = append(w.Devices, &Device{Name: d.Name, Type: d.Type, Model: text(d.Model, job.MaxNameBytes), Class: d.Class, MemoryBytes: d.MemoryBytes})
	}
	return w
}

func (m *Machine) job() (job.Machine, error) {
	var out job.Machine
	if len(m.GetFacts()) > job.MaxFacts || len(m.GetDevices()) > job.MaxDevices {
		return out, fmt.Errorf("machine over its bounds")
	}
	if len(m.GetFacts()) > 0 {
		out.Facts = make(map[string][]string, len(m.GetFacts()))
	}
	for _, f := range m.GetFacts() {
		if _, twice := out.Facts[f.GetName()]; twice {
			return out, fmt.Errorf("machine: fact %q twice", f.GetName())
		}
		out.Facts[f.GetName()] = f.GetValues()
	}
	for _, d := range m.GetDevices() {
		out.Devices = append(out.Devices, job.Device{Name: d.GetName(), Type: d.GetType(), Model: d.GetModel(), Class: d.GetClass(), MemoryBytes: d.GetMemoryBytes()})
	}
	return out, nil // job.Report.Validate looks at the rest
}

// FromOrder converts an order.
func FromOrder(o job.Order) (*Order, error) {
	w := &Order{Epoch: o.Epoch, BeatEveryNs: int64(o.BeatEvery), Resting: text(o.Resting, job.MaxReasonBytes)}
	for _, l := range o.Leases {
		lease := &Lease{Id: string(l.ID), Job: string(l.Job), Device: l.Device, Epoch: l.Epoch, TtlNs: int64(l.TTL), Read: FromSigned(l.Read), Memory: l.Memory, Disks: CIDBytes(l.Disks.Cid)}
		for _, g := range l.Tasks {
			// Beside the task: programs that do not know them read all files.
			reads := g.Task.Reads
			g.Task.Reads = nil
			task, err := job.Encode(g.Task)
			if err != nil {
				return nil, fmt.Errorf("task %s: %w", g.Task.Label, err)
			}
			if len(task) > job.MaxTaskBytes {
				return nil, fmt.Errorf("task %s: %d bytes, at most %d", g.Task.Label, len(task), job.MaxTaskBytes)
			}
			granted := &Granted{Task: task, Fence: g.Fence, SecretHash: g.SecretHash}
			if len(reads) > 0 {
				if granted.Reads, err = job.Encode(reads); err != nil {
					return nil, fmt.Errorf("task %s: %w", g.Task.Label, err)
				}
			}
			for _, p := range g.Prior {
				b, err := job.Encode(p)
				if err != nil {
					return nil, fmt.Errorf("task %s: prior: %w", g.Task.Label, err)
				}
				granted.Prior = append(granted.Prior, b)
			}
			lease.Tasks = append(lease.Tasks, granted)
		}
		w.Leases = append(w.Leases, lease)
	}
	for _, s := range o.Stops {
		w.Stops = append(w.Stops, &Stop{Lease: string(s.Lease), Reason: text(s.Reason, job.MaxReasonBytes)})
	}
	for _, s := range o.Settled {
		w.Settled = append(w.Settled, &Settled{
			Job: string(s.Job), Lease: string(s.Lease), Task: CIDBytes(s.Task.Cid),
			Ruling: string(s.Ruling), Reason: text(s.Reason, job.MaxReasonBytes), Secret: s.Secret,
		})
	}
	return w, nil
}

// Value converts and checks an order.
func (o *Order) Value() (job.Order, error) {
	out := job.Order{Epoch: o.GetEpoch(), BeatEvery: time.Duration(o.GetBeatEveryNs()), Resting: o.GetResting()}
	for _, l := range o.GetLeases() {
		read, err := l.GetRead().Value(MaxSignedBytes)
		if err != nil {
			return job.Order{}, fmt.Errorf("order: read grant: %w", err)
		}
		if l.GetTtlNs() < 0 || len(l.GetTasks()) > job.MaxTasksPerLease {
			return job.Order{}, fmt.Errorf("order: lease over its bounds")
		}
		lease := job.Lease{ID: job.LeaseID(l.GetId()), Job: job.ID(l.GetJob()), Device: l.GetDevice(), Epoch: l.GetEpoch(), TTL: time.Duration(l.GetTtlNs()), Read: read, Memory: l.GetMemory()}
		if b := l.GetDisks(); len(b) > 0 {
			c, err := CID(b)
			if err != nil {
				return job.Order{}, fmt.Errorf("order: disks: %w", err)
			}
			lease.Disks = job.RefOf(c)
		}
		for _, g := range l.GetTasks() {
			granted, err := g.job()
			if err != nil {
				return job.Order{}, fmt.Errorf("order: %w", err)
			}
			lease.Tasks = append(lease.Tasks, granted)
		}
		out.Leases = append(out.Leases, lease)
	}
	for _, s := range o.GetStops() {
		id, err := job.ParseLeaseID(s.GetLease())
		if err != nil || len(s.GetReason()) > job.MaxReasonBytes {
			return job.Order{}, fmt.Errorf("order: stop of lease %q", s.GetLease())
		}
		out.Stops = append(out.Stops, job.Stop{Lease: id, Reason: s.GetReason()})
	}
	for _, s := range o.GetSettled() {
		v, err := s.job()
		if err != nil {
			return job.Order{}, fmt.Errorf("order: settled: %w", err)
		}
		out.Settled = append(out.Settled, v)
	}
	if err := out.Validate(); err != nil {
		return job.Order{}, err
	}
	return out, nil
}

func (g *Granted) job() (job.Granted, error) {
	out := job.Granted{Fence: g.GetFence(), SecretHash: g.GetSecretHash()}
	if len(out.SecretHash) > 64 || len(g.GetPrior()) > job.MaxTasksPerLease {
		return out, fmt.Errorf("granted task over its bounds")
	}
	if err := job.Decode(g.GetTask(), job.MaxTaskBytes, &out.Task); err != nil {
		return out, fmt.Errorf("task: %w", err)
	}
	if b := g.GetReads(); len(b) > 0 {
		out.Task.Reads = nil
		if err := job.Decode(b, job.MaxReadsBytes, &out.Task.Reads); err != nil {
			return out, fmt.Errorf("task: what it reads: %w", err)
		}
	}
	for _, b := range g.GetPrior() {
		var p job.Prior
		if err := job.Decode(b, MaxPriorBytes, &p); err != nil {
			return out, fmt.Errorf("prior: %w", err)
		}
		if len(p.Outputs) > job.MaxOutputs {
			return out, fmt.Errorf("prior: %d outputs", len(p.Outputs))
		}
		out.Prior = append(out.Prior, p)
	}
	return out, nil
}

func (s *Settled) job() (job.Settled, error) {
	id, err := job.ParseID(s.GetJob())
	if err != nil {
		return job.Settled{}, err
	}
	lease, err := job.ParseLeaseID(s.GetLease())
	if err != nil {
		return job.Settled{}, err
	}
	key, err := CID(s.GetTask())
	if err != nil {
		return job.Settled{}, err
	}
	if len(s.GetReason()) > job.MaxReasonBytes || len(s.GetSecret()) > 256 || len(s.GetRuling()) > 32 {
		return job.Settled{}, fmt.Errorf("over its bounds")
	}
	r := job.Ruling(s.GetRuling())
	if r != "" && r != job.Accepted && r != job.Rejected && r != job.Unsure {
		r = job.Unsure // of a later version: the requester has the result, and that is what counts here
	}
	return job.Settled{Job: id, Lease: lease, Task: job.RefOf(key), Ruling: r, Reason: s.GetReason(), Secret: s.GetSecret()}, nil
}
