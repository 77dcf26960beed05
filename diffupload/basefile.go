package diffupload

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"sort"
	"strings"
)

// baseFiles finds, in the files of a manifest, one that a file of another
// manifest is probably a later version of, or at least like. It is made once
// for a list and costs no more than sorting it; a look-up is a few binary
// searches. The same list and name give the same file on every machine.
type baseFiles struct {
	list    []Entry
	names   map[string]int
	numbers [][]uint64       // of each file's name
	frames  map[string][]int // by names without their digits, ascending by number
	folders map[string][]int // by base name, ascending by size
	kinds   map[string][]int // by extension, ascending by size
}

func newBaseFiles(list []Entry) *baseFiles {
	b := &baseFiles{
		list: list, names: make(map[string]int, len(list)), numbers: make([][]uint64, len(list)),
		frames: map[string][]int{}, folders: map[string][]int{}, kinds: map[string][]int{},
	}
	for i, e := range list {
		b.names[e.Name] = i
		var key string
		if key, b.numbers[i] = splitNumbers(e.Name); len(b.numbers[i]) > 0 {
			b.frames[key] = append(b.frames[key], i)
		}
		base := path.Base(e.Name)
		b.folders[base] = append(b.folders[base], i)
		if ext := extension(base); ext != "" {
			b.kinds[ext] = append(b.kinds[ext], i)
		}
	}
	for _, files := range b.frames {
		slices.SortStableFunc(files, func(i, j int) int { return slices.Compare(b.numbers[i], b.numbers[j]) })
	}
	bySize := func(i, j int) int { return cmp.Compare(list[i].Size, list[j].Size) }
	for _, files := range b.folders {
		slices.SortStableFunc(files, bySize)
	}
	for _, files := range b.kinds {
		slices.SortStableFunc(files, bySize)
	}
	return b
}

// baseFile returns the place in the list of the file that is the best base for
// one with the given name and size, and whether there is any. It is the file of
// that name; else, of those whose names differ in their digits only, the one
// with the nearest numbers; else the file of the same base name in another
// folder; else one with the same extension; of several, that of nearest size.
func (b *baseFiles) baseFile(name string, size int64) (int, bool) {
	if i, ok := b.names[name]; ok {
		return i, true
	}
	key, numbers := splitNumbers(name)
	if i, ok := b.frame(key, numbers); ok {
		return i, true
	}
	return b.likely(name, size)
}

// likely is the part of baseFile that goes by less than the whole name.
func (b *baseFiles) likely(name string, size int64) (int, bool) {
	base := path.Base(name)
	if i, ok := b.nearestSize(b.folders[base], size); ok {
		return i, true
	}
	return b.nearestSize(b.kinds[extension(base)], size)
}

// frame is the file whose name has the given key and the numbers nearest to
// those given: the first number counts first, so that of another version the
// same frame is taken, and of two that are equally near the lower.
func (b *baseFiles) frame(key string, numbers []uint64) (int, bool) {
	files := b.frames[key]
	if len(files) == 0 {
		return 0, false
	}
	for k, want := range numbers {
		at := func(i int) uint64 { return b.numbers[files[i]][k] }
		i := sort.Search(len(files), func(i int) bool { return at(i) >= want })
		if i == len(files) || i > 0 && want-at(i-1) <= at(i)-want {
			i--
		}
		near := at(i)
		from := sort.Search(len(files), func(i int) bool { return at(i) >= near })
		to := sort.Search(len(files), func(i int) bool { return at(i) > near })
		files = files[from:to]
	}
	return files[0], true
}

func (b *baseFiles) nearestSize(files []int, size int64) (int, bool) {
	if len(files) == 0 {
		return 0, false
	}
	at := func(i int) int64 { return b.list[files[i]].Size }
	i := sort.Search(len(files), func(i int) bool { return at(i) >= size })
	if i == len(files) || i > 0 && size-at(i-1) <= at(i)-size {
		i--
	}
	return files[i], true
}

// splitNumbers returns the numbers in a name, and a key that names have in
// common which differ in their digits only. A run of more digits than a number
// holds counts as the largest.
func splitNumbers(name string) (key string, numbers []uint64) {
	const most = 1e18
	var b strings.Builder
	for i := 0; i < len(name); {
		if !isDigit(name[i]) {
			b.WriteByte(name[i])
			i++
			continue
		}
		var n uint64
		for ; i < len(name) && isDigit(name[i]); i++ {
			n = min(most, n*10+uint64(name[i]-'0'))
		}
		b.WriteByte('#')
		numbers = append(numbers, n)
	}
	// A name may have a # of its own: names with one key have as many numbers.
	fmt.Fprintf(&b, "/%d", len(numbers))
	return b.String(), numbers
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// nearer reports whether the numbers a are at least as near to n as b are.
func nearer(n, a, b []uint64) bool {
	for k := range n {
		da, db := max(a[k], n[k])-min(a[k], n[k]), max(b[k], n[k])-min(b[k], n[k])
		if da != db {
			return da < db
		}
	}
	return true
}

func extension(base string) string { return strings.ToLower(path.Ext(base)) }
