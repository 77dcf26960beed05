package blender

import (
	"fmt"
	"os"
	"regexp"

	"idlewild/job"
	"idlewild/render"
)

// loadLog reads what Blender prints while it opens a file. Some of what is
// lost then can be seen nowhere else: afterwards the scene looks as if it had
// been saved with Blender's own engine, colours and placeholders.
type loadLog struct {
	line  []byte
	found []lost
}

// lost is one thing that the file asks for and this Blender has not.
type lost struct {
	what  *lossKind
	names []string
}

type lossKind struct {
	pattern *regexp.Regexp
	problem func(names []string) job.Problem
}

const maxLost = 64 // of one kind

var (
	engineLoss = &lossKind{
		regexp.MustCompile(`Engine '([^']+)' not available for scene '(.+)' \(`),
		func(n []string) job.Problem {
			return problem("Scene '"+n[1]+"'", fmt.Sprintf("it renders with %s, the engine of an add-on that workers do not have", n[0]),
				"choose Cycles, Eevee or Workbench in the Render Properties, or name one with --engine")
		},
	}
	colourLoss = &lossKind{
		regexp.MustCompile(`(?i)color.management.*?(scene|image|sequencer)? ?(view|look|display|colorspace|color space) "(.*?)" not found`),
		func(n []string) job.Problem {
			what := map[string]string{"view": "View transform", "look": "Look", "display": "Display device"}[n[1]]
			if what == "" {
				what = "Color space"
			}
			return problem(fmt.Sprintf("%s '%s'", what, n[2]), "the colour configuration in use does not have it, so that colours would be wrong",
				"set OCIO to the configuration that the file was made with, or choose another in Blender and save")
		},
	}
	linkLoss = &lossKind{
		regexp.MustCompile(`LIB: ([^:]+): '(.+)' missing from '(.+?)'`),
		func(n []string) job.Problem {
			return problem(fmt.Sprintf("%s '%s'", n[0], n[1]), "it is linked from "+n[2]+", which has nothing of this name",
				"relink it or delete the link in the Outliner (Blender File view), and save")
		},
	}
	losses = []*lossKind{
		engineLoss,
		linkLoss,
		colourLoss,
	}
)

// Write implements io.Writer.
func (l *loadLog) Write(p []byte) (int, error) {
	l.line = render.SplitLines(l.line, p, l.look)
	return len(p), nil
}

func (l *loadLog) look(line []byte) {
	for _, k := range losses {
		if l.count(k) >= maxLost {
			continue
		}
		if m := k.pattern.FindSubmatch(line); m != nil {
			x := lost{what: k}
			for _, name := range m[1:] {
				x.names = append(x.names, string(name))
			}
			l.found = append(l.found, x)
		}
	}
}

func (l *loadLog) count(k *lossKind) int {
	n := 0
	for _, x := range l.found {
		if x.what == k {
			n++
		}
	}
	return n
}

// problems are what an artist has to know of a job on the scene. An engine that
// was chosen for the job replaces any of the file's. Under a configuration that
// is not Blender's own, what is said first of its standard view is about the
// scene that it starts with; by order alone the two cannot be told apart, since
// the lines come over two streams.
func (l *loadLog) problems(scene string, engineChosen, ownColours bool) []job.Problem {
	var out []job.Problem
	seen := map[string]bool{}
	startup := ownColours
	for _, x := range l.found {
		if x.what == engineLoss && (engineChosen || x.names[1] != scene) {
			continue
		}
		if x.what == linkLoss {
			if _, err := os.Stat(x.names[2]); err != nil {
				continue // the library as a whole is missing, which the survey says
			}
		}
		if x.what == colourLoss && !startup && (x.names[2] == "Filmic" || x.names[2] == "AgX") {
			startup = true
			continue
		}
		p := x.what.problem(x.names)
		if s := p.String(); !seen[s] {
			seen[s] = true
			out = append(out, p)
		}
	}
	return out
}
