package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"text/tabwriter"
	"time"

	p2ppeer "github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/ledger"
	"idlewild/node"
	"idlewild/node/dispatch"
	"idlewild/verify"
)

func init() {
	benchmarks["game"] = benchmark{"whether cheating pays, and what honest peers suffer: simulated, by the real policy", game}
}

// gameRules are what the simulation assumes. The policy itself is not assumed:
// rates and draws are verify's, accounts ledger's, looks dispatch's.
type gameRules struct {
	cost      float64 // of a second of a device to its owner, in credit
	hours     float64 // that a peer takes part, in hours of an honest device
	frame     float64 // seconds that a frame takes an honest device
	jobFrames int     // frames of one job: a peer that is barred waits for the next
	look      float64 // cost of a look, as a share of a frame
	falsely   float64 // share of first looks at honest frames that find something
	freshly   float64 // … of second looks elsewhere in a frame where the first did
	samely    float64 // … of looks at the same place by another machine
	seed      uint64

	// record is what looks at renders found; with it nothing above is assumed
	// of looks.
	record *recordedLooks
}

// strategy is how a peer cheats.
type strategy struct {
	name  string
	cheat func(n int, r *rand.Rand) bool // the nth frame of this identity, from 0
	time  float64                        // that a cheap frame takes, as a share of an honest one
	found float64                        // chance that a look finds it
	like  []string                       // claims of the record that are such a cheap frame, with adaptive sampling and without
	same  float64                        // chance that another look at a place where it was found finds it
	fresh bool                           // takes a new identity when caught
	// friends is the share of members that say of a cheap frame that it is right.
	friends float64
	// alone: the requester checks itself; otherwise members look, all of them.
	alone bool
}

// outcome is what a strategy came to.
type outcome struct {
	gain       float64 // credit that is its own at the end, less what the work cost
	frames     int     // delivered, honest and cheap
	wrong      int     // cheap ones that were accepted
	caughtAt   int     // cheap frames until the first verdict against it; 0: none
	identities int
	bans       int
}

func game(_ context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("game", flag.ContinueOnError)
	g := gameRules{frame: 60, jobFrames: 250}
	fs.Float64Var(&g.cost, "cost", .5, "what a second of a device costs its owner, as a share of its credit")
	fs.Float64Var(&g.hours, "hours", 40, "that each peer takes part")
	fs.Float64Var(&g.look, "look", .02, "what a look costs, as a share of a frame: crops of 1 %, twice with adaptive sampling")
	fs.Float64Var(&g.falsely, "false", .0011, "first looks at honest frames that find something: the upper 95 % bound of 0 in 2620")
	fs.Float64Var(&g.freshly, "fresh", .01, "second looks at those, elsewhere in the frame, that do")
	fs.Float64Var(&g.samely, "same", .5, "looks at those, at the same place, that do")
	fs.Uint64Var(&g.seed, "seed", 1, "of the simulation: the same seed gives the same figures")
	runs := fs.Int("runs", 100, "peers of each strategy")
	honest := fs.Int("honest", 100, "honest peers, of 250 frames each")
	kept := fs.Bool("kept", false, "assume nothing of looks: draw them from the record of bench verify that is kept with this program")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *kept {
		var err error
		if g.record, err = keptLooks(); err != nil {
			return nil, err
		}
	}
	figures := g.honestFigures(*honest)
	table, worst := g.table(*runs)
	fmt.Fprint(os.Stderr, table)
	figures = append(figures, Figure{
		Name: "strategies whose expected gain is not negative", Value: float64(worst), Unit: "", Goal: "<= 0", Holds: worst == 0,
	})
	return figures, nil
}

