package main

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"idlewild/media"
)

// allowance is a difference between an original and its canonical form that
// may be, and why. The lists are closed: whatever they do not name counts.
type allowance struct {
	pattern *regexp.Regexp
	reason  string
}

func reasonFor(list []allowance, text string) string {
	for _, a := range list {
		if a.pattern.MatchString(text) {
			return a.reason
		}
	}
	return ""
}

func allow(pattern, reason string) allowance { return allowance{regexp.MustCompile(pattern), reason} }

// graphAllowed are the differences between the bytes of the two files, and of
// the files that Blender makes of the two.
var graphAllowed = []allowance{
	allow(`: dangling pointer cleared$`, "an address that nothing in the file has: Blender reads it as no pointer"),
	allow(`: the last bytes differ$`, "memory behind data that is no multiple of four bytes long; its values are in the dump"),
	allow(`(^ID|\bid)\.(next|prev): pointer lost$`, "neighbours in a list that reading makes anew, in the order of the file"),
	allow(`: pointer into another datablock's own data cleared$`, "Blender looks addresses up in the datablock and among the IDs only"),
	allow(`\bsession_uu?id\b`, "numbers of one run of Blender, made anew on loading"),
	allow(`\b(id\.)?recalc(_up_to_undo_push|_after_undo_push)?: value differs$`, "what is to be computed again, set anew on loading"),
	allow(`\bicon_id: value differs$`, "number of a cached icon"),
	allow(`(^ID|\bid)\.runtime\.`, "counts and marks of one run of Blender"),
	allow(`\bchanged_timestamp: value differs$`, "a counter of changes, which loading moves"),
	allow(`^FileGlobal\.colorspace_scene_linear_name: value differs$`, "memory that nobody has written behind the name"),
	allow(`^FileGlobal\.(filename|filepath|fileflags|build_hash|build_commit_timestamp): `, "where and how the file was saved"),
}

// savedAllowed are more differences between the files that Blender makes.
var savedAllowed = []allowance{
	allow(`^Scene\.customdata_mask\.[lv]mask: value differs$`, "what the viewports of the screens ask for"),
	allow(`\._?pad\d*: value differs$`, "bytes that fill a gap between fields"),
	allow(`^IM: block missing`, "an image that only an editor on a screen shows; it is in the dump"),
	allow(`^bNodeSocket\.runtime: pointer`, "an address of memory, which may by chance be that of another block"),
	allow(`^Library\.(name|filepath|(runtime\.)?filepath_abs): value differs$`, "the two lie in different folders"),
}

// textAllowed are the differences between what Blender shows of the two files.
var textAllowed = []allowance{
	allow(`\.session_uu?id=`, "number of one run of Blender"),
	allow(`\.icon_id=`, "number of a cached icon"),
	allow(`^file\.filepath=`, "the two lie in different folders"),
	allow(`^file\.is_dirty=`, "whether the window manager has asked to save"),
	allow(`\.preview[.=#]`, "small picture of a datablock for lists and menus"),
	allow(`^brushes(#=|\[Brush '[^']* \[essentials_brushes)`, "a brush of Blender's own library, which the tool of a workspace asks for"),
	allow(`\.tool_settings\.\w+\.brush=.*\[essentials_brushes`, "the brush in use, where it is such a one"),
	allow(`^libraries(#=|\[Library 'essentials_brushes[^']*'\])`, "the library of such a brush"),
	allow(`\.users=`, "the screens count among the users"),
	allow(`\.use_extra_user=`, "whether an editor on a screen shows it"),
}

// blendResult is what came of one file in one Blender.
type blendResult struct {
	file, original, canonical, dir string
	version                        int
	program                        program
	err                            error // nothing could be compared

	graph    graphDifferences // of the files themselves
	texts    []string         // what Blender shows differently, noise left out
	saved    []string         // what it saves differently
	rendered []string         // pictures that differ by more than the original does from itself
	noise    int              // lines that differ between two openings of the original
	allowed  map[string]int   // reasons and how often
	maximum  float64          // difference of a sample, over all pictures
	bitwise  int              // pictures equal to the last bit
	pictures int
	refused  string // why neither the original nor the canonical form was looked at in whole
	parts    int    // of what the original reached: dump, save, evaluation, render
}

func (r *blendResult) same() bool {
	return r.err == nil && len(r.graph.harmful()) == 0 && len(r.texts) == 0 && len(r.saved) == 0 && len(r.rendered) == 0
}

