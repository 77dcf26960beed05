package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"idlewild/internal/ondisk"
)

// WriteSettings puts values, in the form of flags and by dotted key, into the
// config.toml of a data folder and leaves other settings in it as they are.
// Where there was a file already it stays beside as config.toml.before,
// because what it says in comments is lost. A value that does not fit is an
// error that names it, and then nothing is written.
func WriteSettings(dir string, values map[string]string) error {
	c, _, err := LoadConfig("", map[string]string{"data_dir": dir})
	if err != nil {
		return err
	}
	file := filepath.Join(dir, configFile)
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("config file: %w", err)
	}
	tree := map[string]any{}
	if err := toml.Unmarshal(old, &tree); err != nil {
		return fmt.Errorf("config file %s: %w", file, err)
	}
	fields := leaves(reflect.ValueOf(&c).Elem(), "")
	for _, key := range slices.Sorted(maps.Keys(values)) {
		v, ok := fields[key]
		if !ok {
			return fmt.Errorf("no setting is called %q; see: idlewild config show", key)
		}
		if err := set(v, values[key]); err != nil {
			return fmt.Errorf("%s=%q: %w", key, values[key], err)
		}
		at, last := atPath(tree, key)
		at[last] = v.Interface()
	}
	if err := c.validate(); err != nil {
		return err
	}
	b, err := toml.Marshal(tree)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return replaceSettings(file, old, b)
}

// replaceSettings writes the file and keeps the one before beside it.
func replaceSettings(file string, old, text []byte) error {
	if len(old) > 0 {
		if err := ondisk.WriteFile(file+".before", old, 0o600); err != nil {
			return err
		}
	}
	return ondisk.WriteFile(file, text, 0o600)
}

// atPath is the table of a dotted key, made where it is not there, and the
// key's last part.
func atPath(tree map[string]any, key string) (map[string]any, string) {
	path := strings.Split(key, ".")
	for _, p := range path[:len(path)-1] {
		sub, ok := tree[p].(map[string]any)
		if !ok {
			sub = map[string]any{}
			tree[p] = sub
		}
		tree = sub
	}
	return tree, path[len(path)-1]
}
