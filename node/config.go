package node

import (
	"os"
	"time"

	"idlewild/node/localapi"
	"idlewild/node/steward"
	"idlewild/p2p"
	"idlewild/render"
	"idlewild/render/blender/install"
)

// Config is everything a person can set. Flags go before environment, before
// the file, before defaults; LoadConfig says where each value came from.
type Config struct {
	DataDir string        `toml:"data_dir"` // identity, farm, store, journal
	Name    string        `toml:"name"`     // of this machine, as other members see it
	Log     LogConfig     `toml:"log"`
	Network NetworkConfig `toml:"network"`
	Swarm   SwarmConfig   `toml:"swarm"`
	API     APIConfig     `toml:"api"`
	Metrics MetricsConfig `toml:"metrics"`
	Worker  WorkerConfig  `toml:"worker"`
	Idle    IdleConfig    `toml:"idle"`
	Limits  LimitsConfig  `toml:"limits"`
	Sandbox SandboxConfig `toml:"sandbox"`
	Blender BlenderConfig `toml:"blender"`
	ONNX    ONNXConfig    `toml:"onnx"`
	LLM     LLMConfig     `toml:"llm"`
	Torch   TorchConfig   `toml:"torch"`
	Check   CheckConfig   `toml:"check"`
	Farm    FarmConfig    `toml:"farm"`
	Steward StewardConfig `toml:"steward"`
	Store   StoreConfig   `toml:"store"`
	Paths   PathsConfig   `toml:"paths"`
	Hooks   HooksConfig   `toml:"hooks"`
	Update  UpdateConfig  `toml:"update"`
	// Devices are settings of single devices; only the file can have them.
	Devices []DeviceConfig `toml:"devices"`

	from map[string]string // where each value that is no default came from
	file string            // that was read, or would have been

	stewardTimes steward.Options // other than the usual ones, in tests
	onTrial      bool            // a new program shows that it answers, and does nothing else
}

// LogConfig is about the daemon's own log.
type LogConfig struct {
	Level string `toml:"level"` // debug, info, warn or error
	JSON  bool   `toml:"json"`
}

// NetworkConfig is about the swarm.
type NetworkConfig struct {
	// Profile is "home", or "studio": nothing leaves the network that this
	// machine is in. In a studio traverse and port_map are off, unless they are
	// set, and the port is studioPort, unless another is set.
	Profile   string   `toml:"profile"`
	Listen    []string `toml:"listen"`    // libp2p multiaddresses; empty: TCP and QUIC on port and interface
	Port      int      `toml:"port"`      // of TCP and UDP; 0: any, the same as last time where it is free
	Interface string   `toml:"interface"` // name of the one network interface to use; empty: all
	MDNS      bool     `toml:"mdns"`      // find members on the local network
	Traverse  bool     `toml:"traverse"`  // reach members across routers: relays, hole punching
	PortMap   bool     `toml:"port_map"`  // ask the router to pass our port on
	// RelayBytes is what this machine carries in a day for members that cannot
	// reach each other; 0: nothing.
	RelayBytes int64 `toml:"relay_bytes_per_day"`
	// DHT finds members of an open farm, and lets this machine be found, by a DHT
	// of that farm; Bootstraps are nodes that are asked first there, multiaddrs
	// with a peer id, two or more.
	DHT        bool     `toml:"dht"`
	Bootstraps []string `toml:"bootstraps"`
	// Exchange is what moves blocks: "share", ours, in which those who fetch the
	// same content pass it on to each other, or "bitswap", that of IPFS.
	Exchange string `toml:"exchange"`
	// Metered says whether each byte costs: "auto" (as the system says), "yes"
	// or "no". Then nothing of others' jobs is passed on to other workers; what
	// idle.on_metered says of work is another matter.
	Metered string `toml:"metered"`
}

