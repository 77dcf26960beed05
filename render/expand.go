package render

import "strings"

// expand replaces the variables {in}, {work} and {runner} of a Command by the
// folders as the process sees them.
func expand(s, in, work, runner string) string {
	return strings.NewReplacer("{in}", in, "{work}", work, "{runner}", runner).Replace(s)
}

// expandAll expands every string of list into a new slice.
func expandAll(list []string, in, work, runner string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = expand(s, in, work, runner)
	}
	return out
}

// hasEnv reports whether env sets name.
func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if k, _, ok := strings.Cut(e, "="); ok && k == name {
			return true
		}
	}
	return false
}