// strategies are those that are played.
func strategies() []strategy {
	always := func(int, *rand.Rand) bool { return true }
	after := func(k int) func(int, *rand.Rand) bool { return func(n int, _ *rand.Rand) bool { return n >= k } }
	share := func(p float64) func(int, *rand.Rand) bool {
		return func(_ int, r *rand.Rand) bool { return r.Float64() < p }
	}
	// Half of the samples: the whole frame is cheap, and each look sees it. A
	// fifth of the tiles: a look hits one in about three.
	half := strategy{time: .5, found: .999, same: .999, alone: true, like: []string{"50 % of the maximum", "50 % samples"}}
	tiles := strategy{time: .9, found: .35, same: .95, alone: true, like: []string{"tiles 20 % at half the samples"}}
	with := func(s strategy, name string, cheat func(int, *rand.Rand) bool, change ...func(*strategy)) strategy {
		s.name, s.cheat = name, cheat
		for _, f := range change {
			f(&s)
		}
		return s
	}
	fresh := func(s *strategy) { s.fresh = true }
	friends := func(p float64) func(*strategy) { return func(s *strategy) { s.friends = p } }
	members := func(s *strategy) { s.alone = false }
	nothing := func(s *strategy) { s.time, s.found, s.same, s.like = .1, 1, 1, []string{"another job's frame"} }
	return []strategy{
		with(half, "at once, half the samples", always),
		with(half, "at once, another frame's picture", always, nothing),
		with(half, "after 10 honest frames", after(10)),
		with(half, "after 100 honest frames", after(100)),
		with(half, "after 1000 honest frames", after(1000)),
		with(half, "1 frame in 2", share(.5)),
		with(half, "1 frame in 10", share(.1)),
		with(half, "1 frame in 100", share(.01)),
		with(half, "1 in 10 after 1000", func(n int, r *rand.Rand) bool { return n >= 1000 && r.Float64() < .1 }),
		with(tiles, "a fifth of the tiles, always", always),
		with(tiles, "a fifth of the tiles, 1 in 10", share(.1)),
		with(tiles, "a fifth of the tiles, after 1000", after(1000)),
		with(half, "at once, new identities", always, fresh),
		with(half, "at once, new identities, no work", always, fresh, nothing),
		with(half, "after 10, new identities", after(10), fresh),
		with(half, "after 100, new identities", after(100), fresh),
		with(tiles, "a fifth of the tiles, new identities", always, fresh),
		with(half, "at once, 10 % of members collude", always, friends(.1)),
		with(half, "at once, 30 % of members collude", always, friends(.3)),
		with(half, "1 in 10, 30 % collude", share(.1), friends(.3)),
		with(half, "after 1000, 30 % collude", after(1000), friends(.3)),
		with(tiles, "a fifth of the tiles, 30 % collude", always, friends(.3)),
		with(half, "at once, 30 % collude, members check", always, friends(.3), members),
		with(half, "1 in 10, 30 % collude, members check", share(.1), friends(.3), members),
		with(half, "at once, new, 30 % collude, members check", always, friends(.3), members, fresh),
	}
}

// table plays every strategy and says how many of them pay.
func (g gameRules) table(runs int) (text string, paying int) {
	none := strategy{name: "honest", cheat: func(int, *rand.Rand) bool { return false }, time: 1, alone: true}
	base := g.play(none, runs)
	honestGain := mean(base, func(o outcome) float64 { return o.gain })
	var b tableText
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d peers each, %g h; credit in hours of an honest device, which costs its owner %g of it\n", runs, g.hours, g.cost)
	fmt.Fprintln(w, "strategy\tearns\t95 %\tagainst honest\t95 %\twrong accepted\tcaught at cheap frame\tidentities\tpays")
	fmt.Fprintf(w, "honest\t%+.2f\t%.2f\t\t\t\t\t1\t\n", honestGain/3600, interval(base)/3600)
	for _, s := range strategies() {
		out := g.play(s, runs)
		gain := mean(out, func(o outcome) float64 { return o.gain })
		ci := interval(out)
		both := math.Hypot(ci, interval(base))
		pays := "no"
		if gain+ci >= honestGain-interval(base) {
			pays, paying = "YES", paying+1
		}
		fmt.Fprintf(w, "%s\t%+.2f\t%.2f\t%+.2f\t%.2f\t%.1f %%\t%s\t%.1f\t%s\n", s.name, gain/3600, ci/3600, (gain-honestGain)/3600, both/3600,
			100*mean(out, func(o outcome) float64 { return float64(o.wrong) / math.Max(float64(o.frames), 1) }), caught(out),
			mean(out, func(o outcome) float64 { return float64(o.identities) }), pays)
	}
	w.Flush()
	fmt.Fprintln(&b, "A new identity has no stake: it risks the work of its first results alone, which are all checked and earn only where they hold.")
	return string(b), paying
}

