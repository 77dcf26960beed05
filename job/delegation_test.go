package job

import (
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestDelegationsThatDoNotCount(t *testing.T) {
	newKey := func() (crypto.PrivKey, peer.ID) {
		key, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return key, id
	}
	key, requester := newKey()
	other, steward := newKey()
	now := time.Now()
	good := Delegation{Version: 1, Requester: requester.String(), Job: NewID(now), Stewards: []string{steward.String()}, Epoch: 3, Expires: now.Add(time.Hour)}
	sign := func(k Signer, context string, change func(*Delegation)) Signed {
		d := good
		if change != nil {
			change(&d)
		}
		s, err := Sign(k, context, d)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	d, by, err := OpenDelegation(sign(key, ContextDelegation, nil), now)
	if err != nil || by != requester || d.Rank(steward) != 0 || d.Rank(requester) != -1 {
		t.Fatalf("%v of %s: %v", d, by, err)
	}
	changed := sign(key, ContextDelegation, nil)
	changed.Body[len(changed.Body)-1] ^= 1
	for want, s := range map[string]Signed{
		"not signed by": sign(other, ContextDelegation, nil),
		"expired":       sign(key, ContextDelegation, func(d *Delegation) { d.Expires = now.Add(-time.Second) }),
		"version 2":     sign(key, ContextDelegation, func(d *Delegation) { d.Version = 2 }),
		"0 stewards":    sign(key, ContextDelegation, func(d *Delegation) { d.Stewards = nil }),
		"5 stewards":    sign(key, ContextDelegation, func(d *Delegation) { d.Stewards = make([]string, 5) }),
		"epoch":         sign(key, ContextDelegation, func(d *Delegation) { d.Epoch = 1 << 40 }),
		"requester":     sign(key, ContextDelegation, func(d *Delegation) { d.Requester = "somebody" }),
		"delegation":    changed,
	} {
		if _, _, err := OpenDelegation(s, now); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if _, _, err := OpenDelegation(sign(key, ContextRead, nil), now); err == nil {
		t.Error("a signature for something else counts")
	}
}

func TestFencesOfLanesDiffer(t *testing.T) {
	seen := map[uint64]bool{}
	for lane := range MaxStewards + 1 {
		for _, n := range []uint32{1, 2, MaxFenceNumber} {
			f := Fence(7, lane, n)
			if f>>32 != 7 || FenceLane(f) != lane || seen[f] {
				t.Errorf("fence %x of lane %d", f, lane)
			}
			seen[f] = true
		}
	}
}
