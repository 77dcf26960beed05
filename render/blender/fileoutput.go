package blender

import (
	"path"
	"strconv"

	"idlewild/job"
)

// rules are what the compositor's File Output nodes leave for a frame: as the
// runner names it, and as it is delivered.
func (f Facts) rules(frame int) []job.OutputRule {
	var rules []job.OutputRule
	for i, pattern := range f.Files {
		final := frameName(pattern, frame)
		rules = append(rules, job.OutputRule{
			Name: "files/" + strconv.Itoa(i) + path.Ext(final),
			// Opaque: they are made on the requester's own machine, where nothing
			// of them is checked, and in formats that only artists know.
			Media: job.MediaFile,
			Final: final,
		})
	}
	return rules
}

func ruleNames(rules []job.OutputRule) []string {
	var names []string
	for _, r := range rules {
		names = append(names, r.Name)
	}
	return names
}