type tableText []byte

func (t *tableText) Write(b []byte) (int, error) { *t = append(*t, b...); return len(b), nil }

func (g gameRules) play(s strategy, runs int) []outcome {
	var out []outcome
	for i := range runs {
		out = append(out, g.one(s, rand.New(rand.NewPCG(g.seed, uint64(i)))))
	}
	return out
}

// played is one peer's life under one requester.
type played struct {
	g       gameRules
	policy  ledger.Policy
	account *ledger.Account
	now     time.Time
	no      uint64
	r       *rand.Rand

	looks, thirds, again int

	scene   *recordedScene // of the job that it works for, with a record
	machine int            // which of the record's honest machines it is
}

func (g gameRules) begin(r *rand.Rand) *played {
	s := &played{g: g, policy: node.DefaultConfig().Check.Policy(), now: time.Unix(1_700_000_000, 0), r: r}
	s.account = ledger.NewAccount(&s.policy)
	if g.record != nil {
		s.machine = r.IntN(1 << 20)
		s.nextJob()
	}
	return s
}

// nextJob is work for another requester's scene.
func (s *played) nextJob() {
	if r := s.g.record; r != nil {
		s.scene = &r.scenes[s.r.IntN(len(r.scenes))]
	}
}

// drawn says whether the next result is checked, as the requester draws it.
func (s *played) drawn() (share float64, checked bool) {
	var secret [32]byte
	for i := 0; i < len(secret); i += 8 {
		binary.LittleEndian.PutUint64(secret[i:], s.r.Uint64())
	}
	share = s.account.Score(s.now).Rate
	return share, verify.Selected(secret[:], [32]byte{}, share)
}

// count books a verdict.
func (s *played) count(seconds float64, v job.Verdict) {
	s.no++
	e := ledger.Entry{Version: 1, Root: make([]byte, 32), Class: "cpu/amd64", Work: time.Duration(seconds * float64(time.Second)), Verdict: v, At: s.now}
	binary.LittleEndian.PutUint64(e.Root, s.no)
	e.Credit = s.policy.Worth(e)
	s.account.Count(e)
}

// judge looks at a result as often as it takes. look says what one look finds,
// given the draw and what was found before at the same one.
func (s *played) judge(own bool, look func(looks []dispatch.Look, draw int, third bool) (job.Ruling, bool)) dispatch.Step {
	var looks []dispatch.Look
	draw, third, mine := 1, false, false
	for {
		s.looks++
		ruling, here := look(looks, draw, third)
		mine = mine || here
		looks = append(looks, dispatch.Look{Ruling: ruling, By: p2ppeer.ID(fmt.Sprint(len(looks))), Draw: draw})
		step := dispatch.NextLook(looks, true, own && mine, s.account.Score(s.now).Disputes)
		switch step {
		case dispatch.LookAgain:
			draw = 2
		case dispatch.LookThird:
			draw, third = 3, true
			s.thirds++
		case dispatch.LookSame:
			draw, third = 1, true
			s.thirds++
		case dispatch.Settle:
			if ruling == job.Accepted {
				return dispatch.Accept
			}
			return dispatch.Dispute
		default:
			return step
		}
	}
}

