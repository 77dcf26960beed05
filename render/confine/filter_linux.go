package confine

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What a filter answers.
const (
	allow       = 0x7fff0000
	killProcess = 0x80000000
	failWith    = 0x00050000 // | errno
)

// denied are the system calls that no renderer needs, by the error that they
// end in: one that programs take for "not there", where they then do something
// else. A name that a processor does not have is passed over.
var denied = []struct {
	errno unix.Errno
	names []string
}{
	{unix.EPERM, []string{
		// other processes' memory and descriptors
		"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
		// the kernel's keyring, which no namespace divides
		"keyctl", "add_key", "request_key",
		// programs for the kernel, and ways to watch it or to stop it in between
		"bpf", "perf_event_open", "userfaultfd", "init_module", "finit_module", "delete_module", "create_module",
		"kexec_load", "kexec_file_load", "lookup_dcookie", "syslog", "uselib", "_sysctl", "nfsservctl", "vm86", "vm86old", "modify_ldt",
		// mounts and namespaces
		"mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig",
		"fsmount", "fspick", "mount_setattr", "unshare", "setns",
		// files by handle, past every folder's rights
		"open_by_handle_at", "name_to_handle_at", "fanotify_init", "quotactl", "quotactl_fd", "acct", "swapon", "swapoff",
		// the machine itself
		"reboot", "sethostname", "setdomainname", "settimeofday", "clock_settime", "clock_adjtime", "iopl", "ioperm", "vhangup",
		// memory that no meter sees: segments that nobody has mapped
		"shmget", "memfd_secret",
	}},
	// The C library falls back to clone, of which the flags can be looked at.
	{unix.ENOSYS, []string{"clone3", "io_uring_setup", "io_uring_enter", "io_uring_register"}},
	// It would fill a disk between two looks at it.
	{unix.EOPNOTSUPP, []string{"fallocate"}},
}

// namespaces are clone's flags for new ones.
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Filter is a program for the kernel that refuses the system calls that no
// renderer needs, in the form that bubblewrap reads. families are the address
// families of sockets that are left.
func Filter(families ...uint32) ([]byte, error) {
	program, err := filter(families)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("system call filter: %w", err)
	}
	var b bytes.Buffer
	for _, in := range raw {
		binary.Write(&b, binary.NativeEndian, in) // into memory
	}
	return b.Bytes(), nil
}

// Offsets in what the kernel shows a filter of a system call.
const (
	offsetNumber = 0
	offsetArch   = 4
	offsetArg    = 16
)

// loadArg loads the lower half of an argument: of those that are looked at,
// the kernel itself takes no more.
func loadArg(n uint32) bpf.Instruction {
	off := offsetArg + 8*n
	if bigEndian {
		off += 4
	}
	return bpf.LoadAbsolute{Off: off, Size: 4}
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

func fail(e unix.Errno) bpf.Instruction { return bpf.RetConstant{Val: failWith | uint32(e)} }

func filter(families []uint32) ([]bpf.Instruction, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("system call filter: %w", err)
	}
	if len(info.SyscallNames) == 0 {
		return nil, fmt.Errorf("system call filter: the calls of %s are not known", info.Name)
	}
	p := []bpf.Instruction{
		// Another set of calls, as 32-bit programs have it, has other numbers.
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
		bpf.RetConstant{Val: killProcess},
		bpf.LoadAbsolute{Off: offsetNumber, Size: 4},
	}
	if info.ID == arch.X86_64.ID {
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(arch.X32.SeccompMask), SkipFalse: 1},
			fail(unix.ENOSYS))
	}
	for _, group := range denied {
		for _, name := range group.names {
			if n, ok := info.SyscallNames[name]; ok {
				p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(n), SkipFalse: 1}, fail(group.errno))
			}
		}
	}
	// when adds instructions for one call; they end in an answer.
	when := func(name string, body ...bpf.Instruction) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.SyscallNames[name]), SkipFalse: uint8(len(body))})
		p = append(p, body...)
	}
	socket := []bpf.Instruction{loadArg(0)}
	for _, f := range families {
		socket = append(socket, bpf.JumpIf{Cond: bpf.JumpEqual, Val: f, SkipFalse: 1}, bpf.RetConstant{Val: allow})
	}
	when("socket", append(socket, fail(unix.EAFNOSUPPORT))...)
	when("clone", loadArg(0),
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: namespaces, SkipFalse: 1}, fail(unix.EPERM),
		bpf.RetConstant{Val: allow})
	// Typing into somebody's terminal.
	when("ioctl", loadArg(1),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.TIOCSTI, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.TIOCLINUX, SkipTrue: 1}, fail(unix.EPERM),
		bpf.RetConstant{Val: allow})
	return append(p, bpf.RetConstant{Val: allow}), nil
}
