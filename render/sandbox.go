package render

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// mountHome is the HOME of a sandboxed process: memory that ends with it.
const mountHome = "/idlewild/home"

// sandboxUser is user and group inside, where there is a user namespace.
const sandboxUser = 1000

// tmpBytes bounds each of the sandbox's folders in memory.
const tmpBytes = 1 << 30

// Sandbox starts sessions inside bubblewrap: no network, its own processes
// only, the system's programs and libraries to read, the session's inputs to
// read, its work folder to write, and nothing else of this machine.
//
// Landlock and seccomp under it, and limits by cgroup, are not there yet.
type Sandbox struct {
	bwrap  string
	layers string
	grants grants
	local  *LocalProcess
}

// grants are what this machine's kernel and bubblewrap allow beyond the
// necessary.
type grants struct {
	user     bool // a user namespace: another user, without rights over this one
	noUserns bool // no further user namespaces inside
	sized    bool // bounds on the folders in memory
}

func (g grants) String() string {
	words := []string{"no network", "own processes", "read-only system", "cleared environment", "no capabilities"}
	if g.user {
		words = append(words, "another user")
	}
	if g.noUserns {
		words = append(words, "no further user namespaces")
	}
	if g.sized {
		words = append(words, "bounded temporary folders")
	}
	return strings.Join(words, ", ")
}

// NewSandbox finds out what this machine can do, by running a sandboxed
// process and looking at what it sees. The error says why there is no
// sandbox. maxMemory is LocalProcess.MaxMemoryBytes. log may be nil.
func NewSandbox(ctx context.Context, log *slog.Logger, maxMemory int64) (*Sandbox, error) {
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("no sandbox for %s yet", runtime.GOOS)
	}
	path, err := exec.LookPath("bwrap")
	if err != nil {
		return nil, errors.New("bubblewrap is not installed (package bubblewrap)")
	}
	s := &Sandbox{bwrap: path, local: NewLocalProcess(log)}
	s.local.MaxMemoryBytes = maxMemory
	version, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("bubblewrap does not run: %w", err)
	}
	// Best first. A step down is taken only where the kernel, bubblewrap's age
	// or a container around us refuses the one above.
	var first error
	for _, g := range []grants{{true, true, true}, {true, false, true}, {true, false, false}, {false, false, true}, {}} {
		s.grants = g
		err := s.probe(ctx)
		if err == nil {
			s.layers = fmt.Sprintf("%s: %s", strings.TrimSpace(string(version)), g)
			return s, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, fmt.Errorf("bubblewrap cannot make a sandbox here: %w", first)
}

// Layers says in words what the sandbox consists of on this machine.
func (s *Sandbox) Layers() string { return s.layers }

// DetectSandbox reports whether this machine can run other people's files in
// a sandbox: of which layers, or why not.
func DetectSandbox(ctx context.Context) (layers string, ok bool, reason string) {
	s, err := NewSandbox(ctx, nil, 0)
	if err != nil {
		return "", false, err.Error()
	}
	return s.layers, true, ""
}

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
	const script = `
touch /idlewild/work/ok || exit 10
[ -w /idlewild/in ] && exit 11
[ -w /usr ] && exit 12
n=0
while read -r name rest; do
  case "$name" in lo:*|Inter-*|face*|*\|*) ;; *) n=1 ;; esac
done < /proc/net/dev
[ $n = 0 ] || exit 13
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
	se, err := s.local.start(ctx, launch{
		path: s.bwrap, args: s.args(cmd, root),
		dir: root.Work, in: MountIn, work: MountWork, hostWork: root.Work,
		memory: cmd.MemoryBytes, startTimeout: cmd.StartTimeout, priority: cmd.Priority, wrapped: true,
		data: s.accounts(),
	})
	if err != nil {
		return nil, err
	}
	return se, nil
}

// systemDirs and systemFiles are what programs need of a Linux system; each
// is there on some distributions only.
var (
	systemDirs  = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store", "/run/opengl-driver", "/run/current-system"}
	systemFiles = []string{"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/fonts", "/etc/localtime", "/etc/OpenCL", "/etc/vulkan"}
)

// args is bubblewrap's command line for cmd.
func (s *Sandbox) args(cmd Command, root SessionRoot) []string {
	a := []string{"--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "idlewild"}
	if s.grants.user {
		a = append(a, "--unshare-user", "--uid", strconv.Itoa(sandboxUser), "--gid", strconv.Itoa(sandboxUser))
	}
	if s.grants.noUserns {
		a = append(a, "--disable-userns")
	}
	tmpfs := func(dir string) {
		if s.grants.sized {
			a = append(a, "--size", strconv.Itoa(tmpBytes))
		}
		a = append(a, "--tmpfs", dir)
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
	for i, f := range accountFiles {
		a = append(a, "--ro-bind-data", strconv.Itoa(4+i), f)
	}
	a = append(a, "--proc", "/proc", "--dev", "/dev")
	tmpfs("/dev/shm")
	tmpfs("/tmp")
	tmpfs(mountHome)
	for _, d := range cmd.Devices {
		if d.Type == "gpu" {
			for _, node := range gpuNodes() {
				a = append(a, "--dev-bind-try", node, node)
			}
			// Without /sys a CUDA program does not find its device.
			a = append(a, "--ro-bind", "/sys", "/sys")
			break
		}
	}
	for _, dir := range cmd.ReadOnly {
		a = append(a, "--ro-bind", dir, dir)
	}
	a = append(a, "--ro-bind", root.In, MountIn, "--bind", root.Work, MountWork)
	runner := ""
	if cmd.Runner != "" {
		runner = MountRunner
		a = append(a, "--ro-bind", cmd.Runner, MountRunner)
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
	a = append(a, "--", cmd.Path)
	return append(a, expandAll(cmd.Args, MountIn, MountWork, runner)...)
}

// accountFiles tell programs who they are: some crash where their user has no
// name. Their contents come on descriptors from 4 on.
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

var (
	_ Process = (*LocalProcess)(nil)
	_ Process = (*Sandbox)(nil)
)