// judge compares a canonical form's look with two of the original.
//
// twice is another look at the canonical form, asked for up to four times where
// something is shown differently: what it shows differently from itself is noise.
func (r *blendResult) judge(first, again, canonical look, twice func() look) {
	r.allowed = map[string]int{}
	if !first.has("open") {
		if canonical.has("open") {
			r.err = fmt.Errorf("the canonical form opens and the original does not")
			return
		}
		r.refused = "does not open here"
		return
	}
	for _, part := range []struct {
		name    string
		compare func(first, again, canonical string) error
	}{
		{"rna", r.compareTexts("rna.txt")},
		{"save", r.compareSaves},
		{"evaluate", r.compareTexts("evaluated.txt")},
		{"render", r.compareRenders},
	} {
		if !first.has(part.name) || !again.has(part.name) {
			r.refused = "Blender ends in " + part.name
			return
		}
		if !canonical.has(part.name) {
			r.err = fmt.Errorf("the canonical form ends in %s: %v: %s", part.name, canonical.err, tail(canonical.log, 500))
			return
		}
		if err := part.compare(first.dir, again.dir, canonical.dir); err != nil {
			r.err = err
			return
		}
		r.parts++
	}
	// What Blender adds up in threads mostly comes out alike: once more may not show it.
	for n := 0; n < 4 && len(r.texts) > 0; n++ {
		r.withoutNoise(canonical, twice())
	}
}

// withoutNoise drops the lines that differ between two looks at the canonical
// form.
func (r *blendResult) withoutNoise(canonical, twice look) {
	noisy := map[string]bool{}
	for _, name := range []string{"rna.txt", "evaluated.txt"} {
		a, err := readLines(filepath.Join(canonical.dir, name))
		if err != nil {
			return
		}
		b, err := readLines(filepath.Join(twice.dir, name))
		if err != nil {
			return
		}
		for k, v := range a {
			if w, ok := b[k]; ok && w != v {
				noisy[k] = true
			}
		}
	}
	kept := r.texts[:0]
	for _, text := range r.texts {
		way, _, _ := cutValue(text)
		if noisy[way] {
			r.noise++
			continue
		}
		kept = append(kept, text)
	}
	r.texts = kept
}

// compareTexts returns the comparison of a file of lines "way=value".
func (r *blendResult) compareTexts(name string) func(first, again, canonical string) error {
	return func(first, again, canonical string) error {
		var lines [3]map[string]string
		for i, dir := range []string{first, again, canonical} {
			var err error
			if lines[i], err = readLines(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
		ways := map[string]bool{}
		for _, m := range lines {
			for k := range m {
				ways[k] = true
			}
		}
		var found []string
		for k := range ways {
			a, b, c := lines[0][k], lines[1][k], lines[2][k]
			if a != b {
				r.noise++
				continue
			}
			if a == c {
				continue
			}
			text := fmt.Sprintf("%s=%s, canonical %s", k, or(a, "nothing"), or(c, "nothing"))
			if reason := reasonFor(textAllowed, text); reason != "" {
				r.allowed[reason]++
				continue
			}
			found = append(found, text)
		}
		sort.Strings(found)
		r.texts = append(r.texts, found...)
		return nil
	}
}

func or(s, empty string) string {
	if s == "" {
		return empty
	}
	return s
}

// readLines reads lines of "way=value". A way that comes again is numbered.
func readLines(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]string{}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 64<<20)
	for s.Scan() {
		way, value, _ := cutValue(s.Text())
		key := way
		for n := 2; ; n++ {
			if _, ok := out[key]; !ok {
				break
			}
			key = fmt.Sprintf("%s (%d)", way, n)
		}
		out[key] = value
	}
	return out, s.Err()
}

// cutValue cuts at the first "=" outside of brackets and quotes, which names of
// datablocks may hold.
func cutValue(line string) (way, value string, found bool) {
	depth, quote := 0, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == '=' && depth == 0:
			return line[:i], line[i+1:], true
		}
	}
	return line, "", false
}

// compareSaves compares what Blender saved of the two files.
func (r *blendResult) compareSaves(first, again, canonical string) error {
	own, err := compareGraphs(filepath.Join(first, "saved.blend"), filepath.Join(again, "saved.blend"))
	if err != nil {
		return err
	}
	d, err := compareGraphs(filepath.Join(first, "saved.blend"), filepath.Join(canonical, "saved.blend"))
	if err != nil {
		return err
	}
	for k, n := range d {
		switch reason := or(reasonFor(graphAllowed, k), reasonFor(savedAllowed, k)); {
		case reason != "":
			r.allowed[reason] += n
		case own[k] > 0:
			r.noise += n
		default:
			r.saved = append(r.saved, fmt.Sprintf("saved: %s (%d)", k, n))
		}
	}
	sort.Strings(r.saved)
	return nil
}

// compareRenders compares the pictures. One that is not equal bit by bit may
// differ by twice what the original differs from itself, which repeats once
// more are not asked for.
func (r *blendResult) compareRenders(first, again, canonical string) error {
	pictures, err := filepath.Glob(filepath.Join(first, "*.exr"))
	if err != nil {
		return err
	}
	for _, p := range pictures {
		name := filepath.Base(p)
		var images [3]*media.Image
		for i, dir := range []string{first, again, canonical} {
			if images[i], err = media.DecodeFile(filepath.Join(dir, name), media.Limits{}); err != nil {
				return err
			}
		}
		r.pictures++
		own, d := largestDifference(images[0], images[1]), largestDifference(images[0], images[2])
		if d == 0 {
			r.bitwise++
		}
		r.maximum = max(r.maximum, d)
		if d > 2*own {
			r.rendered = append(r.rendered, fmt.Sprintf("%s differs by %g, the original from itself by %g", name, d, own))
		}
	}
	return nil
}

