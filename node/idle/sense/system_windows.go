package sense

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"idlewild/node/idle"
)

// Not run: no Windows machine here; this file is only compiled and vetted.

var (
	user32   = windows.NewLazySystemDLL("user32.dll")
	kernel32 = windows.NewLazySystemDLL("kernel32.dll")
	shell32  = windows.NewLazySystemDLL("shell32.dll")
	xinput   = windows.NewLazySystemDLL("xinput1_4.dll")

	platformGameFolders = []string{`C:\Program Files\Epic Games`, `C:\XboxGames`, `C:\GOG Games`, `C:\Riot Games`}
)

// system adds the sources of Windows.
func (s *Sensor) system() {
	user := userName()
	s.add("input", 250*time.Millisecond, 5*time.Second, lastInput{user})
	s.add("controller", 250*time.Millisecond, 5*time.Second, &controllers{user: user})
	if s.opts.Screen {
		s.add("screen", 500*time.Millisecond, 5*time.Second, screen{user})
	}
	var folders []string
	if s.opts.Steam {
		folders = gameFolders(s.opts.GameFolders)
	}
	s.add("programs", 2*time.Second, 10*time.Second, &programs{
		list: listPrograms, ours: ourTree, steam: s.opts.Steam, folders: folders, yes: s.opts.Programs, no: s.opts.NotPrograms,
	})
	s.add("cpu", time.Second, 5*time.Second, &cpu{})
	s.add("power", 2*time.Second, 10*time.Second, power{})
}

// lastInput asks when there was input to this session.
type lastInput struct{ user string }

// Sense implements Source.
func (l lastInput) Sense(context.Context) (func(*idle.Signals), error) {
	info := struct{ size, ticks uint32 }{size: 8}
	if r, _, err := user32.NewProc("GetLastInputInfo").Call(uintptr(unsafe.Pointer(&info))); r == 0 {
		return nil, fmt.Errorf("GetLastInputInfo: %w", err)
	}
	now, _, _ := kernel32.NewProc("GetTickCount").Call()
	d := time.Duration(uint32(now)-info.ticks) * time.Millisecond // wraps every 49 days, and so does the difference
	const remoteSession = 0x1000
	remote, _, _ := user32.NewProc("GetSystemMetrics").Call(remoteSession)
	return func(s *idle.Signals) {
		s.Desktop = true
		setIdle(s, l.user, "GetLastInputInfo", d)
		own(s, l.user).Remote = remote != 0
	}, nil
}

// controllers notices input of game controllers, which is no input to Windows.
type controllers struct {
	user    string
	packets [4]uint32
	moved   time.Time
}

// Sense implements Source.
func (c *controllers) Sense(context.Context) (func(*idle.Signals), error) {
	if err := xinput.Load(); err != nil {
		return nil, fmt.Errorf("XInput is not installed")
	}
	for i := range c.packets {
		var state struct {
			packet  uint32
			gamepad [12]byte
		}
		if r, _, _ := xinput.NewProc("XInputGetState").Call(uintptr(i), uintptr(unsafe.Pointer(&state))); r != 0 {
			continue
		}
		if c.packets[i] != 0 && c.packets[i] != state.packet {
			c.moved = time.Now()
		}
		c.packets[i] = state.packet
	}
	moved := c.moved
	return func(s *idle.Signals) {
		if !moved.IsZero() {
			setIdle(s, c.user, "a game controller", time.Since(moved))
		}
	}, nil
}

// screen asks whether the user may be disturbed: not in a full-screen game, a
// presentation, or while they are not there.
type screen struct{ user string }

// Sense implements Source.
func (x screen) Sense(context.Context) (func(*idle.Signals), error) {
	const (
		notPresent = 1 + iota
		busy
		direct3D
		presentation
		_ // accepts
		_ // quiet time
		app
	)
	var state uint32
	if r, _, _ := shell32.NewProc("SHQueryUserNotificationState").Call(uintptr(unsafe.Pointer(&state))); r != 0 {
		return nil, fmt.Errorf("SHQueryUserNotificationState: error %#x", r)
	}
	names := map[uint32]string{busy: "a program", direct3D: "a game (Direct3D)", presentation: "a presentation", app: "an app"}
	return func(s *idle.Signals) {
		own(s, x.user).Locked = state == notPresent
		if name, ok := names[state]; ok {
			s.Fullscreen = &name
		}
	}, nil
}

// power tells whether it runs on battery.
type power struct{}

// Sense implements Source.
func (power) Sense(context.Context) (func(*idle.Signals), error) {
	var st struct {
		line, flag, percent, saver byte
		life, full                 uint32
	}
	if r, _, err := kernel32.NewProc("GetSystemPowerStatus").Call(uintptr(unsafe.Pointer(&st))); r == 0 {
		return nil, fmt.Errorf("GetSystemPowerStatus: %w", err)
	}
	const unknown = 255
	if st.line == unknown {
		return nil, fmt.Errorf("Windows does not know")
	}
	on := st.line == 0
	return func(s *idle.Signals) { s.OnBattery = &on }, nil
}

