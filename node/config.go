package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/pelletier/go-toml/v2"

	"idlewild/job"
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

// Origin says where a setting's value came from.
type Origin struct {
	Key   string `json:"key"` // dotted, as in the file: "worker.threads"
	Value any    `json:"value"`
	From  string `json:"from"`  // "default", "file PATH", "environment NAME" or "flag"
	About string `json:"about"` // what it is for
}

// LoadConfig reads the settings. file may be empty: then config.toml in the
// data folder is read if it exists. flags holds values by dotted key, lists
// separated by commas. An unknown key, or a value that does not parse, is an
// error that names it.
func LoadConfig(file string, flags map[string]string) (Config, []Origin, error) {
	c := DefaultConfig()
	from := map[string]string{}

	// Only the data folder decides where the file is, so it is settled first.
	dir := c.DataDir
	if v, ok := os.LookupEnv(envName("data_dir")); ok {
		dir = v
	}
	if v, ok := flags["data_dir"]; ok {
		dir = v
	}
	explicit := file != ""
	if !explicit {
		file = filepath.Join(dir, configFile)
	}
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
	case err != nil:
		return c, nil, fmt.Errorf("config file: %w", err)
	default:
		if err := decodeFile(b, file, &c, from); err != nil {
			return c, nil, err
		}
	}
	fields := leaves(reflect.ValueOf(&c).Elem(), "")
	for key := range flags {
		if _, ok := fields[key]; !ok {
			return c, nil, fmt.Errorf("no setting is called %q; see: idlewild config show", key)
		}
	}
	for key, v := range fields {
		if s, ok := os.LookupEnv(envName(key)); ok {
			if err := set(v, s); err != nil {
				return c, nil, fmt.Errorf("environment %s=%q: %w", envName(key), s, err)
			}
			from[key] = "environment " + envName(key)
		}
		if s, ok := flags[key]; ok {
			if err := set(v, s); err != nil {
				return c, nil, fmt.Errorf("%s=%q: %w", key, s, err)
			}
			from[key] = "flag"
		}
	}
	c.Network.inStudio(from)
	if err := c.validate(); err != nil {
		return c, nil, err
	}
	c.from, c.file = from, file
	if c.onTrial = os.Getenv(Probation) != ""; c.onTrial {
		c.Worker.Enabled = false
	}
	return c, c.Origins(), nil
}

// secretSettings are never shown.
var secretSettings = map[string]bool{"hooks.secret": true}

// hiddenValue stands for the value of a secret setting.
const hiddenValue = "(hidden)"

// Origins are all settings, in the order of their keys.
func (c Config) Origins() []Origin {
	var origins []Origin
	for key, v := range leaves(reflect.ValueOf(&c).Elem(), "") {
		o := Origin{Key: key, Value: v.Interface(), From: "default", About: about[key]}
		if f, ok := c.from[key]; ok {
			o.From = f
		}
		if key == "devices" {
			o.Value = deviceTexts(c.Devices)
		}
		if key == "paths.map" {
			o.Value = diskTexts(c.Paths.Map)
		}
		if secretSettings[key] && !v.IsZero() {
			o.Value = hiddenValue
		}
		origins = append(origins, o)
	}
	sort.Slice(origins, func(i, j int) bool { return origins[i].Key < origins[j].Key })
	return origins
}

func decodeFile(b []byte, file string, c *Config, from map[string]string) error {
	d := toml.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		var missing *toml.StrictMissingError
		if errors.As(err, &missing) && len(missing.Errors) > 0 {
			e := missing.Errors[0]
			row, _ := e.Position()
			return fmt.Errorf("config file %s, line %d: no setting is called %q; see: idlewild config show", file, row, strings.Join(e.Key(), "."))
		}
		var bad *toml.DecodeError
		if errors.As(err, &bad) {
			row, _ := bad.Position()
			return fmt.Errorf("config file %s, line %d: %s", file, row, strings.TrimPrefix(bad.Error(), "toml: "))
		}
		return fmt.Errorf("config file %s: %w", file, err)
	}
	var tree map[string]any
	if err := toml.Unmarshal(b, &tree); err != nil {
		return fmt.Errorf("config file %s: %w", file, err)
	}
	var mark func(prefix string, m map[string]any)
	mark = func(prefix string, m map[string]any) {
		for k, v := range m {
			if sub, ok := v.(map[string]any); ok {
				mark(prefix+k+".", sub)
			} else {
				from[prefix+k] = "file " + file
			}
		}
	}
	mark("", tree)
	return nil
}

