package confine

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

func init() {
	text, ok := os.LookupEnv(env)
	if !ok {
		return
	}
	err := become(text, os.Args[1:])
	fmt.Fprintf(os.Stderr, "confine: %v\n", err)
	os.Exit(126)
}

// become gives up what text, a Spec, does not leave, and turns into the
// program args. It returns only with an error.
func become(text string, args []string) error {
	var s Spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	if len(args) == 0 {
		return errors.New("no program named")
	}
	if err := s.same(); err != nil {
		return err
	}
	if err := s.landlock(); err != nil {
		return err
	}
	if err := s.limit(); err != nil {
		return err
	}
	var left []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, env+"=") {
			left = append(left, e)
		}
	}
	return fmt.Errorf("%s: %w", args[0], syscall.Exec(args[0], args, left))
}

// same looks whether files are the ones that were meant.
func (s Spec) same() error {
	if s.Same == "" {
		return nil
	}
	b, err := os.ReadFile(s.Same)
	if err != nil {
		return err
	}
	if err := os.Remove(s.Same); err != nil {
		return err
	}
	var list []Same
	if err := json.Unmarshal(b, &list); err != nil {
		return err
	}
	for _, f := range list {
		var st unix.Stat_t
		if err := unix.Lstat(f.Path, &st); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Dev) != f.Dev || st.Ino != f.Inode || st.Size != f.Size || st.Mtim.Nano() != f.Mtime {
			return fmt.Errorf("%s is not the file that was looked at: it was replaced or written to", f.Path)
		}
	}
	return nil
}

// LandlockVersion is the kernel's; 0: it has none.
func LandlockVersion() int {
	v, err := ll.LandlockGetABIVersion()
	if err != nil {
		return 0
	}
	return v
}

// landlock leaves the process the Spec's files, no TCP port, and nobody
// outside to signal or to speak to, as far as the kernel can do it.
func (s Spec) landlock() error {
	var rules []landlock.Rule
	for _, group := range []struct {
		paths     []string
		dir, file func(paths ...string) landlock.FSRule
	}{
		{s.Read, landlock.RODirs, landlock.ROFiles},
		{s.Write, rwDirs, landlock.RWFiles},
		{s.Devices, devices, deviceFiles},
	} {
		for _, p := range group.paths {
			fi, err := os.Stat(p)
			switch {
			case err != nil:
			case fi.IsDir():
				rules = append(rules, group.dir(p))
			default:
				rules = append(rules, group.file(p))
			}
		}
	}
	return landlock.V7.BestEffort().Restrict(rules...)
}

// rwDirs are folders inside which files may be renamed to anywhere.
func rwDirs(paths ...string) landlock.FSRule { return landlock.RWDirs(paths...).WithRefer() }

func deviceFiles(paths ...string) landlock.FSRule { return landlock.RWFiles(paths...).WithIoctlDev() }

// devices are folders of device nodes: to use, not to add to.
func devices(paths ...string) landlock.FSRule {
	return landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSReadDir|ll.AccessFSWriteFile|ll.AccessFSTruncate, paths...).WithIoctlDev()
}

// limit sets the process's resource limits.
func (s Spec) limit() error {
	for _, l := range []struct {
		what int
		most int64
	}{
		{unix.RLIMIT_NPROC, s.Threads},
		{unix.RLIMIT_FSIZE, s.FileBytes},
		{unix.RLIMIT_DATA, s.DataBytes},
	} {
		if l.most > 0 {
			if err := lower(l.what, uint64(l.most)); err != nil {
				return err
			}
		}
	}
	return lower(unix.RLIMIT_CORE, 0)
}

// lower sets a limit, where it is not lower already.
func lower(what int, to uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(what, &now); err != nil {
		return fmt.Errorf("resource limit %d: %w", what, err)
	}
	to = min(to, now.Max)
	if err := unix.Setrlimit(what, &unix.Rlimit{Cur: to, Max: to}); err != nil {
		return fmt.Errorf("resource limit %d: %w", what, err)
	}
	return nil
}
