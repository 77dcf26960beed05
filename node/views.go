package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
	"idlewild/node/idle"
	"idlewild/node/localapi"
	"idlewild/p2p"
)

// machineView is localapi.Machine.
type machineView struct{ n *Node }

func (m machineView) Machine() localapi.MachineView {
	n := m.n
	v := localapi.MachineView{
		Peer: n.self.String(), Name: n.cfg.Name, Version: Version, Started: n.started,
		Facts: n.kit.now().Facts, Warnings: n.kit.warnings, Sandbox: n.kit.sandbox, Paused: n.owner.paused(),
	}
	if changed := n.configChanged(); changed != "" {
		v.Warnings = append(slices.Clone(v.Warnings), changed)
	}
	if w := n.updater.warning(); w != "" {
		v.Warnings = append(slices.Clone(v.Warnings), w)
	}
	for _, a := range n.host.Addrs() {
		v.Addrs = append(v.Addrs, a.String())
	}
	doing := n.worker.Doing()
	decisions, _, _ := n.owner.view()
	for _, d := range n.kit.machine.Devices {
		v.Devices = append(v.Devices, deviceView(d, doingText(doing[d.Name], decisions[d.Name])))
	}
	v.Devices = append(v.Devices, n.kit.disabledViews()...)
	if what, ok := doing[job.HomeDevice]; ok {
		v.Devices = append(v.Devices, localapi.DeviceView{Name: job.HomeDevice, Type: "cpu", Model: "finishing and checking own jobs", Doing: what})
	}
	return v
}

func deviceView(d job.Device, doing string) localapi.DeviceView {
	return localapi.DeviceView{Name: d.Name, Type: d.Type, Model: d.Model, Class: d.Class, MemoryBytes: d.MemoryBytes, Doing: doing}
}

// SetPaused implements localapi.Machine.
func (m machineView) SetPaused(_ context.Context, w localapi.PauseWish) error {
	n := m.n
	if !w.Paused {
		if err := savePause(n.cfg.DataDir, nil); err != nil {
			return err
		}
		n.owner.setPause(nil)
		return nil
	}
	if w.ForSeconds > 0 && w.UntilRestart {
		return job.Refuse("until_restart", "a pause has one end", "leave out for_s or until_restart")
	}
	if w.Reason == "" {
		w.Reason = "paused by its owner"
	}
	p := newPause(w.Reason, time.Duration(w.ForSeconds*float64(time.Second)), w.UntilRestart)
	n.owner.setPause(p)
	if err := savePause(n.cfg.DataDir, p); err != nil {
		// The disk may be full: the owner gets the machine back all the same.
		return fmt.Errorf("paused, but only until the daemon ends: %w", err)
	}
	return nil
}

// Why implements localapi.Machine.
func (m machineView) Why() localapi.WhyView {
	n := m.n
	decisions, signals, desk := n.owner.view()
	v := localapi.WhyView{Mode: string(n.owner.mode()), Desk: desk, Signals: signals, Missing: signals.Missing}
	doing := n.worker.Doing()
	for _, d := range n.kit.machine.Devices {
		x := decisions[d.Name]
		v.Devices = append(v.Devices, localapi.WhyDevice{
			Name: d.Name, Model: d.Model, Level: x.Level.String(), Signal: x.Signal, Reason: x.Reason, Also: x.Also,
			LeftSeconds: x.Left.Seconds(), Doing: doingText(doing[d.Name], x),
		})
	}
	for _, d := range n.kit.disabled {
		v.Devices = append(v.Devices, localapi.WhyDevice{
			Name: d.Name, Model: d.Model, Level: idle.Stop.String(), Signal: "settings", Reason: disabledText + ", see [[devices]] in " + configFile,
		})
	}
	return v
}

// doingText is what a device does, with the reason that is told here alone.
func doingText(doing string, d idle.Decision) string {
	if strings.HasPrefix(doing, "resting: ") && d.Reason != "" && doing == "resting: "+d.Public() {
		return "resting: " + d.Reason
	}
	return doing
}

