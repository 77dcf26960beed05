package node

import (
	"fmt"
	"strings"

	"idlewild/node/localapi"
	"idlewild/p2p"
)

// crowd is what this machine has to say of strangers; nil where the farm is not open
// and never was while this program ran, or where this machine is one itself.
func (n *Node) crowd(farm p2p.Farm, here []localapi.PeerView) *localapi.CrowdView {
	c := n.host.Callers()
	if farm.Role == p2p.RoleStranger || farm.Open.IsZero() && c == (p2p.Callers{}) {
		return nil
	}
	v := &localapi.CrowdView{
		Here: len(here), LetIn: c.LetIn, Refused: c.Refused(), Full: c.Full, Closed: c.Closed, Banned: c.Banned, Wrong: c.Wrong,
	}
	for _, p := range here {
		v.Accepted += p.Standing.Accepted
		v.Rejected += p.Standing.Rejected
		v.Unsure += p.Standing.Unsure
		for _, d := range p.Devices {
			if strings.HasPrefix(d.Doing, "job ") {
				v.Working++
				break
			}
		}
	}
	v.Text = crowdText(*v)
	return v
}

// crowdText is the same for people.
func crowdText(v localapi.CrowdView) string {
	var out []string
	switch {
	case v.Here == 0:
		out = append(out, "no stranger is here")
	default:
		out = append(out, fmt.Sprintf("%s here, %d of them at work", counted(int64(v.Here), "stranger is", "strangers are"), v.Working))
		if v.Accepted+v.Rejected+v.Unsure > 0 {
			out = append(out, fmt.Sprintf("of their results that were checked %d were accepted, %d rejected, %d unsure", v.Accepted, v.Rejected, v.Unsure))
		}
	}
	if v.Refused > 0 {
		var whys []string
		for _, w := range []struct {
			n   int64
			why string
		}{{v.Full, "for want of room"}, {v.Wrong, "because they had not done the work, or showed something wrong"}, {v.Closed, "because it is not open to them"}, {v.Banned, "because they are banned"}} {
			if w.n > 0 {
				whys = append(whys, fmt.Sprintf("%d %s", w.n, w.why))
			}
		}
		out = append(out, fmt.Sprintf("%s refused since this program began: %s", counted(v.Refused, "was", "were"), strings.Join(whys, ", ")))
	}
	return strings.Join(out, "; ")
}

func counted(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
