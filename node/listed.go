package node

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// listed is localapi.Jobs: who may work on a job and who may not can be said
// with members' names. What is kept are peer ids: names come and go.
type listed struct {
	*dispatch.Dispatcher
	n *Node
}

func (l listed) Submit(ctx context.Context, s job.Spec) (job.ID, error) {
	var err error
	if s.Policy.Only, err = l.ids("only", s.Policy.Only); err != nil {
		return "", err
	}
	if s.Policy.Not, err = l.ids("not", s.Policy.Not); err != nil {
		return "", err
	}
	for _, p := range s.Policy.Only {
		if !s.Policy.Allows(p) {
			return "", job.Refuse("not", p+" is in both lists", "say where it belongs")
		}
	}
	return l.Dispatcher.Submit(ctx, s)
}

func (l listed) ids(what string, names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		p, err := peer.Decode(name)
		switch {
		case err == nil: // a peer, whether it is a member yet or not
		case name == l.n.cfg.Name:
			p = l.n.self
		default:
			if p, err = (farmView{l.n}).named(name); err != nil {
				return nil, job.Refuse(what, err.Error(), "")
			}
		}
		out = append(out, p.String())
	}
	return out, nil
}
