package p2p

import (
	"fmt"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

// TestStudioBehindOneAddress: two hundred nodes that come back together, each
// with two dials that cross, are let in; libp2p's own limits let in eight.
func TestStudioBehindOneAddress(t *testing.T) {
	rm, err := newResourceManager()
	if err != nil {
		t.Fatal(err)
	}
	defer rm.Close()
	for i := range 400 {
		at, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/11.0.0.1/tcp/%d", 1000+i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rm.OpenConnection(network.DirInbound, false, at); err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
	}
}
