package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// jobs is localapi.Jobs: who may work on a job, who may not, and who goes on
// with it can be said with members' names. What is kept are peer ids: names
// come and go.
type jobs struct {
	*dispatch.Dispatcher
	n *Node
}

// Submit implements localapi.Jobs.
func (j jobs) Submit(ctx context.Context, s job.Spec) (job.ID, error) {
	if err := j.lists(&s); err != nil {
		return "", err
	}
	if err := j.stewards(&s); err != nil {
		return "", err
	}
	return j.Dispatcher.Submit(ctx, s)
}

func (j jobs) lists(s *job.Spec) (err error) {
	if s.Policy.Only, err = j.ids("only", s.Policy.Only); err != nil {
		return err
	}
	if s.Policy.Not, err = j.ids("not", s.Policy.Not); err != nil {
		return err
	}
	for _, p := range s.Policy.Only {
		if !s.Policy.Allows(p) {
			return job.Refuse("not", p+" is in both lists", "say where it belongs")
		}
	}
	return nil
}

// stewards gives what a person submits the stewards of the farm, where they
// named none, and has their names become ids.
func (j jobs) stewards(s *job.Spec) error {
	asked := s.Policy.Stewards
	if len(asked) == 0 {
		asked = j.n.cfg.Farm.Stewards
	}
	farms := slices.Equal(asked, j.n.cfg.Farm.Stewards)
	s.Policy.Stewards = nil
	if len(asked) == 1 && asked[0] == NoSteward {
		asked = nil
	}
	for _, name := range asked {
		p, err := farmView{j.n}.named(name)
		var r *job.RefusedError
		switch {
		case p == j.n.self || errors.As(err, &r) && r.Problems[0].Message == selfNamed:
			continue // the farm's steward submits a job of its own
		case err != nil && errors.As(err, &r):
			return job.Refuse("steward", r.Problems[0].Message, r.Problems[0].Remedy)
		case err != nil:
			return err
		case !j.n.host.Membership().Known(p):
			return job.Refuse("steward", fmt.Sprintf("%s is no member of this farm", name), "see: idlewild farm members")
		}
		// A steward has the content, which the lists are about as well.
		if !s.Policy.Allows(p.String()) {
			if farms {
				continue
			}
			if slices.Contains(s.Policy.Not, p.String()) {
				return job.Refuse("steward", name+" is one that may not have the job", "name another, or take it off that list")
			}
		}
		if !slices.Contains(s.Policy.Stewards, p.String()) {
			s.Policy.Stewards = append(s.Policy.Stewards, p.String())
		}
	}
	if n := len(s.Policy.Stewards); n > job.MaxStewards {
		return job.Refuse("steward", fmt.Sprintf("%d were named", n), fmt.Sprintf("name at most %d", job.MaxStewards))
	}
	return nil
}

func (j jobs) ids(what string, names []string) ([]string, error) {
	var out []string
	for _, name := range names {
		p, err := peer.Decode(name)
		switch {
		case err == nil: // a peer, whether it is a member yet or not
		case name == j.n.cfg.Name:
			p = j.n.self
		default:
			if p, err = (farmView{j.n}).named(name); err != nil {
				return nil, job.Refuse(what, err.Error(), "")
			}
		}
		out = append(out, p.String())
	}
	return out, nil
}
