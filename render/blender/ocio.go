package blender

import (
	"regexp"
	"strings"

	"idlewild/job"
)

// ocio is the colour configuration that a job is made with: what its spec
// names, else what this machine's Blender is told to use.
func (k *Kind) ocio(s job.Spec) string {
	if spec, err := DecodeSpec(s.Params); err == nil && spec.OCIO != "" {
		return spec.OCIO
	}
	for _, e := range k.opts.Env {
		if v, ok := strings.CutPrefix(e, "OCIO="); ok {
			return v
		}
	}
	return ""
}

var ocioName = regexp.MustCompile(`^ocio://[A-Za-z0-9._-]{1,100}$`)

// builtInOCIO reports whether a configuration comes with the library itself.
func builtInOCIO(s string) bool { return ocioName.MatchString(s) }

// mountedOCIO is a task's configuration as its process sees it.
func mountedOCIO(name string) string {
	if builtInOCIO(name) {
		return name
	}
	return "{in}/" + name
}
