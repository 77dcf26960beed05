// Package importrules holds the import table of the design as something that
// can be run: which of our packages may know which, where each third-party
// library stays, and where the names of kinds may be written down.
//
// It parses source files in this process. A test that shells out to the go
// command is cached as ok although a forbidden import was added since.
package importrules

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

const module = "idlewild"

// everything as a row of the table allows all packages of ours but the
// commands, which nobody imports.
const everything = "*"

// table lists, per package of ours, the packages of ours that it may import.
// A package that is not listed is itself an error: adding one is a decision.
var table = map[string][]string{
	"job":     {},
	"media":   {},
	"chunker": {},

	"diffupload":                       {"chunker", "media", "diffupload/blendfile", "diffupload/delta", "diffupload/imagefile", "diffupload/tensorfile", "diffupload/tensorfile/tensortest", "internal/digest", "internal/encoders", "internal/ondisk"},
	"diffupload/delta":                 {"internal/encoders"},
	"diffupload/tensorfile":            {"diffupload/tensorfile/tensortest", "internal/gguf", "render/ai/llm/llmtest", "render/ai/onnxtest"}, // but for internal/gguf: its tests
	"diffupload/tensorfile/tensortest": {},
	"diffupload/imagefile":             {},
	"diffupload/blendfile":             {"chunker", "diffupload"},
	"diffupload/car":                   {"diffupload"},
	"diffupload/store":                 {"chunker", "diffupload", "internal/ondisk"},
	"diffupload/store/storetest":       {"diffupload"},

	"render":                    {"job", "media", "render/gpu", "render/confine"},
	"render/confine":            {},
	"render/blender":            {"internal/scenes", "internal/tail", "job", "media", "render", "render/assemble"}, // internal/scenes: its tests
	"render/ai":                 {"internal/gguf", "job", "media", "render", "render/ai/llm", "render/ai/llm/llmtest", "render/ai/onnx", "render/ai/torch", "render/ai/torch/torchtest", "render/ai/wordpiece", "render/assemble", "render/gorunner"},
	"render/ai/llm":             {"internal/tail"},
	"render/ai/wordpiece":       {},
	"render/ai/llm/llmtest":     {},
	"render/ai/torch":           {"internal/tail", "render/ai/torch/torchtest"}, // the second: its tests
	"render/ai/torch/torchtest": {},
	"render/ai/onnx":            {"render/ai/onnxtest"}, // its tests
	"render/echo":               {"job", "media", "render", "render/gorunner"},
	"render/gorunner":           {"job", "render"},
	"render/assemble":           {"job", "media", "render", "render/gorunner"},
	"render/gpu":                {},

	"render/ai/onnxtest":     {},
	"render/blender/install": {"internal/ondisk"},

	"p2p":             {"job", "p2p/kad", "p2p/kad/kadtest", "p2p/wire", "internal/beat", "internal/digest", "internal/ondisk"},
	"p2p/kad":         {"p2p/kad/kadtest"}, // its tests
	"p2p/kad/kadtest": {"p2p/kad"},
	"p2p/wire":        {"job"},

	"verify": {"job", "media"},
	"ledger": {"job", "internal/ondisk", "internal/recordlog"},

	"node/dispatch":   {"job", "internal/ondisk", "internal/recordlog", "internal/recordlog/faulty"},
	"node/steward":    {"job", "internal/beat", "internal/recordlog", "node/dispatch"},
	"node/worker":     {"job", "render", "render/gpu", "internal/beat"},
	"node/idle":       {},
	"node/idle/sense": {"node/idle", "render/gpu"},
	"node/localapi":   {"job"},
	"node/hooks":      {},
	"node/support":    {"job", "node/localapi"},
	"node/update":     {},
	"node":            {everything},

	"blender-addon": {},
	"docs":          {}, // a test
	"cmd":           {everything},
	"bench":         {everything},

	"internal/beat":             {},
	"internal/digest":           {},
	"internal/encoders":         {},
	"internal/ondisk":           {},
	"internal/farmtest":         {everything},
	"internal/gguf":             {"render/ai/llm/llmtest"}, // its tests
	"internal/importrules":      {},
	"internal/netlab":           {},
	"internal/recordlog":        {"internal/ondisk", "internal/recordlog/faulty"}, // the second: its tests
	"internal/recordlog/faulty": {"internal/recordlog"},
	"internal/scenes":           {},
	"internal/service":          {"packaging"},
	"internal/tail":             {},
	"packaging":                 {},
}

// library says where packages below a third-party path may be imported.
type library struct {
	prefix string
	in     []string // folders of ours, with what is below them
	values []string // packages of it that hold only values and may go anywhere
}

