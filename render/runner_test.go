//go:build linux

package render_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"idlewild/render"
)

// ask is one request to the test runner, which does things that no honest
// runner does. It is this test binary with IDLEWILD_RUNNER=test.
type ask struct {
	ID    int64    `json:"id,omitempty"`
	Do    string   `json:"do"`
	N     int64    `json:"n,omitempty"`
	Text  string   `json:"text,omitempty"`
	In    string   `json:"in"`
	Out   string   `json:"out"`
	Prior []string `json:"prior,omitempty"`
	Trees []string `json:"trees,omitempty"`
}

// sight is what a process sees of the machine around it.
type sight struct {
	UID       int
	User      string
	Env       []string
	Root      []string // names in /
	Home      []string // names in $HOME
	Proc      int      // processes
	Errors    map[string]string
	Succeeded []string // things that worked
}

var (
	waited bool          // it began as a spare
	early  []os.DirEntry // of its input, then
)

var kept [][]byte // memory that stays in use

func testRunner() {
	switch os.Getenv("IDLEWILD_RUNNER") {
	case "test":
	case "sleeper":
		time.Sleep(time.Hour)
	default:
		return
	}
	events, err := os.OpenFile(os.Getenv("IDLEWILD_EVENTS"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	switch os.Getenv("TEST_START") {
	case "never":
		time.Sleep(time.Hour)
	case "wait":
		// What it sees of a content before it has one, for "before".
		early, _ = os.ReadDir(strings.Fields(os.Getenv("FOLDERS"))[0])
		fmt.Fprintln(events, `{"event":"ready"}`)
		if os.Getenv("TEST_WAIT") == "die" {
			os.Exit(5)
		}
		if _, err := fmt.Scanln(); err == io.EOF {
			os.Exit(0)
		}
		waited = true
	case "error":
		fmt.Fprintln(os.Stderr, "about to report")
		fmt.Fprintln(events, `{"event":"error","outcome":"failed","reason":"the scene does not open"}`)
		os.Exit(3)
	case "exit":
		fmt.Fprintln(os.Stderr, "no such library")
		os.Exit(4)
	}
	fmt.Println("starting")
	fmt.Fprintln(events, `{"event":"ready","extra":[1,2]}`)
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			os.Exit(0)
		}
		var a ask
		if err := json.Unmarshal(line, &a); err != nil {
			panic(err)
		}
		fmt.Fprintf(events, "%s\n", a.answer(events))
	}
}

// born tells one process from another: in a sandbox each has the same number.
var born = time.Now().UnixNano()