// SwarmConfig is about peers that are no members of the farm.
type SwarmConfig struct {
	// Accept says with whom this machine works where the farm is open: "members",
	// or "strangers" as well.
	Accept string `toml:"accept"`
}

const (
	acceptMembers   = "members"
	acceptStrangers = "strangers"
)

// exchange is Exchange as p2p calls it.
func (c NetworkConfig) exchange() string {
	if c.Exchange == "bitswap" {
		return p2p.ExchangeBitswap
	}
	return p2p.ExchangeOurs
}

// APIConfig is about the local API.
type APIConfig struct {
	Address string `toml:"address"` // loopback only; port 0 is any
}

// MetricsConfig is about what Prometheus is told.
type MetricsConfig struct {
	// Address, host:port, answers /metrics without a token, to whoever reaches
	// it. Empty: only the local API does, with its token.
	Address string `toml:"address"`
}

// WorkerConfig is about the work that this machine does for others.
type WorkerConfig struct {
	Enabled     bool     `toml:"enabled"`
	Threads     int      `toml:"threads"`      // of the CPU device; 0: all
	HomeThreads int      `toml:"home_threads"` // for finishing and checking own jobs; 0: as threads
	Env         []string `toml:"env"`          // KEY=VALUE for the programs that render
	MemoryBytes int64    `toml:"memory_bytes"` // a warm process above this is started afresh; 0: 80 % of the machine's
	TreeBytes   int64    `toml:"tree_bytes"`   // of job files unpacked: of one job at most, and of all that are kept; 0: 20 GiB
	Spare       bool     `toml:"spare"`        // after work, keep a Blender that is started for the next scene, while 4 GiB of memory are free
	OnlyFrom    []string `toml:"only_from"`    // members, by id or name, whose jobs are wanted; empty: everybody's
	NeverFrom   []string `toml:"never_from"`   // members whose jobs are not
	Saboteur    string   `toml:"saboteur"`     // for tests of verification: one of render.Modes
}

// FarmConfig is about how this machine's jobs use the farm.
type FarmConfig struct {
	// Stewards, by id or name, go on with this machine's jobs while it is silent,
	// the first first; a job may name others.
	Stewards []string `toml:"stewards"`
}

// StewardConfig is about going on with the jobs of others.
type StewardConfig struct {
	Enabled  bool     `toml:"enabled"`
	OnlyFrom []string `toml:"only_from"` // members, by id or name; empty: everybody
}

// SandboxConfig is about running other people's files.
type SandboxConfig struct {
	// Mode is "auto" (use what is there; without a sandbox only own jobs are
	// run), "required" (refuse to start without one) or "off" (every member's
	// files run with this user's rights).
	Mode string `toml:"mode"`
	// Trusted are the peers, by id, whose jobs run here without a sandbox where
	// there is none.
	Trusted    []string `toml:"trusted"`
	Threads    int      `toml:"threads"`    // that a task may start; 0: 512 and 32 for each processor
	DiskBytes  int64    `toml:"disk_bytes"` // that a warm process may write; 0: 32 GiB
	CPUSeconds int64    `toml:"cpu_s"`      // processor time of one task; 0: any
}

// limits are those of a process on a machine that gives it this much memory.
func (c SandboxConfig) limits(memory int64) render.Limits {
	l := render.DefaultLimits(memory)
	if c.Threads > 0 {
		l.Threads = c.Threads
	}
	if c.DiskBytes > 0 {
		l.DiskBytes = c.DiskBytes
	}
	l.CPU = time.Duration(c.CPUSeconds) * time.Second
	return l
}

// BlenderConfig is about the programs that render.
type BlenderConfig struct {
	// Path of a program, or of a Python with the package bpy; with it no other
	// is looked for on this system. Empty: what is on PATH and in the usual
	// places.
	Path     string   `toml:"path"`
	Programs []string `toml:"programs"` // more of them, beside those that were added
	// Mirror is laid out as download.blender.org/release; what comes from it is
	// known by its hash. Releases are more that may be installed, each
	// "4.5.5 linux-x64 SHA256".
	Mirror   string   `toml:"mirror"`
	Releases []string `toml:"releases"`
	// Trees are the roots of Blenders that may be fetched from members, as
	// `idlewild blender share` prints them.
	Trees []string `toml:"trees"`
}

