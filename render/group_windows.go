package render

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Not run: no Windows machine here; this file is only compiled and vetted.

// groups makes Job Objects: a session's processes cannot leave theirs, and end
// with it, also when this program ends in whatever way.
type groups struct{}

func ownGroups() (*groups, error) { return &groups{}, nil }

// make makes a Job Object with these limits.
func (*groups) make(l Limits) (*group, error) {
	h, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return nil, fmt.Errorf("job object: %w", err)
	}
	g := &group{job: h}
	info := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	info.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE | windows.JOB_OBJECT_LIMIT_DIE_ON_UNHANDLED_EXCEPTION
	if l.MemoryBytes > 0 {
		info.BasicLimitInformation.LimitFlags |= windows.JOB_OBJECT_LIMIT_JOB_MEMORY
		// What is committed, which is more than what is in use.
		info.JobMemoryLimit = uintptr(2 * l.MemoryBytes)
	}
	if l.alone {
		info.BasicLimitInformation.LimitFlags |= windows.JOB_OBJECT_LIMIT_ACTIVE_PROCESS
		info.BasicLimitInformation.ActiveProcessLimit = 1
	}
	if _, err := windows.SetInformationJobObject(h, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		g.end()
		return nil, fmt.Errorf("limits of a job object: %w", err)
	}
	if l.alone {
		// Nothing of the desktop: neither others' windows nor the clipboard.
		ui := windows.JOBOBJECT_BASIC_UI_RESTRICTIONS{UIRestrictionsClass: windows.JOB_OBJECT_UILIMIT_DESKTOP |
			windows.JOB_OBJECT_UILIMIT_DISPLAYSETTINGS | windows.JOB_OBJECT_UILIMIT_EXITWINDOWS | windows.JOB_OBJECT_UILIMIT_GLOBALATOMS |
			windows.JOB_OBJECT_UILIMIT_HANDLES | windows.JOB_OBJECT_UILIMIT_READCLIPBOARD | windows.JOB_OBJECT_UILIMIT_SYSTEMPARAMETERS |
			windows.JOB_OBJECT_UILIMIT_WRITECLIPBOARD}
		if _, err := windows.SetInformationJobObject(h, windows.JobObjectBasicUIRestrictions, uintptr(unsafe.Pointer(&ui)), uint32(unsafe.Sizeof(ui))); err != nil {
			g.end()
			return nil, fmt.Errorf("restrictions of a job object: %w", err)
		}
	}
	return g, nil
}

// group is a session's Job Object.
type group struct{ job windows.Handle }

// join makes a process wait for started before it does anything.
func (*group) join(attr *syscall.SysProcAttr) (func(), error) {
	attr.CreationFlags |= windows.CREATE_SUSPENDED
	return func() {}, nil
}

// started puts the process into the Job Object and lets it run.
func (g *group) started(pid int) error {
	p, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return fmt.Errorf("open the process: %w", err)
	}
	defer windows.CloseHandle(p)
	if err := windows.AssignProcessToJobObject(g.job, p); err != nil {
		return fmt.Errorf("put the process into its job object: %w", err)
	}
	return resume(uint32(pid))
}

// resume lets a process run that was started suspended.
func resume(pid uint32) error {
	all, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPTHREAD, 0)
	if err != nil {
		return fmt.Errorf("list threads: %w", err)
	}
	defer windows.CloseHandle(all)
	e := windows.ThreadEntry32{Size: uint32(unsafe.Sizeof(windows.ThreadEntry32{}))}
	resumed := false
	for err = windows.Thread32First(all, &e); err == nil; err = windows.Thread32Next(all, &e) {
		if e.OwnerProcessID != pid {
			continue
		}
		t, err := windows.OpenThread(windows.THREAD_SUSPEND_RESUME, false, e.ThreadID)
		if err != nil {
			return fmt.Errorf("open a thread: %w", err)
		}
		_, err = windows.ResumeThread(t)
		windows.CloseHandle(t)
		if err != nil {
			return fmt.Errorf("resume a thread: %w", err)
		}
		resumed = true
	}
	if !resumed {
		return fmt.Errorf("process %d has no thread to resume", pid)
	}
	return nil
}

// overMemory: a process that is refused memory ends by itself.
func (*group) overMemory() bool { return false }

// kill ends every process in it.
func (g *group) kill() error { return windows.TerminateJobObject(g.job, 1) }

// end ends every process and forgets the Job Object.
func (g *group) end() error {
	g.kill()
	return windows.CloseHandle(g.job)
}