// largestDifference of two samples at one place; infinite where the pictures
// have different shapes. Equal bits are equal, NaN too.
func largestDifference(a, b *media.Image) float64 {
	if a.Width != b.Width || a.Height != b.Height || len(a.Channels) != len(b.Channels) {
		return math.Inf(1)
	}
	var d float64
	for _, c := range a.Channels {
		o, ok := b.Channel(c.Name)
		if !ok {
			return math.Inf(1)
		}
		for i, v := range c.Data {
			w := o.Data[i]
			if math.Float32bits(v) == math.Float32bits(w) {
				continue
			}
			e := math.Abs(float64(v) - float64(w))
			if math.IsNaN(e) {
				return math.Inf(1)
			}
			d = max(d, e, math.SmallestNonzeroFloat32)
		}
	}
	return d
}

// line is the result in one row of the table.
func (r *blendResult) line() string {
	name := filepath.Base(filepath.Dir(r.file)) + "/" + filepath.Base(r.file)
	head := fmt.Sprintf("%-52s %4d  %-10s", name, r.version, r.program.name)
	switch {
	case r.err != nil:
		return fmt.Sprintf("%s FAILED: %.300v", head, r.err)
	case r.refused != "" && r.parts == 0:
		return head + " not compared: " + r.refused
	}
	count := func(n int) string {
		if n == 0 {
			return "equal"
		}
		return fmt.Sprintf("%d differ", n)
	}
	picture := fmt.Sprintf("%d of %d bitwise", r.bitwise, r.pictures)
	if r.bitwise < r.pictures {
		picture += fmt.Sprintf(", max %.3g", r.maximum)
	}
	out := fmt.Sprintf("%s file %s, data %s, saved %s, pictures %s, noise %d", head, count(len(r.graph.harmful())), count(len(r.texts)), count(len(r.saved)), picture, r.noise)
	if r.refused != "" {
		out += "; " + r.refused
	}
	return out
}

// details are the differences, one a line.
func (r *blendResult) details() string {
	const most = 40
	var w strings.Builder
	if r.err != nil {
		fmt.Fprintf(&w, "  %v\n", r.err)
	}
	for _, list := range [][]string{r.graph.harmful(), r.saved, r.texts, r.rendered} {
		for j, text := range list {
			if j == most {
				fmt.Fprintf(&w, "  ... and %d more\n", len(list)-j)
				break
			}
			fmt.Fprintf(&w, "  %.240s\n", text)
		}
	}
	return w.String()
}

// print writes the table, and below it what was allowed and why.
func (b *blendBench) print(results []blendResult) {
	w := bufio.NewWriter(os.Stderr)
	defer w.Flush()
	fmt.Fprintln(w)
	for i := range results {
		fmt.Fprintln(w, results[i].line())
	}
	shown := map[string]bool{}
	reasons := map[string]int{}
	for i := range results {
		for k, n := range results[i].allowed {
			reasons[k] += n
		}
		for k, n := range results[i].graph {
			if reason := reasonFor(graphAllowed, k); reason != "" {
				reasons[reason] += n
				if strings.HasSuffix(k, dangling) && !shown[k] {
					shown[k] = true
				}
			}
		}
	}
	fmt.Fprintln(w, "\nallowed differences:")
	for _, k := range sortedKeys(reasons) {
		fmt.Fprintf(w, "  %8d  %s\n", reasons[k], k)
	}
	fmt.Fprintln(w, "\npointers that lead to nothing, cleared:")
	for _, k := range sortedKeys(shown) {
		fmt.Fprintf(w, "  %s\n", strings.TrimSuffix(k, ": "+dangling))
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func blendFigures(results []blendResult) []Figure {
	var equal, refused, bitwise, pictures, lost int
	var maximum float64
	for i := range results {
		r := &results[i]
		if r.refused != "" && r.parts == 0 {
			refused++
			continue
		}
		if r.same() {
			equal++
		}
		lost += len(r.graph.harmful())
		bitwise += r.bitwise
		pictures += r.pictures
		maximum = max(maximum, r.maximum)
	}
	compared := len(results) - refused
	share := func(n, of int) float64 {
		if of == 0 {
			return 0
		}
		return float64(n) / float64(of)
	}
	return []Figure{
		plain("files compared, one in one Blender", float64(compared), ""),
		atLeast("of them the same in all that was compared", share(equal, compared), "", 1),
		atMost("pointers and values lost in the files", float64(lost), "", 0),
		plain("pictures", float64(pictures), ""),
		atLeast("of them equal to the last bit", share(bitwise, pictures), "", 0.99),
		plain("largest difference of a sample", maximum, ""),
		plain("not compared: Blender does not open the original", float64(refused), ""),
	}
}
