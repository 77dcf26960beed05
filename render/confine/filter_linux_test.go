package confine

import (
	"encoding/binary"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter, run on made-up calls.
func TestFilter(t *testing.T) {
	program, err := filter([]uint32{unix.AF_UNIX})
	if err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	info, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	run := func(id, number uint32, args ...uint64) uint32 {
		t.Helper()
		call := make([]byte, 64)
		binary.BigEndian.PutUint32(call[offsetNumber:], number)
		binary.BigEndian.PutUint32(call[offsetArch:], id)
		for i, a := range args { // halves as the kernel of this machine lays them, bytes as the VM reads them
			low, high := offsetArg+8*i, offsetArg+8*i+4
			if bigEndian {
				low, high = high, low
			}
			binary.BigEndian.PutUint32(call[low:], uint32(a))
			binary.BigEndian.PutUint32(call[high:], uint32(a>>32))
		}
		n, err := vm.Run(call)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(n)
	}
	here := uint32(info.ID)
	number := func(name string) uint32 {
		t.Helper()
		n, ok := info.SyscallNames[name]
		if !ok {
			t.Fatalf("no call %s", name)
		}
		return uint32(n)
	}
	const junk = 0xdead << 32 // which the kernel does not look at
	for _, c := range []struct {
		name string
		args []uint64
		want uint32
	}{
		{"read", nil, allow},
		{"openat", nil, allow},
		{"mmap", nil, allow},
		{"execve", nil, allow},
		{"landlock_restrict_self", nil, allow},
		{"memfd_create", nil, allow},
		{"ptrace", nil, failWith | uint32(unix.EPERM)},
		{"keyctl", nil, failWith | uint32(unix.EPERM)},
		{"mount_setattr", nil, failWith | uint32(unix.EPERM)},
		{"io_uring_setup", nil, failWith | uint32(unix.ENOSYS)},
		{"clone3", nil, failWith | uint32(unix.ENOSYS)},
		{"fallocate", nil, failWith | uint32(unix.EOPNOTSUPP)},
		{"socket", []uint64{unix.AF_UNIX}, allow},
		{"socket", []uint64{unix.AF_INET}, failWith | uint32(unix.EAFNOSUPPORT)},
		{"socket", []uint64{unix.AF_INET | junk}, failWith | uint32(unix.EAFNOSUPPORT)},
		{"socket", []uint64{unix.AF_VSOCK}, failWith | uint32(unix.EAFNOSUPPORT)},
		{"socket", []uint64{unix.AF_NETLINK}, failWith | uint32(unix.EAFNOSUPPORT)},
		{"clone", []uint64{unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, allow},
		{"clone", []uint64{unix.CLONE_NEWUSER | uint64(unix.SIGCHLD)}, failWith | uint32(unix.EPERM)},
		{"clone", []uint64{unix.CLONE_NEWNET}, failWith | uint32(unix.EPERM)},
		{"ioctl", []uint64{0, unix.TCGETS}, allow},
		{"ioctl", []uint64{0, unix.TIOCSTI}, failWith | uint32(unix.EPERM)},
		{"ioctl", []uint64{0, unix.TIOCSTI | junk}, failWith | uint32(unix.EPERM)},
		{"ioctl", []uint64{0, unix.TIOCLINUX}, failWith | uint32(unix.EPERM)},
	} {
		if got := run(here, number(c.name), c.args...); got != c.want {
			t.Errorf("%s %x: %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
	if got := run(uint32(arch.I386.ID), 26); got != killProcess { // ptrace, there
		t.Errorf("a 32-bit program's call: %#x", got)
	}
	if info.ID == arch.X86_64.ID {
		if got := run(here, 0x40000000|101); got != failWith|uint32(unix.ENOSYS) { // ptrace, in the x32 set
			t.Errorf("an x32 call: %#x", got)
		}
	}
	for _, group := range denied {
		for _, name := range group.names {
			if n, ok := info.SyscallNames[name]; ok {
				if got := run(here, uint32(n)); got != failWith|uint32(group.errno) {
					t.Errorf("%s: %#x", name, got)
				}
			}
		}
	}
	raw, err := Filter(unix.AF_UNIX, unix.AF_NETLINK)
	if err != nil || len(raw)%8 != 0 || len(raw) > 4096 {
		t.Errorf("%d bytes: %v", len(raw), err) // as much as a pipe holds for sure
	}
}
