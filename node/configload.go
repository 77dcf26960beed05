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

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/pelletier/go-toml/v2"

	"idlewild/job"
	"idlewild/render"
	"idlewild/render/blender/install"
)

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

// hiddenValue stands for the value of a secret setting.
const hiddenValue = "(hidden)"