// processes lists all, with their parents.
func processes(each func(e *windows.ProcessEntry32)) error {
	h, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return errNoList
	}
	defer windows.CloseHandle(h)
	e := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(h, &e); err == nil; err = windows.Process32Next(h, &e) {
		each(&e)
	}
	return nil
}

func listPrograms(known func(pid int) bool) ([]running, error) {
	var out []running
	err := processes(func(e *windows.ProcessEntry32) {
		if known(int(e.ProcessID)) {
			return
		}
		r := running{pid: int(e.ProcessID), name: windows.UTF16ToString(e.ExeFile[:])}
		if p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, e.ProcessID); err == nil {
			var name [windows.MAX_LONG_PATH]uint16
			n := uint32(len(name))
			if windows.QueryFullProcessImageName(p, 0, &name[0], &n) == nil {
				r.path = strings.ReplaceAll(windows.UTF16ToString(name[:n]), `\`, "/")
				r.name = path.Base(r.path)
			}
			windows.CloseHandle(p)
		}
		out = append(out, r)
	})
	return out, err
}

// ourTree are this process and all that it started, by number.
func ourTree() map[int]bool {
	parents := map[int]int{}
	_ = processes(func(e *windows.ProcessEntry32) { parents[int(e.ProcessID)] = int(e.ParentProcessID) })
	tree := map[int]bool{int(windows.GetCurrentProcessId()): true}
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
	name := ""
	_ = processes(func(e *windows.ProcessEntry32) {
		if int(e.ProcessID) == pid {
			name = windows.UTF16ToString(e.ExeFile[:])
		}
	})
	return name
}

func pidKnown(pid int) bool { return processName(pid) != "" }

// cpu tells how busy others keep the cores.
type cpu struct {
	total, busy uint64
	own         map[int]uint64
	share       *float64
}

// Sense implements Source.
func (c *cpu) Sense(context.Context) (func(*idle.Signals), error) {
	var idleTime, kernel, user windows.Filetime
	if r, _, err := kernel32.NewProc("GetSystemTimes").Call(uintptr(unsafe.Pointer(&idleTime)), uintptr(unsafe.Pointer(&kernel)), uintptr(unsafe.Pointer(&user))); r == 0 {
		return nil, fmt.Errorf("GetSystemTimes: %w", err)
	}
	total := ticks(kernel) + ticks(user) // the kernel's has the idle time in it
	busy := total - ticks(idleTime)
	own, mine := map[int]uint64{}, uint64(0)
	for pid := range ourTree() {
		p, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
		if err != nil {
			continue
		}
		var t [4]windows.Filetime
		if windows.GetProcessTimes(p, &t[0], &t[1], &t[2], &t[3]) == nil {
			own[pid] = ticks(t[2]) + ticks(t[3])
			mine += own[pid] - min(own[pid], c.own[pid])
		}
		windows.CloseHandle(p)
	}
	if c.total > 0 && total > c.total {
		others := busy - min(busy, c.busy)
		share := float64(others-min(others, mine)) / float64(total-c.total)
		c.share = &share
	}
	c.total, c.busy, c.own = total, busy, own
	share := c.share
	return func(s *idle.Signals) { s.CPUOthers = share }, nil
}

func ticks(f windows.Filetime) uint64 { return uint64(f.HighDateTime)<<32 | uint64(f.LowDateTime) }

// disk tells how much is free where a folder is.
type disk struct{ dir string }

// Sense implements Source.
func (d disk) Sense(context.Context) (func(*idle.Signals), error) {
	n, err := DiskFree(d.dir)
	if err != nil {
		return nil, err
	}
	return func(s *idle.Signals) { s.DiskFree = &n }, nil
}

// DiskFree is how many bytes are free where a folder is.
func DiskFree(dir string) (int64, error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return 0, err
	}
	return int64(free), nil
}

// Now reads the clocks.
func Now() idle.Instant {
	mono := windows.DurationSinceBoot()
	var unbiased uint64 // 100 ns, without suspends
	slept := time.Duration(0)
	if r, _, _ := kernel32.NewProc("QueryUnbiasedInterruptTime").Call(uintptr(unsafe.Pointer(&unbiased))); r != 0 {
		slept = max(mono-time.Duration(unbiased)*100, 0)
	}
	return idle.Instant{Wall: time.Now(), Mono: mono, Slept: slept}
}

// Boot names this start of the machine: by its minute, because the clock that
// counts from there is not exact.
func Boot() string {
	return time.Now().Add(-windows.DurationSinceBoot()).Round(time.Minute).UTC().Format(time.RFC3339)
}