// verdictOf is what the dispatcher books for a step.
func verdictOf(step dispatch.Step, share float64) job.Verdict {
	v := job.Verdict{Ruling: job.Rejected, Method: "sampling", Reason: "simulated", Share: share}
	switch step {
	case dispatch.Accept:
		v.Ruling = job.Accepted
	case dispatch.Dispute:
		v.Ruling, v.Strike = job.Unsure, true
	case dispatch.Confirm:
		v.Confirmed = true
	}
	return v
}

// one plays a strategy to its end.
func (g gameRules) one(st strategy, r *rand.Rand) outcome {
	s := g.begin(r)
	o := outcome{identities: 1}
	kept, spent, t := 0.0, 0.0, 0.0
	n, cheap, inJob := 0, 0, 0
	restart := func() {
		kept += s.account.Score(s.now).Credit // what is its own stays with the old name
		s.account = ledger.NewAccount(&s.policy)
		o.identities++
		n, inJob = 0, 0
	}
	for t < g.hours*3600 {
		if s.account.Score(s.now).Banned != "" {
			if !st.fresh {
				break // the ban outlasts the game
			}
			restart()
		}
		if inJob == g.jobFrames {
			inJob = 0
			s.nextJob()
		}
		cheats := st.cheat(n, r)
		n++
		inJob++
		o.frames++
		took := g.frame
		if cheats {
			cheap++
			took *= st.time
		}
		t += took
		s.now = s.now.Add(time.Duration(took * float64(time.Second)))
		spent += took * g.cost
		share, checked := s.drawn()
		if !checked {
			s.count(took, job.Verdict{Ruling: job.Accepted, Method: job.MethodTrusted})
			if cheats {
				o.wrong++
			}
			continue
		}
		seen := s.glance(st.like, cheats)
		step := s.judge(st.alone, func(looks []dispatch.Look, draw int, third bool) (job.Ruling, bool) {
			here := st.alone && !third
			if !cheats {
				return s.honestLook(looks, draw, seen), here
			}
			if !here && r.Float64() < st.friends {
				return job.Accepted, here
			}
			if seen != nil {
				return seen(draw), here
			}
			p := st.found
			for _, l := range looks {
				if l.Draw == draw && l.Ruling == job.Rejected {
					p = st.same
				}
			}
			if r.Float64() < p {
				return job.Rejected, here
			}
			return job.Accepted, here
		})
		// Its clock may say twice of what the requester saw, and not more.
		claimed := g.frame
		if cheats {
			claimed = min(g.frame, 2*took)
		}
		s.count(claimed, verdictOf(step, share))
		if cheats {
			switch {
			case step == dispatch.Accept:
				o.wrong++
			case o.caughtAt == 0:
				o.caughtAt = cheap
			}
		}
		switch step {
		case dispatch.Confirm:
			o.bans++
		case dispatch.Reject:
			// Barred from the rest of this job.
			if st.fresh {
				restart()
				continue
			}
			t += float64(g.jobFrames-inJob) * g.frame
			inJob = 0
			s.nextJob()
		}
	}
	end := s.account.Score(s.now)
	o.gain = kept + end.Credit + end.Stake - spent
	return o
}

// honestLook is what a look at an honest frame finds.
func (s *played) honestLook(looks []dispatch.Look, draw int, seen func(draw int) job.Ruling) job.Ruling {
	if seen != nil {
		return seen(draw)
	}
	p := s.g.falsely
	for _, l := range looks {
		if l.Ruling == job.Rejected {
			p = s.g.freshly
			if l.Draw == draw {
				p = s.g.samely
				break
			}
		}
	}
	if s.r.Float64() < p {
		return job.Rejected
	}
	return job.Accepted
}