// farmView is localapi.Farm.
type farmView struct{ n *Node }

func (f farmView) Create(_ context.Context, name string) (localapi.FarmView, error) {
	if in, ok := f.n.host.Membership().Farm(); ok && !in.Revoked {
		return localapi.FarmView{}, job.Refuse("", fmt.Sprintf("this machine already belongs to farm %q", in.Name), "to be in both, name the new one: idlewild farm create --as NAME; to leave that one: idlewild farm leave")
	}
	if _, err := f.n.host.Membership().CreateFarm(name); err != nil {
		return localapi.FarmView{}, refusal(err)
	}
	return f.View(), nil
}

func (f farmView) Invite(_ context.Context, valid, stay time.Duration) (string, error) {
	if valid > p2p.MaxInvite {
		return "", job.Refuse("", fmt.Sprintf("a ticket can be valid for %d days at most", int(p2p.MaxInvite/(24*time.Hour))), "ask for less")
	}
	if stay > 0 {
		if stay < time.Second {
			return "", job.Refuse("", "a guest stays for a second at least", "ask for more")
		}
		ticket, err := f.n.host.Membership().InviteGuest(valid, stay)
		return ticket, refusal(err)
	}
	ticket, err := f.n.host.Membership().Invite(valid)
	return ticket, refusal(err)
}

func (f farmView) Join(ctx context.Context, ticket string) (localapi.FarmView, error) {
	if _, err := f.n.host.Membership().Join(ctx, ticket); err != nil {
		return localapi.FarmView{}, refusal(err)
	}
	return f.View(), nil
}

func (f farmView) Leave(context.Context) (localapi.FarmView, error) {
	v := f.View()
	if v.Owner {
		return v, job.Refuse("", fmt.Sprintf("this machine owns farm %q: nobody could let members in or put them out any more", v.Name),
			"idlewild farm backup FILE here and farm recover FILE on another machine make that one an owner too; idlewild setup --undo --purge removes this one")
	}
	return v, refusal(f.n.host.Membership().Leave())
}

func (f farmView) Revoke(_ context.Context, id string) error {
	if farm, ok := f.n.host.Membership().Farm(); ok && farm.Owner && (id == f.n.self.String() || id == f.n.cfg.Name) {
		return job.Refuse("", "the owner cannot put itself out of its farm", "name another member, see: idlewild farm members")
	}
	p, err := f.named(id)
	if err != nil {
		return err
	}
	return refusal(f.n.host.Membership().Revoke(p))
}

// Open implements localapi.Farm.
func (f farmView) Open(_ context.Context, valid time.Duration, bits int) (string, error) {
	if f.n.cfg.Network.Profile == "studio" {
		return "", job.Refuse("", "this machine's network.profile is studio: its farm is not for strangers", "set network.profile = \"home\" on the owner's machine first")
	}
	if bits == 0 {
		bits = p2p.Difficulty
	}
	if valid < time.Second || valid > p2p.MaxOpen {
		return "", job.Refuse("", fmt.Sprintf("a farm can be open for %d days at most, and a second at least", int(p2p.MaxOpen/(24*time.Hour))), "ask for another time")
	}
	if bits < p2p.MinDifficulty || bits > p2p.MaxDifficulty {
		return "", job.Refuse("", fmt.Sprintf("work of %d bits", bits), fmt.Sprintf("ask for %d to %d", p2p.MinDifficulty, p2p.MaxDifficulty))
	}
	line, err := f.n.host.Membership().Open(valid, bits)
	return line, refusal(err)
}

// Close implements localapi.Farm.
func (f farmView) Close(context.Context) (localapi.FarmView, error) {
	if err := f.n.host.Membership().CloseFarm(); err != nil {
		return localapi.FarmView{}, refusal(err)
	}
	return f.View(), nil
}

