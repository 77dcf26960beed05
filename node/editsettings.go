package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"idlewild/job"
	"idlewild/node/hooks"
	"idlewild/node/localapi"
)

// choices are the values that a setting may have, where there are few.
var choices = map[string][]string{
	"log.level": {"debug", "info", "warn", "error"}, "network.profile": {"home", "studio"}, "idle.mode": {"auto", "owner", "server", "off"},
	"idle.on_return": {"stop", "leave", "share"}, "limits.priority": {"low", "idle", "normal"}, "sandbox.mode": {"auto", "required", "off"},
	"update.mode": {updateOff, updateNotify, updateInstall}, "onnx.models": {modelsAny, modelsListed}, "hooks.events": hooks.Names,
	"swarm.accept": {acceptMembers, acceptStrangers},
}

// inFileOnly are settings that name programs to run, or what may be read or run
// without a sandbox. Whoever got hold of the dashboard's token could use them to
// run anything, so they are changed by hand.
var inFileOnly = map[string]string{
	"network.bootstraps": "it says whom this machine asks for strangers", "swarm.accept": "it says whether strangers' files run here",
	"idle.hook": "it names a program that is run", "hooks.program": "it names a program that is run", "blender.path": "it names a program that is run",
	"blender.programs": "it names programs that are run", "blender.mirror": "programs are downloaded from there", "blender.releases": "programs are downloaded by it", "blender.trees": "programs are fetched from members by it",
	"onnx.library": "it names a library that is loaded", "llm.server": "it names a program that is run", "torch.python": "it names a program that is run", "worker.env": "programs obey it", "sandbox.mode": "it decides whether strangers' files are confined",
	"sandbox.trusted": "it lets members' files run without a sandbox", "paths.roots": "it decides which files jobs may take along",
	"update.url": "programs are downloaded from there", "update.key": "it decides which programs may replace this one",
	"worker.saboteur": "it is for tests", "data_dir": "the settings lie in it", "devices": "it is a list of tables", "paths.map": "it decides which files tasks may be shown",
}

// fixed says why a setting cannot be changed over the local API, or "".
func fixed(key, from string) string {
	switch {
	case inFileOnly[key] != "":
		return inFileOnly[key] + ": change it in the file"
	case from == "flag":
		return "a flag of idlewild up decides it: leave the flag out first"
	case strings.HasPrefix(from, "environment "):
		return from + " decides it: take that variable away first"
	}
	return ""
}

var kindNames = map[reflect.Kind]string{
	reflect.String: "text", reflect.Bool: "switch", reflect.Int: "whole", reflect.Int64: "whole", reflect.Float64: "number", reflect.Slice: "list",
}

// Settings implements localapi.Records.
func (r records) Settings() localapi.SettingsView {
	n := r.n
	n.reread()
	l := n.live
	l.mu.Lock()
	defer l.mu.Unlock()
	v := localapi.SettingsView{File: l.cfg.path(), Broken: l.broken, Pending: len(l.pending) > 0, Settings: []localapi.Setting{}}
	next := map[string]any{}
	for _, o := range l.next.Origins() {
		next[o.Key] = o.Value
	}
	usual := map[string]any{}
	for _, o := range DefaultConfig().Origins() {
		usual[o.Key] = o.Value
	}
	fields := leaves(reflect.ValueOf(&l.cfg).Elem(), "")
	for _, o := range l.cfg.Origins() {
		s := localapi.Setting{
			Key: o.Key, Value: o.Value, From: o.From, About: o.About, Type: kindNames[fields[o.Key].Kind()], Choices: choices[o.Key],
			Fixed: fixed(o.Key, o.From), Live: liveSettings[o.Key], Secret: secretSettings[o.Key], Default: usual[o.Key],
		}
		if slices.Contains(l.pending, o.Key) {
			s.Pending = next[o.Key]
		}
		v.Settings = append(v.Settings, s)
	}
	return v
}

// keyOf finds the setting that an error is about.
var keyOf = regexp.MustCompile(`^([a-z_]+\.[a-z_]+|name)\b`)

