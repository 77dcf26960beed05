// Package localapi is the door: HTTP and JSON on loopback for the command
// line, the Blender add-on, the dashboard, OpenAI's clients and Prometheus.
//
// It listens on 127.0.0.1 and a unix socket; a token in a 0600 file opens it.
// Host, Origin and Referer are checked, unknown fields refused, and progress
// is a stream of server-sent events. Client is the other side of it.
package localapi

import (
	"context"
	"iter"
	"time"

	"idlewild/job"
)

// Jobs is what can be done with jobs.
type Jobs interface {
	// Inspect looks at a spec's input; nothing is stored.
	Inspect(ctx context.Context, s job.Spec) (job.Inspection, error)
	// Submit accepts a job: once it returns, the spec is on disk. Inspecting
	// and storing go on behind it and show in the job's status and events. A
	// job.RefusedError says why it does not begin.
	Submit(ctx context.Context, s job.Spec) (job.ID, error)
	// Steer cancels, pauses or resumes a job.
	Steer(ctx context.Context, id job.ID, a job.Action) error
	// Resubmit submits what an ended job was asked for once more: its file as it
	// is now, and of the files that it delivered, those stay that nothing changed
	// for.
	Resubmit(ctx context.Context, id job.ID) (job.ID, error)
	// Requeue runs a task again, also one that was delivered or failed.
	Requeue(ctx context.Context, id job.ID, label string) error
}

// Views is what can be seen of jobs.
type Views interface {
	// List returns every job of this machine, newest first, without frames.
	List() []job.Status
	// Status returns one, with its frames and workers.
	Status(id job.ID) (job.Status, error)
	// Watch yields events after seq (0: from now on) until ctx ends; an empty
	// id means all jobs. A watcher that falls behind misses nothing that is
	// still in the ring of recent events.
	Watch(ctx context.Context, id job.ID, seq uint64) iter.Seq[job.Event]
	// Log returns the newest log of a task, or where label is "" every log that
	// is kept of the job, each under its task's label.
	Log(ctx context.Context, id job.ID, label string) ([]byte, error)
}

// Machine is what this machine does and why.
type Machine interface {
	Machine() MachineView
	// SetPaused stops or starts taking work from others.
	SetPaused(ctx context.Context, w PauseWish) error
	// Why says which signal decides what each device may do for others.
	Why() WhyView
}

// PauseWish is what the owner wants.
type PauseWish struct {
	Paused       bool    `json:"paused"`
	Reason       string  `json:"reason,omitempty" maxLength:"1024"`
	ForSeconds   float64 `json:"for_s,omitempty" minimum:"0" maximum:"31536000" doc:"0: until it is resumed"`
	UntilRestart bool    `json:"until_restart,omitempty" doc:"Until the machine starts again"`
}

// WhyView is what decides now whether this machine works for others.
type WhyView struct {
	Mode    string            `json:"mode"` // idle.mode
	Desk    bool              `json:"desk"` // it yields to whoever sits at it
	Devices []WhyDevice       `json:"devices"`
	Signals any               `json:"signals"`           // everything that was sensed
	Missing map[string]string `json:"missing,omitempty"` // what could not be, by source
}

// WhyDevice is one device's part.
type WhyDevice struct {
	Name        string   `json:"name"`
	Model       string   `json:"model"`
	Level       string   `json:"level"`            // stop, leave, share or free
	Signal      string   `json:"signal,omitempty"` // what decides; empty: nothing speaks against work
	Reason      string   `json:"reason,omitempty"`
	Also        []string `json:"also,omitempty"`   // what would decide next
	LeftSeconds float64  `json:"left_s,omitempty"` // at least so long, where that is known
	Doing       string   `json:"doing"`
}

// Blenders are those of this machine that members may have.
type Blenders interface {
	// Share stores a Blender, by its version, its build or its path, for members
	// to fetch.
	Share(ctx context.Context, which string) (SharedBlender, error)
	Shared() []SharedBlender
	// Unshare lets go of one, by its root.
	Unshare(ctx context.Context, root string) error
}

