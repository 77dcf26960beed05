package p2p

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

// within bounds what should take a moment on a machine that has others to do.
const within = 2 * time.Minute

func (h *Host) farm(t testing.TB) Farm {
	t.Helper()
	f, ok := h.Membership().Farm()
	if !ok {
		t.Fatalf("%s is in no farm", h.ID())
	}
	return f
}

// reopen starts a host again that was closed.
func reopen(t testing.TB, h *Host) *Host {
	t.Helper()
	return newHost(t, "again", func(c *Config) { *c = h.cfg })
}

func shut(t testing.TB, hosts ...*Host) {
	t.Helper()
	for _, h := range hosts {
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func knowEachOther(hosts ...*Host) bool {
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b && (!connected(a, b.ID()) || a.members.certificateOf(b.ID()) == nil) {
				return false
			}
		}
	}
	return true
}

func TestRootKeyIsReplaced(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 3)
	owner := farm[0]
	id := owner.farm(t).ID
	eventually(t, within, "everybody connected to everybody", func() bool { return knowEachOther(farm...) })
	key, _ := owner.members.ContentKey()
	early, err := owner.members.Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := farm[1].members.Rotate(0); !errors.Is(err, ErrNotOwner) {
		t.Errorf("by a member: %v", err)
	}
	if _, err := owner.members.Rotate(MaxCarry + time.Second); err == nil {
		t.Error("carried over for longer than is possible")
	}
	// The second time without carrying anybody over.
	for turn, carry := range []time.Duration{CarryTime, 0} {
		if f, err := owner.members.Rotate(carry); err != nil || f.Turn != turn+1 || f.ID != id || !f.Owner || f.Left {
			t.Fatalf("%+v, %v", f, err)
		}
		for _, h := range farm {
			eventually(t, within, "everybody has the new root and a certificate by it", func() bool {
				f := h.farm(t)
				return f.Turn == turn+1 && !f.Left && f.ID == id && knowEachOther(farm...)
			})
		}
	}
	if after, ok := farm[2].members.ContentKey(); !ok || after != key {
		t.Error("the content key changed: everything would be sent anew")
	}
	// Tickets: one from before, and a new one.
	newcomer := newHost(t, "newcomer")
	if _, err := newcomer.Membership().Join(t.Context(), early); !errors.Is(err, ErrTicketExpired) || !strings.Contains(err.Error(), "key was replaced") {
		t.Errorf("a ticket by the old root: %v", err)
	}
	joinFarm(t, owner, newcomer)
	if f := newcomer.farm(t); f.ID != id || f.Turn != 2 || f.Left {
		t.Errorf("the newcomer is in %+v", f)
	}
	// All of it is on disk.
	shut(t, owner, newcomer)
	owner, newcomer = reopen(t, owner), reopen(t, newcomer)
	if f := owner.farm(t); !f.Owner || f.Turn != 2 || f.ID != id || f.Left {
		t.Errorf("after a restart the owner is in %+v", f)
	}
	if f := newcomer.farm(t); f.Turn != 2 || f.Left {
		t.Errorf("after a restart the newcomer is in %+v", f)
	}
	eventually(t, within, "they meet again", func() bool { return knowEachOther(owner, newcomer, farm[1], farm[2]) })
}

// Who was away hears of it from any member, also when the owner is not there.
func TestMemberThatWasAwayAcceptsTheNewRoot(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 4)
	eventually(t, within, "everybody connected to everybody", func() bool { return knowEachOther(farm...) })
	shut(t, farm[2], farm[3])
	for range 2 {
		if _, err := farm[0].members.Rotate(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, within, "the member that is there has it", func() bool {
		f := farm[1].farm(t)
		return f.Turn == 2 && !f.Left && farm[1].members.certificateOf(farm[2].ID()) != nil && farm[1].members.certificateOf(farm[3].ID()) != nil
	})
	shut(t, farm[0])
	// Both come back and know only the first root.
	farm[2], farm[3] = reopen(t, farm[2]), reopen(t, farm[3])
	eventually(t, within, "they are members again", func() bool {
		for _, h := range farm[2:] {
			if f := h.farm(t); f.Turn != 2 || f.Left {
				return false
			}
		}
		return knowEachOther(farm[1:]...)
	})
}

