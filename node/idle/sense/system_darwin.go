package sense

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"idlewild/node/idle"
)

// Not run: no macOS machine here; this file is only compiled and vetted, and
// what it reads of the tools' texts is tested with recorded ones.

var platformGameFolders []string

// system adds the sources of macOS. Its tools are programs, so they are asked
// less often than elsewhere.
func (s *Sensor) system() {
	user := userName()
	s.add("input", 500*time.Millisecond, 5*time.Second, hidIdle{user})
	s.add("power", 10*time.Second, 30*time.Second, pmset{})
	var folders []string
	if s.opts.Steam {
		folders = gameFolders(s.opts.GameFolders)
	}
	s.add("programs", 5*time.Second, 15*time.Second, &programs{
		list: listPrograms, ours: ourTree, steam: s.opts.Steam, folders: folders, yes: s.opts.Programs, no: s.opts.NotPrograms,
	})
}

// hidIdle asks the system's input devices for the time since the last input.
type hidIdle struct{ user string }

// Sense implements Source.
func (h hidIdle) Sense(ctx context.Context) (func(*idle.Signals), error) {
	out, err := exec.CommandContext(ctx, "/usr/sbin/ioreg", "-c", "IOHIDSystem", "-d", "4", "-r", "-k", "HIDIdleTime").Output()
	if err != nil {
		return nil, err
	}
	d, ok := parseHIDIdle(string(out))
	if !ok {
		return nil, errors.New("ioreg tells no HIDIdleTime")
	}
	return func(s *idle.Signals) {
		s.Desktop = true
		setIdle(s, h.user, "IOHIDSystem", d)
	}, nil
}

// pmset asks what power is drawn from.
type pmset struct{}

// Sense implements Source.
func (pmset) Sense(ctx context.Context) (func(*idle.Signals), error) {
	out, err := exec.CommandContext(ctx, "/usr/bin/pmset", "-g", "batt").Output()
	if err != nil {
		return nil, err
	}
	on, ok := parsePmset(string(out))
	if !ok {
		return nil, errors.New("pmset tells no power source")
	}
	return func(s *idle.Signals) { s.OnBattery = &on }, nil
}

func listPrograms(known func(pid int) bool) ([]running, error) {
	out, err := exec.Command("/bin/ps", "-axo", "pid=,comm=").Output()
	if err != nil {
		return nil, errNoList
	}
	var list []running
	for line := range strings.Lines(string(out)) {
		number, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		if pid, err := strconv.Atoi(number); err == nil && !known(pid) {
			list = append(list, running{pid: pid, path: file, name: path.Base(file)})
		}
	}
	return list, nil
}

// ourTree are this process and all that it started, by number.
func ourTree() map[int]bool {
	tree := map[int]bool{os.Getpid(): true}
	out, err := exec.Command("/bin/ps", "-axo", "pid=,ppid=").Output()
	if err != nil {
		return tree
	}
	parents := map[int]int{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 {
			pid, _ := strconv.Atoi(f[0])
			parents[pid], _ = strconv.Atoi(f[1])
		}
	}
	for grew := true; grew; {
		grew = false
		for pid, parent := range parents {
			if tree[parent] && !tree[pid] {
				tree[pid], grew = true, true
			}
		}
	}
	return tree
}

func processName(pid int) string {
	out, err := exec.Command("/bin/ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return path.Base(strings.TrimSpace(string(out)))
}

func pidKnown(pid int) bool { return unix.Kill(pid, 0) != unix.ESRCH }

// Now reads the clocks.
func Now() idle.Instant {
	read := func(clock int32) time.Duration {
		var t unix.Timespec
		if unix.ClockGettime(clock, &t) != nil {
			return 0
		}
		return time.Duration(t.Nano())
	}
	const uptimeRaw = 8 // CLOCK_UPTIME_RAW stands still while the machine sleeps
	mono, awake := read(unix.CLOCK_MONOTONIC), read(uptimeRaw)
	return idle.Instant{Wall: time.Now(), Mono: mono, Slept: max(mono-awake, 0)}
}

// Boot names this start of the machine.
func Boot() string {
	t, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return ""
	}
	return strconv.FormatInt(t.Sec, 10)
}
