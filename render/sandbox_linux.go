package render

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"idlewild/job"
	"idlewild/render/confine"
)

// mountHome is the HOME of a sandboxed process: memory that ends with it.
const mountHome = "/idlewild/home"

// sandboxUser is user and group inside, where there is a user namespace.
const sandboxUser = 1000

// tmpBytes bounds each of the sandbox's folders in memory, which no meter
// counts.
const tmpBytes = 256 << 20

// Sandbox starts sessions inside bubblewrap: no network, its own processes
// only, the system's programs and libraries to read, the session's inputs to
// read, its work folder to write, and nothing else of this machine. Under that
// the process gives up more by itself (package confine).
type Sandbox struct {
	bwrap  string
	self   string // this program, which confines itself before it becomes another
	layers string
	grants grants
	cpu    []byte // the filter of system calls, for tasks of a CPU
	gpu    []byte // and of a GPU
	local  *LocalProcess
}

// grants are what this machine's kernel and bubblewrap allow beyond the
// necessary.
type grants struct {
	user     bool // a user namespace: another user, without rights over this one
	noUserns bool // no further user namespaces inside
	sized    bool // bounds on the folders in memory
	filter   bool // of system calls
	confine  bool // resource limits, and Landlock where the kernel has it
}

// ladder is what to try, best first. A step down is taken only where the
// kernel, bubblewrap's age or a container around us refuses those above.
func ladder() []grants {
	const all = 1<<5 - 1
	var steps []grants
	for missing := range 6 {
		for set := range all + 1 {
			if bits.OnesCount(uint(all&^set)) != missing {
				continue
			}
			has := func(bit int) bool { return set>>bit&1 != 0 }
			g := grants{sized: has(0), noUserns: has(1), confine: has(2), filter: has(3), user: has(4)}
			if g.noUserns && !g.user {
				continue // bubblewrap makes the one by means of the other
			}
			steps = append(steps, g)
		}
	}
	return steps
}

func (g grants) String() string {
	words := []string{"no network", "own processes", "read-only system", "cleared environment", "no capabilities"}
	var missing []string
	layer := func(there bool, name string) {
		if there {
			words = append(words, name)
		} else {
			missing = append(missing, name)
		}
	}
	layer(g.user, "another user")
	layer(g.noUserns, "no further user namespaces")
	layer(g.sized, "bounded temporary folders")
	layer(g.filter, "system call filter")
	layer(g.confine, "resource limits")
	version := confine.LandlockVersion()
	name := "Landlock"
	if version > 0 {
		name = fmt.Sprintf("Landlock %d", version)
	}
	layer(g.confine && version > 0, name)
	text := strings.Join(words, ", ")
	if len(missing) > 0 {
		text += "; missing: " + strings.Join(missing, ", ")
	}
	if os.Getuid() == 0 {
		text += "; run by root, whom the kernel does not hold to a number of threads: they are counted four times a second"
	}
	return text
}

