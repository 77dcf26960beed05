package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/localapi"
	"idlewild/p2p"
)

// farmJobs is both sides of the farm's owner looking after the farm's jobs:
// p2p.FarmJobs and localapi.FarmJobs.
type farmJobs struct{ n *Node }

const farmAsks = 16 // members at a time

// FarmJobs implements p2p.FarmJobs.
func (f farmJobs) FarmJobs() []p2p.FarmJob {
	list := f.n.jobs.List()
	slices.SortStableFunc(list, func(a, b job.Status) int { return cmp.Compare(ended(a), ended(b)) })
	out := make([]p2p.FarmJob, 0, len(list))
	for _, s := range list {
		out = append(out, p2p.FarmJob{
			Job: s.Job, Kind: s.Kind, State: s.State, Submitted: s.Submitted, Priority: s.Priority, Tasks: s.Tasks, Delivered: s.Delivered,
			Running: s.Running, Waiting: s.Waiting, Failed: s.FailedN, Seconds: s.RenderSeconds, Left: s.LeftSeconds,
			MaxWorkers: s.MaxWorkers, Budget: s.BudgetSeconds, Deadline: s.Deadline, Late: s.LateSeconds, Interactive: s.Interactive,
			Only: firstPeers(s.Only), OnlyN: len(s.Only), Not: firstPeers(s.Not), NotN: len(s.Not),
		})
		if s.BudgetSeconds > 0 {
			out[len(out)-1].Device = s.DeviceSeconds
		}
	}
	return out
}

// firstPeers are as many as the farm's owner is told of.
func firstPeers(ids []string) []peer.ID {
	var out []peer.ID
	for _, id := range ids[:min(len(ids), p2p.MaxFarmPool)] {
		if p, err := peer.Decode(id); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func ended(s job.Status) int {
	if s.State.Ended() {
		return 1
	}
	return 0
}

// CancelForOwner implements p2p.FarmJobs.
func (f farmJobs) CancelForOwner(ctx context.Context, id job.ID) error {
	f.n.log.Warn("the farm's owner cancels a job of this machine", "job", id)
	return f.n.jobs.Steer(ctx, id, job.Cancel)
}

// List implements localapi.FarmJobs.
func (f farmJobs) List(ctx context.Context) localapi.FarmJobsView {
	n := f.n
	farm, in := n.host.Membership().Farm()
	v := localapi.FarmJobsView{Owner: in && farm.Owner, Jobs: []localapi.FarmJob{}, Silent: []localapi.SilentMember{}}
	members := n.host.Peers()
	names := map[peer.ID]string{}
	for _, p := range members {
		names[p.Peer] = p.Name
	}
	pool := func(ids []peer.ID, count int) localapi.Pool {
		l := localapi.Pool{Count: max(count, len(ids)), Names: []string{}}
		for _, p := range ids {
			l.Names = append(l.Names, cmp.Or(names[p], p.String()))
		}
		return l
	}
	add := func(p peer.ID, name string, jobs []p2p.FarmJob) {
		for _, j := range jobs {
			x := localapi.FarmJob{
				Peer: p.String(), Name: name, Self: p == n.self, Job: j.Job, Kind: j.Kind, State: j.State, Submitted: j.Submitted, Priority: j.Priority,
				Tasks: j.Tasks, Delivered: j.Delivered, Running: j.Running, Waiting: j.Waiting, Failed: j.Failed, RenderSeconds: j.Seconds, LeftSeconds: j.Left,
				MaxWorkers: j.MaxWorkers, DeviceSeconds: j.Device, BudgetSeconds: j.Budget, Deadline: j.Deadline, LateSeconds: j.Late, Interactive: j.Interactive,
			}
			if j.OnlyN > 0 {
				x.Only = pool(j.Only, j.OnlyN)
			}
			if j.NotN > 0 {
				x.Not = pool(j.Not, j.NotN)
			}
			v.Jobs = append(v.Jobs, x)
		}
	}
	add(n.self, n.cfg.Name, f.FarmJobs())
	if v.Owner {
		var mu sync.Mutex
		var wg sync.WaitGroup
		room := make(chan struct{}, farmAsks)
		for _, p := range members {
			if p.Self {
				continue
			}
			wg.Go(func() {
				room <- struct{}{}
				defer func() { <-room }()
				err := errors.New("not connected")
				var jobs []p2p.FarmJob
				if p.Connected {
					jobs, err = n.host.AskFarmJobs(ctx, p.Peer)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					v.Silent = append(v.Silent, localapi.SilentMember{Peer: p.Peer.String(), Name: p.Name, Why: err.Error()})
				}
				add(p.Peer, p.Name, jobs)
			})
		}
		wg.Wait()
	}
	slices.SortStableFunc(v.Jobs, func(a, b localapi.FarmJob) int { return b.Submitted.Compare(a.Submitted) })
	slices.SortFunc(v.Silent, func(a, b localapi.SilentMember) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

// Cancel implements localapi.FarmJobs.
func (f farmJobs) Cancel(ctx context.Context, member string, id job.ID) error {
	n := f.n
	p, err := peer.Decode(member)
	if err != nil {
		return job.Refuse("peer", "that is no peer's id", "see: idlewild farm members")
	}
	if p == n.self {
		return n.jobs.Steer(ctx, id, job.Cancel)
	}
	if farm, in := n.host.Membership().Farm(); !in || !farm.Owner {
		return job.Refuse("job", "it is another member's", "only its member and the farm's owner can cancel it")
	}
	if err := n.host.CancelFarmJob(ctx, p, id); err != nil {
		return job.Refuse("job", err.Error(), "its member can cancel it with: idlewild cancel")
	}
	return nil
}
