package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"idlewild/job"
)

// terminalOf is a pseudo-terminal of 30 rows; what is written to the returned
// file comes out of screen after close.
func terminalOf(t *testing.T, columns uint16) (tty *os.File, screen func() string) {
	t.Helper()
	return watchedTerminal(t, columns, func(string) {})
}

// watchedTerminal says what is on the screen whenever something came.
func watchedTerminal(t *testing.T, columns uint16, came func(text string)) (tty *os.File, screen func() string) {
	t.Helper()
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("NOT RUN: no pseudo-terminals here: ", err)
	}
	ioctl := func(f *os.File, req uintptr, arg unsafe.Pointer) {
		t.Helper()
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), req, uintptr(arg)); e != 0 {
			t.Fatal(e)
		}
	}
	var unlock, n int32
	ioctl(ptm, 0x40045431, unsafe.Pointer(&unlock)) // TIOCSPTLCK
	ioctl(ptm, 0x80045430, unsafe.Pointer(&n))      // TIOCGPTN
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		ptm.Close()
		t.Skip("NOT RUN: no pseudo-terminals here: ", err)
	}
	size := [4]uint16{30, columns, 0, 0}
	ioctl(tty, 0x5414, unsafe.Pointer(&size)) // TIOCSWINSZ
	var buf bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		for some := make([]byte, 4096); ; came(buf.String()) {
			n, err := ptm.Read(some)
			buf.Write(some[:n])
			if err != nil { // EIO, when the last writer is gone
				return
			}
		}
	}()
	return tty, func() string {
		tty.Close()
		<-done
		ptm.Close()
		return buf.String()
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9]*[A-Z]")

func TestBarsOnATerminal(t *testing.T) {
	f := newFakeDaemon(t)
	out := t.TempDir()
	end := make(chan struct{}) // of the job, once it was seen to run
	ended := sync.OnceFunc(func() { close(end) })
	late := time.AfterFunc(3*time.Minute, ended)
	defer late.Stop()
	tty, screen := watchedTerminal(t, 100, func(text string) {
		if strings.Contains(text, "1 running") && strings.Contains(text, "half of it is missing") {
			ended()
		}
	})
	f.onSubmit = func(id job.ID) {
		s := finished(id, out)
		s.State, s.Delivered, s.Running, s.LeftSeconds = job.StatePlanned, 1, 1, 65
		s.Frames[1] = job.TaskStatus{Label: "2", State: "leased", Fraction: 0.5}
		f.set(s, job.Event{Type: job.EventJudged, Task: "2", Worker: "evil\x1b]0;x\x07", Verdict: &job.Verdict{Ruling: job.Rejected, Reason: "half of it is missing"}})
		go func() {
			<-end
			f.set(finished(id, out))
		}()
	}
	var stderr bytes.Buffer
	code := run([]string{"idlewild", "submit", "--kind", "echo", "-o", out, "--wait", "--data-dir", f.dir}, nil, tty, &stderr)
	got := screen()
	if code != exitDone || stderr.Len() > 0 {
		t.Errorf("exit %d, %s", code, &stderr)
	}
	plain := escapes.ReplaceAllString(got, "")
	for _, want := range []string{"1/2 ", "1 running, 1m5s left", "rejected 2 from evil\ufffd]0;x\ufffd: half of it is missing\r\n", "finished: 2 of 2 delivered"} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %q in %q", want, plain)
		}
	}
	if strings.ContainsAny(plain, "\x1b\x07") {
		t.Errorf("something else reaches the terminal: %q", plain)
	}
}

func TestWatchRedrawsOnATerminal(t *testing.T) {
	f := newFakeDaemon(t)
	id := job.NewID(time.Now())
	s := finished(id, "/out")
	s.State, s.Title = job.StatePlanned, "title"
	for i := range 100 {
		s.Frames = append(s.Frames, job.TaskStatus{Label: fmt.Sprint("f", i), State: "leased", Fraction: 0.5, Worker: strings.Repeat("w", 200)})
	}
	f.set(s)
	late := time.AfterFunc(3*time.Minute, func() { f.set(finished(id, "/out")) })
	defer late.Stop()
	tty, screen := watchedTerminal(t, 100, func(text string) {
		if strings.Contains(text, "and 8") {
			f.set(finished(id, "/out"))
		}
	})
	var stderr bytes.Buffer
	code := run([]string{"idlewild", "status", string(id), "--watch", "--data-dir", f.dir}, nil, tty, &stderr)
	got := screen()
	if code != exitDone || stderr.Len() > 0 {
		t.Errorf("exit %d, %s", code, &stderr)
	}
	if !strings.Contains(got, "\x1b[") || !strings.Contains(got, "50%") || !strings.Contains(got, "and 8") {
		t.Errorf("%q", got)
	}
	for _, line := range strings.Split(escapes.ReplaceAllString(got, ""), "\r\n") {
		if len([]rune(line)) >= 100 && strings.Contains(line, "www") {
			t.Errorf("a line wraps: %q", line)
		}
	}
}

func TestInviteOnATerminal(t *testing.T) {
	f := newFakeDaemon(t)
	f.ticket = ticketFor(t, 1)
	for _, columns := range []uint16{100, 60} {
		tty, screen := terminalOf(t, columns)
		var stderr bytes.Buffer
		code := run([]string{"idlewild", "farm", "invite", "--data-dir", f.dir}, nil, tty, &stderr)
		got := screen()
		text, err := scan(got)
		if code != exitDone || !strings.HasPrefix(got, f.ticket) {
			t.Errorf("exit %d, %q", code, got)
		}
		if columns == 100 && (err != nil || !strings.HasPrefix(text, "IDLEWILD1:") || stderr.Len() > 0) {
			t.Errorf("read %q, %v; %s", text, err, &stderr)
		}
		// Too few columns: said, and not drawn in pieces.
		if columns == 60 && (err == nil || !strings.Contains(stderr.String(), "this terminal 60")) {
			t.Errorf("read %q; %s", text, &stderr)
		}
	}
}