var libraries = []library{
	{
		prefix: "github.com/libp2p",
		in:     []string{"p2p", "bench"}, // bench sets other ways of moving bytes beside ours
		values: []string{"github.com/libp2p/go-libp2p/core/peer", "github.com/libp2p/go-libp2p/core/crypto"},
	},
	{prefix: "github.com/libp2p/go-libp2p-kad-dht", in: []string{"p2p/kad"}},
	{prefix: "github.com/ipfs/boxo", in: []string{"p2p", "bench"}},
	{prefix: "github.com/NVIDIA/go-nvml", in: []string{"render/gpu"}},
	{prefix: "github.com/landlock-lsm/go-landlock", in: []string{"render/confine"}},
	{prefix: "github.com/elastic/go-seccomp-bpf", in: []string{"render/confine"}},
	{prefix: "github.com/therootcompany/xz", in: []string{"render/blender/install"}},
	{prefix: "github.com/urfave/cli", in: []string{"cmd"}},
	{prefix: "filippo.io/age", in: []string{"node"}},
	{prefix: "golang.org/x/term", in: []string{"cmd"}},
	{prefix: "rsc.io/qr", in: []string{"cmd"}},
	{prefix: "github.com/modelcontextprotocol", in: []string{"cmd"}},
	{prefix: "github.com/yalue/onnxruntime_go", in: []string{"render/ai/onnx"}},
	{prefix: "github.com/godbus/dbus", in: []string{"node/idle/sense", "cmd/idlewild-tray"}},
	{prefix: "fyne.io/systray", in: []string{"cmd/idlewild-tray"}},
	{prefix: "aead.dev/minisign", in: []string{"node/update", "cmd"}}, // cmd: its tests
	{prefix: "go.yaml.in/yaml", in: []string{"packaging"}},
	{prefix: "github.com/prometheus", in: []string{"node"}},
	{prefix: "github.com/chromedp", in: []string{"node", "bench"}},
	{prefix: "github.com/jezek/xgb", in: []string{"node/idle/sense", "bench"}},
}

// kinds are the names of sorts of work. They are data everywhere else, so that
// a branch on one cannot be written.
var kinds = map[string]bool{"blender": true, "ai": true}

// kindHomes are where the name of a kind may be a string literal.
var kindHomes = []string{"node/node.go", "render/blender", "render/ai"}

// Check reads every Go file below root, the folder of go.mod, and returns one
// line per broken rule, sorted. err is for trouble with reading.
func Check(root string) ([]string, error) {
	c := checker{documented: map[string]bool{}, named: map[string]string{}}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if name := d.Name(); rel != "." && (name == "testdata" || name == "bin" || name == "build" || name == "out" ||
				strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		return c.file(p, rel)
	})
	if err != nil {
		return nil, err
	}
	for pkg, name := range c.named {
		if !c.documented[pkg] {
			c.add("%s: package %s has no package comment", pkg, name)
		}
	}
	sort.Strings(c.broken)
	return c.broken, nil
}

type checker struct {
	broken     []string
	documented map[string]bool   // by folder
	named      map[string]string // folder to package name
}

func (c *checker) add(format string, a ...any) {
	c.broken = append(c.broken, fmt.Sprintf(format, a...))
}

func (c *checker) file(file, rel string) error {
	src, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, rel, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	pkg, test := path.Dir(rel), strings.HasSuffix(rel, "_test.go")
	if !test {
		c.named[pkg] = f.Name.Name
		if f.Doc != nil && (f.Name.Name == "main" || strings.HasPrefix(f.Doc.Text(), "Package "+f.Name.Name+" ")) {
			c.documented[pkg] = true
		}
	}
	row, ok := rowOf(pkg)
	if !ok {
		c.add("%s: package %s is not in the import table", rel, pkg)
	}
	for _, imp := range f.Imports {
		to, err := strconv.Unquote(imp.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: import %s: %w", rel, imp.Path.Value, err)
		}
		if ours, is := strings.CutPrefix(to, module+"/"); is {
			if ok && !mayImport(pkg, row, ours, test) {
				c.add("%s: %s may not import %s", rel, pkg, ours)
			}
			continue
		}
		for _, l := range libraries {
			if under(to, l.prefix) && !underAny(pkg, l.in) && !contains(l.values, to) {
				c.add("%s: %s may not import %s: it stays inside %s", rel, pkg, to, strings.Join(l.in, ", "))
			}
		}
	}
	if !test && !underAny(rel, kindHomes) && pkg != "internal/importrules" {
		c.literals(fset, f, under(pkg, "bench"))
	}
	return nil
}

// literals finds names of kinds written as strings. With programs, those that
// name a program to start or a folder, as benchmarks do that set the program
// itself beside us, do not count.
func (c *checker) literals(fset *token.FileSet, f *ast.File, programs bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && programs && startsOrJoins(call) {
			return false
		}
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		if s, err := strconv.Unquote(lit.Value); err == nil && kinds[s] {
			at := fset.Position(lit.Pos())
			c.add("%s:%d: the kind %q as a string literal: only in %s", at.Filename, at.Line, s, strings.Join(kindHomes, ", "))
		}
		return true
	})
}

// startsOrJoins reports whether call is exec.Command, exec.LookPath,
// filepath.Join or the like.
func startsOrJoins(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && (pkg.Name == "exec" || pkg.Name == "filepath" && sel.Sel.Name == "Join")
}

func rowOf(pkg string) ([]string, bool) {
	if row, ok := table[pkg]; ok {
		return row, true
	}
	for _, top := range []string{"cmd", "bench"} {
		if under(pkg, top) {
			return table[top], true
		}
	}
	return nil, false
}

func mayImport(from string, row []string, to string, test bool) bool {
	switch {
	case from == to: // a test outside its package
		return true
	case under(to, "cmd"), under(to, "bench"):
		return under(from, "bench") && under(to, "bench") || under(from, "cmd") && under(to, "cmd")
	case test && (under(to, "internal") || under(to, from) || sameTree(from, to)):
		return true
	case contains(row, to):
		return true
	case contains(row, everything):
		return !under(to, "internal/farmtest") || under(from, "bench")
	}
	return false
}

// sameTree reports whether both are below one top folder, other than node and
// render, whose subfolders are each a room of their own.
func sameTree(a, b string) bool {
	top, _, _ := strings.Cut(a, "/")
	return under(b, top) && top != "node" && top != "render"
}

func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func underAny(p string, dirs []string) bool {
	for _, d := range dirs {
		if under(p, d) {
			return true
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