// SharedBlender is a Blender as a tree of files that is known by its root.
type SharedBlender struct {
	Root    string `json:"root"` // CID of the manifest
	Build   string `json:"build"`
	Version string `json:"version"`
	System  string `json:"system"` // as in the names of its archives: linux-x64
	Files   int    `json:"files"`
	Bytes   int64  `json:"size_bytes"`
}

// Store is where this machine keeps blocks of its own and others' jobs.
type Store interface {
	Stat() StoreView
	// GC drops blocks that no job holds, those used least recently first, until
	// at most keep bytes are left or no more may go.
	GC(ctx context.Context, keep int64) (freed int64, err error)
	// Verify reads every block and drops those that are damaged.
	Verify(ctx context.Context) (read, dropped int, err error)
}

// StoreView is what is in the store.
type StoreView struct {
	Blocks     int64 `json:"blocks"`
	Bytes      int64 `json:"size_bytes"`  // of the blocks
	DiskBytes  int64 `json:"disk_bytes"`  // of the files, with space that is not yet won back
	QuotaBytes int64 `json:"quota_bytes"` // 0: none
}

// StoreWork is what was done to the store, and how it is then.
type StoreWork struct {
	FreedBytes int64     `json:"freed_bytes"`
	Read       int       `json:"read"`    // blocks
	Dropped    int       `json:"dropped"` // of them
	Store      StoreView `json:"store"`
}

// MachineView is this machine.
type MachineView struct {
	Peer     string              `json:"peer"`
	Name     string              `json:"name"`
	Version  string              `json:"version"`
	Started  time.Time           `json:"started"`
	Addrs    []string            `json:"addrs"`
	Facts    map[string][]string `json:"facts"`
	Devices  []DeviceView        `json:"devices"`
	Warnings []string            `json:"warnings,omitempty"`
	Sandbox  string              `json:"sandbox"` // which layers there are, or why there is none
	Paused   string              `json:"paused,omitempty"`
}

// DeviceView is one device and what runs on it.
type DeviceView struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Model       string `json:"model"`
	Class       string `json:"class"`
	MemoryBytes int64  `json:"memory_bytes"`
	Doing       string `json:"doing"` // "idle" with the reason, "disabled in the settings", or job and task
}

// Farm is who is in the farm.
type Farm interface {
	Create(ctx context.Context, name string) (FarmView, error)
	// Invite returns a ticket: one use, valid for the given time. Who uses it
	// is a member for stay; 0: until it is put out.
	Invite(ctx context.Context, valid, stay time.Duration) (string, error)
	// Join takes a ticket, or the line of an open farm.
	Join(ctx context.Context, ticket string) (FarmView, error)
	// Open lets strangers in for that long, after work of so many bits (0: the
	// usual), and returns the line by which they come; Close ends that. Opening
	// returns that line again.
	Open(ctx context.Context, valid time.Duration, bits int) (string, error)
	Close(ctx context.Context) (FarmView, error)
	Opening(ctx context.Context) (string, error)
	// Leave ends this machine's membership; its connections close, and work for
	// others with them. What it holds the root key of it cannot leave.
	Leave(ctx context.Context) (left FarmView, err error)
	// Revoke takes a member's right away; its connections close.
	Revoke(ctx context.Context, peer string) error
	// Ban gives a member no work of this machine, for d or with 0 until Pardon,
	// which also ends a ban for having been caught.
	Ban(ctx context.Context, peer, reason string, d time.Duration) error
	Pardon(ctx context.Context, peer, reason string) error
	// Backup returns the farm's root key and its members, encrypted; Recover
	// makes this machine an owner of the farm of such a file.
	Backup(ctx context.Context, passphrase string) ([]byte, error)
	Recover(ctx context.Context, file []byte, passphrase string) (FarmView, error)
	// Rotate replaces the root key. For the time of carry members need no new
	// certificate.
	Rotate(ctx context.Context, carry time.Duration) (FarmView, error)
	View() FarmView
}