// NewSandbox finds out what this machine can do, by running a sandboxed
// process and looking at what it sees. The error says why there is no
// sandbox. log may be nil.
func NewSandbox(ctx context.Context, log *slog.Logger, limits Limits) (*Sandbox, error) {
	bwrap, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, errors.New("bubblewrap is not installed (package bubblewrap)")
	}
	s := &Sandbox{bwrap: bwrap, local: NewLocalProcess(log)}
	s.local.Limits = limits
	if s.self, err = os.Executable(); err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	version, err := exec.CommandContext(ctx, bwrap, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("bubblewrap does not run: %w", err)
	}
	if s.cpu, err = confine.Filter(unix.AF_UNIX); err == nil {
		// The drivers of GPUs hear from the kernel of new devices.
		s.gpu, err = confine.Filter(unix.AF_UNIX, unix.AF_NETLINK)
	}
	filtered := err == nil
	var first error
	for _, g := range ladder() {
		if g.filter && !filtered {
			continue
		}
		s.grants = g
		err := s.probe(ctx)
		if err == nil {
			groups := "no control groups"
			if own, err := ownGroups(); err == nil {
				groups = own.String()
			} else {
				groups += " (" + err.Error() + ")"
			}
			s.layers = fmt.Sprintf("%s: %s; %s", strings.TrimSpace(string(version)), g, groups)
			return s, nil
		}
		if first == nil {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("bubblewrap cannot make a sandbox here: %w", first)
}

// Layers says in words what the sandbox consists of on this machine, and what
// is missing.
func (s *Sandbox) Layers() string { return s.layers }

// Shows reports whether processes can be shown files that lie elsewhere, and that
// these are the ones that were meant.
func (s *Sandbox) Shows() bool { return s.grants.confine }

// Proven reports whether anybody has seen it hold: the tests do.
func (*Sandbox) Proven() bool { return true }

// probe runs a shell inside and believes only what it did.
func (s *Sandbox) probe(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "idlewild-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := SessionRoot{In: filepath.Join(dir, "in"), Work: filepath.Join(dir, "work")}
	for _, d := range []string{root.In, root.Work} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	script := `
touch /idlewild/work/ok || exit 10
[ -w /idlewild/in ] && exit 11
[ -w /usr ] && exit 12
n=0
while read -r name rest; do
  case "$name" in lo:*|Inter-*|face*|*\|*) ;; *) n=1 ;; esac
done < /proc/net/dev
[ $n = 0 ] || exit 13
`
	if s.grants.filter {
		script += `
n=0
while read -r name value; do
  case "$name$value" in Seccomp:2) n=1 ;; esac
done < /proc/self/status
[ $n = 1 ] || exit 14
`
	}
	if s.grants.confine && confine.LandlockVersion() > 0 {
		// It is there, and nobody was given it.
		script += `
ls / > /dev/null 2>&1 && exit 15
`
	}
	script += `
echo '{"event":"ready"}' > "$IDLEWILD_EVENTS"
`
	// It counts as ready when it has found nothing wrong.
	se, err := s.Start(ctx, Command{Path: "/bin/sh", Args: []string{"-c", script}, StartTimeout: 10 * time.Second}, root)
	if err != nil {
		return err
	}
	se.Close()
	if _, err := os.Stat(filepath.Join(root.Work, "ok")); err != nil {
		return errors.New("a file written inside did not appear outside")
	}
	return nil
}

// Start implements Process.
func (s *Sandbox) Start(ctx context.Context, cmd Command, root SessionRoot) (Session, error) {
	spec := s.spec(cmd)
	var trees []string
	for i := range root.Trees {
		trees = append(trees, path.Join(MountTrees, strconv.Itoa(i)))
	}
	spec.Read = append(spec.Read, trees...)
	if err := s.show(root, &spec); err != nil {
		return nil, err
	}
	args, data, err := s.args(cmd, root, spec)
	if err != nil {
		return nil, err
	}
	se, err := s.local.start(ctx, launch{
		path: s.bwrap, args: args,
		dir: root.Work, in: MountIn, work: MountWork, trees: trees, hostWork: root.Work,
		memory: cmd.MemoryBytes, most: cmd.MemoryLimit, startTimeout: cmd.StartTimeout, priority: cmd.Priority, wrapped: true,
		data: data,
	})
	if err != nil {
		return nil, err
	}
	return se, nil
}

// shownFile is, in the work folder, the list of the files that are shown, until
// the process has looked at them.
const shownFile = ".shown"

// show has the process look whether what it is shown is what was meant.
func (s *Sandbox) show(root SessionRoot, spec *confine.Spec) error {
	if len(root.Shown) == 0 {
		return nil
	}
	if !s.Shows() {
		return errNotShown
	}
	var same []confine.Same
	for _, f := range root.Shown {
		same = append(same, confine.Same{Path: path.Join(MountIn, f.Name), Dev: f.Dev, Inode: f.Inode, Size: f.Size, Mtime: f.Mtime})
	}
	b, err := json.Marshal(same)
	if err != nil {
		return err
	}
	spec.Same = path.Join(MountWork, shownFile)
	return os.WriteFile(filepath.Join(root.Work, shownFile), b, 0o600)
}

// systemDirs and systemFiles are what programs need of a Linux system; each
// is there on some distributions only.
var (
	systemDirs  = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/run/opengl-driver", "/run/current-system"}
	systemFiles = []string{"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/fonts", "/etc/localtime", "/etc/OpenCL", "/etc/vulkan"}
)

// mountSelf is where this program lies inside, to confine the process that it
// becomes.
const mountSelf = "/idlewild/confine"

// spec is what the process leaves itself.
func (s *Sandbox) spec(cmd Command) confine.Spec {
	l := s.local.Limits.bounded(cmd.MemoryLimit)
	spec := confine.Spec{
		Threads: int64(l.Threads), FileBytes: l.DiskBytes,
		Read:    append(slices.Clone(systemDirs), "/etc", MountIn, MountRunner),
		Write:   []string{MountWork, mountHome, "/tmp", "/dev/shm"},
		Devices: []string{"/dev", "/proc"},
	}
	if l.MemoryBytes > 0 {
		// Writable memory is more than what is in use: programs take it in
		// advance. It stops what outruns the watch.
		spec.DataBytes = 2*l.MemoryBytes + 1<<30
	}
	spec.Read = append(spec.Read, cmd.ReadOnly...)
	if needsGPU(cmd) {
		spec.DataBytes = 0 // drivers map all of a device's memory
		spec.Read = append(spec.Read, "/sys")
	}
	return spec
}

func needsGPU(cmd Command) bool {
	return slices.ContainsFunc(cmd.Devices, func(d job.Device) bool { return d.Type == "gpu" })
}

// args is bubblewrap's command line for cmd, and what is to be on the
// descriptors that it names.
func (s *Sandbox) args(cmd Command, root SessionRoot, spec confine.Spec) (_, data []string, err error) {
	a := []string{"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "idlewild"}
	if s.grants.user {
		a = append(a, "--unshare-user", "--uid", strconv.Itoa(sandboxUser), "--gid", strconv.Itoa(sandboxUser))
	}
	if s.grants.noUserns {
		a = append(a, "--disable-userns")
	}
	give := func(text string) string {
		data = append(data, text)
		return strconv.Itoa(3 + len(data)) // the first is descriptor 4
	}
	if s.grants.filter {
		filter := s.cpu
		if needsGPU(cmd) {
			filter = s.gpu
		}
		a = append(a, "--seccomp", give(string(filter)))
	}
	tmpfs := func(dir, name string) error {
		if s.grants.sized {
			a = append(a, "--size", strconv.Itoa(tmpBytes), "--tmpfs", dir)
			return nil
		}
		// On disk, where it is watched.
		own := filepath.Join(root.Work, name)
		a = append(a, "--bind", own, dir)
		return os.MkdirAll(own, 0o700)
	}

	for _, dir := range systemDirs {
		fi, err := os.Lstat(dir)
		if err != nil {
			continue
		}
		if fi.Mode()&os.ModeSymlink != 0 {
			if to, err := os.Readlink(dir); err == nil {
				a = append(a, "--symlink", to, dir)
			}
			continue
		}
		a = append(a, "--ro-bind", dir, dir)
	}
	for _, f := range systemFiles {
		a = append(a, "--ro-bind-try", f, f)
	}
	for i, text := range s.accounts() {
		a = append(a, "--ro-bind-data", give(text), accountFiles[i])
	}
	a = append(a, "--proc", "/proc", "--dev", "/dev")
	for _, d := range []struct{ path, name string }{{"/dev/shm", "shm"}, {"/tmp", "tmp"}, {mountHome, "home"}} {
		if err := tmpfs(d.path, d.name); err != nil {
			return nil, nil, fmt.Errorf("session folder: %w", err)
		}
	}
	if needsGPU(cmd) {
		for _, node := range gpuNodes() {
			a = append(a, "--dev-bind-try", node, node)
		}
		// Without /sys a CUDA program does not find its device.
		a = append(a, "--ro-bind", "/sys", "/sys")
	}
	for _, dir := range cmd.ReadOnly {
		a = append(a, "--ro-bind", dir, dir)
	}
	a = append(a, "--ro-bind", root.In, MountIn, "--bind", root.Work, MountWork)
	for _, f := range root.Shown {
		a = append(a, "--ro-bind", f.Path, path.Join(MountIn, f.Name))
	}
	for i, dir := range root.Trees {
		a = append(a, "--ro-bind", dir, path.Join(MountTrees, strconv.Itoa(i)))
	}
	runner := ""
	if cmd.Runner != "" {
		runner = MountRunner
		a = append(a, "--ro-bind", cmd.Runner, MountRunner)
	}
	if s.grants.confine {
		a = append(a, "--ro-bind", s.self, mountSelf)
	}
	a = append(a, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", MountWork)

	env := expandAll(cmd.Env, MountIn, MountWork, runner)
	for _, d := range []struct{ name, value string }{{"HOME", mountHome}, {"TMPDIR", "/tmp"}, {"USER", "idlewild"}} {
		if !hasEnv(env, d.name) {
			env = append(env, d.name+"="+d.value)
		}
	}
	env = append(env, envEvents+"="+eventsPath)
	for _, e := range env {
		if k, v, ok := strings.Cut(e, "="); ok {
			a = append(a, "--setenv", k, v)
		}
	}
	if s.grants.confine {
		name, value, err := spec.Environ()
		if err != nil {
			return nil, nil, err
		}
		a = append(a, "--setenv", name, value, "--", mountSelf)
	} else {
		a = append(a, "--")
	}
	a = append(a, cmd.Path)
	return append(a, expandAll(cmd.Args, MountIn, MountWork, runner)...), data, nil
}

// accountFiles tell programs who they are: some crash where their user has no
// name.
var accountFiles = []string{"/etc/passwd", "/etc/group", "/etc/nsswitch.conf"}

// accounts is what accountFiles hold, in that order.
func (s *Sandbox) accounts() []string {
	uid, gid := sandboxUser, sandboxUser
	if !s.grants.user {
		uid, gid = os.Getuid(), os.Getgid()
	}
	return []string{
		fmt.Sprintf("idlewild:x:%d:%d:idlewild:%s:/bin/sh\n", uid, gid, mountHome),
		fmt.Sprintf("idlewild:x:%d:\n", gid),
		"passwd: files\ngroup: files\nhosts: files\n",
	}
}

// gpuNodes lists the device nodes of this machine's GPUs, of any maker.
func gpuNodes() []string {
	var nodes []string
	for _, pattern := range []string{"/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/nvidia-caps", "/dev/dri", "/dev/kfd"} {
		found, _ := filepath.Glob(pattern) // fails only on a bad pattern
		nodes = append(nodes, found...)
	}
	return nodes
}
