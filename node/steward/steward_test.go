package steward

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/node/dispatch"
)

// desert is a network without anybody, and a store that holds everything.
type desert struct{}

func (desert) AskSteward(context.Context, peer.ID, []byte) ([]byte, error) {
	return nil, errors.New("nobody is there")
}
func (desert) Hold(context.Context, peer.ID, job.ID, job.Signed, []job.Ref) error { return nil }
func (desert) Serve(context.Context, peer.ID, job.ID, job.Ref, []job.Ref) error   { return nil }
func (desert) Drop(context.Context, peer.ID, job.ID) error                        { return nil }
func (desert) Snapshot(context.Context, job.ID, []job.Dep, bool) (dispatch.Snapshot, error) {
	return dispatch.Snapshot{}, nil
}
func (desert) Served(job.ID) int64                                               { return 0 }
func (desert) Release(context.Context, job.ID) error                             { return nil }
func (desert) Announce(context.Context, job.Offer) error                         { return nil }
func (desert) Fetch(context.Context, dispatch.Returned, string) (int64, error)   { return 0, nil }
func (desert) Challenge(job.Task, job.Leaf, []byte, float64) ([]job.Task, error) { return nil, nil }
func (desert) Judge(context.Context, job.Task, job.Leaf, string, []dispatch.Evidence) job.Verdict {
	return job.Verdict{}
}
func (desert) Learn(job.Task, dispatch.Vouched)                        {}
func (desert) Record(peer.ID, job.Signed, job.Leaf, job.Verdict) error { return nil }
func (desert) Score(peer.ID) job.Score                                 { return job.Score{} }
func (desert) Deliver(context.Context, job.Spec, job.Task, string) ([]string, error) {
	return nil, nil
}
func (desert) Delivered(job.Spec, job.Task) bool       { return false }
func (desert) Kept(job.Spec, job.Task, time.Time) bool { return false }
func (desert) Differs(context.Context, job.Spec, job.Task, string) (string, error) {
	return "", nil
}
func (desert) Check(job.Spec) error { return nil }

type someone struct {
	key crypto.PrivKey
	id  peer.ID
}

func newSomeone(t testing.TB) someone {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return someone{key, id}
}