// answer does what is asked and returns the closing event.
func (a ask) answer(events *os.File) string {
	done := func(more string) string {
		return fmt.Sprintf(`{"event":"done","id":%d,"outcome":"succeeded","build":"test 1"%s}`, a.ID, more)
	}
	out := filepath.Join(a.Out, "out.txt")
	must := func(err error) {
		if err != nil {
			fmt.Println("test runner:", err)
			os.Exit(9)
		}
	}
	switch a.Do {
	case "pid":
		must(os.WriteFile(out, fmt.Append(nil, os.Getpid()), 0o600))
	case "waited":
		must(os.WriteFile(out, fmt.Append(nil, waited, len(early)), 0o600))
	case "spoil":
		_, err := os.Stat(filepath.Join(a.In, a.Text))
		must(err)
		if os.WriteFile(filepath.Join(a.In, a.Text), []byte("spoiled"), 0o600) == nil {
			fmt.Println("the input could be written")
			os.Exit(9)
		}
		must(os.WriteFile(out, nil, 0o600))
	case "echo":
		fmt.Println("line", a.Text)
		must(os.WriteFile(out, []byte(a.Text), 0o600))
	case "input":
		b, err := os.ReadFile(filepath.Join(a.In, a.Text))
		must(err)
		must(os.WriteFile(out, b, 0o600))
	case "tree":
		b, err := os.ReadFile(filepath.Join(a.Trees[0], a.Text))
		must(err)
		wrote := os.WriteFile(filepath.Join(a.Trees[0], "spoilt"), nil, 0o600) == nil
		must(os.WriteFile(out, fmt.Append(nil, born, " ", string(b), " ", wrote), 0o600))
	case "progress":
		fmt.Fprintf(events, `{"event":"progress","id":%d,"phase":"rendering","fraction":0.5}`+"\n", a.ID)
		fmt.Fprintf(events, `{"event":"progress","id":%d,"phase":"rendering","fraction":9}`+"\n", a.ID-1)
		fmt.Fprintf(events, `{"event":"progress","id":%d,"phase":"saving\u0007","fraction":7}`+"\n", a.ID)
		must(os.WriteFile(out, nil, 0o600))
		return done(`,"render_s":1e300,"load_s":-3`)
	case "folders":
		must(os.MkdirAll(filepath.Join(a.Out, "a", "b"), 0o700))
		must(os.WriteFile(filepath.Join(a.Out, "a", "b", "c.txt"), []byte("c"), 0o600))
		b, err := os.ReadFile(filepath.Join(a.Prior[0], "p", "q.txt"))
		must(err)
		must(os.WriteFile(filepath.Join(a.Prior[0], "p", "q.txt"), []byte("spoilt"), 0o600))
		must(os.WriteFile(out, b, 0o600))
	case "symlink":
		must(os.Symlink("/etc/passwd", out))
	case "dirlink":
		must(os.Symlink("/etc", filepath.Join(a.Out, "sub")))
		must(os.WriteFile(out, nil, 0o600))
	case "swap": // the whole folder is somewhere else
		must(os.Remove(a.Out))
		must(os.Symlink("/etc", a.Out))
	case "next": // what the next request will find
		next := filepath.Join(filepath.Dir(a.Out), "..", fmt.Sprint(a.N))
		must(os.Symlink(a.Text, next))
		must(os.WriteFile(out, nil, 0o600))
	case "fifo":
		must(syscall.Mkfifo(out, 0o600))
	case "files":
		for i := range a.N {
			must(os.WriteFile(filepath.Join(a.Out, fmt.Sprint(i)), nil, 0o600))
		}
		must(os.WriteFile(out, nil, 0o600))
	case "bytes":
		f, err := os.Create(out)
		must(err)
		must(f.Truncate(a.N))
	case "nothing":
	case "log":
		fmt.Println("BEGIN")
		line := strings.Repeat("x", 99) + "\n"
		w := bufio.NewWriter(os.Stdout)
		for n := int64(0); n < a.N; n += 100 {
			w.WriteString(line)
		}
		w.WriteString("END\n")
		w.Flush()
		must(os.WriteFile(out, nil, 0o600))
	case "memory":
		b := make([]byte, a.N)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
		must(os.WriteFile(out, fmt.Append(nil, os.Getpid()), 0o600))
		if a.Text == "hold" {
			time.Sleep(time.Hour)
		}
	case "spin": // in a child, which is waited for or not
		c := exec.Command("/bin/sh", "-c", `i=0; while [ $i -lt `+fmt.Sprint(a.N)+` ]; do i=$((i+1)); done`)
		must(c.Run())
		must(os.WriteFile(out, nil, 0o600))
	case "crash":
		fmt.Println("panic: no more polygons")
		os.Exit(7)
	case "crash-if-used": // only a process that has served before
		if a.ID > 1 {
			os.Exit(7)
		}
		must(os.WriteFile(out, []byte("fresh"), 0o600))
	case "short-if-used":
		if a.ID > 1 {
			return fmt.Sprintf(`{"event":"done","id":%d,"outcome":"out of GPU memory","reason":"System is out of GPU memory"}`, a.ID)
		}
		must(os.WriteFile(out, []byte("fresh"), 0o600))
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "say-failed":
		fmt.Fprintf(events, `{"event":"error","outcome":"failed","reason":"no camera"}`+"\n")
		os.Exit(3)
	case "hang", "hang-family":
		if a.Do == "hang-family" {
			// Two generations, one of them in another session and group.
			for _, attr := range []*syscall.SysProcAttr{{}, {Setsid: true}} {
				c := exec.Command("/bin/sh", "-c", "sleep "+a.Text+" & wait")
				c.SysProcAttr = attr
				must(c.Start())
			}
		}
		fmt.Fprintf(events, `{"event":"progress","id":%d,"phase":"hanging"}`+"\n", a.ID)
		time.Sleep(time.Hour)
	case "deaf": // reads no further request
		must(os.WriteFile(out, nil, 0o600))
		fmt.Fprintln(events, done(""))
		time.Sleep(time.Hour)
	case "long-line":
		events.Write(append(bytes.Repeat([]byte("x"), 100<<10), '\n'))
	case "garbage":
		fmt.Fprintln(events, "Fra:1 Mem:8M")
	case "flood": // about another request, so that nobody is bothered by them
		w := bufio.NewWriterSize(events, 4096)
		for range a.N {
			fmt.Fprintf(w, `{"event":"progress","id":%d}`+"\n", a.ID-1)
		}
		w.Flush()
		must(os.WriteFile(out, nil, 0o600))
	case "forge": // the end of requests that are not its own
		fmt.Fprintf(events, `{"event":"done","id":%d,"outcome":"succeeded"}`+"\n", a.ID-1)
		fmt.Fprintf(events, `{"event":"done","id":%d,"outcome":"succeeded"}`+"\n", a.ID+1)
		must(os.WriteFile(out, []byte("own"), 0o600))
	case "mute":
		events.Close()
		syscall.Close(3)
		time.Sleep(time.Hour)
	case "outcome":
		return fmt.Sprintf(`{"event":"done","id":%d,"outcome":%q,"reason":"so it is"}`, a.ID, a.Text)
	case "device":
		must(os.WriteFile(out, nil, 0o600))
		return done(fmt.Sprintf(`,"device":%q`, a.Text))
	case "look":
		must(os.WriteFile(out, a.look(), 0o600))
	}
	return done("")
}

