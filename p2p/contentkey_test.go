package p2p

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

func contentKeyOf(t *testing.T, h *Host) [32]byte {
	t.Helper()
	key, ok := h.Membership().ContentKey()
	if !ok || key == ([32]byte{}) {
		t.Fatalf("%s has no content key", h.cfg.Name)
	}
	return key
}

func TestMembersHaveTheContentKey(t *testing.T) {
	t.Parallel()
	if _, ok := newHost(t, "alone").Membership().ContentKey(); ok {
		t.Error("a content key without a farm")
	}
	farm, other := newFarm(t, 2), newFarm(t, 1)
	want := contentKeyOf(t, farm[0])
	// It is there when Join returns: the first job may come at once.
	if got := contentKeyOf(t, farm[1]); got != want {
		t.Error("a member has another key than the owner")
	}
	if contentKeyOf(t, other[0]) == want {
		t.Error("two farms have one key")
	}
	path := farm[1].members.dir.file("content.key")
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	dir, key := farm[1].cfg.DataDir, farm[1].cfg.Key
	if err := farm[1].Close(); err != nil {
		t.Fatal(err)
	}
	again := newHost(t, "member", func(c *Config) { c.DataDir, c.Key = dir, key })
	if contentKeyOf(t, again) != want {
		t.Error("another key after a restart")
	}
	if err := again.Membership().Leave(); err != nil {
		t.Fatal(err)
	}
	if _, ok := again.Membership().ContentKey(); ok {
		t.Error("the key stays when the farm is left")
	}
}

// A farm of before there were keys: the owner makes one when it starts, and
// members get it with the next hello.
func TestAnOldFarmGetsAContentKey(t *testing.T) {
	t.Parallel()
	ownerDir, memberDir, ownerKey, memberKey := t.TempDir(), t.TempDir(), newKey(t), newKey(t)
	start := func(name, dir string) *Host {
		key := ownerKey
		if name == "member" {
			key = memberKey
		}
		return newHost(t, name, func(c *Config) { c.DataDir, c.Key = dir, key })
	}
	owner := start("owner", ownerDir)
	if _, err := owner.Membership().CreateFarm("f"); err != nil {
		t.Fatal(err)
	}
	member := start("member", memberDir)
	joinFarm(t, owner, member)
	old := contentKeyOf(t, owner)
	for _, h := range []*Host{owner, member} {
		path := h.members.dir.file("content.key")
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	member = start("member", memberDir)
	if _, ok := member.Membership().ContentKey(); ok {
		t.Fatal("a member made a key")
	}
	owner = start("owner", ownerDir)
	if contentKeyOf(t, owner) == old {
		t.Error("a new key that is the old one")
	}
	if err := member.host.Connect(t.Context(), peer.AddrInfo{ID: owner.ID(), Addrs: owner.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the key at the member", func() bool {
		key, ok := member.Membership().ContentKey()
		return ok && key == contentKeyOf(t, owner)
	})
}

func TestContentKeysThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	farm, other := newFarm(t, 2), newFarm(t, 1)
	m := farm[1].members
	want := contentKeyOf(t, farm[1])
	sign := func(h *Host, context string, change func(*ContentKey)) *wire.Signed {
		k := ContentKey{Version: 1, Farm: m.FarmID(), Key: bytes.Repeat([]byte{7}, 32), Issued: time.Now().Add(time.Hour)}
		change(&k)
		s, err := job.Sign(h.members.rootKey, context, k)
		if err != nil {
			t.Fatal(err)
		}
		return wire.FromSigned(s)
	}
	none := func(*ContentKey) {}
	for name, s := range map[string]*wire.Signed{
		"another root":    sign(other[0], job.ContextContentKey, none),
		"another context": sign(farm[0], job.ContextRevoke, none),
		"another farm":    sign(farm[0], job.ContextContentKey, func(k *ContentKey) { k.Farm = other[0].members.FarmID() }),
		"another version": sign(farm[0], job.ContextContentKey, func(k *ContentKey) { k.Version = 2 }),
		"short":           sign(farm[0], job.ContextContentKey, func(k *ContentKey) { k.Key = k.Key[:31] }),
		"zeros":           sign(farm[0], job.ContextContentKey, func(k *ContentKey) { k.Key = make([]byte, 32) }),
		"no time":         sign(farm[0], job.ContextContentKey, func(k *ContentKey) { k.Issued = time.Time{} }),
		"too long":        {Body: make([]byte, wire.MaxSignedBytes+1)},
		"empty":           {},
	} {
		if err := m.learnContentKey(s); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
	// An earlier one is no error, and changes nothing.
	if err := m.learnContentKey(sign(farm[0], job.ContextContentKey, func(k *ContentKey) { k.Issued = time.Unix(1, 0) })); err != nil {
		t.Error(err)
	}
	if contentKeyOf(t, farm[1]) != want {
		t.Error("the key changed")
	}
	if err := m.learnContentKey(sign(farm[0], job.ContextContentKey, none)); err != nil || contentKeyOf(t, farm[1]) == want {
		t.Errorf("a later one is not taken: %v", err)
	}
}

func FuzzContentKey(f *testing.F) {
	key := newKey(f)
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	s, err := job.Sign(key, job.ContextContentKey, ContentKey{Version: 1, Farm: farmIDOf(root), Key: bytes.Repeat([]byte{1}, 32), Issued: time.Unix(1, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Body)
	m := &Membership{id: farmIDOf(root), root: root}
	f.Fuzz(func(t *testing.T, body []byte) {
		sig, err := key.Sign(append([]byte(job.ContextContentKey), body...))
		if err != nil {
			t.Fatal(err)
		}
		c, err := m.openContentKey(job.Signed{Body: body, Sig: sig}, root)
		if err == nil && (c.key == ([32]byte{}) || c.issued.IsZero()) {
			t.Fatalf("accepted %+v", c)
		}
	})
}