// LLMConfig is about language models.
type LLMConfig struct {
	// Server is llama.cpp's llama-server, or the folder where it is. Empty: the
	// one that `idlewild runtime add llm` installed, or that of PATH.
	Server string `toml:"server"`
}

// TorchConfig is about the pipelines of PyTorch models.
type TorchConfig struct {
	// Python is an interpreter, or an environment's folder, that has torch,
	// transformers, diffusers and safetensors. Empty: the one that
	// `idlewild runtime add torch` made.
	Python string `toml:"python"`
}

// ONNXConfig is about AI models.
type ONNXConfig struct {
	// Library is onnxruntime's, or the folder where it is. Empty: the one that
	// was added, or one of the system or of a Python environment.
	Library string `toml:"library"`
	// Models are "any", or "listed": only those that were added with
	// `idlewild model add` run here for others.
	Models string `toml:"models"`
}

// CheckConfig is about verifying results.
type CheckConfig struct {
	Rate float64 `toml:"rate"` // least share of a known peer's results that is checked
	// Checkers are the peers, by id, that may check for this machine when it
	// cannot or does not keep up, whatever their devices.
	Checkers []string `toml:"checkers"`
	// Behind is how many seconds of checking may wait for this machine before
	// members are asked to help.
	Behind float64 `toml:"behind_s"`
	// Trust are the peers, by id, whose word that they caught a cheat is enough;
	// "*" stands for all members, of whom two have to say so.
	Trust []string `toml:"trust"`
}

// PathsConfig is about the files that jobs of this machine may take along.
type PathsConfig struct {
	Roots []string `toml:"roots"` // folders that they have to lie in; empty: anywhere but where secrets are
	// Map are disks that other machines of the farm have as well: files on them
	// are used where they lie. Only the file can have them.
	Map []DiskMap `toml:"map"`
}

// StoreConfig is about blocks on disk.
type StoreConfig struct {
	QuotaBytes int64 `toml:"quota_bytes"` // unpinned blocks beyond this are dropped, oldest first
}

// defaultTreeBytes is worker.tree_bytes where nothing is set, or 0.
const defaultTreeBytes = 20 << 30

// DefaultConfig is the configuration of a machine where nothing is set.
func DefaultConfig() Config {
	name, _ := os.Hostname()
	return Config{
		DataDir: localapi.DefaultDataDir(),
		Name:    name,
		Log:     LogConfig{Level: "info"},
		Network: NetworkConfig{
			Profile: "home", MDNS: true, Traverse: true, PortMap: true, RelayBytes: defaultRelayBytes,
			Exchange: "share", Metered: "auto",
		},
		Swarm:   SwarmConfig{Accept: acceptMembers},
		API:     APIConfig{Address: "127.0.0.1:0"},
		Worker:  WorkerConfig{Enabled: true, Spare: true, TreeBytes: defaultTreeBytes},
		Idle:    defaultIdle(),
		Limits:  defaultLimits(),
		Sandbox: SandboxConfig{Mode: "auto"},
		Blender: BlenderConfig{Mirror: install.DefaultMirror},
		ONNX:    ONNXConfig{Models: modelsAny},
		Check:   CheckConfig{Rate: 0.05, Behind: 20, Trust: []string{"*"}},
		Steward: StewardConfig{Enabled: true},
		Store:   StoreConfig{QuotaBytes: 20 << 30},
		Hooks:   defaultHooks(),
		Update:  defaultUpdate(),
	}
}

// configFile holds the settings, in the data folder.
const configFile = "config.toml"

// secretSettings are never shown.
var secretSettings = map[string]bool{"hooks.secret": true}
