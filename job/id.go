package job

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// ID names a job: a ULID, so that names sort by the time of submission. It is
// chosen by the requester and unique among its jobs.
type ID string

// LeaseID names one lease, unique per requester: a ULID.
type LeaseID string

// NewID returns a fresh job name for a job submitted at now.
func NewID(now time.Time) ID { return ID(newULID(now)) }

// NewLeaseID returns a fresh lease name.
func NewLeaseID(now time.Time) LeaseID { return LeaseID(newULID(now)) }

// IDOf is the name of what is done again and again with the same content: a
// model that answers requests, say. The same hash has the same name.
func IDOf(sum [32]byte) ID { return ID(ulid.ULID(sum[:16]).String()) }

func newULID(now time.Time) string {
	return ulid.MustNew(ulid.Timestamp(now), rand.Reader).String()
}

// ParseID checks a job name that came from a person, a file or a peer.
func ParseID(s string) (ID, error) {
	if _, err := ulid.ParseStrict(s); err != nil {
		return "", fmt.Errorf("job id %q: not a ULID (26 letters and digits)", s)
	}
	return ID(s), nil
}

// ParseLeaseID checks a lease name that came from a peer.
func ParseLeaseID(s string) (LeaseID, error) {
	if _, err := ulid.ParseStrict(s); err != nil {
		return "", fmt.Errorf("lease id %q: not a ULID", s)
	}
	return LeaseID(s), nil
}
