package p2p

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// syncRoom is what a body may take of a frame; the rest is for seq and ack.
const syncRoom = wire.MaxSync - 64

// splitReport turns a report into messages that each fit a frame. Every one
// is complete in what replaces the last (bids, progress); machine and inline
// blocks go with the first, receipts are dealt out.
func splitReport(r job.Report) ([]*wire.Sync, error) {
	w := wire.FromReport(r)
	if proto.Size(w) <= syncRoom {
		return []*wire.Sync{{Body: &wire.Sync_Report{Report: w}}}, nil
	}
	receipts := w.Receipts
	w.Receipts = nil
	var out []*wire.Sync
	for {
		size := proto.Size(w)
		for len(receipts) > 0 {
			n := proto.Size(receipts[0]) + 8
			if size+n > syncRoom {
				break
			}
			size += n
			w.Receipts = append(w.Receipts, receipts[0])
			receipts = receipts[1:]
		}
		if size > syncRoom || (len(receipts) > 0 && len(w.Receipts) == 0 && len(out) > 0) {
			return nil, fmt.Errorf("report of %d bytes: %w", size, wire.ErrTooLarge)
		}
		out = append(out, &wire.Sync{Body: &wire.Sync_Report{Report: w}})
		if len(receipts) == 0 {
			return out, nil
		}
		w = &wire.Report{Session: w.Session, Bids: w.Bids, Progress: w.Progress, Leaving: w.Leaving}
	}
}

// splitOrder does the same for an order: leases, then what was settled.
func splitOrder(o job.Order) ([]*wire.Sync, error) {
	w, err := wire.FromOrder(o)
	if err != nil {
		return nil, err
	}
	if proto.Size(w) <= syncRoom {
		return []*wire.Sync{{Body: &wire.Sync_Order{Order: w}}}, nil
	}
	leases, settled := w.Leases, w.Settled
	w.Leases, w.Settled = nil, nil
	var out []*wire.Sync
	for {
		size := proto.Size(w)
		took := 0
		for ; len(settled) > 0; took++ {
			n := proto.Size(settled[0]) + 8
			if size+n > syncRoom {
				break
			}
			size += n
			w.Settled, settled = append(w.Settled, settled[0]), settled[1:]
		}
		for ; len(leases) > 0 && len(settled) == 0; took++ {
			n := proto.Size(leases[0]) + 8
			if size+n > syncRoom {
				break
			}
			size += n
			w.Leases, leases = append(w.Leases, leases[0]), leases[1:]
		}
		if size > syncRoom || (took == 0 && len(out) > 0) {
			return nil, fmt.Errorf("order of %d bytes: %w", size, wire.ErrTooLarge)
		}
		out = append(out, &wire.Sync{Body: &wire.Sync_Order{Order: w}})
		if len(leases) == 0 && len(settled) == 0 {
			return out, nil
		}
		w = &wire.Order{Epoch: w.Epoch, BeatEveryNs: w.BeatEveryNs, Resting: w.Resting}
	}
}