func (c Config) validate() error {
	switch {
	case !filepath.IsAbs(c.DataDir):
		return fmt.Errorf("data_dir %q is not an absolute path", c.DataDir)
	case c.Network.Exchange != "share" && c.Network.Exchange != "bitswap":
		return fmt.Errorf("network.exchange is %q; it may be share or bitswap", c.Network.Exchange)
	case c.Network.Metered != "auto" && c.Network.Metered != "yes" && c.Network.Metered != "no":
		return fmt.Errorf("network.metered is %q; it may be auto, yes or no", c.Network.Metered)
	case c.Limits.UpBytes < 0 || c.Limits.DownBytes < 0:
		return errors.New("limits.up_bytes_per_s or limits.down_bytes_per_s is negative; 0 means no limit")
	case c.Sandbox.Mode != "auto" && c.Sandbox.Mode != "required" && c.Sandbox.Mode != "off":
		return fmt.Errorf("sandbox.mode is %q; it may be auto, required or off", c.Sandbox.Mode)
	case c.Sandbox.Threads < 0 || c.Sandbox.DiskBytes < 0 || c.Sandbox.CPUSeconds < 0 || c.Sandbox.CPUSeconds > 1<<30:
		return errors.New("a limit in sandbox is negative or absurd; 0 means the default")
	case c.ONNX.Models != modelsAny && c.ONNX.Models != modelsListed:
		return fmt.Errorf("onnx.models is %q; it may be %s or %s", c.ONNX.Models, modelsAny, modelsListed)
	case !(c.Check.Rate >= 0 && c.Check.Rate <= 1):
		return fmt.Errorf("check.rate is %v; it must lie between 0 and 1", c.Check.Rate)
	case c.Worker.Threads < 0 || c.Worker.Threads > 1024 || c.Worker.HomeThreads < 0 || c.Worker.HomeThreads > 1024:
		return fmt.Errorf("worker.threads is out of range 0 to 1024")
	case c.Worker.MemoryBytes < 0 || c.Worker.TreeBytes < 0 || c.Store.QuotaBytes < 0:
		return fmt.Errorf("a size in the configuration is negative")
	case c.Worker.Saboteur != "" && !slices.Contains(render.Modes, render.SabotageMode(c.Worker.Saboteur)):
		return fmt.Errorf("worker.saboteur is %q; it may be one of %q", c.Worker.Saboteur, render.Modes)
	}
	if a := c.Metrics.Address; a != "" {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("metrics.address is %q; it needs the form HOST:PORT", a)
		}
	}
	for _, root := range c.Paths.Roots {
		if !filepath.IsAbs(root) {
			return fmt.Errorf("paths.roots has %q, which is not an absolute path", root)
		}
	}
	for _, p := range c.Blender.Programs {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("blender.programs has %q, which is not an absolute path", p)
		}
	}
	for _, r := range c.Blender.Releases {
		if _, err := install.ParseRelease(r); err != nil {
			return fmt.Errorf("blender.releases: %w", err)
		}
	}
	if err := checkTrees(c.Blender.Trees); err != nil {
		return err
	}
	for _, e := range c.Worker.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			return fmt.Errorf("worker.env has %q; it needs the form KEY=VALUE", e)
		}
	}
	if !(c.Check.Behind >= 0 && c.Check.Behind <= 86400) {
		return fmt.Errorf("check.behind_s is %g; it may be 0 to 86400 seconds", c.Check.Behind)
	}
	for _, list := range []struct {
		key string
		ids []string
	}{{"check.checkers", c.Check.Checkers}, {"check.trust", c.Check.Trust}} {
		for _, id := range list.ids {
			if _, err := peer.Decode(id); err != nil && !(id == "*" && list.key == "check.trust") {
				return fmt.Errorf("%s has %q, which is no peer's id; idlewild peers lists them", list.key, id)
			}
		}
	}
	if n := len(c.Farm.Stewards); n > job.MaxStewards {
		return fmt.Errorf("farm.stewards names %d; there may be %d", n, job.MaxStewards)
	}
	for _, id := range c.Sandbox.Trusted {
		if _, err := peer.Decode(id); err != nil {
			return fmt.Errorf("sandbox.trusted has %q, which is no peer's id; idlewild peers lists them", id)
		}
	}
	if err := c.Network.validate(); err != nil {
		return err
	}
	switch {
	case c.Swarm.Accept != acceptMembers && c.Swarm.Accept != acceptStrangers:
		return fmt.Errorf("swarm.accept is %q; it may be %s or %s", c.Swarm.Accept, acceptMembers, acceptStrangers)
	case c.Swarm.Accept == acceptStrangers && c.Network.Profile == "studio":
		return fmt.Errorf("swarm.accept is %q, and network.profile is studio, in which nobody works with strangers: set one of them otherwise", c.Swarm.Accept)
	}
	if err := c.validateIdle(); err != nil {
		return err
	}
	if err := c.Hooks.validate(); err != nil {
		return err
	}
	if err := validateDisks(c.Paths.Map); err != nil {
		return err
	}
	if err := validateDevices(c.Devices); err != nil {
		return err
	}
	if err := c.Update.validate(); err != nil {
		return err
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		return fmt.Errorf("log.level is %q; it may be debug, info, warn or error", c.Log.Level)
	}
	return nil
}

// envName is the environment variable of a setting: worker.threads is
// IDLEWILD_WORKER_THREADS.
func envName(key string) string {
	return "IDLEWILD_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// leaves maps the dotted key of every setting to its field.
func leaves(v reflect.Value, prefix string) map[string]reflect.Value {
	out := map[string]reflect.Value{}
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		key := prefix + v.Type().Field(i).Tag.Get("toml")
		if f := v.Field(i); f.Kind() == reflect.Struct {
			for k, x := range leaves(f, key+".") {
				out[k] = x
			}
		} else {
			out[key] = f
		}
	}
	return out
}

func set(v reflect.Value, s string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("not true or false")
		}
		v.SetBool(b)
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("not a whole number")
		}
		v.SetInt(n)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("not a number")
		}
		v.SetFloat(f)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.String {
			return errors.New("a list of tables, which only the file can have")
		}
		var list []string
		for _, p := range strings.Split(s, ",") {
			if p = strings.TrimSpace(p); p != "" {
				list = append(list, p)
			}
		}
		v.Set(reflect.ValueOf(list))
	default:
		return fmt.Errorf("setting of type %s", v.Kind())
	}
	return nil
}
