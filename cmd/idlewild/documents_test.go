package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// inQuotes is what a document has people type: in backquotes, or as a line.
var (
	inQuotes = regexp.MustCompile("`([^`]*)`")
	typed    = regexp.MustCompile(`(?:^|[\s;&|])idlewild ((?:[^;&|#\n]|&&)*)`)
	flagName = regexp.MustCompile(`^--?[a-z][a-z0-9-]*`)
)

// TestDocumentsNameCommandsThatExist: each command that a document names is one,
// with the flags that it is given there.
func TestDocumentsNameCommandsThatExist(t *testing.T) {
	app := newApp(&program{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	found := 0
	for _, file := range append(files, "../../README.md", "../../CONTRIBUTING.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(file) == "formats.md" {
			continue // there names of formats begin as commands do
		}
		var lines []string
		var text strings.Builder
		block := false
		for line := range strings.Lines(string(b)) {
			switch {
			case strings.HasPrefix(line, "```"):
				block = !block
			case block:
				lines = append(lines, strings.TrimRight(line, "\n"))
			default:
				text.WriteString(line)
			}
		}
		flat := strings.Join(strings.Fields(text.String()), " ") // what is quoted may go over lines
		for _, m := range inQuotes.FindAllStringSubmatch(flat, -1) {
			lines = append(lines, m[1])
		}
		for _, line := range lines {
			for _, m := range typed.FindAllStringSubmatch(line, -1) {
				if strings.HasPrefix(line, "docker ") || strings.HasPrefix(line, "git ") {
					continue // there it is the name of a container, or of a folder
				}
				if why := unknown(app, strings.Fields(m[1])); why != "" {
					t.Errorf("%s: %q: %s", filepath.Base(file), line, why)
				} else {
					found++
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("%d commands were looked at", found)
	}
}

// unknown says what of a command line is not there.
func unknown(app *cli.App, words []string) string {
	commands, flags := app.Commands, app.Flags
	named := false
	for _, w := range words {
		w = strings.TrimRight(w, ".,:)")
		switch {
		case strings.HasPrefix(w, "-") && w != "-":
			name := strings.TrimLeft(flagName.FindString(w), "-")
			if name == "" || name == "help" || name == "h" || name == "version" || name == "data-dir" {
				continue
			}
			ok := false
			for _, f := range flags {
				for _, n := range f.Names() {
					ok = ok || n == name
				}
			}
			if !ok {
				return "there is no flag " + w
			}
		case len(commands) > 0:
			var next *cli.Command
			for _, c := range commands {
				if c.HasName(w) {
					next = c
				}
			}
			if next == nil {
				if named && next == nil && (strings.ToUpper(w) == w || len(flags) > 0) {
					commands = nil // an argument
					continue
				}
				return "there is no command " + w
			}
			commands, flags, named = next.Subcommands, append(append([]cli.Flag{}, next.Flags...), app.Flags...), true
		}
	}
	return ""
}