// look tries everything that a hostile scene would try.
func (a ask) look() []byte {
	s := sight{UID: os.Getuid(), Env: os.Environ(), Errors: map[string]string{}}
	try := func(name string, f func() error) {
		if err := f(); err != nil {
			s.Errors[name] = err.Error()
		} else {
			s.Succeeded = append(s.Succeeded, name)
		}
	}
	write := func(path string) func() error {
		return func() error { return os.WriteFile(path, []byte("x"), 0o600) }
	}
	try("user", func() error {
		u, err := exec.Command("/usr/bin/id", "-un").Output() // by the C library, as other programs do
		s.User = strings.TrimSpace(string(u))
		return err
	})
	try("dial", func() error {
		c, err := net.DialTimeout("tcp", a.Text, time.Second)
		if err == nil {
			c.Close()
		}
		return err
	})
	try("read host file", func() error { _, err := os.ReadFile(os.Getenv("TEST_SECRET")); return err })
	try("list /root", func() error { _, err := os.ReadDir("/root"); return err })
	try("list /home", func() error { _, err := os.ReadDir("/home"); return err })
	try("read /etc/shadow", func() error { _, err := os.ReadFile("/etc/shadow"); return err })
	try("write in", write(filepath.Join(a.In, "x")))
	try("write work", write(filepath.Join(a.Out, "..", "x")))
	if a.In != render.MountIn {
		// Outside, as root, what follows works and harms the machine.
		return a.encode(s)
	}
	try("write tmp", write("/tmp/x"))
	try("write home", write(filepath.Join(os.Getenv("HOME"), "x")))
	try("write /usr", write("/usr/x"))
	try("write /", write("/x"))
	try("write /dev", write("/dev/x"))
	try("write runner", write(os.Args[0]))
	try("mount", func() error { return syscall.Mount("none", a.Out, "tmpfs", 0, "") })
	try("namespace", func() error {
		c := exec.Command("/bin/true")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		return c.Run()
	})
	if e, err := os.ReadDir("/"); err == nil {
		for _, x := range e {
			s.Root = append(s.Root, x.Name())
		}
	}
	if e, err := os.ReadDir("/proc"); err == nil {
		for _, x := range e {
			if x.Name()[0] >= '0' && x.Name()[0] <= '9' {
				s.Proc++
			}
		}
	}
	return a.encode(s)
}

func (ask) encode(s sight) []byte {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return b
}