// Opening implements localapi.Farm.
func (f farmView) Opening(context.Context) (string, error) {
	line, err := f.n.host.Membership().OpeningText()
	return line, refusal(err)
}

// refusal turns what a person can mend into a refusal; the messages say how.
func refusal(err error) error {
	for _, mine := range []error{
		p2p.ErrOpeningMalformed, p2p.ErrClosed, p2p.ErrTicketMalformed, p2p.ErrTicketExpired, p2p.ErrTicketUsed, p2p.ErrOtherFarm,
		p2p.ErrNoFarm, p2p.ErrNotOwner, p2p.ErrNotMember, p2p.ErrRevoked, p2p.ErrTooOld, p2p.ErrBackup,
	} {
		if errors.Is(err, mine) {
			return job.Refuse("", err.Error(), "")
		}
	}
	return err
}

func (f farmView) View() localapi.FarmView {
	farm, ok := f.n.host.Membership().Farm()
	if !ok {
		return localapi.FarmView{Members: []localapi.PeerView{}}
	}
	v := localapi.FarmView{
		ID: string(farm.ID), Name: farm.Name, Owner: farm.Owner, Turn: farm.Turn,
		Open: farm.Open, Stranger: farm.Role == p2p.RoleStranger, Takes: f.n.cfg.Swarm.Accept == acceptStrangers,
	}
	workers := map[peer.ID]dispatch.WorkerView{}
	for _, w := range f.n.jobs.Workers() {
		workers[w.Peer] = w
	}
	view := func(p p2p.Peer) localapi.PeerView {
		via := ""
		if p.Via != "" {
			via = p.Via.String()
		}
		m := localapi.PeerView{
			Devices: f.devices(p.Peer, workers[p.Peer]),
			Role:    string(p.Role), Expires: guestUntil(p.Member),
			Peer: p.Peer.String(), Name: p.Name, Self: p.Self, Connected: p.Connected, Path: string(p.Path),
			Transport: p.Transport, Via: via, PunchMillis: float64(p.PunchTook) / float64(time.Millisecond), PunchFail: p.PunchFail,
			RTTMillis: float64(p.RTT) / float64(time.Millisecond), LastSeen: p.LastSeen, Apart: p.Apart,
		}
		if !p.Self {
			score := f.n.book.Score(p.Peer)
			m.Score, m.Standing = scoreText(score), standing(score)
		}
		return m
	}
	for _, p := range f.n.host.Peers() {
		v.Members = append(v.Members, view(p))
	}
	for _, p := range f.n.host.Strangers() {
		v.Strangers = append(v.Strangers, view(p))
	}
	v.Crowd = f.n.crowd(farm, v.Strangers)
	return v
}

// devices of a member: all of this machine's, and those of others that their
// reports told of.
func (f farmView) devices(id peer.ID, w dispatch.WorkerView) []localapi.DeviceView {
	if id == f.n.self {
		var own []localapi.DeviceView
		for _, d := range (machineView{f.n}).Machine().Devices {
			if d.Name != job.HomeDevice {
				own = append(own, d)
			}
		}
		return own
	}
	var out []localapi.DeviceView
	for _, d := range w.Devices {
		doing := "idle"
		switch id, busy := w.Busy[d.Name]; {
		case busy:
			doing = "job " + string(id)
		case w.Leaving != "":
			doing = "idle: " + w.Leaving
		}
		out = append(out, deviceView(d, doing))
	}
	return out
}

// guestUntil is when a guest's membership ends; zero for others.
func guestUntil(m p2p.Member) time.Time {
	if m.Role != p2p.RoleGuest {
		return time.Time{}
	}
	return m.Expires
}

// records is localapi.Records.
type records struct{ n *Node }

func (r records) History(days int) localapi.HistoryView { return r.n.history.view(days) }

func (r records) Lines() []string { return r.n.lines.all() }
