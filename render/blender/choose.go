package blender

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"idlewild/job"
)

// choose picks the Blender that a job is pinned to: what the person asked for,
// else the version that saved the file, else the nearest newer one, with a
// warning. An older one is never taken: it may open the file with parts of it
// missing. A problem of severity error comes instead of a Blender.
func choose(s job.Spec, here []able) (able, *job.Problem) {
	asked, err := DecodeSpec(s.Params)
	if err != nil {
		return able{}, &job.Problem{Severity: job.SeverityError, Message: err.Error()}
	}
	saved, err := fileVersion(s.Input)
	if err != nil {
		bad := problem(s.Input, "it cannot be read: "+err.Error(), "check its permissions")
		return able{}, &bad // refuseEarly saw it a moment ago
	}
	// Newest first, and among equals the one that was named first.
	here = slices.Clone(here)
	slices.SortStableFunc(here, func(a, b able) int { return compareVersions(b.Version, a.Version) })
	if asked.Blender != "" {
		return chosen(s.Input, asked.Blender, saved, here)
	}
	var best *able
	for i, a := range here {
		if minorOf(a.Version) >= saved && (best == nil || minorOf(a.Version) < minorOf(best.Version)) {
			best = &here[i]
		}
	}
	if best == nil {
		bad := problem(s.Input, fmt.Sprintf("it was saved by Blender %s, and this machine has %s", versionText(saved), versionsOf(here)), addRemedy(saved))
		return able{}, &bad
	}
	if minorOf(best.Version) == saved {
		return *best, nil
	}
	note := job.Problem{
		Severity: job.SeverityWarning, Where: s.Input,
		Message: fmt.Sprintf("it was saved by Blender %s and is rendered with Blender %s, the nearest that is here", versionText(saved), best.Version),
		Remedy:  fmt.Sprintf("where the picture differs, install Blender %s and add it with: idlewild blender add PATH", versionText(saved)),
	}
	return *best, &note
}

// chosen is the Blender that a person asked for, by version, build or path.
func chosen(input, asked string, saved int, here []able) (able, *job.Problem) {
	for _, a := range here {
		if !isAsked(asked, a) {
			continue
		}
		if minorOf(a.Version) < saved {
			bad := problem(input, fmt.Sprintf("it was saved by Blender %s, and Blender %s, which was asked for, is older and may open it with parts missing", versionText(saved), a.Version),
				fmt.Sprintf("ask for Blender %s or newer", versionText(saved)))
			return able{}, &bad
		}
		return a, nil
	}
	bad := problem("Blender "+asked, "it was asked for, and this machine has "+versionsOf(here), "see them with: idlewild blender list; add one with: idlewild blender add PATH")
	return able{}, &bad
}

// isAsked reports whether a is what a person means: "4.5" is any 4.5.x.
func isAsked(asked string, a able) bool {
	if asked == a.Version || asked == a.Build || strings.HasPrefix(a.Version, asked+".") {
		return true
	}
	return filepath.IsAbs(asked) && (asked == a.path || asked == a.name || newProgram(asked).path == a.path)
}

// minorOf is "4.5.1" as the head of a file says it: 405.
func minorOf(version string) int {
	major, minor := versionPair(version)
	return major*100 + minor
}

func versionsOf(here []able) string {
	var names []string
	for _, a := range here {
		if !slices.Contains(names, a.Version) {
			names = append(names, a.Version)
		}
	}
	return strings.Join(names, ", ")
}

// addRemedy says how to come by a Blender that opens a file.
func addRemedy(saved int) string {
	return fmt.Sprintf("install Blender %s or newer and add it with: idlewild blender add PATH", versionText(saved))
}
