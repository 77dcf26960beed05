package install

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// maxFound bounds how many programs are found: each is started to be asked.
const maxFound = 16

// Find lists the Blenders in the usual places of this system, newest names
// first, each file once. What is on PATH is not among them unless it is in such
// a place. A program that is found may not work: who starts it sees.
func Find() []string {
	home, _ := os.UserHomeDir() // without one there is nothing in it
	return find("/", runtime.GOOS, home, os.Getenv("ProgramFiles"))
}

// places are patterns of where programs lie. Snap's and Flatpak's own commands
// need their daemons and the user's home, which a task does not see: what is
// meant are the programs in their trees.
func places(root, goos, home, programFiles string) []string {
	var out []string
	below := func(top string, patterns ...string) {
		if top == "" {
			return
		}
		for _, p := range patterns {
			out = append(out, filepath.Join(top, filepath.FromSlash(p)))
		}
	}
	switch goos {
	case "windows":
		below(programFiles, "Blender Foundation/*/blender.exe", "Steam/steamapps/common/Blender/blender.exe")
		below(home, "blender*/blender.exe")
	case "darwin":
		below(root, "Applications/Blender*.app/Contents/MacOS/Blender")
		below(home, "Applications/Blender*.app/Contents/MacOS/Blender",
			"Library/Application Support/Steam/steamapps/common/Blender/Blender.app/Contents/MacOS/Blender")
	default:
		below(root, "usr/bin/blender", "usr/local/bin/blender", "opt/blender*/blender", "opt/blender*/blender*/blender",
			"usr/local/blender*/blender", "snap/blender/current/blender",
			"var/lib/flatpak/app/org.blender.Blender/current/active/files/blender/blender")
		below(home, "blender*/blender", "blender*/blender*/blender", ".local/opt/blender*/blender",
			".steam/steam/steamapps/common/Blender/blender", ".local/share/Steam/steamapps/common/Blender/blender",
			".local/share/flatpak/app/org.blender.Blender/current/active/files/blender/blender")
	}
	return out
}

func find(root, goos, home, programFiles string) []string {
	var out []string
	seen := map[string]bool{}
	for _, pattern := range places(root, goos, home, programFiles) {
		names, _ := filepath.Glob(pattern) // fails on a bad pattern only, as in an odd home
		slices.Sort(names)
		slices.Reverse(names)
		for _, name := range names {
			real, err := filepath.EvalSymlinks(name)
			if err != nil || seen[real] || len(out) == maxFound {
				continue
			}
			st, err := os.Stat(real)
			if err != nil || !st.Mode().IsRegular() || goos != "windows" && st.Mode()&0o111 == 0 {
				continue
			}
			seen[real] = true
			out = append(out, real)
		}
	}
	return out
}

// Resolve returns the program that a person means by a path: the file itself,
// or the Blender or the Python in a folder.
func Resolve(path string) string {
	st, err := os.Stat(path)
	if err != nil || !st.IsDir() {
		return path
	}
	for _, name := range []string{"blender", "blender.exe", "Contents/MacOS/Blender", "bin/python", "Scripts/python.exe"} {
		p := filepath.Join(path, filepath.FromSlash(name))
		if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
			return p
		}
	}
	return path
}
