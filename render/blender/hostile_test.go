//go:build linux

package blender

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"idlewild/render"
)

// Files and code that attack the machine that renders them. Each attack is
// first shown to succeed without the sandbox, so that the test can fail, and
// then tried inside.

// target is what the attacks are after.
type target struct {
	t      *testing.T
	dir    string // victim and in lie here, beside each other
	victim string // home, data, secret.png
	in     string // what the attacker is given: the files, and what root can add
	key    string // the secret of data/identity.key
	block  string // a disk of this machine, or ""
	suid   bool   // in/id takes another user's rights
	tcp    net.Listener
	udp    net.PacketConn
	unix   net.Listener
	silent net.Listener // of an abstract name
	calls  atomic.Int64 // that came to any of them
}

// newTarget builds the hostile files as well where they are wanted.
func newTarget(t *testing.T, files bool) *target {
	t.Helper()
	blender := needBlender(t)
	dir := t.TempDir()
	x := &target{t: t, dir: dir, victim: filepath.Join(dir, "victim"), in: filepath.Join(dir, "in"), key: fmt.Sprintf("key %d", time.Now().UnixNano())}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{x.in, filepath.Join(x.victim, "home"), filepath.Join(x.victim, "data")} {
		must(os.MkdirAll(d, 0o755))
	}
	must(os.WriteFile(filepath.Join(x.victim, "data", "identity.key"), []byte(x.key), 0o600))
	must(os.WriteFile(filepath.Join(x.victim, "owner's.png"), []byte(x.key), 0o600))
	if files {
		out, err := exec.Command(blender, "-b", "--factory-startup", "--python-exit-code", "9", "-P", "testdata/hostile_scenes.py", "--", x.in, x.victim).CombinedOutput()
		if err != nil {
			t.Fatalf("build the hostile files: %v\n%s", err, lastLines(out, 20))
		}
	}
	copyFile(t, "testdata/hostile.py", filepath.Join(x.in, "hostile.py"))
	if os.Getuid() == 0 {
		const nobody = 65534
		id := filepath.Join(x.in, "id")
		copyFile(t, "/usr/bin/id", id)
		must(os.Chown(id, nobody, nobody))
		must(os.Chmod(id, 0o755|os.ModeSetuid))
		x.suid = true
		nodes, err := os.ReadDir("/dev")
		must(err)
		for _, n := range nodes {
			if n.Type()&os.ModeDevice != 0 && n.Type()&os.ModeCharDevice == 0 {
				if f, err := os.Open("/dev/" + n.Name()); err == nil {
					if n, _ := io.ReadFull(f, make([]byte, 512)); n == 512 {
						x.block = f.Name()
					}
					f.Close()
				}
			}
		}
	}

	var err error
	x.tcp, err = net.Listen("tcp", ":0")
	must(err)
	x.udp, err = net.ListenPacket("udp", "127.0.0.1:0")
	must(err)
	x.unix, err = net.Listen("unix", filepath.Join(x.victim, "data", "api.sock"))
	must(err)
	x.silent, err = net.Listen("unix", fmt.Sprintf("@idlewild-test-%d", os.Getpid()))
	must(err)
	for _, l := range []net.Listener{x.tcp, x.unix, x.silent} {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				x.calls.Add(1)
				c.Close()
			}
		}()
		t.Cleanup(func() { l.Close() })
	}
	go func() {
		for b := make([]byte, 64); ; x.calls.Add(1) {
			if _, _, err := x.udp.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { x.udp.Close() })
	return x
}

