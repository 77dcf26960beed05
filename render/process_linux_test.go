package render

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 10 20 30 40 20 0 8 0 12345 1000000 256 18446744073709551615 1"
	p, ok := parseStat(42, []byte(line))
	want := proc{pid: 42, parent: 7, start: 12345, cpu: time.Second, rss: 256 * pageSize, threads: 8}
	if !ok || p != want {
		t.Errorf("%+v, want %+v", p, want)
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2"} {
		if _, ok := parseStat(42, []byte(bad)); ok {
			t.Errorf("%q accepted", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 10 20 30 40 20 0 8 0 12345 1000000 256 1"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStat(1, b) })
}

// The two ways to find a tree agree.
func TestProcessTree(t *testing.T) {
	c := exec.Command("/bin/sh", "-c", "sleep 600 & sleep 600 & echo; wait")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1)) // both have been forked
	s := &session{cmd: c}
	defer func() {
		s.killTree()
		c.Wait()
	}()
	if len(processTree(c.Process.Pid)) != 3 || len(scanTree(c.Process.Pid)) != 3 {
		t.Errorf("%v\n%v", processTree(c.Process.Pid), scanTree(c.Process.Pid))
	}
	if len(processTree(1<<22+1)) != 0 || len(scanTree(1<<22+1)) != 0 {
		t.Error("a tree of nobody")
	}
	if p, ok := readProc(os.Getpid()); !ok || p.rss < 1<<20 || p.parent != os.Getppid() {
		t.Errorf("%+v", p)
	}
}

// On systems without descriptor passing events come through a file; that way
// is run here too.
func TestEventsThroughAFile(t *testing.T) {
	p := NewLocalProcess(nil)
	p.eventsFile = true
	root := SessionRoot{In: t.TempDir(), Work: t.TempDir()}
	const script = `
echo '{"event":"ready"}' >> "$IDLEWILD_EVENTS"
while read -r line; do
  echo '{"event":"progress","id":1,"fraction":0.5}' >> "$IDLEWILD_EVENTS"
  echo '{"event":"done","id":1,"outcome":"succeeded"}' >> "$IDLEWILD_EVENTS"
  exit 5
done`
	s, err := p.Start(t.Context(), Command{Path: "/bin/sh", Args: []string{"-c", script}}, root)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n := 0
	exit := s.Do(t.Context(), Request{JSON: []byte(`{}`)}, func(Event) { n++ })
	if exit.Err != nil || n != 1 {
		t.Fatalf("%v, %d events", exit.Err, n)
	}
	if exit = s.Do(t.Context(), Request{JSON: []byte(`{}`)}, nil); exit.Err == nil || s.Alive() {
		t.Fatalf("%+v", exit)
	}
}
