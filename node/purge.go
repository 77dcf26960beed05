package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/job"
)

// ours is everything that a daemon and its commands make in a data folder. What is not
// named here is somebody else's and stays.
var ours = []string{
	"audit", "batches", "blenders", "copies", "dispatch", "farm", "farms", "ledger", "models", "runners", "runtimes", "scratch", "steward", "store", "worker",
	"api.json", "api.sock", "canaries.json", "config.toml", "config.toml.before", "daemon.log", "dashboard.html", "earlier.json", "energy.json", "held-models.json",
	"history.json", "history.json.damaged", "hooks-program.json", "hooks-webhook.json", "identity.key", "looks.cache", "paused.json", "ports", "powerlimits.json",
	"stat.cache", "update.json",
}

// Purge removes what this program made in a data folder, and the folder if
// nothing else is in it. No daemon may run for it. It returns what is left.
func Purge(dir string) (left []string, err error) {
	if fi, err := os.Lstat(filepath.Join(dir, "identity.key")); err != nil || !fi.Mode().IsRegular() {
		return nil, job.Refuse(dir, "it is no data folder of idlewild: there is no identity.key in it", "name the right one with --data-dir")
	}
	if shared, err := holdsHome(dir); err != nil {
		return nil, err
	} else if shared {
		return nil, job.Refuse(dir, "it holds more than what idlewild made, and folders in it may be called as ours are", "remove what is idlewild's by hand; docs/design.md names it")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		// Files are written beside their place, under such names.
		torn := strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() && slices.ContainsFunc(ours, func(n string) bool { return strings.HasPrefix(e.Name(), "."+n+".") })
		torn = torn || strings.HasSuffix(e.Name(), ".new") && slices.Contains(ours, strings.TrimSuffix(e.Name(), ".new"))
		if e.Name() == "identity.key" || !torn && !slices.Contains(ours, e.Name()) {
			continue
		}
		errs = append(errs, removeTree(path))
	}
	// The mark of a data folder goes last: what failed can be tried again.
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, "identity.key")); err != nil {
		return nil, err
	}
	entries, err = os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if len(left) > 0 {
		return left, nil
	}
	return nil, os.Remove(dir)
}

// holdsHome reports whether dir is a home folder or above one.
func holdsHome(dir string) (bool, error) {
	at, err := os.Stat(dir)
	if err != nil {
		return false, err
	}
	home, err := os.UserHomeDir()
	if err == nil {
		home, err = filepath.EvalSymlinks(home)
	}
	if err != nil { // there is none; the root is nobody's all the same
		home = filepath.VolumeName(dir) + string(filepath.Separator)
	}
	for {
		if fi, err := os.Stat(home); err == nil && os.SameFile(at, fi) {
			return true, nil
		}
		up := filepath.Dir(home)
		if up == home {
			return false, nil
		}
		home = up
	}
}

// removeTree removes a file or folder; links in it are removed and not
// followed. Folders of jobs' files may not be written to.
func removeTree(path string) error {
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(path))
}
