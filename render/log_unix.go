//go:build unix

package render

import (
	"io"
	"os"
	"syscall"
)

// drain copies to w what lies in the pipe f now, without waiting for more,
// but at most 1 MiB of it: the process may be printing without pause.
func drain(f *os.File, p []byte, w io.Writer) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	raw.Read(func(fd uintptr) bool {
		for left := 1 << 20; left > 0; {
			n, err := syscall.Read(int(fd), p)
			if err == syscall.EINTR {
				continue
			}
			if n <= 0 {
				break
			}
			w.Write(p[:n])
			left -= n
		}
		return true
	})
}