// thief is somebody who has a root key, and a machine.
func thief(t *testing.T, key crypto.PrivKey, id FarmID, chain []job.Signed) (*Host, job.Signed) {
	t.Helper()
	h := newHost(t, "thief")
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := job.Sign(key, job.ContextMember, Certificate{
		Version: 1, Farm: id, Peer: h.ID().String(), Name: "thief", Role: RoleOwner, Issued: time.Now().Add(-time.Hour), Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.members.enter(root, key, farmFile{Root: []byte(root), Chain: chain, Name: "test farm", Certificate: cert}); err != nil {
		t.Fatal(err)
	}
	h.farmReady()
	return h, cert
}

func TestStolenOldKeyIsWorthNothing(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	owner, member := farm[0], farm[1]
	eventually(t, within, "connected", func() bool { return knowEachOther(farm...) })
	old := owner.members.rootKey
	if _, err := owner.members.Rotate(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the member has the new root", func() bool { f := member.farm(t); return f.Turn == 1 && !f.Left })
	id := owner.farm(t).ID
	evil, cert := thief(t, old, id, nil)

	// A certificate, dated back.
	if _, err := member.members.learn(cert, nil); err == nil {
		t.Error("a certificate by the old root was taken")
	}
	// A revocation of the owner.
	rev, err := job.Sign(old, job.ContextRevoke, Revocation{Version: 1, Farm: id, Peer: owner.ID().String(), At: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := member.members.applyRevocation(rev); err == nil {
		t.Error("a revocation by the old root was taken")
	}
	// The old key's holder replaces it himself, for a chain of his own that is
	// longer, and turns up with it.
	for range 3 {
		if _, err := evil.members.Rotate(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := evil.host.Connect(t.Context(), peer.AddrInfo{ID: member.ID(), Addrs: member.addrs()}); err != nil {
		t.Fatal(err)
	}
	if err := evil.hello(t.Context(), member.ID()); err == nil {
		t.Error("the thief was let in")
	}
	if f := member.farm(t); f.Turn != 1 || !f.Forked {
		t.Errorf("the member believes %+v", f)
	}
	if member.members.Known(evil.ID()) {
		t.Error("the thief is a member")
	}
	// Back to the old root: no succession can say so.
	back, err := job.Sign(old, job.ContextSuccession, Succession{Version: 1, Farm: id, No: 2, Root: []byte(owner.members.root), Next: owner.members.chain[0].signed.Body[:0], At: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := member.members.learnSuccessions([]job.Signed{back}); err == nil {
		t.Error("the old root signed the successor of the new one")
	}
	if !knowEachOther(farm...) {
		t.Error("the farm is not whole any more")
	}
}

// Another machine with the root key is no owner any more once the key was
// replaced elsewhere.
func TestSecondOwnerLearnsThatItsKeyWasReplaced(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	b, err := farm[0].members.Backup()
	if err != nil {
		t.Fatal(err)
	}
	second := newHost(t, "second")
	if f, err := second.members.Recover(b); err != nil || !f.Owner {
		t.Fatalf("%+v, %v", f, err)
	}
	eventually(t, within, "connected", func() bool { return knowEachOther(farm[0], farm[1], second) })
	if _, err := farm[0].members.Rotate(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "it is a member like others", func() bool { f := second.farm(t); return !f.Owner && f.Turn == 1 && !f.Left })
	if _, err := second.members.Invite(time.Hour); !errors.Is(err, ErrNotOwner) {
		t.Errorf("it invites: %v", err)
	}
	if _, err := newHost(t, "third").members.Recover(b); err != nil {
		t.Fatalf("a backup of a replaced key alone: %v", err)
	}
	if _, err := farm[1].members.Recover(b); !errors.Is(err, ErrBackup) || !strings.Contains(err.Error(), "replaced") {
		t.Errorf("a backup of a replaced key on a member: %v", err)
	}
}

// Wherever a crash interrupts a replacement, one of the two keys is the root
// and is here, and in the end everybody has certificates by it.
func TestReplacementSurvivesACrash(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 2)
	owner := farm[0]
	shut(t, farm...)
	before := filesOf(t, owner.members.dir.path)
	owner = reopen(t, owner)
	if _, err := owner.members.Rotate(0); err != nil {
		t.Fatal(err)
	}
	shut(t, owner)
	after := filesOf(t, owner.members.dir.path)
	set := func(files ...string) {
		t.Helper()
		old, _ := filepath.Glob(owner.members.dir.file("*"))
		for _, f := range old {
			if fi, err := os.Stat(f); err == nil && !fi.IsDir() {
				os.Remove(f)
			}
		}
		write := func(name string, b []byte) {
			if err := os.WriteFile(owner.members.dir.file(name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for name, b := range before {
			write(name, b)
		}
		for _, name := range files {
			if name == nextKeyFile {
				write(name, after[rootKeyFile])
				continue
			}
			write(name, after[name])
		}
	}
	for _, c := range []struct {
		files []string
		turn  int
	}{
		{[]string{nextKeyFile}, 0},
		{[]string{nextKeyFile, "farm"}, 1},
		{[]string{rootKeyFile, "farm"}, 1},
		{[]string{rootKeyFile, "farm", "revoked"}, 1},
		{[]string{rootKeyFile, "farm", "revoked", "content.key"}, 1},
	} {
		set(c.files...)
		h := reopen(t, owner)
		f := h.farm(t)
		if f.Turn != c.turn || !f.Owner || f.Left {
			t.Errorf("after %v: %+v", c.files, f)
		}
		if h.members.certificateOf(farm[1].ID()) == nil {
			t.Errorf("after %v: the member has no certificate", c.files)
		}
		if _, err := h.members.Invite(time.Hour); err != nil {
			t.Errorf("after %v: %v", c.files, err)
		}
		if _, err := os.Stat(h.members.dir.file(nextKeyFile)); c.turn > 0 && err == nil {
			t.Errorf("after %v: two keys are there", c.files)
		}
		shut(t, h)
	}
	// What a crash left beside the good one need not be whole.
	set()
	write := func(name string, b []byte) {
		if err := os.WriteFile(owner.members.dir.file(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(nextKeyFile, after[rootKeyFile][:20])
	h := reopen(t, owner)
	if f := h.farm(t); !f.Owner || f.Turn != 0 {
		t.Errorf("beside a damaged next key: %+v", f)
	}
	shut(t, h)
}

func filesOf(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestRevokedStaysOutWhenTheKeyIsReplaced(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 3)
	eventually(t, within, "connected", func() bool { return knowEachOther(farm...) })
	if err := farm[0].members.Revoke(farm[2].ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := farm[0].members.Rotate(time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the other member has the new root", func() bool { f := farm[1].farm(t); return f.Turn == 1 && !f.Left })
	for _, h := range farm[:2] {
		if h.members.Known(farm[2].ID()) || h.members.certificateOf(farm[2].ID()) != nil {
			t.Error("who was revoked is a member")
		}
	}
	shut(t, farm[0])
	again := reopen(t, farm[0])
	if _, ok := again.members.revocationOf(farm[2].ID()); !ok {
		t.Error("the revocation is forgotten")
	}
}

func TestChainsThatAreWrong(t *testing.T) {
	h := newFarm(t, 1)[0]
	for range 3 {
		if _, err := h.members.Rotate(0); err != nil {
			t.Fatal(err)
		}
	}
	good := h.members.farm.Chain
	root := h.members.root
	if chain, id, err := openChain(root, good); err != nil || len(chain) != 3 || id != h.farm(t).ID {
		t.Fatalf("%d, %s, %v", len(chain), id, err)
	}
	for what, bad := range map[string][]job.Signed{
		"none":           {},
		"the first left": good[1:],
		"the last left":  good[:2],
		"one left":       {good[0], good[2]},
		"twice":          {good[0], good[0], good[1], good[2]},
		"reversed":       {good[2], good[1], good[0]},
		"damaged":        {good[0], good[1], {Body: slices.Concat(good[2].Body, []byte{0}), Sig: good[2].Sig}},
		"too many":       slices.Repeat(good, wire.MaxSuccessions),
	} {
		if _, id, err := openChain(root, bad); err == nil && id == h.farm(t).ID {
			t.Errorf("%s: taken", what)
		}
	}
}

func FuzzSuccession(f *testing.F) {
	h := newHost(f, "owner")
	if _, err := h.members.CreateFarm("f"); err != nil {
		f.Fatal(err)
	}
	if _, err := h.members.Rotate(0); err != nil {
		f.Fatal(err)
	}
	s := h.members.farm.Chain[0]
	f.Add(s.Body, s.Sig)
	f.Add([]byte{}, []byte{})
	root, id := h.members.root, h.members.id
	f.Fuzz(func(t *testing.T, body, sig []byte) {
		chain, got, err := openChain(root, []job.Signed{{Body: body, Sig: sig}})
		if err == nil && (got != id || len(chain) != 1 || string(body) != string(s.Body)) {
			t.Errorf("taken: %x", body)
		}
	})
}
