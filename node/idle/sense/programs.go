package sense

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/node/idle"
)

// running is one process as a system lists it.
type running struct {
	pid  int
	name string // of the executable, without folders
	path string // of the executable, with slashes; under Wine that of the Windows program
}

// programs finds those that work makes way for: games by the folder they are
// in, VR by its compositor, and what the owner listed.
type programs struct {
	list    func(known func(pid int) bool) ([]running, error) // all, or those that are not known
	ours    func() map[int]bool
	steam   bool
	folders []string // of games, absolute
	yes, no []string // patterns of names

	seen map[int]*idle.Program // by number; nil: does not count
	asks int
}

// vr are compositors that run while a headset is in use.
var vr = []string{"vrcompositor", "vrcompositor.exe", "monado-service", "wivrn-server", "wivrn-dashboard"}

// notGames lie in Steam's library and run all day.
var notGames = []string{"wallpaper32.exe", "wallpaper64.exe", "wallpaperservice32.exe", "steamwebhelper*", "vrmonitor*", "vrserver*", "vrdashboard*", "gameoverlayui*"}

// fresh is after how many questions every process is looked at again: one may
// have become another program under its number.
const fresh = 12

// Sense implements Source.
func (p *programs) Sense(context.Context) (func(*idle.Signals), error) {
	if p.asks%fresh == 0 {
		p.seen = map[int]*idle.Program{}
	}
	p.asks++
	alive := map[int]bool{}
	list, err := p.list(func(pid int) bool {
		alive[pid] = true
		_, known := p.seen[pid]
		return known
	})
	if err != nil {
		return nil, err
	}
	var ours map[int]bool
	for _, r := range list {
		found := p.judge(r)
		if found != nil && ours == nil {
			ours = p.ours()
		}
		if ours[r.pid] { // a Blender of ours is no Blender of the owner's
			found = nil
		}
		p.seen[r.pid] = found
	}
	var out []idle.Program
	names := map[string]bool{}
	for pid, x := range p.seen {
		switch {
		case !alive[pid]:
			delete(p.seen, pid)
		case x != nil && !names[x.Name]:
			names[x.Name] = true
			out = append(out, *x)
		}
	}
	sortPrograms(out)
	return func(s *idle.Signals) { s.Programs = append(s.Programs, out...) }, nil
}

// judge says why a process counts, or nil.
func (p *programs) judge(r running) *idle.Program {
	name := strings.ToLower(r.name)
	switch {
	case matches(p.no, name):
		return nil
	case matches(p.yes, name):
		return &idle.Program{Name: r.name, Why: "on its owner's list"}
	case !p.steam:
		return nil
	case matches(vr, name):
		return &idle.Program{Name: r.name, Why: "VR"}
	case matches(notGames, name):
		return nil
	}
	file := strings.ToLower(r.path)
	if _, game, ok := strings.Cut(file, "/steamapps/common/"); ok {
		folder, _, _ := strings.Cut(game, "/")
		if strings.HasPrefix(folder, "proton") || strings.HasPrefix(folder, "steamlinuxruntime") || strings.HasPrefix(folder, "steamworks") ||
			folder == "steamvr" || folder == "wallpaper_engine" {
			return nil
		}
		return &idle.Program{Name: r.name, Why: "a game in Steam's library"}
	}
	for _, dir := range p.folders {
		if strings.HasPrefix(file, strings.ToLower(dir)+"/") {
			return &idle.Program{Name: r.name, Why: "in " + filepath.Base(dir)}
		}
	}
	return nil
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(strings.ToLower(p), name); ok {
			return true
		}
	}
	return false
}

// gameFolders are where launchers other than Steam put games, as far as they
// are there.
func gameFolders(more []string) (out []string) {
	home, _ := os.UserHomeDir()
	list := more
	if home != "" {
		list = append([]string{filepath.Join(home, "Games")}, list...)
	}
	for _, dir := range append(list, platformGameFolders...) {
		if rest, ok := strings.CutPrefix(dir, "~/"); ok {
			dir = filepath.Join(home, rest)
		}
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			out = append(out, filepath.ToSlash(filepath.Clean(dir)))
		}
	}
	return out
}

// winePath is the executable of a Windows program by its command line, with
// slashes and without a drive's letter.
func winePath(arg0 string) string {
	if len(arg0) > 2 && arg0[1] == ':' && strings.Contains(arg0, `\`) {
		return strings.ReplaceAll(arg0[2:], `\`, "/")
	}
	return ""
}

var errNoList = errors.New("processes cannot be listed")

func sortPrograms(list []idle.Program) {
	slices.SortFunc(list, func(a, b idle.Program) int { return strings.Compare(a.Name, b.Name) })
}
