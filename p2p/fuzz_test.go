package p2p

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/job"
	"idlewild/p2p/wire"
)

func FuzzParseTicket(f *testing.F) {
	key := newKey(f)
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	good, err := newTicket(key, Ticket{Farm: farmIDOf(root), Name: "f", Root: []byte(root), Inviter: root.String(), Role: RoleMember, Expires: time.Unix(1e9, 0)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(ticketPrefix)
	f.Add(good[:100])
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseTicket(s)
		if err != nil {
			return
		}
		if v.Turn == 0 && v.Farm != farmIDOf(v.root()) || len(v.inviter().Addrs) > wire.MaxAddrs {
			t.Fatal("a ticket that cannot be")
		}
	})
}

func FuzzCertificate(f *testing.F) {
	key := newKey(f)
	root, err := peer.IDFromPrivateKey(key)
	if err != nil {
		f.Fatal(err)
	}
	s, err := job.Sign(key, job.ContextMember, Certificate{Version: 1, Farm: farmIDOf(root), Peer: root.String(), Name: "n", Role: RoleMember})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Body)
	f.Fuzz(func(t *testing.T, body []byte) {
		// Whatever the body says, it is signed here: form alone is tried.
		sig, err := key.Sign(append([]byte(job.ContextMember), body...))
		if err != nil {
			t.Fatal(err)
		}
		c, p, err := openCertificate(job.Signed{Body: body, Sig: sig}, root, farmIDOf(root))
		if err == nil && (c.Peer == "" || p == "" || checkName(c.Name) != nil || c.Farm != farmIDOf(root)) {
			t.Fatalf("accepted %+v", c)
		}
	})
}