// FarmView is the farm as this machine sees it.
type FarmView struct {
	ID      string     `json:"id"` // empty: in no farm
	Name    string     `json:"name"`
	Owner   bool       `json:"owner"` // this machine holds the root key
	Turn    int        `json:"turn,omitempty" doc:"How often the root key was replaced"`
	Members []PeerView `json:"members"`
	// Open is until when strangers may come, absent where they may not. Stranger
	// is set where this machine is one itself.
	Open      time.Time  `json:"open_until,omitzero" doc:"Until when the farm is open to strangers"`
	Stranger  bool       `json:"stranger,omitempty" doc:"This machine is a stranger in the farm"`
	Takes     bool       `json:"takes_strangers,omitempty" doc:"This machine takes strangers (swarm.accept)"`
	Strangers []PeerView `json:"strangers,omitempty" doc:"Strangers that are connected; they are no members"`
	Crowd     *CrowdView `json:"crowd,omitempty" doc:"What became of strangers, where the farm is open"`
}

// CrowdView is what became of strangers, and what those did that are here.
type CrowdView struct {
	Here     int    `json:"here"`
	Working  int    `json:"working"`
	Accepted int    `json:"accepted" doc:"Checked results of those that are here"`
	Rejected int    `json:"rejected"`
	Unsure   int    `json:"unsure"`
	LetIn    int64  `json:"let_in" doc:"Since the program began, as are those that were refused"`
	Refused  int64  `json:"refused"`
	Full     int64  `json:"refused_full" doc:"As many were here as are taken"`
	Closed   int64  `json:"refused_closed" doc:"Not open to them"`
	Banned   int64  `json:"refused_banned"`
	Wrong    int64  `json:"refused_wrong" doc:"Without the work, or by what they showed"`
	Text     string `json:"text" doc:"The same for people"`
}

// Standing is what this machine found out about a member, and what it follows
// from that.
type Standing struct {
	Checked    int       `json:"checked"` // results
	Accepted   int       `json:"accepted"`
	Rejected   int       `json:"rejected"`
	Confirmed  int       `json:"confirmed"` // rejections that a third peer agreed with
	Unsure     int       `json:"unsure"`
	Strikes    int       `json:"strikes"`      // results that it withheld or changed, or about which checkers did not agree
	Evidence   float64   `json:"evidence"`     // logarithm of how much likelier its newest judged results are a cheat's than an honest peer's
	Warned     int       `json:"warned"`       // members that say they caught it
	Rate       float64   `json:"rate"`         // share of its results that is checked now
	Credit     float64   `json:"credit_cpu_s"` // earned for good, in seconds of a CPU
	Stake      float64   `json:"stake_cpu_s"`  // earned, and lost if it is caught
	Lost       float64   `json:"lost_cpu_s"`
	Precedence float64   `json:"precedence"`       // how many times as much of this machine as a member without credit it gets beside others
	Banned     string    `json:"banned,omitempty"` // why it gets no work
	Until      time.Time `json:"banned_until,omitzero"`
	Against    string    `json:"against,omitempty"` // the newest reason that speaks against it
}

// PeerView is one member.
type PeerView struct {
	Peer      string    `json:"peer"`
	Name      string    `json:"name"`
	Role      string    `json:"role,omitempty"`   // "owner", "member", "guest", "stranger"
	Expires   time.Time `json:"expires,omitzero"` // when a guest is no member any more
	Self      bool      `json:"self,omitempty"`
	Connected bool      `json:"connected"`
	Path      string    `json:"path,omitempty"`      // "same machine", "LAN", "direct", "punched", "relayed"
	Transport string    `json:"transport,omitempty"` // "tcp", "quic"
	Via       string    `json:"via,omitempty"`       // the member that relays
	// PunchMillis passed from the relayed connection to the direct one; 0:
	// there was none. PunchFail says why the last attempt failed.
	PunchMillis float64   `json:"punch_ms,omitempty"`
	PunchFail   string    `json:"punch_failed,omitempty"`
	RTTMillis   float64   `json:"rtt_ms,omitempty"`
	LastSeen    time.Time `json:"last_seen,omitzero"`
	Apart       string    `json:"apart,omitempty" doc:"Why this machine and the member do not work together: one of the programs is too old"`
	Score       string    `json:"score,omitempty"` // Standing in words
	Standing    Standing  `json:"standing,omitzero"`
	// Devices, as far as this machine was told of them: of itself, and of
	// members that work for it.
	Devices []DeviceView `json:"devices,omitempty"`
}