// sleeper starts a process of the owner's, which holds the key in its
// environment.
func (x *target) sleeper() (pid int) {
	x.t.Helper()
	c := exec.Command("/bin/sleep", "1000")
	c.Env = []string{"KEY=" + x.key}
	if err := c.Start(); err != nil {
		x.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { c.Wait(); close(done) }()
	x.t.Cleanup(func() { c.Process.Kill(); <-done })
	return c.Process.Pid
}

// gone reports whether a process ended.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// hostile is a session of a Blender that does as it is asked.
type hostile struct {
	render.Session
	x    *target
	work string
	out  string // of the last request, for us
	n    int
}

// answer is what the attacker reports.
type answer struct {
	Did   bool   `json:"did"`
	Found string `json:"found"`
	Why   string `json:"why"`
}

func (x *target) start(p render.Process) *hostile {
	x.t.Helper()
	blender := needBlender(x.t)
	work, err := os.MkdirTemp(x.dir, "work-")
	if err != nil {
		x.t.Fatal(err)
	}
	s, err := p.Start(x.t.Context(), render.Command{
		Path: blender,
		// With scripts on: the sandbox has to hold them as well.
		Args: []string{"-b", "-y", "--factory-startup", "--python-exit-code", "9", "-P", "{in}/hostile.py"},
		Env:  []string{"PATH=/usr/bin:/bin"},
	}, render.SessionRoot{In: x.in, Work: work})
	if err != nil {
		var o *render.OutcomeError
		if errors.As(err, &o) {
			x.t.Logf("%s", lastLines(o.Log, 10))
		}
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { s.Close() })
	return &hostile{Session: s, x: x, work: work}
}

// ask makes a request in a folder of its own.
func (h *hostile) ask(attack string, args map[string]any) (answer, render.Exit) {
	h.x.t.Helper()
	h.n++
	in, work := h.Mounts()
	h.out = filepath.Join(h.work, strconv.Itoa(h.n))
	if err := os.Mkdir(h.out, 0o755); err != nil {
		h.x.t.Fatal(err)
	}
	request := map[string]any{"attack": attack, "in": in, "out": filepath.Join(work, strconv.Itoa(h.n))}
	maps.Copy(request, args)
	b, err := json.Marshal(request)
	if err != nil {
		h.x.t.Fatal(err)
	}
	exit := h.Do(h.x.t.Context(), render.Request{JSON: b, Timeout: 2 * time.Minute}, nil)
	var a answer
	if exit.Err == nil {
		if err := json.Unmarshal(exit.Done, &a); err != nil {
			h.x.t.Fatal(err)
		}
	} else {
		a.Why = exit.Err.Error()
	}
	return a, exit
}

// try is one attack; happened, looking from outside, says whether it did what
// it was meant to. Nil: the attacker's own word is taken.
type try struct {
	name, attack string
	args         map[string]any
	happened     func(a answer, out string) bool
	unsure       bool // not every machine lets it happen without a sandbox
}

// tries are the attacks by code.
func (x *target) tries() []try {
	exists := func(path string) func(answer, string) bool {
		return func(answer, string) bool { _, err := os.Lstat(path); return err == nil }
	}
	foundKey := func(a answer, _ string) bool { return strings.Contains(a.Found, x.key) }
	called := func(answer, string) bool { return x.calls.Swap(0) > 0 }
	key := filepath.Join(x.victim, "data", "identity.key")
	_, port, _ := net.SplitHostPort(x.tcp.Addr().String())
	tcpPort, _ := strconv.Atoi(port)
	udpPort := x.udp.LocalAddr().(*net.UDPAddr).Port
	root := os.Getuid() == 0
	owner, shot, traced := x.sleeper(), x.sleeper(), x.sleeper()
	tries := []try{
		{"write to home", "write", map[string]any{"path": filepath.Join(x.victim, "home", ".profile")}, exists(filepath.Join(x.victim, "home", ".profile")), false},
		{"write to the data folder", "write", map[string]any{"path": filepath.Join(x.victim, "data", "planted")}, exists(filepath.Join(x.victim, "data", "planted")), false},
		{"write among the inputs", "write_input", nil, exists(filepath.Join(x.in, "planted")), false},
		{"read the identity key", "read", map[string]any{"path": key}, foundKey, false},
		{"read the key past the work folder", "read", map[string]any{"path": "../victim/data/identity.key"}, foundKey, false},
		{"read the key by way of another process", "read", map[string]any{"path": fmt.Sprintf("/proc/%d/root%s", owner, key)}, foundKey, !root},
		{"list the data folder", "listing", map[string]any{"path": filepath.Join(x.victim, "data")}, func(a answer, _ string) bool { return strings.Contains(a.Found, "identity.key") }, false},
		{"read another process's environment", "read", map[string]any{"path": fmt.Sprintf("/proc/%d/environ", owner)}, foundKey, false},
		{"link the key into the outputs", "hard_link", map[string]any{"path": key}, func(_ answer, out string) bool {
			b, _ := os.ReadFile(filepath.Join(out, "frame.png"))
			return string(b) == x.key
		}, false},
		{"move a file of the owner's into the outputs", "rename_out", map[string]any{"path": filepath.Join(x.victim, "owner's.png")}, func(_ answer, out string) bool {
			b, _ := os.ReadFile(filepath.Join(out, "moved.png"))
			return string(b) == x.key
		}, false},
		{"kill a process of the owner's", "kill", map[string]any{"pid": shot}, func(answer, string) bool { return gone(shot) }, false},
		{"trace a process of the owner's", "ptrace", map[string]any{"pid": traced}, nil, !root},
		{"trace a child", "ptrace_child", nil, nil, false},
		{"read memory of a process", "read_memory", nil, func(a answer, _ string) bool { return a.Found == "memory" }, false},
		{"put a key into the kernel's keyring", "keyring", nil, nil, true},
		{"make a user namespace (unshare)", "unshare_user", nil, nil, true},
		{"make a user namespace (clone)", "clone_user", nil, nil, true},
		{"make a user namespace (clone3)", "clone3_user", nil, nil, true},
		{"mount", "mount", nil, nil, true},
		{"open a file by its handle", "file_handle", nil, nil, true},
		{"type into a terminal", "type_into_terminal", nil, nil, true},
		{"set-user-id programs of the system", "setuid_system", nil, nil, true},
		{"connect to loopback", "tcp", map[string]any{"host": "127.0.0.1", "port": tcpPort}, called, false},
		{"ask a name server", "udp", map[string]any{"host": "127.0.0.1", "port": udpPort}, called, false},
		{"connect to an abstract socket", "unix", map[string]any{"path": x.silent.Addr().String()}, called, false},
		{"connect to a socket in the data folder", "unix", map[string]any{"path": x.unix.Addr().String()}, called, false},
		{"open a socket to the hypervisor", "vsock", nil, nil, true},
		{"open a raw socket", "raw_socket", nil, nil, true},
		{"open a netlink socket", "netlink", nil, nil, false},
	}
	for _, name := range []string{"bpf", "perf_event_open", "io_uring_setup", "userfaultfd", "kcmp", "shmget", "fsopen", "fallocate"} {
		tries = append(tries, try{"system call " + name, "system_call", map[string]any{"name": name}, nil, true})
	}
	if addr := ownAddress(); addr != "" {
		tries = append(tries, try{"connect to the network", "tcp", map[string]any{"host": addr, "port": tcpPort}, called, false})
	}
	if x.suid {
		tries = append(tries, try{"take another user's rights", "setuid", nil, func(a answer, _ string) bool { return a.Found == "65534" }, true})
	}
	if x.block != "" {
		var st unix.Stat_t
		if err := unix.Stat(x.block, &st); err != nil {
			x.t.Fatal(err)
		}
		read := func(a answer, _ string) bool { return a.Found == "512" }
		tries = append(tries,
			try{"read a disk", "read_device", map[string]any{"path": x.block}, read, false},
			try{"make a disk's device node", "make_device", map[string]any{"major": unix.Major(st.Rdev), "minor": unix.Minor(st.Rdev)}, read, true})
	}
	// Last, because it spoils the file.
	tries = append(tries, try{"change an input", "change_input", nil, func(answer, string) bool {
		b, _ := os.ReadFile(filepath.Join(x.in, "registered.blend"))
		return len(b) > 0 && b[0] == 'x'
	}, false})
	return tries
}

// ownAddress is one of this machine's that is not loopback's, or "".
func ownAddress() string {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return ""
}

// scripted are the files that need Blender to run scripts in them.
var scripted = []string{"registered", "load_post", "frame_change_pre", "render_pre", "render_complete", "thread", "driver", "driver_function"}

// files are all, by what they attack with.
func (x *target) files() []string {
	names := append(slices.Clone(scripted), "freestyle", "image_absolute", "image_relative", "library", "file_output", "output_path")
	if _, err := os.Stat(filepath.Join(x.in, "osl.blend")); err == nil {
		names = append(names, "osl")
	} else {
		x.t.Log("NOT RUN: a shader that reads: this Blender has no OSL")
	}
	return names
}

// open renders a file and reports whether it reached what it is after.
func (h *hostile) open(name string, scripts bool) (happened bool, a answer) {
	h.x.t.Helper()
	a, exit := h.ask("render", map[string]any{"file": name + ".blend", "scripts": scripts, "own_path": name == "output_path"})
	if exit.Err != nil {
		h.x.t.Errorf("%s: the process ended: %v", name, exit.Err)
		return false, a
	}
	home := filepath.Join(h.x.victim, "home")
	left, err := filepath.Glob(filepath.Join(home, name+"*"))
	if err != nil {
		h.x.t.Fatal(err)
	}
	for _, f := range left {
		os.Remove(f)
	}
	if len(left) > 0 {
		return true, a
	}
	switch name {
	case "image_absolute", "image_relative", "library", "osl":
		r, g, b, _ := decode(h.x.t, filepath.Join(h.out, "frame.png")).At(4, 4).RGBA()
		return g > 0x8000 && r < 0x4000 && b < 0x4000, a
	}
	return false, a
}

func needSandbox(t *testing.T, limits render.Limits) *render.Sandbox {
	t.Helper()
	s, err := render.NewSandbox(t.Context(), nil, limits)
	if err != nil {
		if strings.Contains(os.Getenv("IDLEWILD_REQUIRE"), "sandbox") {
			t.Fatal(err)
		}
		t.Skipf("NOT RUN: no sandbox: %v", err)
	}
	return s
}

func TestHostileFiles(t *testing.T) {
	x := newTarget(t, true)
	inside := needSandbox(t, render.DefaultLimits(8<<30))
	h := x.start(render.NewLocalProcess(nil))
	names := x.files()
	for _, name := range names {
		if ok, a := h.open(name, true); !ok {
			t.Errorf("without the sandbox, %s does nothing: %+v", name, a)
		}
	}
	for _, name := range scripted {
		if ok, _ := h.open(name, false); ok {
			t.Errorf("with scripts off, %s ran its own", name)
		}
	}
	if ok, _ := h.open("freestyle", false); !ok {
		t.Log("with scripts off, a Freestyle script did not run either")
	}
	h.Close()

	h = x.start(inside)
	escaped := 0
	for _, name := range names {
		ok, a := h.open(name, true)
		if ok {
			escaped++
			t.Errorf("%s escaped: %+v", name, a)
		}
	}
	t.Logf("%d of %d files escaped; layers: %s", escaped, len(names), inside.Layers())
}

func TestHostileCode(t *testing.T) {
	x := newTarget(t, true)
	// Inside first: some of what happens outside cannot be taken back.
	inside := x.start(needSandbox(t, render.DefaultLimits(8<<30)))
	tries := x.tries()
	// What these do shows a moment later, and so long it is looked for inside.
	late := map[string]time.Duration{"tcp": 200 * time.Millisecond, "udp": 200 * time.Millisecond, "unix": 200 * time.Millisecond, "kill": 2 * time.Second}
	run := func(h *hostile, c try, patience time.Duration) (bool, answer) {
		x.calls.Store(0)
		a, exit := h.ask(c.attack, c.args)
		if exit.Err != nil {
			t.Errorf("%s: the process ended: %v", c.name, exit.Err)
		}
		if c.happened == nil {
			return a.Did, a
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for limit := time.Now().Add(patience); ; <-tick.C {
			if ok := c.happened(a, h.out); ok || time.Now().After(limit) {
				return ok, a
			}
		}
	}
	var refused []answer
	for _, c := range tries {
		ok, a := run(inside, c, late[c.attack])
		if ok {
			t.Errorf("%s: escaped: %+v", c.name, a)
		}
		refused = append(refused, a)
	}
	inside.Close()

	outside := x.start(render.NewLocalProcess(nil))
	shown := 0
	for i, c := range tries {
		patience := late[c.attack]
		if !c.unsure { // it will show, however busy the machine is
			patience = time.Minute
		}
		ok, a := run(outside, c, patience)
		switch {
		case ok:
			shown++
			t.Logf("%s: inside: %s", c.name, refused[i].Why)
		case c.unsure:
			t.Logf("NOT RUN: %s: it does not succeed without the sandbox either (%s)", c.name, a.Why)
		default:
			t.Errorf("%s: without the sandbox it does not succeed either: %+v", c.name, a)
		}
	}
	t.Logf("%d of %d attacks succeed without the sandbox, none inside", shown, len(tries))
}

// small are limits that a bomb meets soon.
var small = render.Limits{MemoryBytes: 1 << 30, Threads: 100, DiskBytes: 96 << 20, CPU: 2 * time.Second}

func TestBombs(t *testing.T) {
	x := newTarget(t, false)
	tmp := t.TempDir()
	bombs := []struct {
		attack string
		n      int
		path   string
		want   error // why the session ends; nil: it need not
	}{
		{"fork_bomb", 500, "", render.ErrThreads},
		{"memory_bomb", 3 << 10, "", nil}, // the kernel refuses the memory, or the watch ends it
		{"memfd_bomb", 3 << 9, "", render.ErrMemory},
		{"disk_bomb", 512, "", render.ErrDisk},
		{"one_file_bomb", 512, "", nil},
		{"nameless_bomb", 512, "", render.ErrDisk},
		{"tmp_bomb", 512, "/tmp", nil},
		{"cpu_bomb", 3, "", render.ErrCPU},
	}
	outside := x.start(render.NewLocalProcess(nil))
	for _, b := range bombs {
		if b.path != "" {
			b.path = tmp
		}
		a, exit := outside.ask(b.attack, map[string]any{"n": b.n, "path": b.path})
		if n, _ := strconv.Atoi(a.Found); exit.Err != nil || n < b.n {
			t.Errorf("%s: without the sandbox it does not succeed either: %+v, %v", b.attack, a, exit.Err)
		}
		t.Logf("%s: without the sandbox: %v", b.attack, exit.Meter.Wall.Round(time.Millisecond))
		os.RemoveAll(outside.out)
	}
	outside.Close()

	p := needSandbox(t, small)
	var h *hostile
	for _, b := range bombs {
		if h == nil || !h.Alive() {
			h = x.start(p)
		}
		start := time.Now()
		a, exit := h.ask(b.attack, map[string]any{"n": b.n, "path": b.path})
		if a.Did {
			t.Errorf("%s: nothing stopped it: %+v", b.attack, a)
		}
		if b.want != nil && exit.Err != nil && !errors.Is(exit.Err, b.want) {
			t.Errorf("%s: %v, want %v", b.attack, exit.Err, b.want)
		}
		if exit.Err != nil && os.Getuid() != 0 && b.want == render.ErrThreads {
			t.Errorf("%s: the kernel did not hold it: %v", b.attack, exit.Err)
		}
		t.Logf("%s: %s; after %v, peak %d MiB", b.attack, a.Why, time.Since(start).Round(time.Millisecond), exit.Meter.Peak>>20)
		if exit.Meter.Peak > 2*small.MemoryBytes+small.MemoryBytes/2 {
			t.Errorf("%s: it got %d MiB", b.attack, exit.Meter.Peak>>20)
		}
		os.RemoveAll(h.out)
	}
}

// Whoever hides from the tree of processes ends with the session all the same.
func TestCancelEndsWhoeverHides(t *testing.T) {
	x := newTarget(t, false)
	mark := func() string { return fmt.Sprintf("%d.%d", 300000+os.Getpid(), time.Now().UnixNano()%1e9) }
	count := func(mark string) (pids []int) {
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, d := range dirs {
			if b, err := os.ReadFile(d); err == nil && strings.Contains(string(b), mark) {
				pid, _ := strconv.Atoi(strings.Split(d, "/")[2])
				pids = append(pids, pid)
			}
		}
		return pids
	}
	for _, p := range []render.Process{render.NewLocalProcess(nil), needSandbox(t, render.DefaultLimits(8<<30))} {
		h, m := x.start(p), mark()
		in, work := h.Mounts()
		b, err := json.Marshal(map[string]any{"attack": "stay", "in": in, "out": work, "mark": m})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var began time.Time
		exit := h.Do(ctx, render.Request{JSON: b}, func(render.Event) {
			for end := time.Now().Add(time.Minute); len(count(m)) < 2 && time.Now().Before(end); {
			}
			if len(count(m)) < 2 {
				t.Error("nobody stayed")
			}
			began = time.Now()
			cancel()
		})
		took := time.Since(began)
		left := count(m)
		for _, pid := range left {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		_, confined := p.(*render.Sandbox)
		t.Logf("sandbox %v: ended after %v (%v), %d processes left", confined, took.Round(time.Millisecond), exit.Err, len(left))
		if confined && (len(left) > 0 || took > 10*time.Second) {
			t.Errorf("%d processes left after %v", len(left), took)
		}
		if !confined && len(left) == 0 {
			t.Log("a control group holds them without the sandbox as well")
		}
	}
}
