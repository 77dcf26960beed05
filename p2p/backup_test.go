package p2p

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestFarmIsRecoveredOnAnotherMachine(t *testing.T) {
	t.Parallel()
	farm := newFarm(t, 3)
	owner, member, out := farm[0], farm[1], farm[2]
	eventually(t, within, "connected", func() bool { return knowEachOther(farm...) })
	if err := owner.members.Revoke(out.ID()); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.members.Rotate(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "the member has the new root", func() bool { f := member.farm(t); return f.Turn == 1 && !f.Left })
	early, err := owner.members.Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	b, err := owner.members.Backup()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := member.members.Backup(); !errors.Is(err, ErrNotOwner) {
		t.Errorf("backup by a member: %v", err)
	}
	// One that comes after the backup.
	late := newHost(t, "late")
	joinFarm(t, owner, late)
	want := owner.farm(t)
	key, _ := owner.members.ContentKey()
	shut(t, owner) // for good

	heir := newHost(t, "owner") // the name is taken
	f, err := heir.members.Recover(b)
	if err != nil || f.ID != want.ID || f.Name != want.Name || !f.Owner || f.Turn != 1 || f.Role != RoleOwner {
		t.Fatalf("%+v, %v", f, err)
	}
	if got, ok := heir.members.ContentKey(); !ok || got != key {
		t.Error("another content key: everything would be sent anew")
	}
	if _, ok := heir.members.revocationOf(out.ID()); !ok {
		t.Error("who was revoked is not any more")
	}
	eventually(t, within, "it finds the members, and those that came later through them", func() bool { return knowEachOther(heir, member, late) })
	for _, m := range heir.members.Members() {
		if m.Self && m.Name == "owner" {
			t.Error("two members are called the same")
		}
	}
	// It does what owners do.
	newcomer := newHost(t, "newcomer")
	joinFarm(t, heir, newcomer)
	if _, err := heir.members.Rotate(0); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "a new root is accepted from it", func() bool {
		return knowEachOther(heir, member, late, newcomer) && late.farm(t).Turn == 2
	})
	if err := heir.members.Revoke(late.ID()); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "so is a revocation", func() bool { return !member.members.Known(late.ID()) })
	if _, err := heir.members.Recover(b); err == nil {
		t.Error("an owner recovers its farm")
	}
	_ = early
}

// A machine with the identity of the old owner cannot know which tickets were
// used: they are void.
func TestTicketsFromBeforeARecoveryAreVoid(t *testing.T) {
	t.Parallel()
	owner := newFarm(t, 1)[0]
	b, err := owner.members.Backup()
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := owner.members.Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newHost(t, "first").members.Join(t.Context(), ticket); err != nil {
		t.Fatal(err)
	}
	shut(t, owner)
	heir := newHost(t, "heir", func(c *Config) { c.Key = owner.cfg.Key; c.Listen = nil; c.Listen = loopback })
	if _, err := heir.members.Recover(b); err != nil {
		t.Fatal(err)
	}
	second := newHost(t, "second")
	old, err := ParseTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	old.Addrs = addrBytes(heir.addrs())
	if err := second.host.Connect(t.Context(), old.inviter()); err != nil {
		t.Fatal(err)
	}
	if _, err := second.members.Join(t.Context(), ticket); !errors.Is(err, ErrTicketExpired) || !strings.Contains(err.Error(), "recovered from a backup") {
		t.Errorf("a used ticket: %v", err)
	}
	fresh, err := heir.members.Invite(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.members.Join(t.Context(), fresh); err != nil {
		t.Errorf("a ticket from after it: %v", err)
	}
}

func TestBackupsThatAreWrong(t *testing.T) {
	owner := newFarm(t, 1)[0]
	b, err := owner.members.Backup()
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "heir")
	for what, bad := range map[string][]byte{
		"nothing": {}, "text": []byte("hello"), "half of it": b[:len(b)/2], "more": append(append([]byte{}, b...), 0), "too long": make([]byte, MaxBackupBytes+1),
	} {
		if _, err := h.members.Recover(bad); !errors.Is(err, ErrBackup) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// No byte can be another one without it being noticed, or it does not matter
	// (what is a name or a time).
	for i := range b {
		bad := append([]byte{}, b...)
		bad[i] ^= 1
		if v, key, _, id, err := openBackup(bad); err == nil && (key == nil || id != owner.farm(t).ID || len(v.Root) == 0) {
			t.Errorf("byte %d: another farm", i)
		}
	}
	if _, ok := h.Membership().Farm(); ok {
		t.Error("it is in a farm now")
	}
	other := newFarm(t, 1)[0]
	if _, err := other.members.Recover(b); !errors.Is(err, ErrOtherFarm) {
		t.Errorf("in another farm: %v", err)
	}
}

func FuzzBackup(f *testing.F) {
	h := newHost(f, "owner")
	if _, err := h.members.CreateFarm("f"); err != nil {
		f.Fatal(err)
	}
	b, err := h.members.Backup()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(backupMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, key, _, id, err := openBackup(data)
		if err == nil && (key == nil || id == "" || checkName(v.Name) != nil) {
			t.Errorf("taken: %+v", v)
		}
	})
}

// The old owner's machine may still be there, and be the only one that is.
func TestRecoveredFarmFindsTheOldOwner(t *testing.T) {
	t.Parallel()
	owner := newFarm(t, 1)[0]
	b, err := owner.members.Backup()
	if err != nil {
		t.Fatal(err)
	}
	heir := newHost(t, "heir")
	if _, err := heir.members.Recover(b); err != nil {
		t.Fatal(err)
	}
	eventually(t, within, "both owners connected", func() bool { return knowEachOther(owner, heir) })
}