// Change implements localapi.Records.
func (r records) Change(values map[string]any) (localapi.SettingsView, error) {
	if len(values) == 0 {
		return localapi.SettingsView{}, job.Refuse("values", "nothing is to be changed", "name a setting")
	}
	n := r.n
	n.reread()
	if err := n.change(values); err != nil {
		return localapi.SettingsView{}, err
	}
	n.reread()
	return r.Settings(), nil
}

// change writes values into the file. Nothing is written unless all of them fit.
func (n *Node) change(values map[string]any) error {
	l := n.live
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.cfg.path()
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("config file: %w", err)
	}
	tree := map[string]any{}
	if err := toml.Unmarshal(old, &tree); err != nil || l.broken != "" {
		return job.Refuse(file, "it cannot be read, and a change would lose what is in it", "mend it by hand first: "+l.broken)
	}
	scratch := DefaultConfig()
	fields := leaves(reflect.ValueOf(&scratch).Elem(), "")
	for _, key := range slices.Sorted(maps.Keys(values)) {
		field, ok := fields[key]
		if !ok {
			return job.Refuse(key, "there is no such setting", "see: idlewild config show")
		}
		if why := fixed(key, l.cfg.from[key]); why != "" {
			return job.Refuse(key, "it cannot be changed here", why)
		}
		at, last := atPath(tree, key)
		if values[key] == nil {
			delete(at, last)
			continue
		}
		if err := setAny(field, values[key]); err != nil {
			return job.Refuse(key, fmt.Sprintf("%v does not fit: %v", values[key], err), about[key])
		}
		if secretSettings[key] && field.String() == hiddenValue {
			return job.Refuse(key, "that is what stands for a value that is not shown", "give the value itself, or leave it as it is")
		}
		at[last] = field.Interface()
	}
	for k, v := range tree {
		if sub, ok := v.(map[string]any); ok && len(sub) == 0 {
			delete(tree, k)
		}
	}
	text, err := toml.Marshal(tree)
	if err != nil {
		return err
	}
	if _, err := l.cfg.with(text); err != nil {
		what, remedy, _ := strings.Cut(err.Error(), "; ")
		key := keyOf.FindString(what)
		if _, ok := values[key]; !ok {
			key = ""
			for k := range values { // an error about several settings names one of them
				if at := strings.LastIndexByte(k, '.'); strings.Contains(what, k) || strings.Contains(what, k[at+1:]) {
					key = k
				}
			}
		}
		if remedy == "" {
			remedy = about[key]
		}
		what = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(what, key), ": "), " is ")
		return job.Refuse(key, what, remedy)
	}
	return replaceSettings(file, old, text)
}

// setAny sets a field to a value as JSON has it.
func setAny(v reflect.Value, x any) error {
	switch x := x.(type) {
	case string:
		return set(v, x)
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(x)
			return nil
		}
	case float64:
		if k := v.Kind(); k == reflect.Int || k == reflect.Int64 || k == reflect.Float64 {
			b, err := json.Marshal(x)
			if err != nil {
				return err
			}
			if k != reflect.Float64 && x == float64(int64(x)) {
				b = fmt.Appendf(nil, "%d", int64(x)) // not 1e+21
			}
			return set(v, string(b))
		}
	case []any:
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.String {
			list := make([]string, 0, len(x))
			for _, e := range x {
				s, ok := e.(string)
				if !ok {
					return errors.New("not a list of texts")
				}
				list = append(list, s)
			}
			v.Set(reflect.ValueOf(list))
			return nil
		}
	}
	return fmt.Errorf("not a %s", kindNames[v.Kind()])
}

// ErrRestart is what Run ends with when the daemon is to be started again.
var ErrRestart = errors.New("to be started again")

// restartAfter lets the answer to whoever asked for it leave.
const restartAfter = 200 * time.Millisecond

// Restart implements localapi.Records.
func (r records) Restart() error {
	n := r.n
	if _, err := n.settings().again(); err != nil {
		return job.Refuse("restart", "the daemon would not start with these settings: "+err.Error(), "mend the file first")
	}
	n.log.Info("it will be started again", "reason", "asked for over the local API")
	time.AfterFunc(restartAfter, func() { n.restart(ErrRestart) })
	return nil
}
