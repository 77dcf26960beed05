package blender

import (
	"os"
	"path/filepath"
	"strings"

	"idlewild/job"
)

// Roots say which files may leave this machine with a job. A .blend names files
// by itself: one that came from somebody else could name a private key as a
// picture, and have it sent to every worker.
type Roots struct {
	// Allowed are folders that files have to lie in; none: anywhere that is
	// not private.
	Allowed []string
	// Private are files and folders that never leave.
	Private []string
}

// PrivatePaths are what no .blend has to do with, on a machine with that home.
func PrivatePaths(home string) []string {
	list := []string{"/etc", "/proc", "/sys", "/dev"}
	if home != "" {
		for _, name := range []string{
			".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".git-credentials", ".password-store",
			".mozilla", ".thunderbird", ".config/gcloud", ".config/google-chrome", ".config/chromium", ".local/share/keyrings",
			"AppData/Roaming/Mozilla", "AppData/Local/Google/Chrome", "Library/Keychains",
		} {
			list = append(list, filepath.Join(home, filepath.FromSlash(name)))
		}
	}
	return list
}

// check finds the files that may not go. The .blend itself was named by a
// person.
func (r Roots) check(input string, files []surveyFile) []job.Problem {
	var out []job.Problem
	for _, f := range files {
		if f.Path == input || len(out) >= maxLost {
			continue
		}
		real, err := filepath.EvalSymlinks(f.Path)
		if err != nil {
			continue // missing, which the survey says
		}
		where := f.What
		if where == "" {
			where = "Cache beside the file"
		}
		switch {
		case inside(real, r.Private) || inside(f.Path, r.Private):
			out = append(out, problem(where, "the file "+f.Path+" lies where this machine keeps secrets or its own settings, and is not sent",
				"if the picture needs it, copy it to the project and relink it; else be wary of this .blend"))
		case len(r.Allowed) > 0 && !inside(real, r.Allowed):
			out = append(out, problem(where, "the file "+f.Path+" lies outside of the folders that jobs may take files from",
				"move it there, or add its folder to paths.roots in the configuration"))
		}
	}
	return out
}

// inside reports whether path is one of the roots or lies below one, by either
// of a root's names.
func inside(path string, roots []string) bool {
	for _, root := range roots {
		names := []string{filepath.Clean(root)}
		if real, err := filepath.EvalSymlinks(root); err == nil {
			names = append(names, real)
		}
		for _, name := range names {
			if path == name || strings.HasPrefix(path, strings.TrimSuffix(name, string(os.PathSeparator))+string(os.PathSeparator)) {
				return true
			}
		}
	}
	return false
}