// honestFigures is what honest peers suffer, and what checking them costs.
func (g gameRules) honestFigures(peers int) []Figure {
	const honestFrames = 250
	type sums struct{ frames, checked, looks, thirds, disputes, barred, banned int }
	life := func(first int, extra float64) (all sums, cost float64) {
		for i := range peers {
			s := g.begin(rand.New(rand.NewPCG(g.seed+1, uint64(i))))
			for range first { // known already
				s.count(g.frame, job.Verdict{Ruling: job.Accepted, Method: "sampling", Share: 1})
			}
			for n := range honestFrames {
				if n%g.jobFrames == 0 {
					s.nextJob()
				}
				all.frames++
				s.now = s.now.Add(time.Duration(g.frame * float64(time.Second)))
				share, checked := s.drawn()
				if !checked {
					continue
				}
				all.checked++
				seen := s.glance(nil, false)
				step := s.judge(true, func(looks []dispatch.Look, draw int, third bool) (job.Ruling, bool) {
					return s.honestLook(looks, draw, seen), !third
				})
				s.count(g.frame, verdictOf(step, share))
				switch step {
				case dispatch.Dispute:
					all.disputes++
				case dispatch.Reject:
					all.barred++
				case dispatch.Confirm:
					all.banned++
				}
			}
			all.looks += s.looks
			all.thirds += s.thirds
		}
		again := float64(all.disputes + all.barred + all.banned) // rendered once more
		return all, 100 * (float64(all.looks)*extra + again) / float64(all.frames)
	}
	fresh, freshCost := life(0, g.look)
	known, knownCost := life(1000, g.look)
	_, whole := life(0, 1)
	_, wholeKnown := life(1000, 1)
	return []Figure{
		{Name: "honest frames simulated", Value: float64(fresh.frames + known.frames), Unit: "", Goal: ">= 20000", Holds: fresh.frames+known.frames >= 20000},
		atMost("honest nodes punished (banned, or credit lost)", float64(fresh.banned+known.banned), "", 0),
		atMost("honest nodes barred from a job", float64(fresh.barred+known.barred), "", 0),
		atMost("honest frames that a third peer looked at", 100*float64(fresh.thirds+known.thirds)/float64(fresh.frames+known.frames), "%", .1),
		{Name: "honest frames disputed and rendered again", Value: 100 * float64(fresh.disputes+known.disputes) / float64(fresh.frames+known.frames), Unit: "%"},
		atMost("extra cost over 250 frames, new peer", freshCost, "%", 3, Peer{"every frame rendered twice", 100}),
		atMost("extra cost over 250 frames, known peer", knownCost, "%", 1.5, Peer{"every frame rendered twice", 100}),
		{Name: "the same for what only replication verifies, new peer", Value: whole, Unit: "%"},
		{Name: "the same for what only replication verifies, known peer", Value: wholeKnown, Unit: "%"},
	}
}

func mean(out []outcome, f func(outcome) float64) float64 {
	sum := 0.0
	for _, o := range out {
		sum += f(o)
	}
	return sum / math.Max(float64(len(out)), 1)
}

// interval is the half-width of the 95 % interval of the mean gain.
func interval(out []outcome) float64 {
	m, v := mean(out, func(o outcome) float64 { return o.gain }), 0.0
	for _, o := range out {
		v += (o.gain - m) * (o.gain - m)
	}
	n := math.Max(float64(len(out)), 2)
	return 1.96 * math.Sqrt(v/(n-1)/n)
}

// caught is after how many cheap frames the first verdict spoke against it: the
// median, and the most of 99 in 100.
func caught(out []outcome) string {
	var at []int
	for _, o := range out {
		if o.caughtAt > 0 {
			at = append(at, o.caughtAt)
		}
	}
	if len(at) == 0 {
		return "never"
	}
	sort.Ints(at)
	return fmt.Sprintf("%d, 99 %% by %d", at[len(at)/2], at[min(len(at)-1, len(at)*99/100)])
}
