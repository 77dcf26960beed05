package localapi

import (
	"context"
	"time"

	"idlewild/job"
)

// Doctor looks for what keeps this machine from its farm.
type Doctor interface {
	// Doctor looks now. With speed it also measures how fast bytes pass to and
	// from connected members, some seconds for each.
	Doctor(ctx context.Context, speed bool) DoctorView
}

// DoctorView is how this machine stands in its farm.
type DoctorView struct {
	Version    string         `json:"version"`
	Capability uint32         `json:"capability" doc:"Grows with what members can ask of each other"`
	Network    NetworkView    `json:"network"`
	Findings   []Finding      `json:"findings" doc:"What is not as it should be, worst first; empty: nothing"`
	Peers      []DoctorPeer   `json:"peers" doc:"The other members"`
	Offers     []OfferOutcome `json:"offers" doc:"What others offered within the last hour, newest first"`
}

// Finding is one thing that is wrong, and what helps.
type Finding struct {
	Severity string `json:"severity" enum:"error,warning,note"`
	What     string `json:"what"`
	Remedy   string `json:"remedy,omitempty"`
}

// NetworkView is how this machine can be reached.
type NetworkView struct {
	Profile      string   `json:"profile"`
	NAT          string   `json:"nat" enum:"none,cone,symmetric,unknown"`
	Listen       []string `json:"listen"`           // multiaddresses
	Seen         []string `json:"seen,omitempty"`   // public ones at which members see this machine
	Open         []string `json:"open,omitempty"`   // those at which a member dialled it from outside
	Shut         []string `json:"shut,omitempty"`   // those at which a member could not
	Traverse     bool     `json:"traverse"`         // relays may be used, holes punched
	Relays       []string `json:"relays,omitempty"` // members through which this machine is reached
	IsRelay      bool     `json:"is_relay"`         // for others
	RelayedBytes int64    `json:"relayed_bytes"`    // for others, since the start
	DHT          string   `json:"dht,omitempty" doc:"This machine's part in the farm's DHT, in words"`
	UpLimit      int64    `json:"up_limit_bytes_per_s"`   // 0: none
	DownLimit    int64    `json:"down_limit_bytes_per_s"` // 0: none
}

// DoctorPeer is the way to one member.
type DoctorPeer struct {
	Peer        string    `json:"peer"`
	Name        string    `json:"name"`
	Connected   bool      `json:"connected"`
	LastSeen    time.Time `json:"last_seen,omitzero"`
	Trouble     string    `json:"trouble,omitempty"` // why it is not connected
	Path        string    `json:"path,omitempty"`    // "same machine", "LAN", "direct", "punched", "relayed"
	Transport   string    `json:"transport,omitempty"`
	Address     string    `json:"address,omitempty"` // the other end
	Via         string    `json:"via,omitempty"`     // name of the member that relays
	PunchMillis float64   `json:"punch_ms,omitempty"`
	PunchFail   string    `json:"punch_failed,omitempty"`
	RTTMillis   float64   `json:"rtt_ms,omitempty"`
	ClockMillis float64   `json:"clock_offset_ms,omitempty" doc:"How far its clock is ahead of this one; right to half of rtt_ms"`
	UpBytes     float64   `json:"up_bytes_per_s,omitempty" doc:"Measured now, to the member"`
	DownBytes   float64   `json:"down_bytes_per_s,omitempty"`
	Unmeasured  string    `json:"unmeasured,omitempty"` // why something was not
	Agent       string    `json:"agent,omitempty"`      // program and version, by its word
	Capability  uint32    `json:"capability,omitempty"`
	Apart       string    `json:"apart,omitempty" doc:"Why this machine and the member do not work together: one of the programs is too old"`
}

// OfferOutcome is why this machine did or did not get work from an offer.
type OfferOutcome struct {
	Job       job.ID    `json:"job"`
	Requester string    `json:"requester"`
	Name      string    `json:"name"` // of the requester
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Open      int       `json:"open"`   // tasks, as last announced
	Leases    int       `json:"leases"` // that this machine got
	Outcome   string    `json:"outcome" enum:"worked,off,unfit,refused,full,unreachable,resting,denied,busy,waiting"`
	Reason    string    `json:"reason,omitempty"`
	Remedy    string    `json:"remedy,omitempty"`
}
