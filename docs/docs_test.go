package docs

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"
)

// tree is what documents speak of: the files of this repository.
type tree struct {
	files map[string]bool     // slash-separated, from the root
	text  map[string]string   // of documents
	tests map[string][]string // name of a test or fuzz target to its folders
	code  map[string]bool     // folders with Go that is no test
	names map[string]bool     // every word that is in code
}

var (
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	word     = regexp.MustCompile(`[A-Za-z_]\w*`)
)

func read(t *testing.T) tree {
	t.Helper()
	x, err := readOnce()
	if err != nil {
		t.Fatal(err)
	}
	return x
}

var readOnce = sync.OnceValues(func() (tree, error) {
	x := tree{map[string]bool{}, map[string]string{}, map[string][]string{}, map[string]bool{}, map[string]bool{}}
	err := filepath.WalkDir("..", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(p, ".."+string(filepath.Separator)))
		if d.IsDir() {
			if n := d.Name(); n != ".." && (strings.HasPrefix(n, ".") || n == "bin" || n == "build" || n == "out") {
				return filepath.SkipDir
			}
			return nil
		}
		x.files[name] = true
		switch path.Ext(name) {
		case ".md", ".go", ".py", ".js", ".proto":
		default:
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if path.Ext(name) == ".md" {
			x.text[name] = string(b)
			return nil
		}
		for w := range bytes.FieldsFuncSeq(b, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			x.names[string(w)] = true
		}
		switch {
		case strings.Contains(name, "testdata/"):
		case strings.HasSuffix(name, "_test.go"):
			for _, m := range testFunc.FindAllSubmatch(b, -1) {
				x.tests[string(m[1])] = append(x.tests[string(m[1])], path.Dir(name))
			}
		case path.Ext(name) == ".go":
			x.code[path.Dir(name)] = true
		}
		return nil
	})
	return x, err
})

// documents are those about the program, in order.
func (x tree) documents() []string {
	var out []string
	for name := range x.text {
		if strings.HasPrefix(name, "docs/") || !strings.Contains(name, "/") && name != "CHANGELOG.md" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

var (
	quoted = regexp.MustCompile("`([^`\n]+)`")
	// of is a package and tests that are said to be in it.
	of = regexp.MustCompile("`([a-z0-9/_]+)`: ((?:`(?:Test|Fuzz)\\w+(?:/[\\w-]+)?`(?: \\([^)]*\\))?(?:, )?)+)")
	// goName is a name as it stands in code: qualified, or with capitals in it.
	goName   = regexp.MustCompile(`^(?:\w+\.)*[A-Za-z]\w*$`)
	capital  = regexp.MustCompile(`^[A-Z]\w*[a-z]|^[a-z]+[A-Z]`)
	fileName = regexp.MustCompile(`^[\w./-]+\.(?:go|py|proto)$`)
	notOurs  = map[string]bool{"ProcessPrng": true} // names that documents take from elsewhere
)

func TestWhatDocumentsNameIsThere(t *testing.T) {
	x := read(t)
	ends := map[string]bool{}
	for f := range x.files {
		ends[path.Base(f)] = true
		for rest := f; strings.Contains(rest, "/"); {
			_, rest, _ = strings.Cut(rest, "/")
			ends[rest] = true
		}
	}
	for _, doc := range x.documents() {
		text := x.text[doc]
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			said := m[1]
			name, _, _ := strings.Cut(said, "/")
			if strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") {
				if word.FindString(name) == name && len(name) > 4 && x.tests[name] == nil {
					t.Errorf("%s: there is no test %s", doc, said)
				}
				continue
			}
			if fileName.MatchString(said) {
				if !ends[said] && !x.files[said] {
					t.Errorf("%s: there is no file %s", doc, said)
				}
				continue
			}
			if goName.MatchString(said) && (strings.Contains(said, ".") && capital.MatchString(said[strings.LastIndex(said, ".")+1:]) || capital.MatchString(said)) {
				if last := said[strings.LastIndex(said, ".")+1:]; !x.names[last] && !notOurs[last] {
					t.Errorf("%s: nothing is called %s", doc, said)
				}
			}
		}
		for _, m := range of.FindAllStringSubmatch(text, -1) {
			for _, q := range quoted.FindAllStringSubmatch(m[2], -1) {
				name, _, _ := strings.Cut(q[1], "/")
				if in := x.tests[name]; in != nil && !slices.Contains(in, m[1]) {
					t.Errorf("%s: %s is in %s, not in %s", doc, name, in, m[1])
				}
			}
		}
	}
}

// TestAttacksHaveTests: each attack names what shows that it is stopped, or says
// that nothing does.
func TestAttacksHaveTests(t *testing.T) {
	x := read(t)
	rows := 0
	for _, line := range strings.Split(x.text["docs/threat-model.md"], "\n") {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 3 || cells[0] == "attack" {
			continue
		}
		rows++
		if shown := cells[2]; !quoted.MatchString(shown) && shown != "not tested" {
			t.Errorf("what shows that this is stopped: %s", cells[0])
		}
	}
	if rows < 60 {
		t.Errorf("the tables have %d attacks", rows)
	}
}

func TestPackagesAreInTheDesign(t *testing.T) {
	x := read(t)
	text := x.text["docs/design.md"]
	_, table, _ := strings.Cut(text, "## Who may import whom")
	table, _, _ = strings.Cut(table, "\n## ")
	listed := map[string]bool{}
	for _, line := range strings.Split(table, "\n") {
		first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		before := ""
		for _, q := range quoted.FindAllStringSubmatch(first, -1) {
			name := q[1]
			if rest, is := strings.CutPrefix(name, "/"); is {
				name = path.Join(path.Dir(before), rest)
			}
			listed[name], before = true, name
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(x.code)) {
		top, _, _ := strings.Cut(pkg, "/")
		if top != "cmd" && top != "bench" && !strings.HasSuffix(pkg, "test") && !listed[pkg] {
			t.Errorf("docs/design.md has no row for %s", pkg)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(listed)) {
		if !x.code[pkg] && pkg != "cmd" {
			t.Errorf("docs/design.md has a row for %s, which is no package", pkg)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// anchor is what GitHub makes of a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#"))) {
		switch {
		case r == ' ':
			b.WriteByte('-')
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			b.WriteRune(r)
		}
	}
	return b.String()
}

func TestLinksLeadSomewhere(t *testing.T) {
	x := read(t)
	anchors := map[string]map[string]bool{}
	for name, text := range x.text {
		anchors[name] = map[string]bool{}
		for _, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "#") {
				anchors[name][anchor(line)] = true
			}
		}
	}
	for _, doc := range x.documents() {
		for _, m := range link.FindAllStringSubmatch(x.text[doc], -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, at, _ := strings.Cut(m[1], "#")
			to := doc
			if file != "" {
				to = path.Join(path.Dir(doc), file)
			}
			fi, err := os.Stat(filepath.Join("..", filepath.FromSlash(to)))
			if err != nil {
				t.Errorf("%s: %s leads nowhere", doc, m[1])
			} else if at != "" && (fi.IsDir() || !anchors[to][at]) {
				t.Errorf("%s: %s has no such heading", doc, m[1])
			}
		}
	}
}
