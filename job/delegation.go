package job

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// MaxStewards bounds the stewards of one job. Their ranks are part of fences;
// see FenceLane.
const MaxStewards = 4

// maxDelegationBytes bounds an encoded Delegation.
const maxDelegationBytes = 4 << 10

// Delegation is the right to go on with a job while its requester is silent.
// The requester signs it, anew with each sign of life; it opens nothing but
// this: whoever hears the requester itself need not heed it.
type Delegation struct {
	Version   int       `cbor:"v"` // 1
	Requester string    `cbor:"requester"`
	Job       ID        `cbor:"job"`
	Stewards  []string  `cbor:"stewards"` // by rank, the first comes first
	Epoch     uint64    `cbor:"epoch"`    // of the requester's coordinator: a steward's is higher
	Expires   time.Time `cbor:"expires"`
}

// Rank returns the place of a peer among the stewards, -1 if it is none.
func (d Delegation) Rank(p peer.ID) int {
	for i, s := range d.Stewards {
		if s == p.String() {
			return i
		}
	}
	return -1
}

// OpenDelegation checks a delegation's signature, bounds and end, and says whose
// job it is.
func OpenDelegation(s Signed, now time.Time) (Delegation, peer.ID, error) {
	var d Delegation
	if err := Decode(s.Body, maxDelegationBytes, &d); err != nil {
		return Delegation{}, "", fmt.Errorf("delegation: %w", err)
	}
	requester, err := peer.Decode(d.Requester)
	if err != nil {
		return Delegation{}, "", fmt.Errorf("delegation: requester: %w", err)
	}
	if err := s.Open(requester, ContextDelegation, maxDelegationBytes, &d); err != nil {
		return Delegation{}, "", fmt.Errorf("delegation: %w", err)
	}
	if _, err := ParseID(string(d.Job)); err != nil {
		return Delegation{}, "", fmt.Errorf("delegation: %w", err)
	}
	switch {
	case d.Version != 1:
		return Delegation{}, "", fmt.Errorf("delegation: version %d, this program knows 1", d.Version)
	case len(d.Stewards) == 0 || len(d.Stewards) > MaxStewards:
		return Delegation{}, "", fmt.Errorf("delegation: %d stewards where at most %d are allowed", len(d.Stewards), MaxStewards)
	case d.Epoch >= 1<<31:
		return Delegation{}, "", fmt.Errorf("delegation: epoch %d", d.Epoch)
	case now.After(d.Expires):
		return Delegation{}, "", fmt.Errorf("delegation: it expired %s", d.Expires.UTC().Format(time.DateTime))
	}
	return d, requester, nil
}

// A fence is an epoch, a lane, and a number that grows. The lane keeps apart
// what coordinators grant that came to the same epoch without knowing of each
// other: 0 is the requester's, 1 and on are those of its stewards by rank.
const laneBits = 3

// Fence makes a fence; n has at most 29 bits.
func Fence(epoch uint64, lane int, n uint32) uint64 {
	return epoch<<32 | uint64(lane)<<(32-laneBits) | uint64(n)&MaxFenceNumber
}

// MaxFenceNumber is the highest number of a fence within its epoch and lane.
const MaxFenceNumber = 1<<(32-laneBits) - 1

// FenceLane returns the lane of a fence.
func FenceLane(fence uint64) int { return int(fence>>(32-laneBits)) & (1<<laneBits - 1) }