func newPart(t testing.TB, self someone, change func(*Deps)) *Part {
	t.Helper()
	var x desert
	d, err := dispatch.NewDispatcher(dispatch.Deps{Self: self.id, Key: self.key, Content: x, Market: x, Results: x, Judge: x, Book: x, Sink: x, Dir: t.TempDir()}, dispatch.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	deps := Deps{Self: self.id, Key: self.key, Jobs: d, Net: x, Store: x, Members: func() []peer.ID { return nil }, Dir: t.TempDir()}
	if change != nil {
		change(&deps)
	}
	p, err := New(deps, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// asked is what p answers to from.
func asked(t testing.TB, p *Part, from peer.ID, q question) answer {
	t.Helper()
	b, err := job.Encode(q)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = p.Answer(t.Context(), from, b); err != nil {
		t.Fatal(err)
	}
	var a answer
	if err := job.Decode(b, maxMessage, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func delegate(t testing.TB, by someone, epoch uint64, to ...someone) (job.Signed, job.ID) {
	t.Helper()
	d := job.Delegation{Version: 1, Requester: by.id.String(), Job: job.NewID(time.Now()), Epoch: epoch, Expires: time.Now().Add(time.Hour)}
	for _, s := range to {
		d.Stewards = append(d.Stewards, s.id.String())
	}
	s, err := job.Sign(by.key, job.ContextDelegation, d)
	if err != nil {
		t.Fatal(err)
	}
	return s, d.Job
}

// What a member that is up to no good may ask for, and gets nothing by.
func TestQuestionsThatAreRefused(t *testing.T) {
	requester, nas, pc, other := newSomeone(t), newSomeone(t), newSomeone(t), newSomeone(t)
	heeded := 0
	p := newPart(t, pc, func(d *Deps) { d.Heed = func(Claim) string { heeded++; return "" } })
	signed, _ := delegate(t, requester, 5, nas)
	forged, _ := delegate(t, other, 5, nas)
	forged.Body = signed.Body

	claims := func(epoch uint64) *claim { return &claim{Epoch: epoch} }
	for name, c := range map[string]struct {
		from peer.ID
		q    question
	}{
		"a claim of one that is no steward":  {other.id, question{Delegation: signed, Claim: claims(6)}},
		"a claim with a forged delegation":   {nas.id, question{Delegation: forged, Claim: claims(6)}},
		"a follow by another than the owner": {other.id, question{Delegation: signed, Follow: &follow{State: stateLive}}},
		"a follow to one that is no steward": {requester.id, question{Delegation: signed, Follow: &follow{State: stateLive}}},
		"neither":                            {nas.id, question{Delegation: signed}},
	} {
		if a := asked(t, p, c.from, c.q); a.Refused == "" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	for _, epoch := range []uint64{0, 5, 6 + dispatch.MaxLeap, 1 << 31, 1<<64 - 1} {
		if a := asked(t, p, nas.id, question{Delegation: signed, Claim: claims(epoch)}); a.Stand != standBetter {
			t.Errorf("a claim to epoch %d over 5: %+v", epoch, a)
		}
	}
	if heeded != 0 {
		t.Errorf("%d claims were heeded", heeded)
	}
	if a := asked(t, p, nas.id, question{Delegation: signed, Claim: claims(6)}); a.Stand != "" || a.Refused != "" || heeded != 1 {
		t.Errorf("a true claim: %+v", a)
	}
	p.deps.Hears = func(peer.ID, time.Duration) bool { return true }
	if a := asked(t, p, nas.id, question{Delegation: signed, Claim: claims(7)}); a.Stand != standHeard || heeded != 1 {
		t.Errorf("a claim on the job of one that is heard: %+v", a)
	}
}

// A steward that a requester spoke to a moment ago heeds no other steward, also
// where this machine's worker does not hear the requester.
func TestAStewardThatIsSpokenToHeedsNobody(t *testing.T) {
	requester, nas, pc := newSomeone(t), newSomeone(t), newSomeone(t)
	heeded := 0
	p := newPart(t, pc, func(d *Deps) {
		d.Heed = func(Claim) string { heeded++; return "" }
		d.Hears = func(peer.ID, time.Duration) bool { return false }
	})
	signed, id := delegate(t, requester, 5, nas, pc)
	if a := asked(t, p, requester.id, question{Delegation: signed, Follow: &follow{State: stateLive}}); a.Refused != "" {
		t.Fatalf("%+v", a)
	}
	for _, probe := range []bool{true, false} {
		if a := asked(t, p, nas.id, question{Delegation: signed, Claim: &claim{Epoch: 6, Probe: probe}}); a.Stand != standHeard || heeded != 0 {
			t.Errorf("a claim on the job of one that was just heard: %+v, %d heeded", a, heeded)
		}
	}
	p.mu.Lock()
	p.wards[wardKey{requester.id, id}].heard = time.Now().Add(-time.Hour)
	p.mu.Unlock()
	if a := asked(t, p, nas.id, question{Delegation: signed, Claim: &claim{Epoch: 6}}); a.Stand != "" || heeded != 1 {
		t.Errorf("a claim on the job of one that is silent: %+v, %d heeded", a, heeded)
	}
}

// A requester cannot make its steward keep more than there are bounds for.
func TestFollowsOverTheirBounds(t *testing.T) {
	requester, nas := newSomeone(t), newSomeone(t)
	accept := errors.New("not for you")
	p := newPart(t, nas, func(d *Deps) { d.Accept = func(peer.ID) error { return accept } })
	signed, id := delegate(t, requester, 1, nas)
	if a := asked(t, p, requester.id, question{Delegation: signed, Follow: &follow{State: stateLive}}); a.Refused != "not for you" {
		t.Errorf("%+v", a)
	}
	accept = nil
	for name, f := range map[string]follow{
		"no such state":                      {State: "flying"},
		"no blocks":                          {State: stateLive, Begin: &begin{}},
		"too many":                           {State: stateLive, Begin: &begin{Copy: dispatch.Copy{Tasks: 1}, Blocks: maxBlocks + 1}},
		"no tasks":                           {State: stateLive, Begin: &begin{Blocks: 1}},
		"a fact of a job that was not begun": {State: stateLive, Reset: true, Facts: []dispatch.Fact{{Task: 7, Mark: 1}}},
		"a fact below the first task":        {State: stateLive, Reset: true, Facts: []dispatch.Fact{{Task: -1, Mark: 1}}},
		"less than nothing spent":            {State: stateLive, Spent: -1},
	} {
		if a := asked(t, p, requester.id, question{Delegation: signed, Follow: &f}); !strings.Contains(a.Refused, "bounds") {
			t.Errorf("%s: %+v", name, a)
		}
	}
	far, _ := delegate(t, requester, 1<<31-2, nas)
	if a := asked(t, p, requester.id, question{Delegation: far, Follow: &follow{State: stateLive}}); !strings.Contains(a.Refused, "far ahead") {
		t.Errorf("an epoch that leaves this machine none above it: %+v", a)
	}
	// A plan that nobody can read ends where it would be begun with.
	for _, f := range []follow{
		{State: stateLive, Begin: &begin{Copy: dispatch.Copy{Spec: job.Spec{Kind: "x"}, Tasks: 3}, Blocks: 1}},
		{State: stateLive, Plan: [][]byte{[]byte("nonsense")}},
	} {
		if a := asked(t, p, requester.id, question{Delegation: signed, Follow: &f}); a.Refused != "" {
			t.Fatalf("%+v", a)
		}
	}
	p.mu.Lock()
	in := p.inheritance(p.wards[wardKey{requester.id, id}], 2)
	p.mu.Unlock()
	if err := p.deps.Jobs.Inherit(t.Context(), in); err == nil || !strings.Contains(err.Error(), "tasks") {
		t.Errorf("nonsense is gone on with: %v", err)
	}
	if a := asked(t, p, requester.id, question{Delegation: signed, Follow: &follow{State: stateLive, Plan: [][]byte{{1}}, Block: 7}}); a.Blocks != 1 {
		t.Errorf("a block out of turn: %+v", a)
	}
	p.o.Most = 1
	more, _ := delegate(t, requester, 1, nas)
	if a := asked(t, p, requester.id, question{Delegation: more, Follow: &follow{State: stateLive}}); !strings.Contains(a.Refused, "already") {
		t.Errorf("one more than it follows: %+v", a)
	}
}

// What is followed is there again after a restart, also after its log was made
// short.
func TestWardsSurviveRestarts(t *testing.T) {
	requester, nas := newSomeone(t), newSomeone(t)
	p := newPart(t, nas, nil)
	signed, id := delegate(t, requester, 1, nas)
	tell := func(f follow) answer {
		f.State = stateLive
		return asked(t, p, requester.id, question{Delegation: signed, Follow: &f})
	}
	tell(follow{Begin: &begin{Copy: dispatch.Copy{Spec: job.Spec{Kind: "x", Title: "a"}, Tasks: 2048}, Blocks: 2}})
	a := tell(follow{Plan: [][]byte{make([]byte, 3<<20), make([]byte, 3<<20)}})
	for i := range 20 {
		if i == 10 {
			p.shorten = 1 << 20
		}
		a = tell(follow{Seq: a.Seq, Facts: []dispatch.Fact{{Task: 3, Mark: a.Seq + 10}, {Task: 4, Mark: 2}}, Gone: []int{5}})
	}
	a = tell(follow{Seq: a.Seq, Gone: []int{4}})
	k := wardKey{requester.id, id}
	was := p.wards[k]
	p.Close()
	again, err := New(p.deps, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	w := again.wards[k]
	if w == nil || w.seq != a.Seq || len(w.copy.Plan) != 2 || w.copy.Tasks != 2048 || len(w.facts) != 1 || w.facts[3].Mark != was.facts[3].Mark || w.held {
		t.Fatalf("%+v", w)
	}
}

// FuzzAnswer: no question makes it fall over.
func FuzzAnswer(f *testing.F) {
	requester, nas := newSomeone(f), newSomeone(f)
	p := newPart(f, nas, nil)
	signed, _ := delegate(f, requester, 1, nas)
	for _, q := range []question{
		{Delegation: signed, Follow: &follow{State: stateLive, Begin: &begin{Blocks: 1}}},
		{Delegation: signed, Follow: &follow{State: stateOver, From: -1, Release: true, Facts: []dispatch.Fact{{Task: -1}}}},
		{Delegation: signed, Claim: &claim{Epoch: 2}},
	} {
		b, err := job.Encode(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, from := range []peer.ID{requester.id, nas.id} {
			_, _ = p.Answer(context.Background(), from, b)
		}
	})
}

// A member that hands over a job under the name of another's, or of one of this
// machine's own, gets at neither.
func TestAJobIsWhoseItWas(t *testing.T) {
	owner, thief, nas := newSomeone(t), newSomeone(t), newSomeone(t)
	p := newPart(t, nas, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.deps.Jobs.Run(ctx) }()
	defer func() { stop(); <-done }()
	_, id := delegate(t, owner, 1, nas)
	plan, err := dispatch.Fold([]job.Task{{Kind: "x", Label: "1", Outputs: []job.OutputRule{{Name: "o", Media: job.MediaFile}}}})
	if err != nil {
		t.Fatal(err)
	}
	in := dispatch.Inheritance{ID: id, Origin: owner.id, Lane: 1, Epoch: 9, Output: t.TempDir(),
		Copy: dispatch.Copy{Spec: job.Spec{Kind: "x"}, Plan: plan, Tasks: 1}}
	if err := p.deps.Jobs.Inherit(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	in.Origin = thief.id
	if err := p.deps.Jobs.Inherit(t.Context(), in); err == nil {
		t.Error("another goes on with it under the same name")
	}
	if err := p.deps.Jobs.GiveBack(t.Context(), thief.id, id); err != nil {
		t.Fatal(err)
	}
	if s, err := p.deps.Jobs.Status(id); err != nil || s.Origin != owner.id.String() || s.State.Ended() {
		t.Errorf("%+v, %v", s, err)
	}
	for _, change := range []func(*dispatch.Inheritance){
		func(in *dispatch.Inheritance) { in.Lane = 0 },
		func(in *dispatch.Inheritance) { in.Epoch = 1 << 40 },
		func(in *dispatch.Inheritance) { in.Copy.Tasks = 2 },
		func(in *dispatch.Inheritance) { in.Copy.Plan = nil },
		func(in *dispatch.Inheritance) { in.Facts = []dispatch.Fact{{Task: 1}} },
		func(in *dispatch.Inheritance) { in.Facts = []dispatch.Fact{{Task: 0}, {Task: 0}} },
		func(in *dispatch.Inheritance) {
			in.Facts = []dispatch.Fact{{Task: 0, Outputs: []job.Output{{Name: "../o"}}}}
		},
	} {
		bad := in
		bad.ID = job.NewID(time.Now())
		change(&bad)
		if err := p.deps.Jobs.Inherit(t.Context(), bad); err == nil {
			t.Errorf("begun with: %+v", bad)
		}
	}
}

// A steward goes on within the limits that the job has now, not those that it had
// when it was handed over.
func TestLimitsThatWereRaisedReachAStewardThatKnowsTheJob(t *testing.T) {
	requester, nas := newSomeone(t), newSomeone(t)
	p := newPart(t, nas, nil)
	signed, id := delegate(t, requester, 1, nas)
	tell := func(f follow) answer {
		t.Helper()
		f.State, f.Spent = stateLive, 100
		a := asked(t, p, requester.id, question{Delegation: signed, Follow: &f})
		if a.Refused != "" {
			t.Fatal(a.Refused)
		}
		return a
	}
	// As tell does, for each state of the job's limits.
	c := &call{raised: -1}
	for raised, budget := range []float64{100, 200, 200} {
		raised = min(raised, 1)
		a := tell(follow{Seq: c.seq})
		begun := c.begins(a.Known, raised)
		if want := raised != c.raised; begun != want {
			t.Errorf("described anew: %v, the limits are changed: %v", begun, want)
		}
		if begun {
			s := job.Spec{Kind: "x", Policy: job.Policy{Limits: job.Limits{Budget: budget}}}
			if a = tell(follow{Seq: c.seq, Begin: &begin{Copy: dispatch.Copy{Spec: s, Tasks: 1}, Blocks: 1}}); a.Blocks != 0 {
				t.Fatalf("%+v", a)
			}
			a = tell(follow{Seq: c.seq, Plan: [][]byte{{1}}})
			a = tell(follow{Seq: a.Seq, Reset: true, Facts: []dispatch.Fact{{Task: 0, Mark: 7}}})
		}
		c.raised, c.seq = raised, a.Seq
		p.mu.Lock()
		in := p.inheritance(p.wards[wardKey{requester.id, id}], 2)
		p.mu.Unlock()
		if got := in.Copy.Spec.Policy.Budget; got != budget || len(in.Copy.Plan) != 1 || len(in.Facts) != 1 || in.Spent != 100 {
			t.Errorf("a budget of %v, %d blocks, %d facts, %v spent", got, len(in.Copy.Plan), len(in.Facts), in.Spent)
		}
	}
	if c := (&call{raised: -1}); c.begins(true, 0) || !c.begins(true, 1) {
		t.Error("after a start: limits that never changed are said again, or changed ones are not")
	}
}
